"""The launch parameters of the cosine kernel. It has been compiled but never timed: see kernels/README.md."""

from __future__ import annotations

from kernels.cosine.spec import CosineSpec
from kernels.decode.io import ImageFormat
from kernels.decode.launch import MIN_WIDTH, next_power_of_2
from kernels.decode.sampling import Sampling

BLOCK = 128  # pixels: blocks of 64 take a fifth more instructions a pixel, blocks of 256 spill registers
PROGRAM_PIXELS = 1024  # of a program, which loads an image's coefficients once for them


def padded_frequencies(spec: CosineSpec) -> int:
    return max(MIN_WIDTH, next_power_of_2(spec.frequencies))


def warps_of(spec: CosineSpec) -> int:
    """Return the warps of a program: 8 for more than 32 frequencies, where 4 would hold a block in too many registers."""
    return 8 if padded_frequencies(spec) > 32 else 4


def cosine_constants(spec: CosineSpec, images: ImageFormat, sampling: Sampling) -> dict[str, int | bool | str]:
    """Return the compile-time arguments of the kernel."""
    return {
        "FREQUENCIES": spec.frequencies,
        "PADDED": padded_frequencies(spec),
        "PADDING": sampling.padding,
        "SUPERSAMPLE": sampling.supersample,
        "ROUND": images.round_8bit,
        "CHANNELS_LAST": images.channels_last,
        "BLOCK": BLOCK,
        "BLOCKS": PROGRAM_PIXELS // BLOCK,
    }
