"""An image source: where images come from, behind one frozen record, and the few operations that make another of it.

Every image has an id: its index among the images of the source as it was opened. Limiting and excluding drop ids and
rename none, so that an id names the same image in a store, a record and a picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from kernels.checks import require
from rapid_inr.errors import UserError

SPLITS = ("train", "test", "all")
RESIZES = ("stretch", "crop")


class DatasetMissing(UserError):
    """A dataset is not where it was looked for; the message names that path and how to get the data."""


class CorruptImage(UserError):
    """A file could not be read as what its name says; the message names the file and the reason."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images that can be read one by one, in any order and from several threads.

    Args:
        name: the reader's name, for instance ``"cifar10"``.
        splits: name and number of images of each split, before any limit or exclusion; ids count through them in order.
        ids: int64 [N], the ids of the images, ascending.
        labels: int64 [N], the class of each image, or None.
        class_names: a name for each class, empty where there are no labels.
        read: id -> uint8 [height, width, 3]; raises `CorruptImage`.
        read_mask: id -> uint8 [height, width], 0 for background and class + 1 elsewhere; None where there are no masks.
        offset: where image 0 lies in the order of ``split="all"`` (all of train, then all of test).
        one_size: whether all images are sure to have the same size.
        file_of: id -> the file of an image; None where images have no file of their own.

    Raises:
        ValueError: if the labels are not one an image, or a label has no class name.
    """

    name: str
    splits: tuple[tuple[str, int], ...]
    ids: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    read_mask: Callable[[int], np.ndarray] | None = None
    offset: int = 0
    one_size: bool = False
    file_of: Callable[[int], Path] | None = None

    def __post_init__(self) -> None:
        if self.labels is None or len(self.ids) == 0:
            return
        require(
            len(self.labels) == len(self.ids),
            f"{self.name}: number of labels",
            len(self.labels),
            f"{len(self.ids)}, one an image",
        )
        low, high, n_classes = int(self.labels.min()), int(self.labels.max()), len(self.class_names)
        expected = f"within [0, {n_classes - 1}], since {n_classes} classes have names"
        require(low >= 0 and high < n_classes, f"{self.name}: labels", f"in [{low}, {high}]", expected)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_opened(self) -> int:
        """Number of images before any limit or exclusion."""
        return sum(count for _, count in self.splits)

    def name_of(self, image_id: int) -> str:
        """Return split and index within the split, for instance ``"test_00042"``.

        Raises:
            ValueError: if no image of the source as opened has this id.
        """
        return name_in_splits(self.splits, image_id)


def name_in_splits(splits: tuple[tuple[str, int], ...], image_id: int) -> str:
    """Return the split that an id falls into when ids count through the splits, and its index there: ``"test_00042"``.

    Raises:
        ValueError: if the id lies beyond them.
    """
    total = sum(count for _, count in splits)
    require(0 <= image_id < total, "image id", image_id, f"in 0..{total - 1}")
    ends = itertools.accumulate(count for _, count in splits)
    split, count, end = next((*of, end) for of, end in zip(splits, ends, strict=True) if image_id < end)
    return f"{split}_{image_id - (end - count):05d}"


def require_split(split: str) -> None:
    """Raise ValueError unless `split` is one of `SPLITS`."""
    require(split in SPLITS, "split", repr(split), "one of " + ", ".join(SPLITS))


def of_splits(
    name: str,
    split: str,
    counts: dict[str, int],
    *,
    labels: np.ndarray | None,
    class_names: Iterable[str] = (),
    read: Callable[[int], np.ndarray],
    read_mask: Callable[[int], np.ndarray] | None = None,
    offset: int = 0,
    one_size: bool = False,
    file_of: Callable[[int], Path] | None = None,
) -> ImageSource:
    """Make a source of the splits in `counts`, with every image in it.

    Args:
        split: what was asked for: train, test or all.
        counts: images of each split that the source holds, in the order of the ids.
        labels: integer [N], or None.
        offset: number of images of the splits that come before those in `counts`.

    Raises:
        ValueError: if there is no image at all.
    """
    total = sum(counts.values())
    if total == 0:
        raise UserError(f"{name}: split {split} holds no image")
    labels = None if labels is None else np.asarray(labels, dtype=np.int64)
    ids = np.arange(total, dtype=np.int64)
    return ImageSource(name, tuple(counts.items()), ids, labels, tuple(class_names), read, read_mask, offset, one_size, file_of)


def keep(source: ImageSource, kept: slice | np.ndarray) -> ImageSource:
    """Keep the images at some places, a slice or bool [N], under their ids."""
    labels = None if source.labels is None else source.labels[kept]
    return replace(source, ids=source.ids[kept], labels=labels)


def limit(source: ImageSource, n: int) -> ImageSource:
    """Keep the first `n` images, or all where there are fewer.

    Raises:
        ValueError: if `n` is below 1.
    """
    require(n >= 1, "limit", n, "at least 1")
    return keep(source, slice(n))


def exclude(source: ImageSource, ids: Iterable[int]) -> ImageSource:
    """Leave out the images with these ids.

    Raises:
        ValueError: if an id is not of the source as opened, or if no image would be left.
    """
    unwanted = np.unique(np.fromiter(ids, dtype=np.int64))
    for image_id in unwanted[(unwanted < 0) | (unwanted >= source.n_opened)]:
        raise UserError(f"excluded id is {image_id}, expected in 0..{source.n_opened - 1}")
    kept = ~np.isin(source.ids, unwanted)
    if not kept.any():
        raise UserError(f"{source.name}: all {len(source)} images are excluded")
    return keep(source, kept)


def resize(source: ImageSource, size: int, how: str = "stretch") -> ImageSource:
    """Make every image `size` x `size`, with an antialiased Lanczos filter; masks take the nearest pixel.

    Args:
        how: ``"stretch"`` squeezes the whole image into the square, ``"crop"`` takes its centre square first.

    Raises:
        ValueError: if `size` is below 1 or `how` is unknown.
    """
    require(isinstance(size, int) and size >= 1, "size", size, "an integer of at least 1")
    require(how in RESIZES, "resize", repr(how), "one of " + ", ".join(RESIZES))
    read, read_mask = source.read, source.read_mask
    return replace(
        source,
        one_size=True,
        read=lambda image_id: _resized(read(image_id), size, how, Image.Resampling.LANCZOS),
        read_mask=read_mask and (lambda image_id: _resized(read_mask(image_id), size, how, Image.Resampling.NEAREST)),
    )


def _resized(pixels: np.ndarray, size: int, how: str, resample: Image.Resampling) -> np.ndarray:
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    box = (0, 0, width, height)
    if how == "crop":
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    return np.array(Image.fromarray(pixels).resize((size, size), resample, box=box))
