"""QAT by freezing: round the layers one after another for good, and train the others to correct the errors.

Errors in the first layers cost the most, because all later layers build on them, and for the same reason are the easiest to
correct. So layers are rounded from first to last, at equal intervals over most of the steps: the weights of the first layer, then
the hidden weights of each layer. Biases and the last layer are trained to the end. This is incremental network quantization (Zhou
et al. 2017, arXiv 1702.03044), which freezes weights by magnitude, applied by layer.

In each step, the hidden weights that are not rounded yet get noise of half the rounding error. So the training moves to weights
that lose less when they are rounded.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels.spec import SirenSpec, weight_sections
from kernels.unpack.torch import unpack_ends
from rapid_inr.compress.fold import fold_biases
from rapid_inr.compress.gptq import DAMPING
from rapid_inr.compress.projection import Projection
from rapid_inr.compress.quantize import QuantizeConfig, choose_scales, quantize_ends, round_to_codes
from rapid_inr.inr.batches import map_batches
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.fit import FitConfig, images_per_batch, optimise
from rapid_inr.inr.layout import hidden_matrices, join_rows, split_rows
from rapid_inr.inr.siren import layer_views
from rapid_inr.runlog.progress import Report

SAMPLE_SIDE = 64  # of the grid of points at which the inputs of a layer are computed
FIRST_AT, LAST_AT = 0.03, 0.9  # when the first and the last layer are frozen, as fractions of the steps
NOISE = 0.5  # of weights that are not frozen yet, as a fraction of the error of rounding them


class Freezing:
    """The constraint that frozen layers keep their stored weights.

    Args:
        rows: float32 [B, S], at the start of the training.
        masks: bool [B, K], true where a hidden weight is kept; None keeps all.
        scales: float32 [1, D-1, 1], shared by all images; None chooses a layer's scales by `config` when it is frozen.
    """

    def __init__(
        self, rows: Tensor, spec: SirenSpec, config: QuantizeConfig, *, masks: Tensor | None = None, scales: Tensor | None = None
    ) -> None:
        self.spec, self.config, self.pruning = spec, config, Projection.of(rows, spec, masks=masks)
        none = hidden_matrices(split_rows(rows, spec)[0], spec)[:, :0]
        self.shared_scales, self.scales = scales, [choose_scales(none, config)]  # of the layers frozen so far
        self.stored, self.frozen = rows.clone(), torch.zeros(spec.n_weights, dtype=torch.bool, device=rows.device)
        self.n_frozen = 0  # layers
        self.log_scales = rows.new_empty(0)  # scales are not trained
        self.generator = torch.Generator(rows.device).manual_seed(0)

    def forward(self, rows: Tensor, done: float = 1.0) -> Tensor:
        """Freeze the layers that are due; return rows [B, S] with the stored weights of frozen layers and noise in others."""
        rows = self.pruning.forward(rows)
        between = (LAST_AT - FIRST_AT) / max(1, self.spec.depth - 1)
        while self.n_frozen < self.spec.depth and done >= FIRST_AT + self.n_frozen * between:
            self._freeze(rows)
        if self.n_frozen < self.spec.depth:
            rows = self._with_noise(rows)
        return self.pruning.forward(torch.where(self.frozen, self.stored, rows))

    def backward(self, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of the rows, zero where frozen, and an empty gradient of scales."""
        return self.pruning.backward(rows, grad)[0].masked_fill(self.frozen, 0), self.log_scales

    def all_scales(self) -> Tensor:
        """Return the stored scales of a completely frozen network, float32 [B or 1, D-1, H or 1]."""
        return torch.cat(self.scales, 1)

    def _with_noise(self, rows: Tensor) -> Tensor:
        """Return rows with noise in the hidden weights; it is the same for all images but for the width of their codes."""
        hidden, ends = split_rows(rows, self.spec)
        matrices = hidden_matrices(hidden, self.spec)
        widths = self.shared_scales
        if widths is None:
            widths = choose_scales(matrices, replace(self.config, range="max"))
        noise = torch.rand(matrices.shape[1:], generator=self.generator, device=rows.device).sub_(0.5).mul_(NOISE)
        return join_rows((matrices + noise * widths.unsqueeze(2)).flatten(1), ends, self.spec)

    def _inputs(self, rows: Tensor) -> Tensor:
        """Return the inputs of the next layer on a grid over the image, [B, P, H]."""
        inputs = pixel_coords(SAMPLE_SIDE, SAMPLE_SIDE).to(rows.device).expand(len(rows), -1, -1)
        for weight, bias in layer_views(rows, self.spec)[: self.n_frozen]:
            inputs = torch.sin(self.spec.omega * (inputs @ weight + bias))
        return inputs

    def _freeze(self, rows: Tensor) -> None:
        """Round and freeze the weights of the next layer."""
        hidden, ends = split_rows(rows, self.spec)
        if self.n_frozen == 0:
            stored = join_rows(
                hidden, unpack_ends(*quantize_ends(ends, self.spec, self.config), self.spec, torch.float32), self.spec
            )
        else:
            layer = slice(self.n_frozen - 1, self.n_frozen)
            matrices = hidden_matrices(hidden, self.spec)
            shared = self.shared_scales
            scales = choose_scales(matrices[:, layer], self.config) if shared is None else shared[:, layer]
            self.scales.append(scales)
            inputs = self._inputs(torch.where(self.frozen, self.stored, rows))
            matrices[:, layer.start] = round_in_turn(matrices[:, layer.start], inputs, scales.squeeze(1), self.config)
            stored = join_rows(matrices.flatten(1), ends, self.spec)
        section = weight_sections(self.spec)[f"weight_{self.n_frozen}"]
        weights = slice(section.start, section.stop)
        self.stored[:, weights] = stored[:, weights]
        self.frozen[weights] = True
        self.n_frozen += 1


