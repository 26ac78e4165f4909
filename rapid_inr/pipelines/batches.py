"""What every pipeline yields, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_STREAM = 2  # keeps the order apart from the other draws of the same (seed, epoch)


@dataclass(frozen=True)
class Batch:
    """Images ready for the network.

    Args:
        images: floating [B, 3, height, width], normalised, channels_last, on the device.
        labels: int64 [B], on the device.
        ids: int64 [B], positions in the pipeline's dataset, on the CPU.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


class Pipeline(Protocol):
    """A way to feed a network.

    `len` is the number of images; `epoch(k)` yields `n_batches` batches of them in the order of epoch k, each image once at most.
    """

    def __len__(self) -> int: ...

    @property
    def n_batches(self) -> int: ...

    def epoch(self, epoch: int) -> Iterator[Batch]: ...


def count_batches(*, n_images: int, batch_size: int, shuffled: bool) -> int:
    """Return the number of batches of an epoch.

    When shuffling, images that do not fill the last batch wait for another epoch, so that every step is of one size.

    Raises:
        ValueError: if `batch_size` is below 1, or a shuffled epoch would hold no batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    if shuffled and batch_size > n_images:
        raise ValueError(f"batch_size is {batch_size}, more than the {n_images} images of the set")
    return n_images // batch_size if shuffled else -(-n_images // batch_size)


def epoch_batches(*, n_images: int, batch_size: int, epoch: int, seed: int | None) -> tuple[Tensor, ...]:
    """Return the ids of each batch of an epoch: a fresh shuffle for each (seed, epoch), or in order where `seed` is None.

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
