"""Sines of float32 blocks: the hardware's approximation, and an accurate polynomial that stays small.

`tl.sin` is libdevice's full range reduction: about a hundred PTX instructions a sine, a stack frame, and minutes of compile time
where it is unrolled. Neither function here has those; both return NaN for NaN and infinities.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET as it was at import; the interpreter has no inline assembly

INVERSE_PI = tl.constexpr(1 / math.pi)
# adding 1.5 * 2^23 to a float32 below 2^22 rounds it to an integer, ties to even, and leaves the integer in the low mantissa bits
ROUND_TO_INTEGER = tl.constexpr(12582912.0)
# pi in three parts; the first two have 8 and 11 significant bits, so that an integer up to 2^13 times them is exact in float32
PI_A = tl.constexpr(3.140625)
PI_B = tl.constexpr(2029 / 2**21)
PI_C = tl.constexpr(math.pi - 3.140625 - 2029 / 2**21)


@triton.jit
def accurate_sin(x):
    """Return sin(x) of a float32 block, off by at most 1.5e-7 for |x| <= 10,000.

    x is reduced by its nearest multiple k of pi in three exact steps (Cody and Waite 1980), an odd polynomial of degree 9, fitted
    to 4.7e-9 on [-pi/2, pi/2], gives the sine of the rest, and an odd k flips its sign. The bound is measured against float64
    (tests/kernels/test_fast_math.py). Beyond 10,000 the error grows; the result stays a sine's, at most
    1 + 1.5e-7.
    """
    shifted = x * INVERSE_PI + ROUND_TO_INTEGER
    k = shifted - ROUND_TO_INTEGER
    r = ((x - k * PI_A) - k * PI_B) - k * PI_C
    r = tl.where(tl.abs(r) > 1.6, 0.0, r)  # where |x| is too large to be reduced; NaN passes
    r2 = r * r
    p = 2.5997517241194146e-06 * r2 - 0.00019806479394901544
    p = p * r2 + 0.008333015255630016
    p = p * r2 - 0.16666656732559204
    sine = r + r * (r2 * p)
    flip = shifted.to(tl.int32, bitcast=True) << 31
    return (sine.to(tl.int32, bitcast=True) ^ flip).to(tl.float32, bitcast=True)


@triton.jit
def _hardware_sin(x):
    return tl.inline_asm_elementwise("sin.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _interpreted_sin(x):
    return tl.sin(x)


fast_sin = _interpreted_sin if INTERPRETED else _hardware_sin
"""Return sin(x) of a float32 block in one instruction, off by at most 4e-7 + 1.01e-7 |x|.

`sin.approx.ftz.f32` multiplies by float32(1 / 2 pi) and looks the fraction of a turn up. The product rounds by 6.0e-8 relative
and the constant is off by less than that, hence the slope; the table's own error is 2^-21.41 = 3.6e-7 within [-pi, pi] (CUDA C++
Programming Guide, intrinsic functions, `__sinf`). Arguments of a SIREN stay below about 50, an error of 5e-6, one percent of
float16's step at 1. In the interpreter it is the exact sine.
"""
