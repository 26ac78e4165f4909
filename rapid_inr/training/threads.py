"""The number of CPU threads of a training: one if its network is too small to gain from more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

SMALL_NETWORK = 1 << 29  # parameters x pixels of an image; a ResNet-18 of width 8 at 32 px has a third of it: docs/training.md


def training_threads(model: nn.Module, *, n_pixels: int, device: torch.device) -> int:
    """Return 1 for a small network on a CPU, unless ``OMP_NUM_THREADS`` is set; else torch's number of threads."""
    small = sum(parameter.numel() for parameter in model.parameters()) * n_pixels <= SMALL_NETWORK
    return 1 if small and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ else torch.get_num_threads()


@contextmanager
def thread_limit(count: int) -> Iterator[None]:
    """Set torch's number of threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
