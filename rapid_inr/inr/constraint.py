"""Constraints on rows during training; `projection` and `freeze` in rapid_inr/compress define those that quantize."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kernels.fit.inputs import Rounding


class Constraint(Protocol):
    """A constraint on rows during training, such as a mask or a quantization, and the gradient through it."""

    log_scales: Tensor  # trained in place with the rows; empty if there are none

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        """Return the nearest rows [B, S] that satisfy the constraint after the fraction `done` of the steps."""

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients by the rows and by `log_scales` from the gradient at `forward(rows)`."""


class FusedConstraint(Constraint, Protocol):
    """A constraint that the fused fit supports; it does not depend on the step."""

    def row_masks(self) -> Tensor | None:
        """Return the mask of kept weights, bool [B, S] or [1, S]; None if all are kept."""

    def rounding(self, relative_rate: float) -> Rounding | None:
        """Return how rows are rounded, or None; the rate is the learning rate of `log_scales` over that of the rows."""


class Unconstrained:
    """The constraint that all rows satisfy."""

    log_scales = torch.empty(0)

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        return rows

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, self.log_scales

    def row_masks(self) -> None:
        return None

    def rounding(self, relative_rate: float) -> None:
        return None
