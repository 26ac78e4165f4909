"""Sources whose images are files: which files count, in which order, and how they become a source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rapid_inr.data.pixels import read_image
from rapid_inr.data.source import ImageSource, of_splits

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"))


@dataclass(frozen=True)
class LabelledFiles:
    """The files of a split, in their order, and the class of each."""

    paths: list[Path]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.paths)


def image_paths(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name; hidden files and other suffixes are left out."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: path.name)


def class_folders(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, sorted by name, hidden ones left out."""
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")), key=lambda p: p.name)


def from_files(
    name: str,
    split: str,
    *,
    train: LabelledFiles | None,
    test: LabelledFiles | None,
    class_names: tuple[str, ...],
) -> ImageSource:
    """Make the source of one split, or of both, from lists of files.

    Args:
        train: what ``split="train"`` holds; may be None for ``split="test"``, whose `offset` then is 0.
        test: what ``split="test"`` holds; may be None for ``split="train"``.
    """
    wanted = {key: files for key, files in (("train", train), ("test", test)) if split in (key, "all") and files is not None}
    paths = [path for files in wanted.values() for path in files.paths]
    labels = np.array([label for files in wanted.values() for label in files.labels], dtype=np.int64)
    return of_splits(
        name,
        split,
        {key: len(files) for key, files in wanted.items()},
        labels=labels,
        class_names=class_names,
        read=lambda image_id: read_image(paths[image_id]),
        file_of=paths.__getitem__,
        offset=len(train) if split == "test" and train is not None else 0,
    )
