"""The cosine decode in Triton: coefficients and affine maps -> images for a network.

torch looks up the coefficients of a batch. A program loads an image's once for several blocks of pixels. kernels/cosine/spec.py
has the formula.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.checks import require
from kernels.cosine.launch import PROGRAM_PIXELS, cosine_constants, warps_of
from kernels.cosine.spec import CosineRows, CosineSpec
from kernels.cosine.torch import cosine_gains, dense_coefficients
from kernels.decode.fast_math import INTERPRETED, clamp_unit, fast_sin
from kernels.decode.io import NEEDS_GPU, ImageFormat
from kernels.decode.launch import grid_of
from kernels.decode.pixels import map_pixels, places, write_pixels
from kernels.decode.sampling import Sampling

HALF_PI = tl.constexpr(math.pi / 2)


@triton.jit
def _load_coefficients(z_ptr, FREQUENCIES: tl.constexpr, PADDED: tl.constexpr):
    """Return Z of a channel, float16 [PADDED, PADDED]."""
    fy, fx = tl.arange(0, PADDED)[:, None], tl.arange(0, PADDED)[None, :]
    return tl.load(z_ptr + fy * FREQUENCIES + fx, mask=(fy < FREQUENCIES) & (fx < FREQUENCIES), other=0.0)


@triton.jit
def _cosine_phases(t, PADDED: tl.constexpr):
    """Return the phases, [BLOCK, PADDED], whose sine is cos(pi f (t + 1) / 2), for coordinates t [BLOCK] and frequencies f."""
    f = tl.arange(0, PADDED).to(tl.float32)
    return (t * HALF_PI + HALF_PI)[:, None] * f[None, :] + HALF_PI


@triton.jit
def _sample(
    i, j, affine_ptr, edges_ptr, z_0, z_1, z_2, colour_ptr, mean_ptr, rgb,
    PADDED: tl.constexpr, PADDING: tl.constexpr,
):  # fmt: skip
    """Return RGB in [0, 1] and a padding column, [BLOCK, 4], at rows i and columns j; 0 in channels where `rgb` is false."""
    y, x, inside = map_pixels(i, j, affine_ptr, edges_ptr, PADDING)
    # adding a product of zeros gives the phases the layout of a product, which the next product needs; otherwise they pass
    # through shared memory, from a layout in which each thread maps 32 pixels (995 instructions a warp for 128 pixels, not 594)
    zeros = tl.zeros([y.shape[0], 16], tl.float16)
    phase = tl.dot(zeros, tl.zeros([16, PADDED], tl.float16), acc=_cosine_phases(y, PADDED))
    v = fast_sin(phase, 0).to(tl.float16)
    u = fast_sin(_cosine_phases(x, PADDED), 0)
    c = tl.arange(0, 4)
    value = tl.sum(tl.dot(v, z_0) * u, 1)[:, None] * tl.load(colour_ptr + c * 3, mask=rgb, other=0.0)[None, :]
    value += tl.sum(tl.dot(v, z_1) * u, 1)[:, None] * tl.load(colour_ptr + c * 3 + 1, mask=rgb, other=0.0)[None, :]
    value += tl.sum(tl.dot(v, z_2) * u, 1)[:, None] * tl.load(colour_ptr + c * 3 + 2, mask=rgb, other=0.0)[None, :]
    value = clamp_unit(value + tl.load(mean_ptr + c, mask=rgb, other=0.0)[None, :])
    return tl.where(inside[:, None], value, 0.0) if PADDING == "zeros" else value


@triton.jit(do_not_specialize=["n_images", "width", "affine_stride", "edges_stride"])
def _decode_cosine_kernel(
    out_ptr, z_ptr, colour_ptr, mean_ptr, affine_ptr, edges_ptr,
    n_images, n_pixels, width, inverse_width, affine_stride, edges_stride,
    gain_0, gain_1, gain_2, shift_0, shift_1, shift_2,
    FREQUENCIES: tl.constexpr, PADDED: tl.constexpr,
    PADDING: tl.constexpr, SUPERSAMPLE: tl.constexpr, ROUND: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Decode up to BLOCKS times BLOCK pixels of one image from its Z, times sqrt(2) for each frequency above 0."""
    image = tl.program_id(1).to(tl.int64) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)
    if image >= n_images:
        return
    z_ptr += image * (3 * FREQUENCIES * FREQUENCIES)
    z_0 = _load_coefficients(z_ptr, FREQUENCIES, PADDED)
    z_1 = _load_coefficients(z_ptr + FREQUENCIES * FREQUENCIES, FREQUENCIES, PADDED)
    z_2 = _load_coefficients(z_ptr + 2 * FREQUENCIES * FREQUENCIES, FREQUENCIES, PADDED)
    rgb = tl.arange(0, 4) < 3

    affine_ptr += image * affine_stride
    edges_ptr += image * edges_stride
    first = tl.program_id(0) * BLOCKS
    for block in range(first, tl.minimum(first + BLOCKS, tl.cdiv(n_pixels, BLOCK))):
        top, left = places(block, width, inverse_width, BLOCK)
        if SUPERSAMPLE == 1:  # without a loop, as in the SIREN kernel
            value = _sample(top, left, affine_ptr, edges_ptr, z_0, z_1, z_2, colour_ptr, mean_ptr, rgb, PADDED, PADDING)
        else:
            value = tl.zeros([BLOCK, 4], tl.float32)
            for sample in range(SUPERSAMPLE * SUPERSAMPLE):
                i = top + ((sample // SUPERSAMPLE + 0.5) / SUPERSAMPLE - 0.5)
                j = left + ((sample % SUPERSAMPLE + 0.5) / SUPERSAMPLE - 0.5)
                value += _sample(i, j, affine_ptr, edges_ptr, z_0, z_1, z_2, colour_ptr, mean_ptr, rgb, PADDED, PADDING)
            value *= 1.0 / (SUPERSAMPLE * SUPERSAMPLE)
        write_pixels(
            value, out_ptr, image, block, n_pixels, gain_0, gain_1, gain_2, shift_0, shift_1, shift_2, ROUND, CHANNELS_LAST, BLOCK
        )


def decode_cosine_triton(
    rows: CosineRows, ids: Tensor, affine: Tensor, *, spec: CosineSpec, images: ImageFormat, sampling: Sampling
) -> Tensor:
    """Decode by the kernel, in one launch after those of torch, on inputs that `decode_cosine` has checked."""
    require(ids.is_cuda or INTERPRETED, "rows.device", rows.device, NEEDS_GPU)
    with torch.cuda.device(rows.device) if ids.is_cuda else nullcontext():
        gains, shifts = images.gains_and_shifts()
        z = (dense_coefficients(rows, ids, spec) * cosine_gains(spec.frequencies, rows.device)).half()
        out, edges = images.empty(len(ids), rows.device), sampling.edges
        _decode_cosine_kernel[grid_of(images.n_pixels, PROGRAM_PIXELS, len(ids))](
            out, z, rows.colour, rows.mean, affine, affine if edges is None else edges,
            len(ids), images.n_pixels, images.width, 1.0 / images.width,
            6 if affine.ndim == 3 else 0, 2 if edges is not None and edges.ndim == 2 else 0, *gains, *shifts,
            **cosine_constants(spec, images, sampling), num_warps=warps_of(spec), num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
        return out
