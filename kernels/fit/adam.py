"""Adam in the fused fit: a step on a block of values, and on a whole row."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.fit.inputs import ADAM_EPS

_EPS = tl.constexpr(ADAM_EPS)


@triton.jit
def adam(ptr, mean_ptr, square_ptr, i, inside, g, rate, root, beta_1, beta_2):
    """Take a step on the values at `i`; `rate` and `root` include the bias corrections."""
    value = tl.load(ptr + i, mask=inside, other=0.0)
    mean, square = tl.load(mean_ptr + i, mask=inside, other=0.0), tl.load(square_ptr + i, mask=inside, other=0.0)
    mean = g + (mean - g) * beta_1
    square = square * beta_2 + g * g * (1 - beta_2)
    tl.store(ptr + i, value - rate * mean / (tl.sqrt(square) * root + _EPS), mask=inside)
    tl.store(mean_ptr + i, mean, mask=inside)
    tl.store(square_ptr + i, square, mask=inside)


@triton.jit
def adam_row(
    row_ptr, mean_ptr, square_ptr, grad_ptr, mask_ptr, scale, omega, rate, root, beta_1, beta_2,
    S: tl.constexpr, HIDDEN: tl.constexpr, MASKED: tl.constexpr, FLAT: tl.constexpr,
):  # fmt: skip
    """Take a step on a row; its gradient still lacks the loss's `scale` and, except in the last layer, omega."""
    for start in range(0, S, FLAT):
        i = start + tl.arange(0, FLAT)
        inside = i < S
        g = tl.load(grad_ptr + i, mask=inside, other=0.0) * tl.where(i < S - 3 * HIDDEN - 3, scale * omega, scale)
        if MASKED:
            g = tl.where(tl.load(mask_ptr + i, mask=inside, other=0) != 0, g, 0.0)
        adam(row_ptr, mean_ptr, square_ptr, i, inside, g, rate, root, beta_1, beta_2)
