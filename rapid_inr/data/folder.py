"""Images in folders: one folder a class, Mini-ImageNet, and a plain folder of photographs."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from rapid_inr.data.files import IMAGE_SUFFIXES, LabelledFiles, class_folders, from_files, image_paths, passed_over
from rapid_inr.data.passed_over import NOTHING_PASSED_OVER, PassedOver
from rapid_inr.data.pixels import MAX_PIXELS, read_image
from rapid_inr.data.source import DatasetMissing, ImageSource, of_splits, require_split
from rapid_inr.errors import UserError, require

# the paper's split of Mini-ImageNet: of the 600 images of a class, 420 for training and 120 for testing
MINI_TRAIN = 420
MINI_TEST = 120


def image_folder(
    root: str | Path, split: str, *, val_fraction: float | None = None, download: bool = False, max_pixels: int = MAX_PIXELS
) -> ImageSource:
    """Open labelled images laid out as ``train/CLASS/*`` and ``val/CLASS/*`` (or ``test/CLASS/*`` if there is no val).

    Classes are numbered in the order of train's folders; val may lack some. Opening one split needs only its folder; the train
    split ignores val.

    Args:
        val_fraction: for images laid out as ``CLASS/*``: about this fraction is for testing. Its class and file name alone decide
            about an image, so it stays in its split when others are added.

    Raises:
        DatasetMissing: if a folder of the split is missing.
        UserError: if val has a class that train lacks, a class has no image to train with, or `val_fraction` does not fit.
    """
    require_split(split)
    root = Path(root)
    validation = root / "val" if (root / "val").is_dir() else root / "test"
    folders = {"train": root / "train", "test": validation}
    if val_fraction is not None:
        return _unsplit_folder(root, split, val_fraction, max_pixels=max_pixels)
    for key, folder in folders.items():
        if split in (key, "all") and not folder.is_dir():
            looked = f"{root / 'val'} and {root / 'test'}" if key == "test" else str(folder)
            if not any(map(Path.is_dir, folders.values())) and root.is_dir() and any(map(image_paths, class_folders(root))):
                advice = f"dataset.val_fraction=0.2 tests with a fifth of the images in the class folders of {root}, 0 with none"
            else:
                advice = _no_download("train/CLASS/*, val/CLASS/*", download)
            raise DatasetMissing(f"image folder not found: looked for {looked}; {advice}")
    if split == "train":
        del folders["test"]
    present = {key: folder for key, folder in folders.items() if folder.is_dir()}
    names = {key: [path.name for path in class_folders(folder)] for key, folder in present.items()}
    class_names = names.get("train", names.get("test"))
    unknown = set(names.get("test", ())) - set(class_names)
    if unknown:
        raise UserError(f"{validation}: has classes that {root / 'train'} lacks: {_some(unknown)}")
    files = {key: _labelled(folder, class_names, needs_all=key == "train") for key, folder in present.items()}
    asked = [folder for key, folder in present.items() if split in (key, "all")]
    return from_files(
        "image_folder", split, train=files.get("train"), test=files.get("test"), class_names=tuple(class_names),
        max_pixels=max_pixels, left_out=sum(map(_passed_over, asked), NOTHING_PASSED_OVER),
    )  # fmt: skip


def _unsplit_folder(root: Path, split: str, val_fraction: float, *, max_pixels: int) -> ImageSource:
    require(0 <= val_fraction < 1, "dataset.val_fraction", val_fraction, "at least 0 and below 1")
    for name in ("train", "val", "test"):
        require(not (root / name).is_dir(), "dataset.val_fraction", val_fraction, f"null, since there is a folder {root / name}")
    classes = class_folders(root) if root.is_dir() else []
    if not classes:
        raise DatasetMissing(f"image folder not found: looked for class folders in {root}; {_no_download('CLASS/*', False)}")
    files: dict[str, LabelledFiles] = {"train": [], "test": []}
    for label, folder in enumerate(classes):
        paths = image_paths(folder)
        tested = {path for path in paths if int.from_bytes(_hash(path)[:8]) < val_fraction * 2**64}
        if len(tested) == len(paths):
            raise UserError(f"{folder}: class {folder.name!r} has no image to train with ({_suffixes()})")
        files["train"] += [(path, label) for path in paths if path not in tested]
        files["test"] += [(path, label) for path in paths if path in tested]
    return from_files(
        "image_folder", split, **files, class_names=tuple(folder.name for folder in classes), max_pixels=max_pixels,
        left_out=_passed_over(root),
    )  # fmt: skip


def _hash(path: Path, *, seed: int = 0) -> bytes:
    """Hash the class and the file name; unlike a random generator this never changes with a library's version."""
    return hashlib.sha256(f"{seed}/{path.parent.name}/{path.name}".encode(errors="surrogateescape")).digest()


def _labelled(folder: Path, class_names: list[str], *, needs_all: bool) -> LabelledFiles:
    if not class_names:
        raise UserError(f"{folder}: holds no class folder, expected one folder a class")
    files: LabelledFiles = []
    for label, name in enumerate(class_names):
        paths = image_paths(folder / name) if (folder / name).is_dir() else []
        if needs_all and not paths:
            raise UserError(f"{folder / name}: class {name!r} has no image ({_suffixes()})")
        files += [(path, label) for path in paths]
    return files


def _passed_over(folder: Path) -> PassedOver:
    """Return the files in a folder of class folders that are not images directly in a class folder."""
    beside = PassedOver(not_images=tuple(sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")))
    return sum(map(passed_over, class_folders(folder)), beside)


def mini_imagenet(
    root: str | Path, split: str, *, seed: int = 0, download: bool = False, max_pixels: int = MAX_PIXELS
) -> ImageSource:
    """Open Mini-ImageNet, one folder a class, in the paper's split: 420 training and 120 test images a class.

    The split depends only on the seed and the names of class and file, so adding other classes does not change it. Within a
    split, images are ordered by class and file name.

    Raises:
        DatasetMissing: if the folder is missing or has no class folder.
        UserError: if a class has fewer than 540 images.
    """
    require_split(split)
    root = Path(root)
    classes = class_folders(root) if root.is_dir() else []
    if not classes:
        raise DatasetMissing(f"Mini-ImageNet not found: looked for class folders in {root}; {_no_download('CLASS/*', download)}")
    train, test = [], []
    for label, folder in enumerate(classes):
        paths = image_paths(folder)
        if len(paths) < MINI_TRAIN + MINI_TEST:
            raise UserError(f"{folder}: class has {len(paths)} images, expected at least {MINI_TRAIN + MINI_TEST}")
        ranked = sorted(paths, key=partial(_hash, seed=seed))
        for files, chosen in ((train, ranked[:MINI_TRAIN]), (test, ranked[MINI_TRAIN : MINI_TRAIN + MINI_TEST])):
            files += [(path, label) for path in sorted(chosen, key=lambda path: path.name)]
    return from_files(
        "mini_imagenet", split, train=train, test=test, class_names=tuple(folder.name for folder in classes),
        max_pixels=max_pixels, left_out=_passed_over(root),
    )  # fmt: skip


def flat(root: str | Path, split: str, *, download: bool = False, max_pixels: int = MAX_PIXELS) -> ImageSource:
    """Open a folder of photographs without labels.

    The folder has no splits: train, test and all each give all images, under names that begin with the given split.

    Raises:
        DatasetMissing: if the folder is missing.
        UserError: if it holds no image.
    """
    require_split(split)
    root = Path(root)
    if not root.is_dir():
        raise DatasetMissing(f"folder of images not found: looked for {root}; {_no_download('*', download)}")
    paths = image_paths(root)
    if not paths:
        deeper = "; its subfolders do: dataset=image_folder" if passed_over(root).in_subfolders else ""
        raise UserError(f"{root}: holds no image directly in it ({_suffixes()}){deeper}")
    return of_splits(
        "flat", split, {split: len(paths)}, labels=None,
        read=lambda image_id: read_image(paths[image_id], max_pixels=max_pixels), file_of=paths.__getitem__,
        passed_over=passed_over(root),
    )  # fmt: skip


def _no_download(layout: str, asked: bool) -> str:
    start = "it has no official address to download from: " if asked else ""
    return f"{start}put your images there, laid out as {layout}, or give their folder with dataset.root=PATH"


def _some(names: set[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(sorted(names)[:5]) + more


def _suffixes() -> str:
    return "files that end in " + ", ".join(sorted(IMAGE_SUFFIXES))