def round_in_turn(matrices: Tensor, inputs: Tensor, scales: Tensor, config: QuantizeConfig) -> Tensor:
    """Round the weights of a layer, one input unit after another, each correcting the errors of those before it.

    This is GPTQ (Frantar et al. 2022, arXiv 2210.17323), which changes the outputs of the layer as little as possible.

    Args:
        matrices: float32 [B, H, H], (fan_in, fan_out) last.
        inputs: float32 [B, P, H], inputs of the layer at P points.
        scales: float32 [B or 1, H or 1].

    Returns:
        float32 [B, H, H], codes times scales.
    """
    moments = (inputs.mT @ inputs / inputs.shape[1]).double()
    order = moments.diagonal(dim1=1, dim2=2).argsort(1, descending=True)  # [B, H], largest inputs first
    by_rows, by_columns = order[:, :, None].expand_as(moments), order[:, None].expand_as(moments)
    moments, weights = moments.gather(1, by_rows).gather(2, by_columns), matrices.double().gather(1, by_rows)
    diagonal = moments.diagonal(dim1=1, dim2=2)
    diagonal.add_(DAMPING * diagonal.mean(1, keepdim=True))
    factors = torch.linalg.cholesky_ex(torch.linalg.inv_ex(moments).inverse, upper=True).L  # not finite for a diverged row
    for i in range(weights.shape[1]):
        stored = round_to_codes(weights[:, None, i : i + 1], scales[:, None].double(), config)[:, 0, 0] * scales
        error = (weights[:, i] - stored) / factors[:, i, i, None]
        weights[:, i:] -= factors[:, i, i:, None] * error[:, None]
        weights[:, i] = stored
    return torch.empty_like(matrices).scatter_(1, by_rows, weights.float())


def freeze(
    rows: Tensor,
    images: Tensor,
    spec: SirenSpec,
    fit_config: FitConfig,
    quantize_config: QuantizeConfig,
    *,
    masks: Tensor | None = None,
    scales: Tensor | None = None,
    device: torch.device,
    on_progress: Report | None = None,
) -> tuple[Tensor, Tensor]:
    """Train rows on their images batch by batch, while their layers are frozen one after another.

    Args:
        rows: float32 [B, S] on the CPU.
        images: uint8 [B, height, width, 3].
        masks, scales: as for `Freezing`, on the CPU.
        on_progress: called with the work done since the last call, in images.

    Returns:
        The rows [B, S] and their scales [B or 1, D-1, H or 1], on the CPU. A row that diverged is unchanged.
    """
    fit_config = replace(fit_config, backend="torch")  # the kernel cannot freeze layers

    def freeze_batch(places: slice, report: Report) -> tuple[Tensor, Tensor]:
        before = rows[places]
        constraint = Freezing(
            before.to(device), spec, quantize_config,
            masks=None if masks is None else masks[places].to(device), scales=None if scales is None else scales.to(device),
        )  # fmt: skip
        result = optimise(
            before.to(device), images[places].to(device), spec, fit_config, constraint=constraint, on_progress=report
        ).cpu()
        sound = result.isfinite().all(1, keepdim=True)
        result = fold_biases(result, spec)
        own_scales = choose_scales(hidden_matrices(split_rows(before, spec)[0], spec), quantize_config)
        return torch.where(sound, result, before), torch.where(sound[:, None], constraint.all_scales().cpu(), own_scales)

    at_once = images_per_batch(spec, fit_config, n_pixels=images[0, ..., 0].numel(), device=device)
    batches = map_batches(freeze_batch, len(rows), at_once=at_once, device=device, on_progress=on_progress)
    trained, chosen = (torch.cat(columns) for columns in zip(*batches, strict=True))
    return trained, chosen if scales is None else scales
