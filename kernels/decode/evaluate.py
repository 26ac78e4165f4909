"""The SIREN in the decode kernel: the colours of a prepared row at a block of coordinates."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.decode.fast_math import accurate_sin, clamp_unit, fast_sin


@triton.jit
def _sin(x, EXACT_SINE: tl.constexpr, POLYNOMIAL_EVERY: tl.constexpr):
    return accurate_sin(x) if EXACT_SINE else fast_sin(x, POLYNOMIAL_EVERY)


@triton.jit
def _first_phase(y, x, n, ends_ptr, WIDTH: tl.constexpr):
    """Return the phases of the first layer in columns n, [BLOCK, columns]."""
    weight_y, weight_x, bias = tl.load(ends_ptr + n), tl.load(ends_ptr + WIDTH + n), tl.load(ends_ptr + 2 * WIDTH + n)
    return y[:, None] * weight_y[None, :] + (x[:, None] * weight_x[None, :] + bias[None, :])


@triton.jit
def _hidden_weight(weights_ptr, layer, k, n, WIDTH: tl.constexpr):
    return tl.load(weights_ptr + layer * (WIDTH * WIDTH) + k[:, None] * WIDTH + n[None, :])


@triton.jit
def _hidden_sine(
    z, layer, n, ends_ptr,
    WIDTH: tl.constexpr, BIAS_IN_PRODUCT: tl.constexpr, EXACT_SINE: tl.constexpr, POLYNOMIAL_EVERY: tl.constexpr,
):  # fmt: skip
    if not BIAS_IN_PRODUCT:
        z += tl.load(ends_ptr + (3 + layer) * WIDTH + n)[None, :]
    return _sin(z, EXACT_SINE, POLYNOMIAL_EVERY)


@triton.jit
def _last_weight(last_ptr, k, c):
    return tl.load(last_ptr + k[:, None] * 4 + c[None, :]).to(tl.float16)


@triton.jit
def evaluate(
    y, x, weights_ptr, ends_ptr,
    DEPTH: tl.constexpr, PADDED: tl.constexpr, REST: tl.constexpr, BIAS_IN_PRODUCT: tl.constexpr, EXACT_SINE: tl.constexpr,
    POLYNOMIAL_EVERY: tl.constexpr,
):  # fmt: skip
    """Return RGB in [0, 1] and a padding column, [BLOCK, 4], of a prepared row at coordinates y and x, [BLOCK].

    All values are float32, except the float16 operands of `tl.dot`. A layer has PADDED columns and, if that is less than its
    width, REST more in separate tensors: 40 takes 32 and 16 columns instead of 64.
    """
    WIDTH: tl.constexpr = PADDED + REST
    n, m = tl.arange(0, PADDED), PADDED + tl.arange(0, REST if REST > 0 else 1)
    # h stays float32 between layers, since float16 values would reach wgmma through shared memory, with a barrier a layer
    h = _sin(_first_phase(y, x, n, ends_ptr, WIDTH), EXACT_SINE, POLYNOMIAL_EVERY)  # [BLOCK, PADDED]
    if REST > 0:
        h_m = _sin(_first_phase(y, x, m, ends_ptr, WIDTH), EXACT_SINE, POLYNOMIAL_EVERY)
    if DEPTH > 1:
        weight = _hidden_weight(weights_ptr, 0, n, n, WIDTH)
        if REST > 0:
            weight_nm = _hidden_weight(weights_ptr, 0, n, m, WIDTH)
            weight_mn = _hidden_weight(weights_ptr, 0, m, n, WIDTH)
            weight_mm = _hidden_weight(weights_ptr, 0, m, m, WIDTH)
        for layer in range(DEPTH - 1):
            operand = h.to(tl.float16)
            z = tl.dot(operand, weight)
            if REST > 0:
                operand_m = h_m.to(tl.float16)
                z = tl.dot(operand_m, weight_mn, acc=z)
                z_m = tl.dot(operand, weight_nm)
                z_m = tl.dot(operand_m, weight_mm, acc=z_m)
            # load the weights of the next layer while the sines of this one are computed
            following = tl.minimum(layer + 1, DEPTH - 2)
            weight = _hidden_weight(weights_ptr, following, n, n, WIDTH)
            if REST > 0:
                weight_nm = _hidden_weight(weights_ptr, following, n, m, WIDTH)
                weight_mn = _hidden_weight(weights_ptr, following, m, n, WIDTH)
                weight_mm = _hidden_weight(weights_ptr, following, m, m, WIDTH)
                h_m = _hidden_sine(z_m, layer, m, ends_ptr, WIDTH, BIAS_IN_PRODUCT, EXACT_SINE, POLYNOMIAL_EVERY)
            h = _hidden_sine(z, layer, n, ends_ptr, WIDTH, BIAS_IN_PRODUCT, EXACT_SINE, POLYNOMIAL_EVERY)

    last_ptr, c = ends_ptr + (2 + DEPTH) * WIDTH, tl.arange(0, 4)
    value = tl.dot(h.to(tl.float16), _last_weight(last_ptr, n, c))
    if REST > 0:
        value = tl.dot(h_m.to(tl.float16), _last_weight(last_ptr, m, c), acc=value)
    return clamp_unit(value + tl.load(last_ptr + 4 * WIDTH + c)[None, :])
