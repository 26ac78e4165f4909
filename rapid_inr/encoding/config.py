"""How images are encoded, and how many of them make a shard."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from kernels.spec import SirenSpec
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import RefineConfig, planned_steps, require_roundable
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.inr.fit import FitConfig
from rapid_inr.inr.steps import pixels_per_step

MAX_SHARD_IMAGES = 1024
SHARD_S = 60  # about what a kill may cost
# weights x pixels trained a second: one CPU core fits 3x16 at 32 px in 200 steps of 26 ms in all; a GPU counts as 500 cores
WORK_PER_S = {"cpu": 2.4e9, "cuda": 1.2e12}


@dataclass(frozen=True)
class EncodeConfig:
    """How images are encoded: the same for every shard of a dataset.

    Raises:
        UserError: see `require_roundable`.
    """

    spec: SirenSpec
    fit: FitConfig
    quantize: QuantizeConfig
    prune: PruneConfig = field(default_factory=PruneConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        require_roundable(self.spec, self.quantize, self.refine)

    @property
    def steps(self) -> tuple[int, int, int]:
        """Optimiser steps that an image takes at most to be fitted, pruned, and trained through the quantization."""
        return planned_steps(self.fit, self.prune, self.quantize, self.refine)


def default_shard_images(config: EncodeConfig, *, n_pixels: int, device: torch.device) -> int:
    """Return how many images of `n_pixels` each take about `SHARD_S` to encode, from 1 to `MAX_SHARD_IMAGES`.

    It is an estimate from the configuration, so that every job comes to the same. ``rule=ceiling_first`` ranks images within
    their shard, so its shards are of one length.
    """
    if config.prune.rule == "ceiling_first":
        return MAX_SHARD_IMAGES
    work = sum(config.steps) * pixels_per_step(config.fit, n_pixels) * config.spec.n_weights
    return max(1, min(MAX_SHARD_IMAGES, int(SHARD_S * WORK_PER_S[device.type] / work)))
