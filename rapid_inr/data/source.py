"""An image source: where images come from, behind one frozen record, and the few operations that make another of it.

Every image has an id: its index among the images of the source as it was opened. Limiting and excluding drop ids and
rename none, so that an id names the same image in a store, a record and a picture.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from kernels.checks import require
from rapid_inr.data.passed_over import NOTHING_PASSED_OVER, PassedOver
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
        files: those that hold all images, where they have no files of their own.
        passed_over: what a folder holds besides these images.

    Raises:
        UserError: if the labels are not one an image, or a label has no class name.
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
    files: tuple[Path, ...] = ()
    passed_over: PassedOver = NOTHING_PASSED_OVER

    def __post_init__(self) -> None:
        if self.labels is None or len(self.ids) == 0:
            return
        if len(self.labels) != len(self.ids):
            raise UserError(f"{self.name}: there are {len(self.labels)} labels, expected {len(self.ids)}, one an image")
        low, high, n_classes = int(self.labels.min()), int(self.labels.max()), len(self.class_names)
        if low < 0 or high >= n_classes:
            raise UserError(f"{self.name}: labels are in [{low}, {high}], but there are names for {n_classes} classes")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_opened(self) -> int:
        """Number of images before any limit or exclusion."""
        return sum(count for _, count in self.splits)

    def image_files(self) -> list[Path]:
        """Return the file of each image, or those that hold all of them; empty where images are generated."""
        return list(self.files) if self.file_of is None else [self.file_of(image_id) for image_id in self.ids.tolist()]

    def stamps(self) -> np.ndarray:
        """Return size in bytes and time of modification in ns of each of the `image_files`, int64 [n, 2]; -1 of a missing one."""
        return np.array([_stamp(path) for path in self.image_files()], dtype=np.int64).reshape(-1, 2)

    def digest(self) -> str:
        """Return by what these images are known again: ids, labels, the first pixels, and each file's name, size and time.

        No image but the first is read, so another picture of the same size and time of modification goes unnoticed.
        """
        digest = hashlib.sha256(self.ids.tobytes() + (b"" if self.labels is None else self.labels.tobytes()))
        digest.update("\n".join(path.name for path in self.image_files()).encode(errors="surrogateescape"))
        digest.update(self.stamps().tobytes())
        try:
            digest.update(self.read(int(self.ids[0])).tobytes())
        except CorruptImage:
            digest.update(b"unreadable")
        return digest.hexdigest()[:16]

    def name_of(self, image_id: int) -> str:
        """Return split and index within the split, for instance ``"test_00042"``.

        Raises:
            UserError: if no image of the source as opened has this id.
        """
        return name_in_splits(self.splits, image_id)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def name_in_splits(splits: tuple[tuple[str, int], ...], image_id: int) -> str:
    """Return the split that an id falls into when ids count through the splits, and its index there: ``"test_00042"``.

    Raises:
        UserError: if the id lies beyond them.
    """
    total = sum(count for _, count in splits)
    require(0 <= image_id < total, "image id", image_id, f"in 0..{total - 1}")
    ends = itertools.accumulate(count for _, count in splits)
    split, count, end = next((*of, end) for of, end in zip(splits, ends, strict=True) if image_id < end)
    return f"{split}_{image_id - (end - count):05d}"


def require_split(split: str) -> None:
    """Raise `UserError` unless `split` is one of `SPLITS`."""
    if split not in SPLITS:
        raise UserError(f"split is {split!r}, expected one of {', '.join(SPLITS)}")


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
    files: tuple[Path, ...] = (),
    passed_over: PassedOver = NOTHING_PASSED_OVER,
) -> ImageSource:
    """Make a source of the splits in `counts`, with every image in it.

    Args:
        split: what was asked for: train, test or all.
        counts: images of each split that the source holds, in the order of the ids.
        labels: integer [N], or None.
        offset: number of images of the splits that come before those in `counts`.

    Raises:
        UserError: if there is no image at all.
    """
    total = sum(counts.values())
    if total == 0:
        raise UserError(f"{name}: split {split} holds no image")
    labels = None if labels is None else np.asarray(labels, dtype=np.int64)
    ids = np.arange(total, dtype=np.int64)
    return ImageSource(
        name, tuple(counts.items()), ids, labels, tuple(class_names), read, read_mask, offset, one_size, file_of=file_of,
        files=files, passed_over=passed_over,
    )  # fmt: skip


def keep(source: ImageSource, kept: slice | np.ndarray) -> ImageSource:
    """Keep the images at some places, a slice or bool [N], under their ids."""
    labels = None if source.labels is None else source.labels[kept]
    return replace(source, ids=source.ids[kept], labels=labels)


def limit(source: ImageSource, n: int | None, *, n_test: int | None = None, seed: int = 0) -> ImageSource:
    """Keep `n` images drawn evenly from all classes, or all where there are fewer; they stay in the order of their ids.

    The smaller of two limits keeps a part of what the larger keeps.

    Args:
        n: of every split but test; None keeps all.
        n_test: of the split test, likewise.
        seed: of the draw.

    Raises:
        UserError: if a limit is below 1.
    """
    for name, value in (("limit", n), ("test_limit", n_test)):
        if value is not None and value < 1:
            raise UserError(f"dataset.{name} is {value}, expected at least 1, or null")
    kept, first = np.ones(len(source), dtype=bool), 0
    for split, count in source.splits:
        places = np.flatnonzero((source.ids >= first) & (source.ids < first + count))
        most = n_test if split == "test" else n
        if most is not None:
            kept[places[_even_order(source, places, seed)[most:]]] = False
        first += count
    return source if kept.all() else keep(source, kept)


def _even_order(source: ImageSource, places: np.ndarray, seed: int) -> np.ndarray:
    """Return the order in which to take some images, so that any number of them is spread evenly over the classes."""
    order = np.random.default_rng(seed).permutation(len(places))
    if source.labels is None:
        return order
    labels = source.labels[places][order]
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])  # where the class of each begins
    turn = np.empty(len(order), dtype=np.int64)
    turn[by_class] = np.arange(len(order)) - starts  # how many of its class come before it
    return order[np.argsort(turn, kind="stable")]


def exclude(source: ImageSource, ids: Iterable[int]) -> ImageSource:
    """Leave out the images with these ids.

    Raises:
        UserError: if an id is not of the source as opened, or if no image would be left.
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
        UserError: if `size` is below 1 or `how` is unknown.
    """
    if not isinstance(size, int) or size < 1:
        raise UserError(f"size is {size}, expected an integer of at least 1")
    if how not in RESIZES:
        raise UserError(f"resize is {how!r}, expected one of {', '.join(RESIZES)}")
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
