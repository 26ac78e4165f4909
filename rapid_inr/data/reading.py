"""Read a source in order: in chunks with bounded memory, or all of it into one tensor."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rapid_inr.data.pixels import is_image
from rapid_inr.data.source import CorruptImage, ImageSource, stop_at
from rapid_inr.errors import UserError, require

ON_CORRUPT = ("fail", "skip")
NAMED = 10  # most unreadable files named in a message
_TASK_BYTES = 4 << 20  # pixel bytes a task reads: enough to hide its overhead (20 us), few enough for a queue of tasks
_TASK_IMAGES = 64


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive images of a source.

    Args:
        ids: int64 [n].
        images: n arrays, uint8 [height, width, 3], of any sizes.
        labels: int64 [n], or None.
        skipped: a message for each image skipped since the previous chunk, by id.
    """

    ids: np.ndarray
    images: list[np.ndarray]
    labels: np.ndarray | None
    skipped: dict[int, str]


class Loaded(NamedTuple):
    """A whole source in memory: uint8 [N, height, width, 3], int64 [N] or None, int64 [N], a message for each skipped image."""

    images: Tensor
    labels: Tensor | None
    ids: Tensor
    skipped: tuple[str, ...]


def read_chunks(
    source: ImageSource,
    max_images: int,
    *,
    on_corrupt: str = "fail",
    max_bytes: int = 1 << 30,
    workers: int | None = None,
) -> Iterator[Chunk]:
    """Yield the images of a source in chunks, by rising id; a pool of threads reads ahead.

    The chunks do not depend on the number of threads. If no image can be read, there is one chunk without images.

    Args:
        max_images: most images in a chunk.
        on_corrupt: ``"fail"`` raises at the first unreadable image, ``"skip"`` skips it and adds a message to `skipped`.
        max_bytes: most pixel bytes in a chunk, unless a single image is larger.
        workers: threads; by default one a CPU core, at most 8.

    Raises:
        CorruptImage: at an unreadable image if `on_corrupt` is ``"fail"``.
        ValueError: if an argument is out of range.
    """
    # checked here because the generator would raise only at its first use
    require(max_images >= 1, "max_images", max_images, "at least 1")
    require(max_bytes >= 1, "max_bytes", max_bytes, "at least 1")
    require(workers is None or workers >= 1, "workers", workers, "at least 1")
    require(on_corrupt in ON_CORRUPT, "dataset.on_corrupt", repr(on_corrupt), f"one of {', '.join(ON_CORRUPT)}")
    return _chunks(source, max_images, on_corrupt, max_bytes, workers or min(8, os.cpu_count() or 1))


def _chunks(source: ImageSource, max_images: int, on_corrupt: str, max_bytes: int, workers: int) -> Iterator[Chunk]:
    positions: list[int] = []
    images: list[np.ndarray] = []
    skipped: dict[int, str] = {}
    n_bytes = 0
    for position, image in enumerate(_read_ahead(source, workers)):
        if isinstance(image, CorruptImage):
            if on_corrupt == "fail":
                stop_at(str(image))
            skipped[int(source.ids[position])] = str(image)
            continue
        # a full chunk waits for the next readable image, so that the last chunk has images and the last messages
        if images and (len(images) == max_images or n_bytes + image.nbytes > max_bytes):
            yield _chunk(source, positions, images, skipped)
            positions, images, skipped, n_bytes = [], [], {}, 0
        positions.append(position)
        images.append(image)
        n_bytes += image.nbytes
    yield _chunk(source, positions, images, skipped)


def _chunk(source: ImageSource, positions: list[int], images: list[np.ndarray], skipped: dict[int, str]) -> Chunk:
    labels = None if source.labels is None else source.labels[positions]
    return Chunk(source.ids[positions], images, labels, skipped)


