"""Decode: packed rows of SIREN weights and an affine map of the pixels -> images as a network eats them, in one launch.

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
from kernels.decode_io import MAX_HIDDEN, MAX_INT32, ImageFormat, check_batch, check_rows, count_scales
from kernels.fast_math import INTERPRETED, ROUND_TO_INTEGER, accurate_sin, fast_sin
from kernels.launch import kernel_constants, launch_config
from kernels.spec import SirenSpec


@triton.jit
def _sin(x, EXACT_SINE: tl.constexpr):
    return accurate_sin(x) if EXACT_SINE else fast_sin(x)


@triton.jit(do_not_specialize=["n_rows", "width", "affine_stride"])
def _decode_siren_kernel(
    out_ptr,
    codes_ptr,
    floats_ptr,
    ids_ptr,
    affine_ptr,
    n_rows,
    n_pixels,
    width,
    affine_stride,
    omega,
    gain_0,
    gain_1,
    gain_2,
    shift_0,
    shift_1,
    shift_2,
    DEPTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    PADDED: tl.constexpr,
    ROW_FLOATS: tl.constexpr,
    SCALES: tl.constexpr,
    ROUND: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    EXACT_SINE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Decode BLOCK pixels of one image; float32 but for the operands of `tl.dot`, which are float16."""
    n_blocks = tl.cdiv(n_pixels, BLOCK)
    image = (tl.program_id(0) // n_blocks).to(tl.int64)
    pixel = (tl.program_id(0) % n_blocks) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(ids_ptr + image)
    known = (row >= 0) & (row < n_rows)
    row = tl.where(known, row, 0)  # an unknown id reads row 0 and writes black
    codes_ptr += row * ((DEPTH - 1) * HIDDEN * HIDDEN)
    floats_ptr += row * ROW_FLOATS

    affine_ptr += image * affine_stride
    i = (pixel // width).to(tl.float32)
    j = (pixel % width).to(tl.float32)
    y = tl.load(affine_ptr) * i + tl.load(affine_ptr + 1) * j + tl.load(affine_ptr + 2)
    x = tl.load(affine_ptr + 3) * i + tl.load(affine_ptr + 4) * j + tl.load(affine_ptr + 5)

    n = tl.arange(0, PADDED)
    real = n < HIDDEN
    bias_ptr = floats_ptr + 2 * HIDDEN + n
    last_ptr = floats_ptr + (2 + DEPTH) * HIDDEN
    scale_ptr = last_ptr + 3 * HIDDEN + 3 + (n if SCALES == HIDDEN else n * 0)  # one a column, or one for all

    # omega is folded into weights and biases; a padded column has weight and bias 0, so its sine is 0
    weight_y = tl.load(floats_ptr + n, mask=real, other=0.0).to(tl.float32) * omega
    weight_x = tl.load(floats_ptr + HIDDEN + n, mask=real, other=0.0).to(tl.float32) * omega
    bias = tl.load(bias_ptr, mask=real, other=0.0).to(tl.float32) * omega
    z = y[:, None] * weight_y[None, :] + (x[:, None] * weight_x[None, :] + bias[None, :])
    # h stays float32 between layers: carried as float16 it reaches wgmma through shared memory, a barrier a layer more
    h = _sin(z, EXACT_SINE)  # [BLOCK, PADDED]

    tile = n[:, None] * HIDDEN + n[None, :]
    tile_real = real[:, None] & real[None, :]
    for layer in range(DEPTH - 1):
        weight = tl.load(codes_ptr + layer * (HIDDEN * HIDDEN) + tile, mask=tile_real, other=0).to(tl.float16)
        bias = tl.load(bias_ptr + (layer + 1) * HIDDEN, mask=real, other=0.0).to(tl.float32) * omega
        z = tl.dot(h.to(tl.float16), weight)
        if SCALES > 0:
            scale = tl.load(scale_ptr + layer * SCALES, mask=real, other=0.0).to(tl.float32) * omega
            z = z * scale[None, :] + bias[None, :]
        else:
            z = z * omega + bias[None, :]
        h = _sin(z, EXACT_SINE)

    c = tl.arange(0, 4)  # RGB and one column of padding
    rgb = c < 3
    weight = tl.load(last_ptr + n[:, None] * 3 + c[None, :], mask=real[:, None] & rgb[None, :], other=0.0).to(tl.float16)
    bias = tl.load(last_ptr + 3 * HIDDEN + c, mask=rgb, other=0.0).to(tl.float32)
    value = tl.dot(h.to(tl.float16), weight) + bias[None, :]  # [BLOCK, 4]
    value = tl.where((value == value) & known, value, 0.0)  # NaN: tl.maximum drops it or keeps it, by version and backend
    value = tl.minimum(tl.maximum(value, 0.0), 1.0)
    if ROUND:
        value = (value * 255.0 + ROUND_TO_INTEGER) - ROUND_TO_INTEGER
    gain = tl.where(c == 0, gain_0, tl.where(c == 1, gain_1, gain_2))
    shift = tl.where(c == 0, shift_0, tl.where(c == 1, shift_1, shift_2))
    value = value * gain[None, :] + shift[None, :]
    offset = pixel[:, None] * 3 + c[None, :] if CHANNELS_LAST else c[None, :] * n_pixels + pixel[:, None]
    out_ptr += image * 3 * n_pixels
    tl.store(out_ptr + offset, value.to(out_ptr.dtype.element_ty), mask=(pixel < n_pixels)[:, None] & rgb[None, :])


def decode_siren(
    codes: Tensor,
    floats: Tensor,
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
) -> Tensor:
    """Decode a batch of packed rows into images, in one kernel launch and without waiting for the device.

    Args:
        codes: [N, spec.n_hidden_weights], the hidden weights row-major [layer, in, out]: int8 codes, which the `scales` of
            `floats` multiply by column, or the weights themselves in float16 or float32 (used as float16: at most 65,504).
        floats: float16 or float32 [N, n_floats(spec, scales=...)], laid out by `float_sections`: with int8 codes one scale a
            hidden column or one a hidden layer, otherwise none.
        ids: int64 [B], the row of each image. Out of range: an error on the CPU; on a GPU nobody looks, and that image is black.
        affine: float32 [2, 3], or [B, 2, 3] for one an image: maps (row, column, 1) of an output pixel to the INR's coordinate.
        spec: of all rows, at most 64 wide: the activations stay in registers.
        dtype: uint8, float16, bfloat16 or float32.
        mean, std: three numbers each, or None: the output is (rgb - mean) / std, rgb in [0, 1]. Not with uint8.
        round_8bit: round to multiples of 1/255 as the metrics do (0.5, the one exact tie, is 128 / 255); must be true with uint8.
        channels_last: lay the images out as `torch.channels_last`.
        exact_sine: take `accurate_sin` in place of the hardware's sine (kernels/fast_math.py has both error bounds).

    Returns:
        [B, 3, height, width] of `dtype`. A NaN among the weights of an image makes what depends on it 0 before normalisation.

    Raises:
        ValueError: naming the argument, what it is and what was expected.
    """
    images = ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last)
    check_rows(codes, floats, spec)
    check_batch(ids, affine, codes)
    require(spec.hidden <= MAX_HIDDEN, "spec.hidden", spec.hidden, f"at most {MAX_HIDDEN} (decode_siren_torch takes any)")
    require(codes.is_cuda or INTERPRETED, "codes.device", codes.device, "a CUDA device (decode_siren_torch runs on any)")
    with torch.cuda.device(codes.device) if codes.is_cuda else nullcontext():
        return _launch(codes, floats, ids, affine, spec=spec, images=images, exact_sine=exact_sine)


def _launch(
    codes: Tensor, floats: Tensor, ids: Tensor, affine: Tensor, *, spec: SirenSpec, images: ImageFormat, exact_sine: bool
) -> Tensor:
    config = launch_config(spec, images.n_pixels)
    n_programs = len(ids) * triton.cdiv(images.n_pixels, config.block)
    require(n_programs <= MAX_INT32, "B x height x width", len(ids) * images.n_pixels, f"under 2^31 blocks of {config.block}")
    gains, shifts = images.gains_and_shifts()
    out = images.empty(len(ids), codes.device)
    _decode_siren_kernel[(n_programs,)](
        out,
        codes,
        floats,
        ids,
        affine,
        len(codes),
        images.n_pixels,
        images.width,
        6 if affine.ndim == 3 else 0,
        float(spec.omega),
        *gains,
        *shifts,
        **kernel_constants(spec, images, scales=count_scales(codes, floats, spec), exact_sine=exact_sine, block=config.block),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        enable_fp_fusion=True,
    )
    return out
