"""An image source: a frozen record that reads images, and the operations that make a smaller or resized one from it.

The id of an image is its index among all images of the opened source. Limiting and excluding drop ids but never renumber them, so
an id means the same image in a store, a record and a figure.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from rapid_inr.data.passed_over import NOTHING_PASSED_OVER, PassedOver
from rapid_inr.errors import UserError, require

SPLITS = ("train", "test", "all")
RESIZES = ("stretch", "crop")
MAX_PART, MAX_FILE_NAME = 255, 1023  # bytes of a folder or a file, and of a whole name
# control characters, line separators, changes of the direction of writing, halves of characters, and a separator of paths
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\\]")


class DatasetMissing(UserError):
    """A dataset is not at the expected path; the message names the path and how to get the data."""


class CorruptImage(UserError):
    """A file is damaged, or not in the expected format; the message names the file and the reason."""


def stop_at(message: str) -> NoReturn:
    """Raise CorruptImage for an unreadable image that is not to be skipped, and say what to do."""
    raise CorruptImage(f"{message}; repair or remove it, or set dataset.on_corrupt=skip")


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images that can be read one by one, in any order and from several threads.

    Args:
        name: the reader's name, such as ``"cifar10"``.
        splits: name and number of images of each split before limits and exclusions; ids count through them in order.
        ids: int64 [N], the ids of the images, ascending.
        labels: int64 [N], the class of each image, or None.
        class_names: a name for each class; empty without labels.
        read: id -> uint8 [height, width, 3]; raises `CorruptImage`.
        read_mask: id -> uint8 [height, width], 0 for background and class + 1 elsewhere; None without masks.
        offset: position of image 0 in the order of ``split="all"`` (all of train, then all of test).
        file_of: id -> the file of an image; None unless each image has its own file. In a split no two have the same `file_name`.
        files: the files that hold all images, if `file_of` is None.
        passed_over: other files in the folders.

    Raises:
        UserError: if the number of labels is wrong, or a label has no class name.
    """

    name: str
    splits: tuple[tuple[str, int], ...]
    ids: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    read_mask: Callable[[int], np.ndarray] | None = None
    offset: int = 0
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
        """Number of images before limits and exclusions."""
        return sum(count for _, count in self.splits)

    def image_files(self) -> list[Path]:
        """Return the file of each image, or the files that hold all of them; empty for generated images."""
        return list(self.files) if self.file_of is None else [self.file_of(image_id) for image_id in self.ids.tolist()]

    def stamps(self) -> np.ndarray:
        """Return size in bytes and modification time in ns of each of the `image_files`, int64 [n, 2]; -1 for a missing file."""
        return np.array([_stamp(path) for path in self.image_files()], dtype=np.int64).reshape(-1, 2)

    def digest(self) -> str:
        """Return a fingerprint of the images: ids, labels, the first image's pixels, and each file's name, size and time.

        Only the first image is read, so a changed file with the same size and modification time goes unnoticed.
        """
        digest = hashlib.sha256(self.ids.tobytes() + (b"" if self.labels is None else self.labels.tobytes()))
        digest.update("\n".join(path.name for path in self.image_files()).encode(errors="surrogateescape"))
        digest.update(self.stamps().tobytes())
        try:
            digest.update(self.read(int(self.ids[0])).tobytes())
        except CorruptImage:
            digest.update(b"unreadable")
        return digest.hexdigest()[:16]

    def content_of(self, image_id: int) -> str:
        """Return a digest of an image's file, or of its pixels if it has none, to recognise the image under another id."""
        content = self.read(image_id) if self.file_of is None else self.file_of(image_id).read_bytes()
        return hashlib.sha256(content).hexdigest()[:32]

    def file_name(self, image_id: int) -> str:
        """Return ``CLASS/FILE`` of a labelled image with its own file, ``FILE`` of another; empty if there is no plain name."""
        if self.file_of is None:
            return ""
        name = "/".join(self.file_of(image_id).parts[-1 if self.labels is None else -2 :])
        return name if is_plain_file_name(name) else ""

    def name_of(self, image_id: int) -> str:
        """Return the name of an image; see `name_in_splits`.

        Raises:
            UserError: if the opened source has no image with this id.
        """
        return name_in_splits(self.splits, image_id, self.file_name(image_id))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def is_plain_file_name(name: str) -> bool:
    """Return whether a name is a relative path of UTF-8, without ``..``, backslashes and control characters."""
    parts = name.split("/")
    sound = not _NOT_PLAIN.search(name) and not {"", ".", ".."} & set(parts)
    return sound and max(len(part.encode()) for part in parts) <= MAX_PART and len(name.encode()) <= MAX_FILE_NAME


