"""The batches that all input pipelines yield, and their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rapid_inr.errors import UserError, require

_STREAM = 2  # separates these random numbers from others with the same (seed, epoch)


class PipelineUnavailable(UserError):
    """A pipeline cannot run here; the message names it and what is missing."""


class DecoderFailed(UserError):
    """A library cannot decode files that Pillow can read; the message quotes the library's error."""


class DeviceTooSmall(UserError):
    """A dataset does not fit the free memory of a device; the message says what it needs, what is free, and what would fit."""


@dataclass(frozen=True)
class Batch:
    """Images ready for the network; unpacks as ``images, labels``, which are also items 0 and 1.

    Args:
        images: floating [B, 3, height, width], normalised, channels_last, on the device.
        labels: [B, ...], on the device; int64 [B] for classes.
        ids: int64 [B], positions in the pipeline's dataset, on the CPU.
        keeps: float32 [B], the share that each image kept when mixed with its neighbour, on the device; None without mixing.
        others: [B, ...], the neighbours' labels, on the device; None without mixing.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    keeps: Tensor | None = None
    others: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors on the device by name, without those that are None."""
        named = {"images": self.images, "labels": self.labels, "keeps": self.keeps, "others": self.others}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def __iter__(self) -> Iterator[Tensor]:
        if self.keeps is not None:
            raise UserError("a batch of mixed images has two labels an image; use batch.labels, batch.others and batch.keeps")
        return iter((self.images, self.labels))

    def __getitem__(self, index: int) -> Tensor:
        return tuple(self)[index]


def count_batches(*, n_images: int, batch_size: int, shuffled: bool) -> int:
    """Return the number of batches of an epoch.

    When shuffled, an epoch drops the images that do not fill its last batch, so that all steps have one size.

    Raises:
        ValueError: if `batch_size` is below 1, or a shuffled epoch would hold no batch.
    """
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    if shuffled and batch_size > n_images:
        raise UserError(f"batch_size is {batch_size}, more than the {n_images} images of the set; set it to {n_images} or less")
    return n_images // batch_size if shuffled else -(-n_images // batch_size)


def epoch_batches(*, n_images: int, batch_size: int, epoch: int, seed: int | None) -> tuple[Tensor, ...]:
    """Return the ids of each batch of an epoch: a new shuffle for each (seed, epoch), or in order if `seed` is None.

    Returns:
        int64 [B] on the CPU for each of the `count_batches` batches.

    Raises:
        ValueError: as `count_batches`.
    """
    n_batches = count_batches(n_images=n_images, batch_size=batch_size, shuffled=seed is not None)
    if seed is None:
        return torch.arange(n_images).split(batch_size)
    order = torch.from_numpy(np.random.default_rng((seed, epoch, _STREAM)).permutation(n_images))
    return order[: n_batches * batch_size].split(batch_size)


def share_of_rank(
    batches: tuple[Tensor, ...], *, rank: int, world_size: int, with_leader: bool = False, keep_empty: bool = False
) -> tuple[Tensor, ...]:
    """Return the share of one process in each batch; the shares of all ranks, in order, make up the batch.

    If a batch has fewer images than processes, which only happens at the end of an unshuffled epoch, some shares are empty.

    Args:
        with_leader: whether each share starts with the image before it in the whole batch; the last image precedes the first.
        keep_empty: whether to return empty shares too.

    Raises:
        ValueError: if `rank` is not in 0..world_size - 1.
    """
    require(0 <= rank < world_size, "rank", rank, f"0..{world_size - 1}")
    if world_size == 1:
        return batches
    shares = [batch.tensor_split(world_size)[rank] for batch in batches]
    if with_leader:
        leaders = [batch.tensor_split(world_size)[rank - 1][-1:] for batch in batches]
        shares = [torch.cat(led) if len(led[1]) else led[1] for led in zip(leaders, shares, strict=True)]
    return tuple(share for share in shares if keep_empty or len(share))


def require_fits(n_bytes: int, *, n_images: int, device: torch.device, what: str) -> None:
    """Check that a device has memory for the bytes, before any are copied.

    Raises:
        DeviceTooSmall: if `device` is a GPU with fewer free bytes.
    """
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    if n_bytes > free:
        fitting = free * n_images // n_bytes
        raise DeviceTooSmall(
            f"{what} need {n_bytes:,} bytes, {device} has {free:,} free: {fitting:,} of the {n_images:,} images would fit"
        )
