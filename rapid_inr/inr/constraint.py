"""What a fit can be held to while rows are trained; `projection` and `freeze` in rapid_inr/compress have those that quantize."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kernels.fit.inputs import Rounding


class Constraint(Protocol):
    """What rows must satisfy while they are trained, such as a mask or a quantization, and the gradient through it."""

    log_scales: Tensor  # trained along with the rows, in place; empty where there are none

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        """Return the nearest rows [B, S] that satisfy it when the share `done` of the steps is done."""

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Take the gradient at `forward(rows)` back to the rows and to `log_scales`."""


class FusedConstraint(Constraint, Protocol):
    """A constraint that the fused fit knows, too: it is the same in every step."""

    def row_masks(self) -> Tensor | None:
        """Return where weights are kept, bool [B, S] or [1, S]; None where all are."""

    def rounding(self, relative_rate: float) -> Rounding | None:
        """Return how rows are rounded, where they are; the rate is that of `log_scales` over that of the rows."""


class Unconstrained:
    """The constraint that every row satisfies."""

    log_scales = torch.empty(0)

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        return rows

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, self.log_scales

    def row_masks(self) -> None:
        return None

    def rounding(self, relative_rate: float) -> None:
        return None
