"""How the decode kernel is cut up and specialised: the one table of launch configurations."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.decode_io import ImageFormat
from kernels.rows import PackedRows, packed_bytes
from kernels.sampling import Sampling
from kernels.spec import SirenSpec

MIN_WIDTH = 16  # what tl.dot needs of 16-bit operands
MIN_BLOCK = 64  # pixels of one wgmma
# pixels a program: at width 64 twice as many would spill on sm_80, and leave 2 or 3 programs an SM (python -m kernels.offline)
BLOCK_BY_WIDTH = {16: 256, 32: 128, 64: 64}


@dataclass(frozen=True)
class LaunchConfig:
    """Pixels a program, and what the compiler is told."""

    block: int
    num_warps: int
    num_stages: int


def padded_width(spec: SirenSpec) -> int:
    """Return the width the kernel computes with: a power of two, at least 16."""
    return max(MIN_WIDTH, _next_power_of_2(spec.hidden))


def launch_config(spec: SirenSpec, n_pixels: int) -> LaunchConfig:
    """Choose the configuration for images of `n_pixels`; the batch size has no say."""
    block = min(BLOCK_BY_WIDTH[padded_width(spec)], max(MIN_BLOCK, _next_power_of_2(n_pixels)))
    return LaunchConfig(block=block, num_warps=4, num_stages=1)


@dataclass(frozen=True)
class RowKind:
    """What of the rows a compiled variant depends on, besides their dtypes.

    Args:
        bits: of a code, as the decode reads it.
        scales: of a hidden layer.
        by_image: whether codes have been unpacked, one row an image.
        int8_ends: whether ends are int8 with scales.
    """

    bits: int
    scales: int
    by_image: bool
    int8_ends: bool

    @classmethod
    def of(cls, rows: PackedRows, spec: SirenSpec) -> RowKind:
        masked = rows.masks is not None
        scales = rows.scales_a_layer(spec)
        return cls(bits=8 if masked else rows.bits, scales=scales, by_image=masked, int8_ends=rows.end_scales is not None)


def kernel_constants(
    spec: SirenSpec, images: ImageFormat, kind: RowKind, sampling: Sampling, *, exact_sine: bool, block: int
) -> dict[str, int | bool | str]:
    """Return the compile-time arguments of the kernel: with the tensors' dtypes, all that a compiled variant depends on."""
    return {
        "DEPTH": spec.depth,
        "HIDDEN": spec.hidden,
        "PADDED": padded_width(spec),
        "BITS": kind.bits,
        "ROW_CODES": spec.n_hidden_weights if kind.bits >= 8 else packed_bytes(spec.n_hidden_weights, kind.bits),
        "CODES_BY_IMAGE": kind.by_image,
        "SCALES": kind.scales,
        "END_SCALES": kind.int8_ends,
        "OUTSIDE": sampling.outside,
        "SUPERSAMPLE": sampling.supersample,
        "ROUND": images.round_8bit,
        "CHANNELS_LAST": images.channels_last,
        "EXACT_SINE": exact_sine,
        "BLOCK": block,
    }


def _next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()
