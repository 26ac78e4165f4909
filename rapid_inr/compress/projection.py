"""QAT by projection: training projects rows to pruned and quantized ones, and takes the gradient through the projection.

Pruned weights stay zero. The forward pass rounds quantized weights. The backward pass treats the rounding as the identity where a
weight is not clipped (straight-through: Bengio et al. 2013, arXiv 1308.3432). Scales are learned from the rounding error (LSQ:
Esser et al. 2020, arXiv 1902.08153, equation 3), here in the logarithm so that they stay positive:

    w' = s clip(round(w / s), -q, q);   dw'/dw = [|w / s| <= q];   dw'/d(log s) = s (round(w / s) - w / s), or +-s q where clipped

Ends are rounded to their stored type, with scales chosen from their maximum in each step. Scales that all images share are not
trained, since images are trained batch by batch and a batch must not change the scales of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.fit.inputs import Rounding
from kernels.spec import SirenSpec, n_ends
from kernels.unpack.torch import unpack_ends
from rapid_inr.compress.quantize import QuantizeConfig, choose_scales, quantize_ends, storable_scales
from rapid_inr.inr.layout import hidden_matrices, join_rows, split_rows


@dataclass(frozen=True)
class Projection:
    """A map from rows [B, S] to the nearest rows that can be stored.

    Args:
        masks: bool [B, (depth - 1) H^2], true where a hidden weight is kept; None keeps all.
        quantize: how weights are rounded; None or floating bits round nothing.
        log_scales: float32 [B, D-1, columns or 1], learned, or [1, D-1, 1], shared and fixed; empty without rounding.
    """

    spec: SirenSpec
    masks: Tensor | None
    quantize: QuantizeConfig | None
    log_scales: Tensor

    @classmethod
    def of(
        cls,
        rows: Tensor,
        spec: SirenSpec,
        *,
        masks: Tensor | None = None,
        quantize: QuantizeConfig | None = None,
        scales: Tensor | None = None,
    ) -> Projection:
        """Make a projection that starts from `scales`, or from scales chosen for `rows`."""
        log_scales = rows.new_empty(len(rows), 0, 1)
        if quantize is not None and quantize.is_integer:
            hidden, _ = split_rows(rows, spec)
            hidden = hidden if masks is None else hidden * masks
            log_scales = (choose_scales(hidden_matrices(hidden, spec), quantize) if scales is None else scales).log()
        return cls(spec, masks, quantize, log_scales)

    def to(self, device: torch.device) -> Projection:
        """Return the projection on a device; on the same device, both share the tensor of scales."""
        masks = None if self.masks is None else self.masks.to(device)
        return replace(self, masks=masks, log_scales=self.log_scales.to(device))

    def select(self, which: Tensor | slice) -> Projection:
        """Return the projection of some rows."""
        masks = None if self.masks is None else self.masks[which]
        return replace(self, masks=masks, log_scales=self.log_scales if self.shares_scales else self.log_scales[which])

    @property
    def rounds(self) -> bool:
        return self.quantize is not None and self.quantize.is_integer

    @property
    def shares_scales(self) -> bool:
        return self.quantize is not None and self.quantize.granularity == "dataset"

    def scales(self) -> Tensor:
        """Return the storable scales, float32 [B, D-1, columns or 1]."""
        return storable_scales(self.log_scales.exp(), self.quantize)

    def row_masks(self) -> Tensor | None:
        """Return the mask of kept weights, bool [B, S]; None if all are kept."""
        if self.masks is None:
            return None
        return join_rows(self.masks, self.masks.new_ones(len(self.masks), n_ends(self.spec)), self.spec)

    def rounding(self, relative_rate: float) -> Rounding | None:
        """Return the rounding for the fused fit, which learns the scales in place; None without rounding."""
        if not self.rounds:
            return None
        rate = 0.0 if self.shares_scales else relative_rate
        return Rounding(self.log_scales, self.quantize.max_code, self.quantize.ends_bits, rate, self.forward, self.backward)

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        """Return the projected rows [B, S], which do not depend on the step; without masks and rounding, the rows themselves."""
        if self.masks is None and not self.rounds:
            return rows
        hidden, rest = split_rows(rows, self.spec)
        if self.masks is not None:
            hidden = hidden * self.masks
        if self.rounds:
            scales = self.scales().unsqueeze(2)  # [B, D-1, 1, columns or 1]
            q = self.quantize.max_code
            hidden = ((hidden_matrices(hidden, self.spec) / scales).round_().clamp_(-q, q) * scales).flatten(1)
            rest = unpack_ends(*quantize_ends(rest, self.spec, self.quantize), self.spec, torch.float32)
        return join_rows(hidden, rest, self.spec)

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients by the rows [B, S] and by the log scales from the gradient at the projected rows."""
        if self.masks is None and not self.rounds:
            return grad, self.log_scales
        hidden_grad, rest_grad = split_rows(grad, self.spec)
        if self.masks is not None:
            hidden_grad = hidden_grad * self.masks
        if not self.rounds:
            return join_rows(hidden_grad, rest_grad, self.spec), self.log_scales
        hidden, _ = split_rows(rows, self.spec)
        scales, q = self.scales().unsqueeze(2), self.quantize.max_code
        exact = hidden_matrices(hidden, self.spec) / scales  # [B, D-1, H, H]
        clipped = exact.clamp(-q, q)
        inside = exact == clipped
        matrix_grad = hidden_matrices(hidden_grad, self.spec)
        row_grad = join_rows((matrix_grad * inside).flatten(1), rest_grad, self.spec)
        if self.shares_scales:
            return row_grad, torch.zeros_like(self.log_scales)
        by_weight = matrix_grad * (clipped.round() - torch.where(inside, exact, 0)) * scales
        axes = (2,) if self.quantize.granularity == "column" else (2, 3)
        scale_grad = by_weight.sum(axes).reshape(self.log_scales.shape)
        return row_grad, scale_grad
