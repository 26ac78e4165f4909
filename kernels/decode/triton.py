"""Decode: packed rows of SIREN weights and an affine map of the pixels -> images as a network eats them.

The formula is that of kernels/spec.py (Sitzmann et al. 2020, section 3); then NaN becomes 0, values are clamped to [0, 1],
rounded to 8 bits and normalised per channel. The twin, of the same signature, is `decode_siren_torch` in siren_decode_torch.py:
it has a file of its own because triton, which this one needs, is not installed everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.checks import require
from kernels.decode.evaluate import evaluate, map_pixels, places
from kernels.decode.fast_math import INTERPRETED, ROUND_TO_INTEGER
from kernels.decode.io import MAX_HIDDEN, ImageFormat, check_batch
from kernels.decode.launch import LaunchConfig, RowKind, capability_of, kernel_constants, launch_config
from kernels.decode.sampling import Sampling
from kernels.rows import PackedRows, check_rows
from kernels.spec import SirenSpec
from kernels.unpack.triton import unpack_rows, unpacks_before

MAX_GRID = 65_535  # programs along the second and the third axis of a launch


@triton.jit(do_not_specialize=["n_images", "n_rows", "width", "scales_stride", "affine_stride", "edges_stride"])
def _decode_siren_kernel(
    out_ptr, codes_ptr, ends_ptr, scales_ptr, end_scales_ptr, ids_ptr, affine_ptr, edges_ptr,
    n_images, n_rows, n_pixels, width, inverse_width, scales_stride, affine_stride, edges_stride,
    omega, gain_0, gain_1, gain_2, shift_0, shift_1, shift_2,
    DEPTH: tl.constexpr, HIDDEN: tl.constexpr, PADDED: tl.constexpr, REST: tl.constexpr, BITS: tl.constexpr,
    ROW_CODES: tl.constexpr, CODES_BY_IMAGE: tl.constexpr, SCALES: tl.constexpr, END_SCALES: tl.constexpr,
    EXACT_SINE: tl.constexpr, POLYNOMIAL_EVERY: tl.constexpr, PADDING: tl.constexpr, SUPERSAMPLE: tl.constexpr,
    ROUND: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Decode BLOCK pixels of one image."""
    block = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)
    if image >= n_images:
        return
    row = tl.load(ids_ptr + image)
    known = (row >= 0) & (row < n_rows)
    row = tl.where(known, row, 0)  # an unknown id reads row 0 and writes black
    codes_ptr += (image if CODES_BY_IMAGE else row) * ROW_CODES
    ends_ptr += row * ((5 + DEPTH) * HIDDEN + 3)
    scales_ptr += row * scales_stride
    first_gain, bias_gain, last_gain, last_bias_gain = omega, omega, 1.0, 1.0
    if END_SCALES:
        end_scales_ptr += row * 4
        first_gain = omega * tl.load(end_scales_ptr).to(tl.float32)
        bias_gain = omega * tl.load(end_scales_ptr + 1).to(tl.float32)
        last_gain = tl.load(end_scales_ptr + 2).to(tl.float32)
        last_bias_gain = tl.load(end_scales_ptr + 3).to(tl.float32)

    affine_ptr += image * affine_stride
    edges_ptr += image * edges_stride
    top, left = places(block, width, inverse_width, BLOCK)
    # a single sample is no loop: that would take 10 more registers at width 32
    if SUPERSAMPLE == 1:
        y, x, inside = map_pixels(top, left, affine_ptr, edges_ptr, PADDING)
        rgb = evaluate(
            y, x, codes_ptr, ends_ptr, scales_ptr, known, first_gain, bias_gain, last_gain, last_bias_gain, omega,
            DEPTH, HIDDEN, PADDED, REST, BITS, SCALES, EXACT_SINE, POLYNOMIAL_EVERY,
        )  # fmt: skip
        value = tl.where(inside[:, None], rgb, 0.0) if PADDING == "zeros" else rgb
    else:
        value = tl.zeros([BLOCK, 4], tl.float32)
        for sample in range(SUPERSAMPLE * SUPERSAMPLE):
            i = top + ((sample // SUPERSAMPLE + 0.5) / SUPERSAMPLE - 0.5)
            j = left + ((sample % SUPERSAMPLE + 0.5) / SUPERSAMPLE - 0.5)
            y, x, inside = map_pixels(i, j, affine_ptr, edges_ptr, PADDING)
            rgb = evaluate(
                y, x, codes_ptr, ends_ptr, scales_ptr, known, first_gain, bias_gain, last_gain, last_bias_gain, omega,
                DEPTH, HIDDEN, PADDED, REST, BITS, SCALES, EXACT_SINE, POLYNOMIAL_EVERY,
            )  # fmt: skip
            value += tl.where(inside[:, None], rgb, 0.0) if PADDING == "zeros" else rgb
        value *= 1.0 / (SUPERSAMPLE * SUPERSAMPLE)
    if ROUND:
        value = (value * 255.0 + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
    c = tl.arange(0, 4)
    gain = tl.where(c == 0, gain_0, tl.where(c == 1, gain_1, gain_2))
    shift = tl.where(c == 0, shift_0, tl.where(c == 1, shift_1, shift_2))
    value = value * gain[None, :] + shift[None, :]
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    offset = pixel[:, None] * 3 + c[None, :] if CHANNELS_LAST else c[None, :] * n_pixels + pixel[:, None]
    out_ptr += image * 3 * n_pixels
    tl.store(out_ptr + offset, value.to(out_ptr.dtype.element_ty), mask=(pixel < n_pixels)[:, None] & (c < 3)[None, :])


def decode_siren(
    rows: PackedRows,
    ids: Tensor,
    affine: Tensor,
    *,
    spec: SirenSpec,
    height: int,
    width: int,
    dtype: torch.dtype,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    round_8bit: bool = True,
    channels_last: bool = False,
    exact_sine: bool = False,
    padding: str = "none",
    edges: Tensor | None = None,
    supersample: int = 1,
) -> Tensor:
    """Decode a batch of packed rows into images, without waiting for the device.

    One kernel launch; another before it unpacks rows under masks, and codes of less than a byte for images of many programs.

    Args:
        rows: see `PackedRows`; floating codes are used as float16 (at most 65,504).
        ids: int64 [B], the row of each image. Out of range: an error on the CPU; on a GPU nobody looks, and that image is black.
        affine: float32 [2, 3], or [B, 2, 3] for one an image: maps (row, column, 1) of an output pixel to the INR's coordinate.
        spec: of all rows, at most 64 wide: the activations stay in registers.
        dtype: uint8, float16, bfloat16 or float32.
        mean, std: three numbers each, or None: the output is (rgb - mean) / std, rgb in [0, 1]. Not with uint8.
        round_8bit: round to multiples of 1/255 as the metrics do (0.5, the one exact tie, is 128 / 255); must be true with uint8.
        channels_last: lay the images out as `torch.channels_last`.
        padding: what a map that leads out of the image finds there: ``none`` (the INR, wherever it leads), ``zeros`` (black,
            beyond the outer side of the outermost pixels), ``reflection`` (the image folded about the centres of its outermost
            pixels, as often as it takes) or ``border`` (the nearest of these centres).
        edges: float32 [2], or [B, 2] for one an image: the coordinates of these centres, 1 - 1 / height and 1 - 1 / width of
            the image that was encoded; needed by reflect and clamp.
        supersample: n x n samples, evenly spread over a pixel, are clamped to [0, 1] and averaged: for maps that shrink.
        exact_sine: take `accurate_sin` in place of the hardware's sine (kernels/decode/fast_math.py has both error bounds).

    Returns:
        [B, 3, height, width] of `dtype`. A NaN among the weights of an image makes what depends on it 0 before normalisation.

    Raises:
        ValueError: naming the argument, what it is and what was expected.
    """
    images = ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last)
    check_rows(rows, spec)
    check_batch(ids, affine, rows)
    sampling = Sampling(padding, edges, supersample)
    sampling.check(ids)
    require(spec.hidden <= MAX_HIDDEN, "spec.hidden", spec.hidden, f"at most {MAX_HIDDEN} (decode_siren_torch takes any)")
    require(ids.is_cuda or INTERPRETED, "rows.device", rows.device, "a CUDA device (decode_siren_torch runs on any)")
    with torch.cuda.device(rows.device) if ids.is_cuda else nullcontext():
        config = launch_config(spec, images.n_pixels, capability=capability_of(rows.device))
        return launch_decode(rows, ids, affine, spec=spec, images=images, sampling=sampling, exact_sine=exact_sine, config=config)


def launch_decode(
    rows: PackedRows,
    ids: Tensor,
    affine: Tensor,
    *,
    spec: SirenSpec,
    images: ImageFormat,
    sampling: Sampling,
    exact_sine: bool,
    config: LaunchConfig,
) -> Tensor:
    """Launch the kernel by a configuration, on inputs that have been checked."""
    layers = triton.cdiv(len(ids), MAX_GRID)
    require(layers <= MAX_GRID, "ids.shape", tuple(ids.shape), f"at most {MAX_GRID}^2 images")
    grid = (triton.cdiv(images.n_pixels, config.block), triton.cdiv(len(ids), layers), layers)
    gains, shifts = images.gains_and_shifts()
    passes = grid[0] * sampling.supersample**2
    unpacked = unpacks_before(bits=rows.bits, masked=rows.masks is not None, passes=passes)
    kind = RowKind.of(rows, spec, unpacked=unpacked)
    constants = kernel_constants(spec, images, kind, sampling, exact_sine=exact_sine, config=config)
    codes = unpack_rows(rows, ids, spec) if unpacked else rows.codes
    out, edges = images.empty(len(ids), rows.device), sampling.edges
    _decode_siren_kernel[grid](
        out,
        codes,
        rows.ends,
        rows.ends if rows.scales is None else rows.scales,  # not read where there is none
        rows.ends if rows.end_scales is None else rows.end_scales,
        ids,
        affine,
        affine if edges is None else edges,
        len(ids),
        len(rows),
        images.n_pixels,
        images.width,
        1.0 / images.width,
        0 if rows.scales is None or len(rows.scales) == 1 else rows.scales.shape[1],
        6 if affine.ndim == 3 else 0,
        2 if edges is not None and edges.ndim == 2 else 0,
        float(spec.omega),
        *gains,
        *shifts,
        **constants,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        enable_fp_fusion=True,
    )
    return out
