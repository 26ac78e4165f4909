"""The sizes that the fused fit supports, and its launch parameters for each generation of GPUs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kernels.fit.inputs import Rounding
from kernels.spec import SirenSpec

# most sine layers by the kernel's width: deeper kernels keep most of their sums in local memory
MAX_DEPTH = {16: 8, 32: 10, 64: 6}
FLAT_VALUES = 8  # values of a row that a thread updates at a time


@dataclass(frozen=True)
class FitLaunch:
    """The pixels of a tile and the warps of a program, which fits one image."""

    block: int
    num_warps: int


# by the kernel's width; chosen by counting instructions of compiled code (kernels/what-was-tried.md), not by measurement yet
BY_WIDTH = {16: FitLaunch(32, 1), 32: FitLaunch(32, 4), 64: FitLaunch(32, 8)}
# tiles of 64 pixels would use wgmma and tcgen05, but spill hundreds to thousands of values
INTERPRETER = FitLaunch(256, 1)


def fit_width(spec: SirenSpec) -> int:
    """Return the width that the fit computes with: a power of two, at least 16."""
    return max(16, 1 << (spec.hidden - 1).bit_length())


def supports_fit(spec: SirenSpec) -> bool:
    """Return whether the fused fit supports a size."""
    return spec.depth <= MAX_DEPTH.get(fit_width(spec), 0)


def kernel_runs_on(device: torch.device) -> bool:
    """Return whether a device can run the kernel: CUDA can, and any device if triton interprets it."""
    if device.type == "cuda":
        return True
    try:
        from kernels.decode.fast_math import INTERPRETED  # not at the top: triton exists for Linux only
    except ImportError:
        return False
    return INTERPRETED


def fit_launch(spec: SirenSpec, *, capability: int) -> FitLaunch:
    """Choose the launch parameters, which depend on neither batch nor image.

    Args:
        capability: major compute capability of the GPU, 0 for the interpreter.
    """
    return BY_WIDTH[fit_width(spec)] if capability else INTERPRETER


def fit_constants(spec: SirenSpec, config: FitLaunch, *, masked: bool, rounding: Rounding | None) -> dict[str, int | bool]:
    """Return the compile-time arguments of the kernel, which determine the compiled variant."""
    return {
        "S": spec.n_weights,
        "DEPTH": spec.depth,
        "HIDDEN": spec.hidden,
        "WIDTH": fit_width(spec),
        "LAYERS": 1 << (spec.depth - 1).bit_length(),
        "BLOCK": config.block,
        "FLAT": 32 * config.num_warps * FLAT_VALUES,
        "MASKED": masked,
        "ENDS_BITS": 0 if rounding is None else rounding.ends_bits,
        "SCALES": 0 if rounding is None else rounding.scales_a_layer,
        "LEARNED": rounding is not None and rounding.relative_rate > 0,
    }
