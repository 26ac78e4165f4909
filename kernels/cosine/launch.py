"""How the cosine kernel is cut up and specialised. Nothing here was timed: see kernels.tools.offline_cosine."""

from __future__ import annotations

from dataclasses import replace

from kernels.cosine.spec import CosineSpec
from kernels.decode.io import ImageFormat
from kernels.decode.launch import MIN_BLOCK, MIN_WIDTH, LaunchConfig, next_power_of_2
from kernels.decode.sampling import Sampling

LAUNCH = LaunchConfig(block=128, num_warps=4, polynomial_every=8)
MAX_BLOCKS = 8  # of a program, which looks the coefficients up once for all: 1,024 pixels


def cosine_launch(n_pixels: int) -> LaunchConfig:
    """Choose the configuration for images of `n_pixels`; the batch size has no say."""
    return replace(LAUNCH, block=min(LAUNCH.block, max(MIN_BLOCK, next_power_of_2(n_pixels))))


def cosine_constants(
    spec: CosineSpec, images: ImageFormat, sampling: Sampling, *, config: LaunchConfig
) -> dict[str, int | bool | str]:
    """Return the compile-time arguments of the kernel."""
    return {
        "FREQUENCIES": spec.frequencies,
        "PADDED": max(MIN_WIDTH, next_power_of_2(spec.frequencies)),
        "GROUPS": spec.groups,
        "DIMENSIONS": spec.dimensions,
        "PROFILES": spec.profiles,
        "POLYNOMIAL_EVERY": config.polynomial_every,
        "PADDING": sampling.padding,
        "SUPERSAMPLE": sampling.supersample,
        "ROUND": images.round_8bit,
        "CHANNELS_LAST": images.channels_last,
        "BLOCK": config.block,
        "BLOCKS": MAX_BLOCKS,
    }
