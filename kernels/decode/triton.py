"""The decode in Triton: packed rows of SIRENs and affine maps -> images for a network.

kernels/reference.py has the formula. After it, values are rounded to 8 bits and normalised per channel.
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
from kernels.decode.io import MAX_HIDDEN, NEEDS_GPU, ImageFormat
from kernels.decode.launch import LaunchConfig, capability_of, grid_of, kernel_constants, launch_config
from kernels.decode.pixels import map_pixels, places, write_pixels
from kernels.decode.sampling import Sampling
from kernels.rows import PackedRows
from kernels.spec import SirenSpec
from kernels.unpack.triton import prepare_rows


@triton.jit(do_not_specialize=["n_images", "width", "affine_stride", "edges_stride"])
def _decode_siren_kernel(
    out_ptr, weights_ptr, ends_ptr, affine_ptr, edges_ptr,
    n_images, n_pixels, width, inverse_width, affine_stride, edges_stride, gain_0, gain_1, gain_2, shift_0, shift_1, shift_2,
    DEPTH: tl.constexpr, PADDED: tl.constexpr, REST: tl.constexpr, BIAS_IN_PRODUCT: tl.constexpr,
    EXACT_SINE: tl.constexpr, POLYNOMIAL_EVERY: tl.constexpr, PADDING: tl.constexpr, SUPERSAMPLE: tl.constexpr,
    ROUND: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Decode BLOCK pixels of one image from its prepared row."""
    block = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64) + tl.program_id(2).to(tl.int64) * tl.num_programs(1)
    if image >= n_images:
        return
    weights_ptr += image * ((DEPTH - 1) * (PADDED + REST) * (PADDED + REST))
    ends_ptr += image * ((6 + DEPTH) * (PADDED + REST) + 4)
    affine_ptr += image * affine_stride
    edges_ptr += image * edges_stride
    top, left = places(block, width, inverse_width, BLOCK)
    # no loop for a single sample, since it takes 10 more registers at width 32
    if SUPERSAMPLE == 1:
        y, x, inside = map_pixels(top, left, affine_ptr, edges_ptr, PADDING)
        rgb = evaluate(y, x, weights_ptr, ends_ptr, DEPTH, PADDED, REST, BIAS_IN_PRODUCT, EXACT_SINE, POLYNOMIAL_EVERY)
        value = tl.where(inside[:, None], rgb, 0.0) if PADDING == "zeros" else rgb
    else:
        value = tl.zeros([BLOCK, 4], tl.float32)
        for sample in range(SUPERSAMPLE * SUPERSAMPLE):
            i = top + ((sample // SUPERSAMPLE + 0.5) / SUPERSAMPLE - 0.5)
            j = left + ((sample % SUPERSAMPLE + 0.5) / SUPERSAMPLE - 0.5)
            y, x, inside = map_pixels(i, j, affine_ptr, edges_ptr, PADDING)
            rgb = evaluate(y, x, weights_ptr, ends_ptr, DEPTH, PADDED, REST, BIAS_IN_PRODUCT, EXACT_SINE, POLYNOMIAL_EVERY)
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

    It makes two launches: a small one prepares the rows of the batch, the other decodes the images.

    Args:
        config: launch parameters; by default those of `launch_config`.
    """
    require(spec.hidden <= MAX_HIDDEN, "spec.hidden", spec.hidden, f"at most {MAX_HIDDEN} (backend='torch' takes any)")
    require(ids.is_cuda or INTERPRETED, "rows.device", rows.device, NEEDS_GPU)
    with torch.cuda.device(rows.device) if ids.is_cuda else nullcontext():
        config = config or launch_config(spec, images.n_pixels, capability=capability_of(rows.device))
        return _launch(rows, ids, affine, spec, images, sampling, exact_sine, config)


def _launch(
    rows: PackedRows, ids: Tensor, affine: Tensor, spec: SirenSpec, images: ImageFormat, sampling: Sampling, exact_sine: bool,
    config: LaunchConfig,
) -> Tensor:  # fmt: skip
    grid = grid_of(images.n_pixels, config.block, len(ids))
    gains, shifts = images.gains_and_shifts()
    constants = kernel_constants(spec, images, sampling, exact_sine=exact_sine, config=config)
    weights, ends = prepare_rows(rows, ids, spec)
    out, edges = images.empty(len(ids), rows.device), sampling.edges
    _decode_siren_kernel[grid](
        out, weights, ends, affine, affine if edges is None else edges,
        len(ids), images.n_pixels, images.width, 1.0 / images.width,
        6 if affine.ndim == 3 else 0, 2 if edges is not None and edges.ndim == 2 else 0, *gains, *shifts,
        **constants, num_warps=config.num_warps, num_stages=config.num_stages, enable_fp_fusion=True,
    )  # fmt: skip
    return out
