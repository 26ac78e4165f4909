"""The interface of encoders of all families: from images of one size to their stored tensors."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rapid_inr.data.source import ImageSource
from rapid_inr.runlog.progress import Report
from rapid_inr.store.families import Code

MAX_SHARD_IMAGES = 1024  # 8 times as many for SIRENs on a GPU
SHARD_S = 60  # target time of a shard, the work that a kill can lose


@dataclass(frozen=True)
class Encoded:
    """Encoded images of one size.

    Args:
        columns: the stored tensors, [n, ...], by name, before packing.
        measured: [n] each: the measurements of `EncodeReport`, and ``converged``.
        fit_s: see `EncodeReport`, like `compress_s`.
    """

    columns: dict[str, Tensor]
    measured: dict[str, Tensor]
    fit_s: float
    compress_s: float


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock of the work on a device.

    On a CPU it counts the processor's seconds, of all threads, which other programs hardly change; on a GPU elapsed seconds.
    """
    return time.process_time if device.type == "cpu" else time.perf_counter


class Encoder(Protocol):
    """How images are encoded, the same for all shards of a dataset."""

    @property
    def code(self) -> Code:
        """How the images are stored."""

    def default_shard_images(self, *, n_pixels: int, device: torch.device) -> int:
        """Return how many images of `n_pixels` take about `SHARD_S` to encode, from 1 to `MAX_SHARD_IMAGES`.

        The estimate depends only on the config, so that it is the same for all jobs.
        """

    def choose_shared(self, source: ImageSource, *, device: torch.device, on_corrupt: str) -> dict[str, Tensor]:
        """Return the tensors that all images share, chosen by a sample of a source; empty if nothing is shared.

        Raises:
            UserError: if no image of the sample can be read.
            CorruptImage: at an unreadable image of the sample if `on_corrupt` is ``fail``.
        """

    def encode(
        self,
        images: Tensor,
        ids: Tensor,
        shared: dict[str, Tensor],
        *,
        device: torch.device,
        on_progress: Report | None = None,
    ) -> Encoded:
        """Encode images of one size, uint8 [n, height, width, 3].

        Args:
            ids: int64 [n].
            shared: see `choose_shared`.
            on_progress: called with the work done since the last call, in images.
        """

    def pack(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the columns of a shard in their stored layout."""
