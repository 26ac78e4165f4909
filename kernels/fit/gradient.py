"""The gradient of an image's loss by its row of weights, over a range of pixels: the body of the fused fit.

The coordinates of a tile's pixels are one operand [BLOCK, 16] (`FitPixels.operand`):

    columns 0..2 (y, x, 1)   8..10 (y, x, 1)   12, 13 the float16 remainder of (y, x)   the others 0

Its product with the first layer in two float16 parts (high by high, high by low, low by high) is that layer's phase with float32
accuracy. Its product with a later bias in two parts is the initial value of that layer's product. Its transpose sums dz into the
gradient of the first layer.
"""
# ruff: noqa: RUF005  (a kernel cannot unpack tuples, only add them)

from __future__ import annotations

import triton
import triton.language as tl

from kernels.decode.fast_math import INTERPRETED, fast_sin

COLUMNS = tl.constexpr(16)  # of a pixel's operand and of the last layer: the least inner dimension of a product


@triton.jit
def _hardware_cos(x):
    return tl.inline_asm_elementwise("cos.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _interpreted_cos(x):
    return tl.cos(x)


fast_cos = _interpreted_cos if INTERPRETED else _hardware_cos
"""Return cos(x) of a float32 block, with the errors of `fast_sin`."""


@triton.jit
def _sine_and_slope(z):
    """Return sin(z) and cos(z) in float16; the two instructions share one reduction of z."""
    return fast_sin(z, 0).to(tl.float16), fast_cos(z).to(tl.float16)


@triton.jit
def _two_parts(value, is_low):
    """Return the float16 of a value or, where `is_low`, the float16 of the remainder."""
    high = value.to(tl.float16)
    return tl.where(is_low, (value - high.to(tl.float32)).to(tl.float16), high)


@triton.jit
def _first_operand(ptr, omega, HIDDEN: tl.constexpr, WIDTH: tl.constexpr):
    """Return rows (weight y, weight x, bias) of the first layer as an operand [16, WIDTH] in two parts."""
    n, k = tl.arange(0, WIDTH)[None, :], tl.arange(0, COLUMNS)[:, None]
    part = k & 3  # rows opposite the zero columns of a pixel may hold any value
    used = (part < 3) & (n < HIDDEN)
    return _two_parts(tl.load(ptr + part * HIDDEN + n, mask=used, other=0.0) * omega, (k >> 2) == 2)


@triton.jit
def _bias_operand(ptr, omega, HIDDEN: tl.constexpr, WIDTH: tl.constexpr):
    """Return the operand [16, WIDTH] that adds a bias in two parts; for the last layer, HIDDEN is 3."""
    n, k = tl.arange(0, WIDTH)[None, :], tl.arange(0, COLUMNS)[:, None]
    used = (n < HIDDEN) & ((k == 2) | (k == 10))
    return _two_parts(tl.load(ptr + n, mask=used, other=0.0) * omega, k == 10)


@triton.jit
def _load_pixels(tile, end, grid_ptr, targets_ptr, BLOCK: tl.constexpr):
    """Return the operand [BLOCK, 16] of a tile's pixels, and their target colours in columns 0..2 of 16.

    Beyond the end both are zero. The operand carries the biases, so phases and error are zero there too and add no gradient.
    """
    pixel, c = tile + tl.arange(0, BLOCK)[:, None], tl.arange(0, COLUMNS)[None, :]
    before_end = pixel < end
    seen = tl.load(grid_ptr + pixel * COLUMNS + c, mask=before_end, other=0.0)
    return seen, tl.load(targets_ptr + pixel * 4 + c, mask=before_end & (c < 4), other=0.0)


@triton.jit
def _add_tile(
    tile, end, grid_ptr, targets_ptr, first_16, hidden_16, bias_16, last_16, sums,
    DEPTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the gradient of a tile's pixels to the sums and return them."""
    g_first, g_hidden, g_biases, g_last, g_last_bias = sums
    row = tl.arange(0, 16)[:, None]
    minus_one = tl.where(row == tl.arange(0, COLUMNS)[None, :], -1.0, 0.0).to(tl.float16)
    seen, colour = _load_pixels(tile, end, grid_ptr, targets_ptr, BLOCK)
    h, slope = _sine_and_slope(tl.dot(seen, first_16))
    inputs, slopes = (h,), (slope,)
    for layer in tl.static_range(DEPTH - 1):
        h, slope = _sine_and_slope(tl.dot(h, hidden_16[layer], acc=tl.dot(seen, bias_16[layer])))
        inputs, slopes = inputs + (h,), slopes + (slope,)
    error = tl.dot(colour, minus_one, acc=tl.dot(seen, bias_16[DEPTH - 1]))
    error = tl.dot(h, last_16, acc=error).to(tl.float16)

    g_last = tl.dot(tl.trans(h), error, acc=g_last)
    g_last_bias = tl.dot(tl.full([16, BLOCK], 1.0, tl.float16), error, acc=g_last_bias)
    dz = tl.dot(error, tl.trans(last_16)).to(tl.float16) * slopes[DEPTH - 1]
    new_hidden = ()
    for layer in tl.static_range(DEPTH - 2, -1, -1):
        new_hidden = (tl.dot(tl.trans(inputs[layer]), dz, acc=g_hidden[layer]),) + new_hidden
        # one sum for the biases of all layers, a row each, since a sum for a single layer would also have 16 rows
        one_row = tl.broadcast_to(row == layer, [16, BLOCK]).to(tl.float16)
        g_biases = tl.dot(one_row, dz, acc=g_biases)
        dz = tl.dot(dz, tl.trans(hidden_16[layer])).to(tl.float16) * slopes[layer]
    g_first = tl.dot(tl.trans(seen), dz, acc=g_first)
    return g_first, new_hidden, g_biases, g_last, g_last_bias


@triton.jit
def write_gradient(
    first, end, row_ptr, grad_ptr, grid_ptr, targets_ptr, omega,
    S: tl.constexpr, DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradient of half the sum of squared errors over pixels first..end, by weights with omega folded in.

    Operands are float16, sums float32. The scale 2 / 3P is applied after the sum, since it would underflow in float16.
    """
    n, k, c = tl.arange(0, WIDTH), tl.arange(0, 16)[:, None], tl.arange(0, COLUMNS)[None, :]
    LAYER: tl.constexpr = HIDDEN * HIDDEN + HIDDEN
    LAST: tl.constexpr = S - 3 * HIDDEN - 3
    real, rgb = n < HIDDEN, c < 3
    square = real[:, None] & real[None, :]
    hidden_places, last_places = n[:, None] * HIDDEN + n[None, :], n[:, None] * 3 + c
    in_last = real[:, None] & rgb
    first_16 = _first_operand(row_ptr, omega, HIDDEN, WIDTH)
    last_16 = tl.load(row_ptr + LAST + last_places, mask=in_last, other=0.0).to(tl.float16)
    hidden_16, bias_16, g_hidden = (), (), ()
    for layer in tl.static_range(DEPTH - 1):
        ptr = row_ptr + 3 * HIDDEN + layer * LAYER
        hidden_16 = hidden_16 + ((tl.load(ptr + hidden_places, mask=square, other=0.0) * omega).to(tl.float16),)
        bias_16 = bias_16 + (_bias_operand(ptr + HIDDEN * HIDDEN, omega, HIDDEN, WIDTH),)
        g_hidden = g_hidden + (tl.zeros([WIDTH, WIDTH], tl.float32),)
    bias_16 = bias_16 + (_bias_operand(row_ptr + LAST + 3 * HIDDEN, 1.0, 3, COLUMNS),)
    sixteen, last = tl.zeros([16, WIDTH], tl.float32), tl.zeros([WIDTH, COLUMNS], tl.float32)
    sums = (sixteen, g_hidden, sixteen, last, tl.zeros([16, COLUMNS], tl.float32))
    for tile in range(first, end, BLOCK):
        sums = _add_tile(tile, end, grid_ptr, targets_ptr, first_16, hidden_16, bias_16, last_16, sums, DEPTH, BLOCK)
    g_first, g_hidden, g_biases, g_last, g_last_bias = sums
    tl.store(grad_ptr + k * HIDDEN + n[None, :], g_first, mask=(k < 3) & real[None, :])
    for layer in tl.static_range(DEPTH - 1):
        tl.store(grad_ptr + 3 * HIDDEN + layer * LAYER + hidden_places, g_hidden[layer], mask=square)
    bias_ptr = grad_ptr + 3 * HIDDEN + HIDDEN * HIDDEN
    tl.store(bias_ptr + k * LAYER + n[None, :], g_biases, mask=(k < DEPTH - 1) & real[None, :])
    tl.store(grad_ptr + LAST + last_places, g_last, mask=in_last)
    tl.store(grad_ptr + LAST + 3 * HIDDEN + k * 3 + c, g_last_bias, mask=(k == 0) & rgb)
