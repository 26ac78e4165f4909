"""The SIREN at a block's coordinates."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.decode.fast_math import accurate_sin, clamp_unit, fast_sin
from kernels.unpack.triton import load_fields, to_float16


@triton.jit
def _sin(x, EXACT_SINE: tl.constexpr, POLYNOMIAL_EVERY: tl.constexpr):
    return accurate_sin(x) if EXACT_SINE else fast_sin(x, POLYNOMIAL_EVERY)


@triton.jit
def _first_phase(y, x, n, ends_ptr, first_gain, bias_gain, HIDDEN: tl.constexpr):
    """Return the argument of the sine in columns n of the first layer, [BLOCK, columns]; 0 in those beyond the width."""
    real = n < HIDDEN
    weight_y = tl.load(ends_ptr + n, mask=real, other=0.0).to(tl.float32) * first_gain
    weight_x = tl.load(ends_ptr + HIDDEN + n, mask=real, other=0.0).to(tl.float32) * first_gain
    bias = tl.load(ends_ptr + 2 * HIDDEN + n, mask=real, other=0.0).to(tl.float32) * bias_gain
    return y[:, None] * weight_y[None, :] + (x[:, None] * weight_x[None, :] + bias[None, :])


@triton.jit
def _hidden_weight(codes_ptr, layer, k, n, DEPTH: tl.constexpr, HIDDEN: tl.constexpr, BITS: tl.constexpr):
    """Return the fields of the codes in rows k and columns n of a hidden layer, 0 beyond the width and behind the last layer."""
    real = (k < HIDDEN)[:, None] & (n < HIDDEN)[None, :] & (layer < DEPTH - 1)
    return load_fields(codes_ptr, layer * (HIDDEN * HIDDEN) + k[:, None] * HIDDEN + n[None, :], real, BITS)


@triton.jit
def _gain_and_bias(n, layer, ends_ptr, scales_ptr, bias_gain, omega, HIDDEN: tl.constexpr, SCALES: tl.constexpr):
    """Return what columns n of a hidden layer are multiplied by, and what is added then."""
    real = n < HIDDEN
    bias = tl.load(ends_ptr + (3 + layer) * HIDDEN + n, mask=real, other=0.0).to(tl.float32) * bias_gain
    gain = omega
    if SCALES > 0:
        column = n if SCALES == HIDDEN else n * 0  # one a column, or one for all
        gain = (tl.load(scales_ptr + layer * SCALES + column, mask=real, other=0.0).to(tl.float32) * omega)[None, :]
    return gain, bias[None, :]


@triton.jit
def _last_weight(last_ptr, k, rgb, HIDDEN: tl.constexpr):
    c = tl.arange(0, 4)
    mask = (k < HIDDEN)[:, None] & rgb[None, :]
    return tl.load(last_ptr + k[:, None] * 3 + c[None, :], mask=mask, other=0.0).to(tl.float16)


@triton.jit
def evaluate(
    y, x, codes_ptr, ends_ptr, scales_ptr, known, first_gain, bias_gain, last_gain, last_bias_gain, omega,
    DEPTH: tl.constexpr, HIDDEN: tl.constexpr, PADDED: tl.constexpr, REST: tl.constexpr, BITS: tl.constexpr,
    SCALES: tl.constexpr, EXACT_SINE: tl.constexpr, POLYNOMIAL_EVERY: tl.constexpr,
):  # fmt: skip
    """Return RGB in [0, 1] and a column of padding, [BLOCK, 4], at coordinates y and x, [BLOCK]; black if not `known`.

    Float32 but for the operands of `tl.dot`, which are float16; omega is folded into the gains of the sine layers. A layer has
    PADDED columns and, where that is less than its width, REST more in tensors of their own: 40 as 32 and 16, in place of 64.
    """
    n, m = tl.arange(0, PADDED), PADDED + tl.arange(0, REST if REST > 0 else 1)
    weight = _hidden_weight(codes_ptr, 0, n, n, DEPTH, HIDDEN, BITS)
    if REST > 0:
        weight_nm = _hidden_weight(codes_ptr, 0, n, m, DEPTH, HIDDEN, BITS)
        weight_mn = _hidden_weight(codes_ptr, 0, m, n, DEPTH, HIDDEN, BITS)
        weight_mm = _hidden_weight(codes_ptr, 0, m, m, DEPTH, HIDDEN, BITS)
        h_m = _sin(_first_phase(y, x, m, ends_ptr, first_gain, bias_gain, HIDDEN), EXACT_SINE, POLYNOMIAL_EVERY)
    # h stays float32 between layers: carried as float16 it reaches wgmma through shared memory, a barrier a layer more
    h = _sin(_first_phase(y, x, n, ends_ptr, first_gain, bias_gain, HIDDEN), EXACT_SINE, POLYNOMIAL_EVERY)  # [BLOCK, PADDED]

    for layer in range(DEPTH - 1):
        operand = h.to(tl.float16)
        z = tl.dot(operand, to_float16(weight, BITS))
        if REST > 0:
            operand_m = h_m.to(tl.float16)
            z = tl.dot(operand_m, to_float16(weight_mn, BITS), acc=z)
            z_m = tl.dot(operand, to_float16(weight_nm, BITS))
            z_m = tl.dot(operand_m, to_float16(weight_mm, BITS), acc=z_m)
        # the weights of the next layer travel while the sines of this one are taken
        weight = _hidden_weight(codes_ptr, layer + 1, n, n, DEPTH, HIDDEN, BITS)
        if REST > 0:
            weight_nm = _hidden_weight(codes_ptr, layer + 1, n, m, DEPTH, HIDDEN, BITS)
            weight_mn = _hidden_weight(codes_ptr, layer + 1, m, n, DEPTH, HIDDEN, BITS)
            weight_mm = _hidden_weight(codes_ptr, layer + 1, m, m, DEPTH, HIDDEN, BITS)
            gain, bias = _gain_and_bias(m, layer, ends_ptr, scales_ptr, bias_gain, omega, HIDDEN, SCALES)
            h_m = _sin(z_m * gain + bias, EXACT_SINE, POLYNOMIAL_EVERY)
        gain, bias = _gain_and_bias(n, layer, ends_ptr, scales_ptr, bias_gain, omega, HIDDEN, SCALES)
        h = _sin(z * gain + bias, EXACT_SINE, POLYNOMIAL_EVERY)

    last_ptr, c = ends_ptr + (2 + DEPTH) * HIDDEN, tl.arange(0, 4)
    rgb = c < tl.where(known, 3, 0)  # `(c < 3) & known` is int32 in Triton 3.9's interpreter, and no mask
    value = tl.dot(h.to(tl.float16), _last_weight(last_ptr, n, rgb, HIDDEN))
    if REST > 0:
        value = tl.dot(h_m.to(tl.float16), _last_weight(last_ptr, m, rgb, HIDDEN), acc=value)
    bias = tl.load(last_ptr + 3 * HIDDEN + c, mask=rgb, other=0.0).to(tl.float32) * last_bias_gain
    return clamp_unit(value * last_gain + bias[None, :])
