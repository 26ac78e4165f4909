"""What a fit can be held to while rows are trained; `projection` and `freeze` in rapid_inr/compress have those that quantize."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Constraint(Protocol):
    """What rows must satisfy while they are trained, such as a mask or a quantization, and the gradient through it."""

    log_scales: Tensor  # trained along with the rows, in place; empty where there are none
    rounds: bool  # whether values are rounded; otherwise it is a mask

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        """Return the nearest rows [B, S] that satisfy it when the share `done` of the steps is done."""

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Take the gradient at `forward(rows)` back to the rows and to `log_scales`."""


class Unconstrained:
    """The constraint that every row satisfies."""

    log_scales = torch.empty(0)
    rounds = False

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        return rows

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, self.log_scales
