"""The launch parameters of the cosine kernel. It has been compiled but never timed: see kernels/README.md."""

from __future__ import annotations

from kernels.cosine.spec import CosineSpec
from kernels.decode.io import ImageFormat
from kernels.decode.launch import MIN_WIDTH, next_power_of_2
from kernels.decode.sampling import Sampling

BLOCK = 128  # pixels: blocks of 64 take a fifth more instructions a pixel, blocks of 256 spill registers
WARPS = 4
PROGRAM_PIXELS = 1024  # of a program, which loads an image's coefficients once for them


def cosine_constants(spec: CosineSpec, images: ImageFormat, sampling: Sampling) -> dict[str, int | bool | str]:
    """Return the compile-time arguments of the kernel."""
    return {
        "FREQUENCIES": spec.frequencies,
        "PADDED": max(MIN_WIDTH, next_power_of_2(spec.frequencies)),
        "PADDING": sampling.padding,
        "SUPERSAMPLE": sampling.supersample,
        "ROUND": images.round_8bit,
        "CHANNELS_LAST": images.channels_last,
        "BLOCK": BLOCK,
        "BLOCKS": PROGRAM_PIXELS // BLOCK,
    }
