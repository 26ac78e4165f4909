"""The pipeline `dataloader`: files decoded by Pillow in the worker processes of torch's DataLoader."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rapid_inr.augment.warp import Geometry
from rapid_inr.data.pixels import read_image
from rapid_inr.data.source import CorruptImage, stop_at
from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline, Ids, pixel_pipeline
from rapid_inr.pipelines.batches import DecoderFailed, require_fits
from rapid_inr.runlog.liveness import lives, this_process

WATCH_S = 2.0  # interval at which a worker checks whether its trainer still lives

# the readable images of a batch, uint8 [b, height, width, 3]; their positions in the batch; a message for each other image
Read = tuple[Tensor, Tensor, tuple[str, ...]]
OnFaults = Callable[[Sequence[str]], None]  # handles the messages on unreadable files: raises, or notes them


def read_sized(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read an image file of a known size by `read_image`: uint8 [height, width, 3].

    Raises:
        CorruptImage: if it cannot be read or has another size; names the path.
    """
    pixels = read_image(path)
    if pixels.shape[:2] != size:
        raise CorruptImage(wrong_size(path, pixels.shape[:2], size))
    return pixels


def wrong_size(path: Path, actual: tuple[int, int], expected: tuple[int, int]) -> str:
    """Return the message on a file of another (height, width)."""
    return f"{path}: is {actual[0]}x{actual[1]}, expected {expected[0]}x{expected[1]}"


def readable_files(
    paths: Sequence[Path], size: tuple[int, int], *, library: str, error: Exception
) -> tuple[Tensor, tuple[str, ...]]:
    """Find the files of a failed batch that Pillow cannot read either, since the library does not name them.

    Args:
        error: the library's exception.

    Returns:
        int64 positions of the readable files, and a message on each of the others.

    Raises:
        DecoderFailed: if Pillow can read all of them, so the files are not to blame.
    """
    readable, faults = [], []
    for position, path in enumerate(paths):
        try:
            read_sized(path, size)
            readable.append(position)
        except CorruptImage as fault:
            faults.append(str(fault))
    if not faults:
        raise DecoderFailed(
            f"{library} failed on the files from {paths[0]} to {paths[-1]}, but Pillow can read them all; {library} says: {error}"
        ) from error
    return torch.tensor(readable, dtype=torch.int64), tuple(faults)


class FileImages(Dataset[Read]):
    """Image files of one size; an item is a batch, since passing small images on one by one costs more than reading them."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self.paths, self.size = [str(path) for path in paths], size

    def __getitem__(self, ids: list[int]) -> Read:
        images, kept, faults = [], [], []
        for position, image_id in enumerate(ids):
            try:
                images.append(read_sized(Path(self.paths[image_id]), self.size))
            except CorruptImage as error:  # an exception in a worker would lose the file's name and reason
                faults.append(str(error))
            else:
                kept.append(position)
        stacked = np.stack(images) if images else np.empty((0, *self.size, 3), dtype=np.uint8)
        return torch.from_numpy(stacked), torch.tensor(kept, dtype=torch.int64), tuple(faults)


def fail_on(messages: Sequence[str]) -> None:
    """Raise CorruptImage with the first message, if there is one."""
    if messages:
        stop_at(messages[0])


def loader_pipeline(
    dataset: Dataset[Read],
    labels: Tensor,
    *,
    image_size: tuple[int, int],
    device: torch.device | str,
    workers: int,
    prefetch: int = 2,
    on_faults: OnFaults = fail_on,
    **options,
) -> BatchPipeline:
    """Make a pipeline that reads batches in worker processes, and normalises and augments them on the device.

    Args:
        dataset: `FileImages`, or another whose item is the images of a batch.
        image_size: (height, width) of all images.
        workers: processes; 0 reads in this one.
        prefetch: batches that each worker prepares, at most.
        on_faults: called with the messages on unreadable files of a batch; if it returns, the batch leaves them out.
        options: of `pixel_pipeline`.

    Raises:
        ValueError: if `workers` is below 0 or `prefetch` below 1; as `BatchPipeline`.
    """
    if workers < 0 or prefetch < 1:
        raise UserError(f"workers is {workers} and prefetch {prefetch}, expected at least 0 and 1")
    device = torch.device(device)
    order: list[list[int]] = []  # the batches of an epoch; changed in place, since persistent workers keep their loader
    loader = DataLoader(
        dataset, batch_size=None, sampler=order, num_workers=workers, pin_memory=device.type == "cuda",
        persistent_workers=workers > 0, prefetch_factor=prefetch if workers else None,
        multiprocessing_context=_fresh_processes() if workers else None,
        worker_init_fn=partial(_end_with, this_process()),
        generator=torch.Generator(),  # so that the loader does not draw from the caller's global generator
    )  # fmt: skip

    def read(batches: Sequence[Ids], _: Geometry) -> Iterator[tuple[Tensor, Tensor]]:
        order[:] = [ids.host.tolist() for ids in batches]
        for images, kept, faults in loader:
            on_faults(faults)
            yield images, kept

    n_batch = options["batch_size"] * image_size[0] * image_size[1] * 3
    require_fits(n_batch, n_images=options["batch_size"], device=device, what="the images of a batch")
    return pixel_pipeline(read, labels, image_size=image_size, device=device, **options)


def _end_with(trainer: Mapping[str, Any], worker: int) -> None:
    """End a worker soon after its trainer, even if that is killed; torch only watches the server that forked the worker."""

    def watch() -> None:
        while lives(trainer, touched=time.time()):
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _fresh_processes() -> multiprocessing.context.BaseContext:
    """Return the context that starts workers: forks of a server that has imported torch and nothing else.

    A fork of this process could hang on a lock that a library's thread, such as DALI's, held at that moment.
    """
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        # jobs of Hydra's joblib launcher have the start method "loky", which new processes inherit but do not know
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context