def _read_ahead(source: ImageSource, workers: int) -> Iterator[np.ndarray | CorruptImage]:
    """Yield each image or its exception in order; at most 2 `workers` tasks are queued or running."""

    def read(ids: np.ndarray) -> list[np.ndarray | CorruptImage]:
        results = []
        for image_id in ids.tolist():
            try:
                results.append(source.read(image_id))
            except CorruptImage as error:
                results.append(error)
        return results

    pending: deque[Future] = deque()
    start, task_images, largest_bytes = 0, 1, 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-images")
    try:
        while start < len(source) or pending:
            while start < len(source) and len(pending) < 2 * workers:
                pending.append(pool.submit(read, source.ids[start : start + task_images]))
                start += task_images
            for image in pending.popleft().result():
                largest_bytes = max(largest_bytes, getattr(image, "nbytes", 0))
                yield image
            task_images = max(1, min(_TASK_IMAGES, _TASK_BYTES // max(1, largest_bytes)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def require_images(source: ImageSource) -> None:
    """Check the headers of all image files before any work.

    Raises:
        CorruptImage: if any is not an image; the message counts them and names the first.
    """
    files = source.image_files() if source.file_of is not None else []
    bad = [str(path) for path in files if not is_image(path)]
    if bad:
        named = ", ".join(bad[:NAMED]) + (f" and {len(bad) - NAMED} more" if len(bad) > NAMED else "")
        raise CorruptImage(
            f"{len(bad)} of {len(files)} files cannot be read as an image: {named}; dataset.on_corrupt=skip leaves them out"
        )


def first_image(source: ImageSource, *, on_corrupt: str = "fail") -> np.ndarray:
    """Read the first image; if `on_corrupt` is ``skip``, the first readable one.

    Raises:
        CorruptImage: if the first image cannot be read and `on_corrupt` is ``fail``.
        UserError: if no image can be read.
    """
    for image_id in source.ids.tolist():
        try:
            return source.read(image_id)
        except CorruptImage as error:
            if on_corrupt == "fail":
                stop_at(str(error))
    raise UserError(f"{source.name}: none of {len(source)} images could be read")


def load_all(source: ImageSource, *, on_corrupt: str = "fail") -> Loaded:
    """Read a whole source with images of one size into tensors on the CPU.

    Raises:
        CorruptImage: at an unreadable image if `on_corrupt` is ``"fail"``.
        ValueError: if the images differ in size, or none can be read.
    """
    images = torch.empty(0, dtype=torch.uint8)
    ids, labels, skipped = [], [], []
    n = 0
    for chunk in read_chunks(source, max_images=256, on_corrupt=on_corrupt):
        if not chunk.images:
            reason = next(iter(chunk.skipped.values()))
            raise UserError(f"{source.name}: none of {len(source)} images could be read; the first: {reason}")
        if n == 0:
            images = torch.empty((len(source), *chunk.images[0].shape), dtype=torch.uint8)  # [N, height, width, 3]
        for image_id, image in zip(chunk.ids.tolist(), chunk.images, strict=True):
            if image.shape != images.shape[1:]:
                first, this = (f"{shape[0]}x{shape[1]}" for shape in (images.shape[1:], image.shape))
                raise UserError(
                    f"{source.name}: images differ in size ({source.name_of(int(ids[0] if ids else chunk.ids[0]))} is {first}, "
                    f"{source.name_of(image_id)} is {this}); give them one size with dataset.size=S"
                )
        images[n : n + len(chunk.ids)] = torch.from_numpy(np.stack(chunk.images))
        n += len(chunk.ids)
        ids.extend(chunk.ids.tolist())
        skipped.extend(chunk.skipped.values())
        if chunk.labels is not None:
            labels.extend(chunk.labels.tolist())
    label_tensor = None if source.labels is None else torch.tensor(labels, dtype=torch.int64)
    return Loaded(images[:n], label_tensor, torch.tensor(ids, dtype=torch.int64), tuple(skipped))
