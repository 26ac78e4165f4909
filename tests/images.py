"""Images for tests that are smooth enough for a small SIREN to fit in few steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rapid_inr.inr.coords import pixel_coords


def smooth_images(n: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Return uint8 [n, height, width, 3], each a few low-frequency waves of its own."""
    generator = torch.Generator().manual_seed(seed)
    coords = pixel_coords(height, width)  # [P, 2]
    frequency = (torch.rand(n, 2, 3, generator=generator) - 0.5) * 2 * math.pi
    phase = torch.rand(n, 1, 3, generator=generator) * 2 * math.pi
    waves = torch.sin(coords @ frequency + phase)  # [n, P, 3]
    return ((waves * 0.4 + 0.5) * 255).round().to(torch.uint8).reshape(n, height, width, 3)
