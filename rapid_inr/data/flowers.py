"""Oxford 102 Flowers in its official layout (Nilsback and Zisserman 2008): ``jpg/image_00001.jpg`` ..., two ``.mat`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rapid_inr.data.download import extract, fetch
from rapid_inr.data.files import from_files
from rapid_inr.data.pixels import MAX_PIXELS
from rapid_inr.data.source import CorruptImage, DatasetMissing, ImageSource, require_split
from rapid_inr.errors import require

N_CLASSES = 102
_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
_ARCHIVE, _ARCHIVE_MD5 = "102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"
_MD5 = {"imagelabels.mat": "e0620be6f572b9609742df49c70aed4d", "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c"}
_SPLITS = {  # variables of setid.mat
    "paper": {"train": ["trnid"], "test": ["valid"]},
    "official": {"train": ["trnid"], "test": ["tstid"]},
    "swapped": {"train": ["tstid"], "test": ["trnid", "valid"]},
}


def flowers102(
    root: str | Path, split: str, *, test_split: str = "paper", download: bool = False, max_pixels: int = MAX_PIXELS
) -> ImageSource:
    """Open Oxford 102 Flowers: photographs of 102 classes, of mixed sizes.

    Args:
        test_split: ``"paper"`` tests on the 1,020 validation images, ``"official"`` on the 6,149 test images; both train
            on the 1,020 training images. ``"swapped"`` trains on the 6,149 and tests on the other 2,040. The official files
            do not name the classes, so class i is called ``flower_<i + 1>``.
        download: whether to fetch and unpack the official files (345 MB) if one is missing.

    Raises:
        DatasetMissing: if a file of the split is missing.
        CorruptImage: if a ``.mat`` file cannot be read, or has missing or impossible values.
    """
    require_split(split)
    require(test_split in _SPLITS, "test_split", repr(test_split), f"one of {', '.join(_SPLITS)}")
    root = Path(root)
    if download:
        _download(root)
    for name in _MD5:
        if not (root / name).is_file():
            raise _missing(root, root / name)
    labels = _variable(root / "imagelabels.mat", "labels")
    if labels.size == 0 or labels.min() < 1 or labels.max() > N_CLASSES:
        raise CorruptImage(f"{root / 'imagelabels.mat'}: a label is outside 1..{N_CLASSES}")
    files = {}
    for key, variables in _SPLITS[test_split].items():
        numbers = np.sort(np.concatenate([_variable(root / "setid.mat", variable) for variable in variables]))
        if numbers.size and (numbers[0] < 1 or numbers[-1] > labels.size):
            raise CorruptImage(f"{root / 'setid.mat'}: an image number in {', '.join(variables)} is outside 1..{labels.size}")
        paths = [root / "jpg" / f"image_{number:05d}.jpg" for number in numbers]
        files[key] = list(zip(paths, (labels[numbers - 1] - 1).tolist(), strict=True))
    present = {path.name for path in (root / "jpg").iterdir()} if (root / "jpg").is_dir() else set()
    for key in files:
        absent = [path for path, _ in files[key] if path.name not in present]
        if absent and split in (key, "all"):
            raise _missing(root, absent[0])
    class_names = tuple(f"flower_{i:03d}" for i in range(1, N_CLASSES + 1))
    return from_files(
        "flowers102", split, train=files["train"], test=files["test"], class_names=class_names, max_pixels=max_pixels
    )


def _download(root: Path) -> None:
    for name, md5 in _MD5.items():
        if not (root / name).is_file():
            fetch(_URL + name, root / name, md5)
    # `extract` makes the folder appear only after the whole archive is unpacked
    if not (root / "jpg").is_dir():
        fetch(_URL + _ARCHIVE, root / _ARCHIVE, _ARCHIVE_MD5)
        extract(root / _ARCHIVE, root)
        (root / _ARCHIVE).unlink()


def _missing(root: Path, path: Path) -> DatasetMissing:
    return DatasetMissing(
        f"Oxford 102 Flowers not found: looked for {path}; fetch it with: python -m experiments.encode "
        f"dataset=flowers102 dataset.root={root} dataset.download=true out=flowers102.inr"
    )


def _variable(path: Path, name: str) -> np.ndarray:
    """Return a variable of a ``.mat`` file as a flat int64 array."""
    from scipy.io import loadmat  # the import takes 0.3 s, and only this reader needs it

    try:
        variables = loadmat(path)
    except Exception as error:  # on malformed bytes scipy raises ValueError, TypeError, zlib.error, struct.error, ...
        raise CorruptImage(f"{path}: cannot be read as a MATLAB file ({type(error).__name__}: {error})") from error
    if name not in variables:
        raise CorruptImage(f"{path}: has no variable {name}")
    return variables[name].astype(np.int64).ravel()
