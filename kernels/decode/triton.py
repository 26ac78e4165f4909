"""The decode in Triton: packed rows of SIREN weights and an affine map of the pixels -> images as a network eats them.

The formula is that of kernels/reference.py; values are then rounded to 8 bits and normalised per channel.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.checks import require
from kernels.decode.evaluate import evaluate
from kernels.decode.fast_math import INTERPRETED
from kernels.decode.io import MAX_HIDDEN, ImageFormat
from kernels.decode.launch import LaunchConfig, capability_of, grid_of, kernel_constants, launch_config
from kernels.decode.pixels import map_pixels, places, write_pixels
from kernels.decode.sampling import Sampling
from kernels.rows import PackedRows
from kernels.spec import SirenSpec
from kernels.unpack.triton import unpack_rows, unpacks_before


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
    write_pixels(
        value, out_ptr, image, block, n_pixels, gain_0, gain_1, gain_2, shift_0, shift_1, shift_2, ROUND, CHANNELS_LAST, BLOCK
    )


def decode_siren_triton(
    rows: PackedRows,
    ids: Tensor,
    affine: Tensor,
    *,
    spec: SirenSpec,
    images: ImageFormat,
    sampling: Sampling,
    exact_sine: bool,
    config: LaunchConfig | None = None,
) -> Tensor:
    """Decode by the kernel on inputs that `decode_siren` has checked.

    One launch; another before it unpacks rows under masks, and codes of less than a byte for images of many programs.

    Args:
        config: how to launch; by default as `launch_config` chooses.
    """
    require(spec.hidden <= MAX_HIDDEN, "spec.hidden", spec.hidden, f"at most {MAX_HIDDEN} (backend='torch' takes any)")
    require(ids.is_cuda or INTERPRETED, "rows.device", rows.device, "a CUDA device (backend='torch' runs on any)")
    with torch.cuda.device(rows.device) if ids.is_cuda else nullcontext():
        config = config or launch_config(spec, images.n_pixels, capability=capability_of(rows.device))
        return _launch(rows, ids, affine, spec, images, sampling, exact_sine, config)


def _launch(
    rows: PackedRows, ids: Tensor, affine: Tensor, spec: SirenSpec, images: ImageFormat, sampling: Sampling, exact_sine: bool,
    config: LaunchConfig,
) -> Tensor:  # fmt: skip
    grid = grid_of(images.n_pixels, config.block, len(ids))
    gains, shifts = images.gains_and_shifts()
    passes = grid[0] * sampling.supersample**2
    unpacked = unpacks_before(bits=rows.bits, masked=rows.masks is not None, passes=passes)
    constants = kernel_constants(
        spec, images, sampling, bits=rows.bits, scales=rows.scales_a_layer(spec), unpacked=unpacked,
        int8_ends=rows.end_scales is not None, exact_sine=exact_sine, config=config,
    )  # fmt: skip
    codes = unpack_rows(rows, ids, spec) if unpacked else rows.codes
    out, edges = images.empty(len(ids), rows.device), sampling.edges
    _decode_siren_kernel[grid](
        out, codes, rows.ends,
        rows.ends if rows.scales is None else rows.scales,  # not read where there is none
        rows.ends if rows.end_scales is None else rows.end_scales,
        ids, affine, affine if edges is None else edges,
        len(ids), len(rows), images.n_pixels, images.width, 1.0 / images.width,
        0 if rows.scales is None or len(rows.scales) == 1 else rows.scales.shape[1],
        6 if affine.ndim == 3 else 0, 2 if edges is not None and edges.ndim == 2 else 0,
        float(spec.omega), *gains, *shifts,
        **constants, num_warps=config.num_warps, num_stages=config.num_stages, enable_fp_fusion=True,
    )  # fmt: skip
    return out
