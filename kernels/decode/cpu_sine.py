"""The fast sine of the CPU backend: cos(4 x) = T2(T2(cos x)), where each doubling T2 is a square and a sum.

It makes seven passes in place over a buffer in the cache. Each costs little more than a copy, so together they are faster than a
single pass bound by arithmetic (kernels/what-was-tried.md). The constants of the doublings were fitted together by least squares,
reweighted until the error was level. The cosine's error is 2.2e-6, which float32 rounding raises to `SINE_ERROR`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SINE_ERROR = 1e-5  # absolute, for phases of at most 100 radians; measured in tests/kernels/test_cpu_sine.py
PHASE = 0.25  # turns, added to a sine's phase to get the argument of `double_cosine_`
GAIN, SHIFT = 0.040870023515499586, -0.9999978358585008  # sine = GAIN * y + SHIFT
# tensors, because addcmul takes no number as its first operand
_SUMMANDS = [torch.tensor(value) for value in (-2.28031522790665, -1.415256952888947, -7.327657758204883)]
TURN = 2 * math.pi


def double_cosine_(turns: Tensor) -> Tensor:
    """Replace t by y, in place, with sin(2 pi (t - PHASE)) = GAIN * y + SHIFT; the next layer's weights can include the two.

    Args:
        turns: float32 on the CPU, any shape; NaN and infinity become NaN.
    """
    turns.abs_().frac_().sub_(0.5)  # g in [-1/2, 1/2): cosine is even with period 1, so cos(2 pi t) = -cos(2 pi g)
    for summand in _SUMMANDS:
        torch.addcmul(summand, turns, turns, out=turns)
    return turns.square_()


def sine_(phase_turns: Tensor) -> Tensor:
    """Replace a phase in turns by its sine, in place."""
    return double_cosine_(phase_turns.add_(PHASE)).mul_(GAIN).add_(SHIFT)
