"""Sources whose images are files: which files count as images, their order, and the source made from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rapid_inr.data.passed_over import NOTHING_PASSED_OVER, PassedOver
from rapid_inr.data.pixels import MAX_PIXELS, read_image
from rapid_inr.data.source import ImageSource, of_splits

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".jp2", ".j2k", ".jpx", ".bmp", ".dib", ".gif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico"),
    )
)  # image formats that Pillow reads


LabelledFiles = list[tuple[Path, int]]  # the files of a split in order, each with its class


def image_paths(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name, without hidden files and other suffixes."""
    return sorted((path for path in _visible_files(folder) if _is_image(path)), key=lambda path: path.name)


def passed_over(folder: Path) -> PassedOver:
    """Return a folder's files that `image_paths` leaves out, and the images in its sub-folders, all without hidden files."""
    deeper = (path for child in class_folders(folder) for path in child.rglob("*") if _is_image(path) and path.is_file())
    return PassedOver(
        in_subfolders=tuple(sorted(deeper)),
        not_images=tuple(sorted(path for path in _visible_files(folder) if not _is_image(path))),
    )


def _visible_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def class_folders(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, sorted by name, without hidden ones."""
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")), key=lambda p: p.name)


def from_files(
    name: str,
    split: str,
    *,
    train: LabelledFiles | None,
    test: LabelledFiles | None,
    class_names: tuple[str, ...],
    max_pixels: int = MAX_PIXELS,
    left_out: PassedOver = NOTHING_PASSED_OVER,
) -> ImageSource:
    """Make the source of one split, or of both, from lists of files.

    Args:
        train: files of the training split; may be None for ``split="test"``, and `offset` is then 0.
        test: files of the test split; may be None for ``split="train"``.
        max_pixels: see `read_image`.
        left_out: the other files in the folders.
    """
    wanted = {key: files for key, files in (("train", train), ("test", test)) if split in (key, "all") and files is not None}
    paths = [path for files in wanted.values() for path, _ in files]
    labels = np.array([label for files in wanted.values() for _, label in files], dtype=np.int64)
    return of_splits(
        name,
        split,
        {key: len(files) for key, files in wanted.items()},
        labels=labels,
        class_names=class_names,
        read=lambda image_id: read_image(paths[image_id], max_pixels=max_pixels),
        file_of=paths.__getitem__,
        offset=len(train) if split == "test" and train is not None else 0,
        passed_over=left_out,
    )
