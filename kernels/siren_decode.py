"""Decode: packed rows of SIREN weights and an affine map of the pixels -> images as a network eats them, in one launch.

The formula is that of kernels/spec.py (Sitzmann et al. 2020, section 3); then NaN becomes 0, values are clamped to [0, 1],
rounded to 8 bits and normalised per channel. `decode_siren` is the Triton kernel, `decode_siren_torch` its twin: the reference,
and the backend of CPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.checks import require
from kernels.decode_io import MAX_INT32, ImageFormat, check_batch, check_rows, count_scales
from kernels.fast_math import INTERPRETED, ROUND_TO_INTEGER, accurate_sin, fast_sin
from kernels.launch import kernel_constants, launch_config
from kernels.spec import OUT_FEATURES, SirenSpec, float_sections

# float32 values of one activation buffer of the twin (2 MB: it and its successor fit a core's share of the cache) and the pixels
# below which an image is not cut further. Measured on 2 cores: kernels/README.md.
CHUNK_VALUES = 2**19
CHUNK_PIXELS = 2**12


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
    require(codes.is_cuda or INTERPRETED, "codes.device", codes.device, "a CUDA device (decode_siren_torch runs on any)")
    with torch.cuda.device(codes.device) if codes.is_cuda else nullcontext():
        return _launch(codes, floats, ids, affine, spec=spec, images=images, exact_sine=exact_sine)


def decoder_for(device: torch.device) -> Callable[..., Tensor]:
    """Return what decodes on a device: the kernel on a CUDA device, its torch twin elsewhere."""
    return decode_siren if device.type == "cuda" else decode_siren_torch


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


def decode_siren_torch(
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
    compute_dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Decode a batch of packed rows into images with torch, on any device: the kernel's reference, and the backend of CPUs.

    The batch is cut so that two buffers of activations stay in the cache, and activations lie [image, feature, pixel], so that a
    layer is one batched product with long rows. Only the weights of the rows asked for are ever dequantized.

    Args:
        exact_sine: without effect, the sine is torch's.
        compute_dtype: float32, or float64 for the oracle of tests. The others are those of `decode_siren`; an id out of range on
            a GPU is torch's device-side assertion here.

    Returns:
        As `decode_siren`.

    Raises:
        ValueError: as `decode_siren`.
    """
    images = ImageFormat(height, width, dtype, mean, std, round_8bit, channels_last)
    check_rows(codes, floats, spec)
    check_batch(ids, affine, codes)
    require(compute_dtype in (torch.float32, torch.float64), "compute_dtype", compute_dtype, "torch.float32 or torch.float64")
    return _decode_chunks(codes, floats, ids, affine.reshape(-1, 2, 3).to(compute_dtype), spec=spec, images=images)


def _decode_chunks(codes: Tensor, floats: Tensor, ids: Tensor, affine: Tensor, *, spec: SirenSpec, images: ImageFormat) -> Tensor:
    """Decode chunk after chunk of images and pixels, computing in the dtype of `affine`, [1 or B, 2, 3]."""
    step = max(1, min(len(ids), CHUNK_VALUES // (spec.hidden * min(images.n_pixels, CHUNK_PIXELS))))
    tile = max(1, min(images.n_pixels, CHUNK_VALUES // (spec.hidden * step)))
    buffers = affine.new_empty((2, step * max(spec.hidden, OUT_FEATURES) * tile))
    out = images.empty(len(ids), codes.device)
    rows = out.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2) if images.channels_last else out.flatten(2)  # [B, 3, P], a view
    for first in range(0, len(ids), step):
        chunk = slice(first, min(first + step, len(ids)))
        layers = _unpack_layers(codes, floats, ids[chunk], spec, affine.dtype)
        for start in range(0, images.n_pixels, tile):
            pixel = torch.arange(start, min(start + tile, images.n_pixels), device=codes.device)
            place = torch.stack((pixel // images.width, pixel % images.width)).to(affine.dtype)  # [2, P]
            maps = affine[chunk] if len(affine) > 1 else affine
            coords = maps[:, :, :2] @ place + maps[:, :, 2:]  # [1 or b, 2, P]
            rows[chunk, :, start : start + tile] = _finish(_evaluate(layers, coords, buffers), images)
    return out


def _unpack_layers(
    codes: Tensor, floats: Tensor, ids: Tensor, spec: SirenSpec, compute_dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    """Return (weight [b, out, in], bias [b, out, 1]) of each layer of the chosen rows, omega folded into all but the last."""
    row = floats.index_select(0, ids).to(compute_dtype)
    sections = float_sections(spec, scales=count_scales(codes, floats, spec))
    part = {name: row[:, s.start : s.stop].unflatten(1, s.shape) for name, s in sections.items()}
    hidden = codes.index_select(0, ids).to(compute_dtype).unflatten(1, (spec.depth - 1, spec.hidden, spec.hidden))
    if part["scales"].numel():
        hidden = hidden * part["scales"][:, :, None, :]
    weights = [part["first_weight"], *hidden.unbind(1)]
    layers = [(w.mT * spec.omega, part["biases"][:, i, :, None] * spec.omega) for i, w in enumerate(weights)]
    return [*layers, (part["last_weight"].mT, part["last_bias"][:, :, None])]


def _evaluate(layers: list[tuple[Tensor, Tensor]], coords: Tensor, buffers: Tensor) -> Tensor:
    """Return RGB [b, 3, P] at coords [1 or b, 2, P], in one of the two buffers that the layers take in turn."""
    h = coords.expand(len(layers[0][0]), -1, -1)
    for i, (weight, bias) in enumerate(layers):
        size = (len(weight), weight.shape[1], coords.shape[2])
        z = buffers[i % 2, : math.prod(size)].view(size)
        torch.baddbmm(bias, weight, h, out=z)
        h = z.sin_() if i < len(layers) - 1 else z
    return h


def _finish(rgb: Tensor, images: ImageFormat) -> Tensor:
    """Take RGB [b, 3, P] to the values the images hold, in place."""
    rgb.nan_to_num_(nan=0.0).clamp_(0, 1)
    if images.round_8bit:
        rgb.mul_(255).round_()
        if images.dtype != torch.uint8:
            rgb.div_(255)
    if images.mean is not None and images.std is not None:
        rgb.sub_(rgb.new_tensor(images.mean)[:, None]).div_(rgb.new_tensor(images.std)[:, None])
    return rgb