def name_in_splits(splits: tuple[tuple[str, int], ...], image_id: int, file_name: str = "") -> str:
    """Return the name of an image: its split and file, such as ``"test/cat/7.jpg"``, or its number, such as ``"test_00042"``.

    Args:
        image_id: counts through the splits.
        file_name: see `ImageSource.file_name`; empty for the number.

    Raises:
        UserError: if no split has this id.
    """
    total = sum(count for _, count in splits)
    require(0 <= image_id < total, "image id", image_id, f"in 0..{total - 1}")
    split, first = next((split, ids.start) for split, ids in ids_by_split(splits).items() if image_id in ids)
    return f"{split}/{file_name}" if file_name else f"{split}_{image_id - first:05d}"


def ids_by_split(splits: tuple[tuple[str, int], ...]) -> dict[str, range]:
    """Return the range of ids of each split; they count through the splits in order."""
    ends = itertools.accumulate(count for _, count in splits)
    return {split: range(end - count, end) for (split, count), end in zip(splits, ends, strict=True)}


def require_split(split: str) -> None:
    """Raise `UserError` unless `split` is one of `SPLITS`."""
    require(split in SPLITS, "split", repr(split), f"one of {', '.join(SPLITS)}")


def of_splits(
    name: str,
    split: str,
    counts: dict[str, int],
    *,
    labels: np.ndarray | None,
    class_names: Iterable[str] = (),
    **others: Any,
) -> ImageSource:
    """Make a source of all images of the splits in `counts`.

    Args:
        split: the split that was opened: train, test or all.
        counts: number of images of each split of the source, in the order of the ids.
        labels: integer [N], or None.
        others: fields of `ImageSource`, at least `read`.

    Raises:
        UserError: if there are no images.
    """
    total = sum(counts.values())
    if total == 0:
        raise UserError(f"{name}: split {split} holds no image")
    labels = None if labels is None else np.asarray(labels, dtype=np.int64)
    ids = np.arange(total, dtype=np.int64)
    return ImageSource(name, tuple(counts.items()), ids, labels, tuple(class_names), **others)


def keep(source: ImageSource, kept: slice | np.ndarray) -> ImageSource:
    """Keep some images, given by a slice or a mask, bool [N], with their ids."""
    labels = None if source.labels is None else source.labels[kept]
    return replace(source, ids=source.ids[kept], labels=labels)


def limit(source: ImageSource, n: int | None, *, n_test: int | None = None) -> ImageSource:
    """Keep at most `n` images of a split, drawn evenly from all classes, in the order of their ids.

    A smaller limit keeps a subset of what a larger one keeps.

    Args:
        n, n_test: limits of the other splits and of the test split; None keeps all.

    Raises:
        UserError: if a limit is below 1.
    """
    for name, value in (("limit", n), ("test_limit", n_test)):
        require(value is None or value >= 1, f"dataset.{name}", value, "at least 1, or null")
    kept = np.ones(len(source), dtype=bool)
    for split, ids in ids_by_split(source.splits).items():
        positions = np.flatnonzero((source.ids >= ids.start) & (source.ids < ids.stop))
        most = n_test if split == "test" else n
        if most is not None:
            kept[positions[_even_order(source, positions)[most:]]] = False
    return source if kept.all() else keep(source, kept)


def _even_order(source: ImageSource, positions: np.ndarray) -> np.ndarray:
    """Return a random order of the images at `positions` whose every prefix is spread evenly over the classes."""
    order = np.random.default_rng(0).permutation(len(positions))
    if source.labels is None:
        return order
    labels = source.labels[positions][order]
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])  # the first index of each image's class
    turn = np.empty(len(order), dtype=np.int64)
    turn[by_class] = np.arange(len(order)) - starts  # the number of images of its class before it
    return order[np.argsort(turn, kind="stable")]


def exclude(source: ImageSource, ids: Iterable[int]) -> ImageSource:
    """Drop the images with these ids.

    Raises:
        UserError: if the opened source has no image with an id, or no image would remain.
    """
    unwanted = np.unique(np.fromiter(ids, dtype=np.int64))
    for image_id in unwanted[(unwanted < 0) | (unwanted >= source.n_opened)]:
        raise UserError(f"excluded id is {image_id}, expected in 0..{source.n_opened - 1}")
    kept = ~np.isin(source.ids, unwanted)
    if not kept.any():
        raise UserError(f"{source.name}: all {len(source)} images are excluded")
    return keep(source, kept)


def resize(source: ImageSource, size: int, how: str = "stretch") -> ImageSource:
    """Resize all images to `size` x `size` by an antialiased Lanczos filter, and masks by the nearest pixel.

    Args:
        how: ``"stretch"`` squeezes the whole image into the square, ``"crop"`` takes its centre square first.

    Raises:
        UserError: if `size` is below 1 or `how` is unknown.
    """
    require(isinstance(size, int) and size >= 1, "size", size, "an integer of at least 1")
    require(how in RESIZES, "resize", repr(how), f"one of {', '.join(RESIZES)}")
    read, read_mask = source.read, source.read_mask
    return replace(
        source,
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
