"""CIFAR-10 and CIFAR-100 in their official binary layout, memory-mapped (Krizhevsky 2009).

A record is one label byte (CIFAR-10) or a coarse and a fine label byte (CIFAR-100), then 3072 bytes: 32x32 red, green, blue.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rapid_inr.data.download import extract, fetch
from rapid_inr.data.source import CorruptImage, DatasetMissing, ImageSource, of_splits, require_split
from rapid_inr.errors import UserError

_SIDE = 32
_PIXEL_BYTES = 3 * _SIDE * _SIDE
_URL = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class _Layout:
    name: str
    title: str
    folder: str
    archive: str
    md5: str
    files: dict[str, tuple[str, ...]]
    records: int  # in each official file; assumed for a missing file
    label_bytes: int  # the last of them is the label
    names_file: str
    class_names: tuple[str, ...]  # used without the names file


_CIFAR10 = _Layout(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    records=10_000,
    label_bytes=1,
    names_file="batches.meta.txt",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
_CIFAR100 = _Layout(
    name="cifar100",
    title="CIFAR-100",
    folder="cifar-100-binary",
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    files={"train": ("train.bin",), "test": ("test.bin",)},
    records=50_000,
    label_bytes=2,
    names_file="fine_label_names.txt",
    class_names=tuple(f"class_{i:02d}" for i in range(100)),
)


def cifar10(root: str | Path, split: str, *, download: bool = False) -> ImageSource:
    """Open CIFAR-10: 50,000 training and 10,000 test images, 32x32, 10 classes.

    Args:
        root: the folder ``cifar-10-batches-bin`` or its parent.
        download: whether to fetch and unpack the official archive (170 MB) if a file is missing.

    Raises:
        DatasetMissing: if a file of the split is missing.
        CorruptImage: if a file has the wrong size or an impossible label.
    """
    return _open(_CIFAR10, Path(root), split, download)


def cifar100(root: str | Path, split: str, *, download: bool = False) -> ImageSource:
    """Open CIFAR-100 with its fine labels: 50,000 training and 10,000 test images, 32x32, 100 classes.

    Args:
        root: the folder ``cifar-100-binary`` or its parent.
        download: whether to fetch and unpack the official archive (169 MB) if a file is missing.

    Raises:
        DatasetMissing, CorruptImage: as `cifar10`.
    """
    return _open(_CIFAR100, Path(root), split, download)


def _open(layout: _Layout, root: Path, split: str, download: bool) -> ImageSource:
    require_split(split)
    wanted = {key: files for key, files in layout.files.items() if split in (key, "all")}
    folder = _locate(layout, root, [file for files in wanted.values() for file in files], download)
    class_names = _class_names(layout, folder)
    batches_of = {key: [_records(layout, folder / file, len(class_names)) for file in files] for key, files in wanted.items()}
    batches = [batch for files in batches_of.values() for batch in files]
    # the first id of each batch
    firsts = list(itertools.accumulate((len(batch) for batch in batches[:-1]), initial=0))

    def read(image_id: int) -> np.ndarray:
        i = bisect.bisect_right(firsts, image_id) - 1
        planes = batches[i][image_id - firsts[i], layout.label_bytes :].reshape(3, _SIDE, _SIDE)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    return of_splits(
        layout.name,
        split,
        {key: sum(map(len, files)) for key, files in batches_of.items()},
        labels=np.concatenate([batch[:, layout.label_bytes - 1] for batch in batches]),
        class_names=class_names,
        read=read,
        offset=sum(_n_records(layout, folder / file) for file in layout.files["train"]) if split == "test" else 0,
        files=tuple(folder / file for files in wanted.values() for file in files),
    )


def _locate(layout: _Layout, root: Path, files: list[str], download: bool) -> Path:
    """Return the folder that holds `files`; download missing ones if `download` is set."""
    base = root.parent if root.name == layout.folder else root
    folder = base / layout.folder
    if not folder.is_dir() and any((root / file).is_file() for file in files):
        folder = root  # the official folder under another name
    missing = [folder / file for file in files if not (folder / file).is_file()]
    if missing and download:
        folder = base / layout.folder
        archive = fetch(_URL + layout.archive, base / layout.archive, layout.md5)
        extract(archive, base)
        archive.unlink()
        missing = [folder / file for file in files if not (folder / file).is_file()]
    if missing:
        raise DatasetMissing(
            f"{layout.title} not found: looked for {missing[0]}; fetch it with: python -m experiments.encode "
            f"dataset={layout.name} dataset.root={base} dataset.download=true out={layout.name}.inr"
        )
    return folder


def _n_records(layout: _Layout, path: Path) -> int:
    return path.stat().st_size // (layout.label_bytes + _PIXEL_BYTES) if path.is_file() else layout.records


def _records(layout: _Layout, path: Path, n_classes: int) -> np.ndarray:
    """Check a file's size and labels and memory-map it as uint8 [records, bytes of a record]."""
    record_bytes = layout.label_bytes + _PIXEL_BYTES
    size = path.stat().st_size
    if size == 0 or size % record_bytes:
        raise CorruptImage(f"{path}: is {size} bytes long, expected a whole number of {record_bytes}-byte records")
    records = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, record_bytes)
    labels = records[:, layout.label_bytes - 1]
    if labels.max() >= n_classes:
        first = int(np.argmax(labels >= n_classes))
        raise CorruptImage(f"{path}: record {first} has label {labels[first]}, expected below {n_classes}")
    return records


def _class_names(layout: _Layout, folder: Path) -> tuple[str, ...]:
    path = folder / layout.names_file
    if not path.is_file():
        return layout.class_names
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) != len(layout.class_names):
        raise UserError(f"{path}: holds {len(names)} class names, expected {len(layout.class_names)}")
    return names
