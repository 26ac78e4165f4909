"""The fast sine of the torch backend on a CPU: cos(4 x) = T2(T2(cos x)), a doubling being a square and a sum.

Seven passes in place over a buffer in the cache, each little more than a copy, are faster than one that is bound by arithmetic
(kernels/what-was-tried.md). The constants of the doublings were fitted together (least squares, reweighted until the error was
level): the cosine is off by 2.2e-6, and float32 makes that `SINE_ERROR`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SINE_ERROR = 1e-5  # of the sine of a phase of at most 100 radians, absolute; measured in tests/kernels/test_cpu_sine.py
PHASE = 0.25  # turns: what is added to a sine's phase to make it the argument of `double_cosine_`
GAIN, SHIFT = 0.040870023515499586, -0.9999978358585008  # sine = GAIN * y + SHIFT
# tensors of no dimension, because addcmul takes no number for its first operand
_SUMMANDS = [torch.tensor(value) for value in (-2.28031522790665, -1.415256952888947, -7.327657758204883)]
TURN = 2 * math.pi


def double_cosine_(turns: Tensor) -> Tensor:
    """Replace t by y, in place: sin(2 pi (t - PHASE)) = GAIN * y + SHIFT, which the next layer's weights can take up.

    Args:
        turns: float32 on the CPU, any shape; NaN and infinity become NaN.
    """
    turns.abs_().frac_().sub_(0.5)  # the cosine is even and its period 1: g in [-1/2, 1/2), and cos(2 pi t) = -cos(2 pi g)
    for summand in _SUMMANDS:
        torch.addcmul(summand, turns, turns, out=turns)
    return turns.square_()


def sine_(phase_turns: Tensor) -> Tensor:
    """Replace a phase in turns by its sine, in place."""
    return double_cosine_(phase_turns.add_(PHASE)).mul_(GAIN).add_(SHIFT)
