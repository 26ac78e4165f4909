"""Prepare rows in Triton: unpack the packed rows of a batch once, for all programs of the decode.

A prepared row is a SIREN of the kernel's width W with omega 1: float16 hidden weights [D - 1, W, W] with scale and omega folded
in, and float32 ends with omega folded in: first weight [2, W], biases [D, W], last weight and bias [W + 1, 4]. If two or more
neurons are padding, two of them are always 1 = sin(pi / 2). Their weights in a layer are its bias in two float16 parts, so that
the product adds it.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.decode.launch import bias_in_product, padded_width
from kernels.rows import PackedRows, packed_bytes
from kernels.spec import SirenSpec

HALF_PI = tl.constexpr(math.pi / 2)


@triton.jit
def _load_codes(codes_ptr, index, real, BITS: tl.constexpr):
    """Return the codes at `index` of a row as float32; `real` masks the loads.

    At 3, 5, 6 and 7 bits a code may reach into the next byte. Only such codes read it, since no memory follows the last row.
    """
    if BITS >= 16:
        codes = tl.load(codes_ptr + index, mask=real, other=0.0).to(tl.float32)
    else:
        bit = index * BITS
        shift = bit & 7
        pair = tl.load(codes_ptr + (bit >> 3), mask=real, other=0).to(tl.int32)
        if 8 % BITS != 0:
            reaches = real & (shift > 8 - BITS)
            pair |= tl.load(codes_ptr + (bit >> 3) + 1, mask=reaches, other=0).to(tl.int32) << 8
        sign: tl.constexpr = 1 << (BITS - 1)
        codes = ((((pair >> shift) & (2 * sign - 1)) ^ sign) - sign).to(tl.float32)
    return codes


@triton.jit
def _count_ones(byte):
    byte = byte - ((byte >> 1) & 0x55)
    byte = (byte & 0x33) + ((byte >> 2) & 0x33)
    return (byte + (byte >> 4)) & 0x0F


@triton.jit
def _rank_kept(masks_ptr, first, index, real, DEPTH: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr):
    """Return the position of each weight's code among the stored codes, and whether it is stored; the layer begins at `first`."""
    counts = tl.zeros([BLOCK], tl.int32)
    for start in range(0, (DEPTH - 2) * HIDDEN * HIDDEN // 8 + 1, BLOCK):
        place = start + tl.arange(0, BLOCK)
        bits_before = tl.minimum(tl.maximum(first - 8 * place, 0), 8)
        byte = tl.load(masks_ptr + place, mask=bits_before > 0, other=0).to(tl.int32)
        counts += _count_ones(byte & ((1 << bits_before) - 1))
    bit = (tl.load(masks_ptr + (index >> 3), mask=real, other=0).to(tl.int32) >> (index & 7)) & 1
    return tl.sum(counts, axis=0) + tl.cumsum(bit, axis=0) - 1, real & (bit == 1)


@triton.jit
def _prepare_layer(
    weights_ptr, codes_ptr, ends_ptr, scales_ptr, masks_ptr, layer, omega, bias_gain,
    DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr, MASKED: tl.constexpr,
    SCALES: tl.constexpr, BIAS_IN_PRODUCT: tl.constexpr, SIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the weights of a hidden layer."""
    place = tl.arange(0, SIDE * SIDE)
    k, n = place // SIDE, place % SIDE
    first, real = layer * HIDDEN * HIDDEN, (k < HIDDEN) & (n < HIDDEN)
    index, kept = first + k * HIDDEN + n, real
    if MASKED:
        index, kept = _rank_kept(masks_ptr, first, index, real, DEPTH, HIDDEN, BLOCK)
    gain = omega
    if SCALES > 0:
        column = n if SCALES == HIDDEN else n * 0  # one scale a column, or one a layer
        gain = tl.load(scales_ptr + layer * SCALES + column, mask=real, other=0.0).to(tl.float32) * omega
    weight = _load_codes(codes_ptr, index, kept, BITS) * gain
    if BIAS_IN_PRODUCT:
        is_bias = (k == HIDDEN) | (k == HIDDEN + 1)
        bias = tl.load(ends_ptr + (3 + layer) * HIDDEN + n, mask=is_bias & (n < HIDDEN), other=0.0).to(tl.float32) * bias_gain
        bias = tl.where((n == HIDDEN) | (n == HIDDEN + 1), HALF_PI, bias)
        high = bias.to(tl.float16).to(tl.float32)
        weight = tl.where(k == HIDDEN, high, tl.where(k == HIDDEN + 1, bias - high, weight))
    weights_ptr += (layer * WIDTH + k) * WIDTH + n
    tl.store(weights_ptr, weight.to(tl.float16), mask=(k < WIDTH) & (n < WIDTH))


@triton.jit
def _prepare_ends(
    out_ptr, ends_ptr, end_scales_ptr, known, omega,
    DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, END_SCALES: tl.constexpr, BIAS_IN_PRODUCT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the ends of a row; if it is not `known`, the last layer is 0, so that the image is black."""
    LINES: tl.constexpr = 2 + DEPTH  # of WIDTH values each: first weight and biases; lines of the last layer have 4 values
    for start in range(0, (LINES + 4) * WIDTH + 4, BLOCK):
        place = start + tl.arange(0, BLOCK)
        line, n, last = place // WIDTH, place % WIDTH, place - LINES * WIDTH
        k, c = last // 4, last % 4
        in_sines, is_weight = last < 0, k < WIDTH
        written = 3 if BIAS_IN_PRODUCT else LINES  # a bias that a product adds is not written here
        in_row = ((line < written) & (n < HIDDEN)) | ((last >= 0) & (c < tl.where(known, 3, 0)))
        in_row = in_row & (in_sines | (k < HIDDEN) | (k == WIDTH))
        source = tl.where(in_sines, line * HIDDEN + n, LINES * HIDDEN + tl.where(is_weight, k, HIDDEN) * 3 + c)
        gain = tl.where(in_sines, omega, 1.0)
        if END_SCALES:
            section = tl.where(line < 2, 0, tl.where(in_sines, 1, tl.where(is_weight, 2, 3)))
            gain = gain * tl.load(end_scales_ptr + section).to(tl.float32)
        value = tl.load(ends_ptr + source, mask=in_row, other=0.0).to(tl.float32) * gain
        if BIAS_IN_PRODUCT:
            value = tl.where((line == 2) & (n >= HIDDEN) & (n < HIDDEN + 2), HALF_PI, value)
        tl.store(out_ptr + place, value, mask=place < (LINES + 4) * WIDTH + 4)


@triton.jit(do_not_specialize=["n_rows", "scales_stride"])
def _prepare_rows_kernel(
    weights_ptr, out_ptr, codes_ptr, ends_ptr, scales_ptr, end_scales_ptr, masks_ptr, starts_ptr, ids_ptr,
    n_rows, scales_stride, omega,
    DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr, ROW_CODES: tl.constexpr,
    ROW_MASKS: tl.constexpr, SCALES: tl.constexpr, END_SCALES: tl.constexpr, BIAS_IN_PRODUCT: tl.constexpr, SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a hidden layer of an image's row or, after the last, its ends."""
    image, layer = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = tl.load(ids_ptr + image)
    known = (row >= 0) & (row < n_rows)
    row = tl.where(known, row, 0)  # an unknown id reads row 0 and gives a black image
    ends_ptr += row * ((5 + DEPTH) * HIDDEN + 3)
    end_scales_ptr += row * 4
    if layer < DEPTH - 1:
        bias_gain = omega
        if END_SCALES:
            bias_gain = omega * tl.load(end_scales_ptr + 1).to(tl.float32)
        codes_ptr += tl.load(starts_ptr + row) if ROW_MASKS > 0 else row * ROW_CODES
        _prepare_layer(
            weights_ptr + image * ((DEPTH - 1) * WIDTH * WIDTH), codes_ptr, ends_ptr, scales_ptr + row * scales_stride,
            masks_ptr + row * ROW_MASKS, layer, omega, bias_gain,
            DEPTH, HIDDEN, WIDTH, BITS, ROW_MASKS > 0, SCALES, BIAS_IN_PRODUCT, SIDE, BLOCK,
        )  # fmt: skip
    else:
        out_ptr += image * ((6 + DEPTH) * WIDTH + 4)
        _prepare_ends(out_ptr, ends_ptr, end_scales_ptr, known, omega, DEPTH, HIDDEN, WIDTH, END_SCALES, BIAS_IN_PRODUCT, BLOCK)


def prepare_constants(spec: SirenSpec, *, bits: int, masked: bool, scales: int, int8_ends: bool) -> dict[str, int | bool]:
    """Return the compile-time arguments of the kernel; `scales` is the number of scales of a hidden layer."""
    width, n_codes = padded_width(spec), spec.n_hidden_weights
    side = triton.next_power_of_2(width)
    return {
        "DEPTH": spec.depth,
        "HIDDEN": spec.hidden,
        "WIDTH": width,
        "BITS": bits,
        "ROW_CODES": n_codes if bits > 8 else packed_bytes(n_codes, bits),
        "ROW_MASKS": packed_bytes(n_codes, 1) if masked else 0,
        "SCALES": scales,
        "END_SCALES": int8_ends,
        "BIAS_IN_PRODUCT": bias_in_product(spec),
        "SIDE": side,
        "BLOCK": 8 * side,  # values of the ends, or bytes of a mask, a pass
    }


def prepare_warps(constants: dict[str, int | bool]) -> int:
    """Return the warps of a program: for 8 weights a thread, since 16 spill on sm_100."""
    return max(1, constants["SIDE"] ** 2 // 256)


def prepare_rows(rows: PackedRows, ids: Tensor, spec: SirenSpec) -> tuple[Tensor, Tensor]:
    """Prepare the rows of a batch, in one launch.

    Returns:
        Weights float16 [B, (D - 1) W^2] and ends float32 [B, (6 + D) W + 4]; an unknown id gives a black image.
    """
    masked, unread = rows.masks is not None, ids  # `unread` replaces a tensor that is not read
    constants = prepare_constants(
        spec, bits=rows.bits, masked=masked, scales=rows.scales_a_layer(spec), int8_ends=rows.end_scales is not None
    )
    width = constants["WIDTH"]
    weights = torch.empty((len(ids), (spec.depth - 1) * width**2), dtype=torch.float16, device=ids.device)
    ends = torch.empty((len(ids), (6 + spec.depth) * width + 4), dtype=torch.float32, device=ids.device)
    _prepare_rows_kernel[(len(ids), spec.depth)](
        weights, ends, rows.codes, rows.ends,
        *(unread if tensor is None else tensor for tensor in (rows.scales, rows.end_scales, rows.masks, rows.starts)),
        ids, len(rows), 0 if rows.scales is None or len(rows.scales) == 1 else rows.scales.shape[1], float(spec.omega),
        **constants, num_warps=prepare_warps(constants), enable_fp_fusion=True,  # explicit, since Triton 3.9 warns otherwise
    )  # fmt: skip
    return weights, ends
