"""The launch parameters of the decode kernel, in one table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from kernels.checks import require
from kernels.decode.io import ImageFormat
from kernels.decode.sampling import Sampling
from kernels.spec import SirenSpec

MIN_WIDTH = 16  # least side of 16-bit operands of tl.dot
MIN_BLOCK = 64  # pixels of one wgmma
MAX_GRID = 65_535  # most programs along the second and the third axis of a launch


@dataclass(frozen=True)
class LaunchConfig:
    """Pixels a program, and the options of the compiler.

    Args:
        polynomial_every: one sine in this many is a polynomial, which does not use the sine unit; 0 for none.
    """

    block: int
    num_warps: int = 4
    num_stages: int = 1
    polynomial_every: int = 0


# by the kernel's width; unmeasured blocks are as large as registers allow: see kernels.tools.offline
UNMEASURED = {16: LaunchConfig(256), 32: LaunchConfig(128), 48: LaunchConfig(64), 64: LaunchConfig(64)}
BY_CAPABILITY = {
    # widths 16 and 32 won in kernels.tools.tune, 48 was measured without alternatives, 64 is unmeasured
    9: {
        16: LaunchConfig(256, num_warps=2, polynomial_every=8),
        32: LaunchConfig(256, num_warps=4, polynomial_every=8),
        48: LaunchConfig(128, num_warps=4),
        64: LaunchConfig(64),
    },
    # unmeasured: with four warps Triton 3.8 and 3.9 use tcgen05 and spill at widths 28 to 44; with two they use mma.sync
    10: {
        16: LaunchConfig(256, num_warps=2),
        32: LaunchConfig(128, num_warps=2),
        48: LaunchConfig(64, num_warps=2),
        64: LaunchConfig(64),
    },
}


def column_parts(spec: SirenSpec) -> tuple[int, int]:
    """Return the columns of the two tensors of a layer: powers of two, at least 16; 0 for no second tensor."""
    if 32 < spec.hidden <= 32 + MIN_WIDTH:
        return 32, MIN_WIDTH
    return max(MIN_WIDTH, next_power_of_2(spec.hidden)), 0


def padded_width(spec: SirenSpec) -> int:
    """Return the width that the kernel computes with: 16, 32, 48 or 64."""
    return sum(column_parts(spec))


def bias_in_product(spec: SirenSpec) -> bool:
    """Return whether two padding neurons, which are always 1, put the bias of the next layer into its product."""
    return padded_width(spec) - spec.hidden >= 2


def launch_config(spec: SirenSpec, n_pixels: int, *, capability: int) -> LaunchConfig:
    """Choose the launch parameters for images of `n_pixels`, which do not depend on the batch size.

    Args:
        capability: major compute capability of the GPU.
    """
    config = BY_CAPABILITY.get(capability, UNMEASURED)[padded_width(spec)]
    return replace(config, block=min(config.block, max(MIN_BLOCK, next_power_of_2(n_pixels))))


@lru_cache
def capability_of(device: torch.device) -> int:
    """Return the major compute capability of a CUDA device, 0 for the interpreter's CPU."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0


def kernel_constants(
    spec: SirenSpec, images: ImageFormat, sampling: Sampling, *, exact_sine: bool, config: LaunchConfig
) -> dict[str, int | bool | str]:
    """Return the compile-time arguments of the kernel, which with the images' dtype determine the compiled variant."""
    first, rest = column_parts(spec)
    return {
        "DEPTH": spec.depth,
        "PADDED": first,
        "REST": rest,
        "BIAS_IN_PRODUCT": bias_in_product(spec),
        "PADDING": sampling.padding,
        "SUPERSAMPLE": sampling.supersample,
        "ROUND": images.round_8bit,
        "CHANNELS_LAST": images.channels_last,
        "EXACT_SINE": exact_sine,
        "POLYNOMIAL_EVERY": config.polynomial_every,
        "BLOCK": config.block,
    }


def grid_of(n_pixels: int, program_pixels: int, batch: int) -> tuple[int, int, int]:
    """Return the programs of a launch: (of an image, images, layers of images)."""
    layers = -(-batch // MAX_GRID)
    require(layers <= MAX_GRID, "ids.shape", (batch,), f"at most {MAX_GRID}^2 images")
    return -(-n_pixels // program_pixels), -(-batch // layers), layers


def next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()
