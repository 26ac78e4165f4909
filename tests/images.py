"""Images for tests that are smooth enough for a small SIREN to fit in few steps, and a short way to encode them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import RefineConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.encoding import encode as encoding
from rapid_inr.encoding.encode import EncodeReport
from rapid_inr.encoding.siren import SirenConfig
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.fit import FitConfig
from rapid_inr.store.packed import PackedStore


def smooth_images(n: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Return uint8 [n, height, width, 3], each a few low-frequency waves of its own."""
    generator = torch.Generator().manual_seed(seed)
    coords = pixel_coords(height, width)  # [P, 2]
    frequency = (torch.rand(n, 2, 3, generator=generator) - 0.5) * 2 * math.pi
    phase = torch.rand(n, 1, 3, generator=generator) * 2 * math.pi
    waves = torch.sin(coords @ frequency + phase)  # [n, P, 3]
    return ((waves * 0.4 + 0.5) * 255).round().to(torch.uint8).reshape(n, height, width, 3)


def encode(
    source: ImageSource, spec: SirenSpec, fit: FitConfig, quantize: QuantizeConfig, *,
    prune_config: PruneConfig | None = None, refine_config: RefineConfig | None = None, **options: Any,
) -> tuple[PackedStore, EncodeReport]:  # fmt: skip
    """Encode as `rapid_inr.encoding.encode.encode`, unpruned and unrefined unless it is asked for."""
    config = SirenConfig(spec, fit, quantize, prune_config or PruneConfig(), refine_config or RefineConfig())
    return encoding.encode(source, config, **options)
