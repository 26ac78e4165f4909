"""Rounding in the fused fit: the stored value of a row, and the straight-through gradient.

    w' = s clip(round(w / s), -q, q);   dw'/dw = [|w / s| <= q];   dw'/d(log s) = s (round(w / s) - w / s), or +-s q where clipped

`rapid_inr.compress.projection` has the sources of the formulas and is the reference of the tests.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.decode.fast_math import ROUND_TO_INTEGER
from kernels.fit.adam import adam

_LEAST_16, _LEAST_32 = tl.constexpr(2.0**-14), tl.constexpr(2.0**-126)  # the smallest normal numbers
_TOLERANCE = tl.constexpr(1 - 2.0**-22)  # covers float32 rounding, so that a scale divided and multiplied stays the same
_MAX_END = tl.constexpr(127.0)  # the largest int8 code of an end


@triton.jit
def _storable(scale, BITS: tl.constexpr):
    """Return a positive scale rounded up to a number of 16 or 32 bits, at least the smallest normal one."""
    if BITS == 32:
        return tl.maximum(scale, _LEAST_32)
    half = scale.to(tl.float16)
    above = (half.to(tl.int16, bitcast=True) + 1).to(tl.float16, bitcast=True)
    return tl.maximum(tl.where(half.to(tl.float32) < scale * _TOLERANCE, above, half).to(tl.float32), _LEAST_16)


@triton.jit
def _codes(value, scale, most):
    """Return value / scale, that clipped to -most..most, and the latter's nearest integer, ties to even."""
    exact = tl.div_rn(value, tl.broadcast_to(scale, value.shape))
    clipped = tl.minimum(tl.maximum(exact, -most), most)
    return exact, clipped, (clipped + ROUND_TO_INTEGER) - ROUND_TO_INTEGER


@triton.jit
def _layer_scales(ptr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, SCALES: tl.constexpr, BITS: tl.constexpr):
    """Return the scale of each column of a layer, [1, WIDTH]."""
    column = tl.arange(0, WIDTH)[None, :]
    place = column if SCALES > 1 else column * 0
    return _storable(tl.exp(tl.load(ptr + place, mask=column < HIDDEN, other=0.0)), BITS)


@triton.jit
def _round_ends(row_ptr, out_ptr, place, used, ENDS_BITS: tl.constexpr):
    """Round the weights of an end section to their stored type; in 8 bits, with a scale from their maximum."""
    value = tl.load(row_ptr + place, mask=used, other=0.0)
    if ENDS_BITS == 8:
        scale = _storable(tl.div_rn(tl.max(tl.abs(value)), _MAX_END), 16)
        value = _codes(value, scale, _MAX_END)[2] * scale
    elif ENDS_BITS == 16:
        value = value.to(tl.float16).to(tl.float32)
    tl.store(out_ptr + place, value, mask=used)


@triton.jit
def round_row(
    row_ptr, out_ptr, log_scales_ptr, most,
    S: tl.constexpr, DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, LAYERS: tl.constexpr,
    ENDS_BITS: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """Write the stored value of a row; LAYERS is a power of two, at least DEPTH."""
    LAYER: tl.constexpr = HIDDEN * HIDDEN + HIDDEN
    LAST: tl.constexpr = S - 3 * HIDDEN - 3
    BITS: tl.constexpr = 32 if ENDS_BITS == 32 else 16  # of a scale
    k, n = tl.arange(0, WIDTH)[:, None], tl.arange(0, WIDTH)[None, :]
    used = (k < HIDDEN) & (n < HIDDEN)
    for layer in range(DEPTH - 1):
        scale = _layer_scales(log_scales_ptr + layer * SCALES, HIDDEN, WIDTH, SCALES, BITS)
        place = 3 * HIDDEN + layer * LAYER + k * HIDDEN + n
        code = _codes(tl.load(row_ptr + place, mask=used, other=0.0), scale, most)[2]
        tl.store(out_ptr + place, code * scale, mask=used)
    first, last, bias = tl.arange(0, 2 * WIDTH), tl.arange(0, 4 * WIDTH), tl.arange(0, 4)
    layer = tl.arange(0, LAYERS)[:, None]
    _round_ends(row_ptr, out_ptr, first, first < 2 * HIDDEN, ENDS_BITS)
    _round_ends(row_ptr, out_ptr, 2 * HIDDEN + layer * LAYER + n, (layer < DEPTH) & (n < HIDDEN), ENDS_BITS)
    _round_ends(row_ptr, out_ptr, LAST + last, last < 3 * HIDDEN, ENDS_BITS)
    _round_ends(row_ptr, out_ptr, LAST + 3 * HIDDEN + bias, bias < 3, ENDS_BITS)


@triton.jit
def pull_back(
    row_ptr, grad_ptr, log_scales_ptr, mean_ptr, square_ptr, most, factor, rate, root, beta_1, beta_2,
    DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr,
    ENDS_BITS: tl.constexpr, SCALES: tl.constexpr, LEARNED: tl.constexpr,
):  # fmt: skip
    """Turn the gradient at a rounded row into that of the row, and take a step of Adam on its scales.

    Args:
        factor: to multiply the gradient in memory by.
    """
    LAYER: tl.constexpr = HIDDEN * HIDDEN + HIDDEN
    BITS: tl.constexpr = 32 if ENDS_BITS == 32 else 16
    k, n = tl.arange(0, WIDTH)[:, None], tl.arange(0, WIDTH)[None, :]
    used, column = (k < HIDDEN) & (n < HIDDEN), tl.arange(0, WIDTH)
    for layer in range(DEPTH - 1):
        scale = _layer_scales(log_scales_ptr + layer * SCALES, HIDDEN, WIDTH, SCALES, BITS)
        place = 3 * HIDDEN + layer * LAYER + k * HIDDEN + n
        g = tl.load(grad_ptr + place, mask=used, other=0.0)
        exact, clipped, code = _codes(tl.load(row_ptr + place, mask=used, other=0.0), scale, most)
        inside = exact == clipped
        tl.store(grad_ptr + place, tl.where(inside, g, 0.0), mask=used)
        if LEARNED:
            by_scale = tl.sum(g * factor * (code - tl.where(inside, exact, 0.0)) * scale, 0)  # [WIDTH]
            if SCALES == 1:
                by_scale = tl.broadcast_to(tl.sum(by_scale, 0), [WIDTH])
            i = layer * SCALES + column
            adam(log_scales_ptr, mean_ptr, square_ptr, i, column < SCALES, by_scale, rate, root, beta_1, beta_2)
