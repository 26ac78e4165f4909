"""Sines of float32 blocks: the hardware's approximation, and a short accurate polynomial.

`tl.sin` does libdevice's full range reduction: about a hundred PTX instructions a sine, a stack frame, and minutes of compile
time when unrolled. The two functions here avoid that. Both return NaN for NaN and infinities.
"""

from __future__ import annotations

import math
import struct

import triton
import triton.language as tl

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET as it was at import; the interpreter has no inline assembly

INVERSE_PI = tl.constexpr(1 / math.pi)
# adding 1.5 * 2^23 to a float32 below 2^22 rounds it to an integer, ties to even, and puts the integer into the low mantissa bits
ROUND_TO_INTEGER = tl.constexpr(12582912.0)
# pi in three parts; the first two have 8 and 11 significant bits, so their products with integers up to 2^13 are exact in float32
PI_A = tl.constexpr(3.140625)
PI_B = tl.constexpr(2029 / 2**21)
PI_C = tl.constexpr(math.pi - 3.140625 - 2029 / 2**21)


@triton.jit
def accurate_sin(x):
    """Return sin(x) of a float32 block, with an error of at most 1.5e-7 for |x| <= 10,000.

    It subtracts the nearest multiple k of pi from x in three exact steps (Cody and Waite 1980). An odd polynomial of degree 9,
    fitted to 4.7e-9 on [-pi/2, pi/2], gives the sine of the rest, and an odd k flips its sign. The bound is measured against
    float64 (tests/kernels/test_fast_math.py). Beyond 10,000 the error grows, but the absolute value is at most 1 + 1.5e-7.
    """
    shifted = x * INVERSE_PI + ROUND_TO_INTEGER
    k = shifted - ROUND_TO_INTEGER
    r = ((x - k * PI_A) - k * PI_B) - k * PI_C
    r = tl.where(tl.abs(r) > 1.6, 0.0, r)  # if |x| is too large for the reduction; NaN stays NaN
    r2 = r * r
    p = 2.5997517241194146e-06 * r2 - 0.00019806479394901544
    p = p * r2 + 0.008333015255630016
    p = p * r2 - 0.16666656732559204
    sine = r + r * (r2 * p)
    flip = shifted.to(tl.int32, bitcast=True) << 31
    return (sine.to(tl.int32, bitcast=True) ^ flip).to(tl.float32, bitcast=True)


# sin(2 pi f) for |f| <= 1/2 is f times this polynomial in f^2, lowest power first; fitted to 5.9e-6
TURN_SIN = (6.283055798538903, -41.33121430276728, 81.36681523918922, -74.47800426812945, 32.78140031507705)


def _ptx(value: float) -> str:
    """Return a float32 constant in PTX notation."""
    return "0f" + struct.pack(">f", value).hex().upper()


def _polynomial_asm(x: str, y: str) -> str:
    """Return PTX for y = sin(x) in 9 instructions that do not use the sine unit."""
    *lower, second, first = map(_ptx, TURN_SIN)
    turn, magic = _ptx(1 / (2 * math.pi)), _ptx(ROUND_TO_INTEGER.value)
    lines = [
        f"fma.rn.f32 k, {x}, {turn}, {magic};",
        f"sub.f32 k, {magic}, k;",
        f"fma.rn.f32 f, {x}, {turn}, k;",
        "mul.f32 s, f, f;",
        f"fma.rn.f32 p, s, {first}, {second};",
        *(f"fma.rn.f32 p, p, s, {factor};" for factor in reversed(lower)),
        f"mul.f32 {y}, p, f;",
    ]
    return "\n".join(lines)


def _mixed_asm(every: int) -> str:
    """Return PTX for `every` sines of a thread: one by polynomial, the others by hardware."""
    sines = [f"sin.approx.ftz.f32 ${i}, ${every + i};" for i in range(every - 1)]
    polynomial = _polynomial_asm(f"${2 * every - 1}", f"${every - 1}")
    return "\n".join(["{ .reg .f32 k, f, s, p;", sines[0], polynomial, *sines[1:], "}"])


_MIXED_4, _MIXED_8 = (tl.constexpr(_mixed_asm(every)) for every in (4, 8))
_REGISTERS_4, _REGISTERS_8 = (tl.constexpr(",".join(["=&f"] * every + ["f"] * every)) for every in (4, 8))


@triton.jit
def _hardware_sin(x, POLYNOMIAL_EVERY: tl.constexpr):
    if POLYNOMIAL_EVERY == 4:
        y = tl.inline_asm_elementwise(_MIXED_4, _REGISTERS_4, [x], dtype=tl.float32, is_pure=True, pack=4)
    elif POLYNOMIAL_EVERY == 8:
        y = tl.inline_asm_elementwise(_MIXED_8, _REGISTERS_8, [x], dtype=tl.float32, is_pure=True, pack=8)
    else:
        y = tl.inline_asm_elementwise("sin.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    return y


@triton.jit
def _interpreted_sin(x, POLYNOMIAL_EVERY: tl.constexpr):
    return tl.sin(x)


@triton.jit
def _hardware_clamp(x):
    return tl.inline_asm_elementwise("add.sat.f32 $0, $1, 0f00000000;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def _interpreted_clamp(x):
    return tl.minimum(tl.maximum(tl.where(x == x, x, 0.0), 0.0), 1.0)


clamp_unit = _interpreted_clamp if INTERPRETED else _hardware_clamp
"""Clamp a float32 block to [0, 1], NaN to 0, in one instruction (`tl.maximum` drops or keeps NaN depending on the version)."""

fast_sin = _interpreted_sin if INTERPRETED else _hardware_sin
"""Return sin(x) of a float32 block, with an error of at most 4e-7 + 1.6e-7 |x|; the interpreter takes the exact sine.

`sin.approx.ftz.f32` multiplies by float32(1 / 2 pi) rounding towards zero (relative error 1.2e-7, and 4.0e-8 of the constant) and
looks up the fraction of a turn in a table with an error of 2^-21.41 = 3.6e-7 within [-pi, pi] (CUDA C++ Programming Guide,
intrinsic functions, `__sinf`). With POLYNOMIAL_EVERY 4 or 8, one in 4 or 8 sines of a thread is a polynomial on the multiply-add
units, which takes load off the sine unit, the bottleneck of a decode. Its error is 6.5e-6 + 1.01e-7 |x| up to |x| = 2.6e7;
beyond, the result is meaningless. Arguments of a SIREN stay below about 50, of a cosine series below 99; there both errors are at
most two percent of float16's step at 1.
"""
