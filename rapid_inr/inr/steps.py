"""The pixels and the learning rate of each step of a fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.inr.coords import pixel_coords, pixel_lattices

if TYPE_CHECKING:
    from rapid_inr.inr.fit import FitConfig

DECAYS = ("cosine", "none")
SCALE_LR = 2e-2  # of the logarithm of a scale that is trained; docs/compression.md
SOAP_STEPS = 1600  # up to which SOAP takes `default_lr`; at that rate, weights grow in longer fits and some fits collapse
FULL_STEP_PIXELS = 4096  # pixels a pass when a step sees the whole image


def default_lr(spec: SirenSpec) -> float:
    """Return a near-optimal learning rate: 1e-2 at 3x16 and omega 15, less for deeper or wide SIRENs and higher omega.

    The rule fits measurements with 200 to 1,200 steps: 1e-2 at 2x16 and 3x16 (omega 15), 5e-3 at 5x16 (15), 2.5e-3 at 5x13 (30),
    1.4e-3 at 6x44 (30), 1e-3 at 10x32 (30). Twice the rate diverges at depth 5 and above, 1.4 times the rate on some images at
    width 44; half the rate costs about 1 dB at depth 3.
    """
    return 1e-2 * (15 / spec.omega) * (3 / spec.depth) ** (4 / 3) * min(1.0, 32 / spec.hidden)


def peak_lr(spec: SirenSpec, config: FitConfig) -> float:
    """Return the highest learning rate of a fit; by default it falls with the steps of a long fit by SOAP."""
    if config.lr is not None:
        return config.lr
    return default_lr(spec) * (min(1.0, SOAP_STEPS / config.steps) ** 0.5 if config.optimizer == "soap" else 1.0)


def decays(config: FitConfig) -> list[float]:
    """Return the factor of the peak rate at each step."""
    if config.decay == "none":
        return [1.0] * config.steps
    return [0.5 * (1 + math.cos(math.pi * step / config.steps)) for step in range(config.steps)]


def first_full_step(config: FitConfig) -> int:
    """Return the first step that sees all pixels."""
    return 0 if config.pixels_per_step is None else math.floor(config.full_from * config.steps)


def lattice_pixels(config: FitConfig, n_pixels: int) -> int:
    """Return about how many of an image's `n_pixels` a pass sees."""
    return min(n_pixels, config.pixels_per_step or FULL_STEP_PIXELS)


def pixels_per_step(config: FitConfig, n_pixels: int) -> float:
    """Return how many of an image's `n_pixels` a step sees on average."""
    if config.pixels_per_step is None:
        return n_pixels
    return config.full_from * min(n_pixels, config.pixels_per_step) + (1 - config.full_from) * n_pixels


def lattice_passes(images: Tensor, config: FitConfig) -> list[tuple[Tensor, Tensor]]:
    """Return the coordinates [B, P', 2] and the targets [B, P', 3] in [0, 1] of each lattice."""
    height, width = images.shape[1:3]
    coords, flat = pixel_coords(height, width).to(images.device), images.flatten(1, 2)
    lattices = pixel_lattices(height, width, lattice_pixels(config, height * width))
    lattices = [lattice.to(images.device) for lattice in lattices]
    return [(coords[pixels].expand(len(images), -1, -1), flat[:, pixels].float().div_(255)) for pixels in lattices]
