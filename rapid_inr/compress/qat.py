"""Compress fitted rows: prune by a rule, train through the quantization (QAT), and quantize."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.fold import fold_biases
from rapid_inr.compress.freeze import freeze
from rapid_inr.compress.gptq import MAX_WEIGHTS, gptq
from rapid_inr.compress.projection import Projection
from rapid_inr.compress.prune import MAX_LR_SCALE, PruneConfig, PruneResult, prune, prune_ratios
from rapid_inr.compress.quantize import QuantizeConfig, Quantized, choose_scales, quantize
from rapid_inr.errors import UserError
from rapid_inr.inr.batches import map_batches
from rapid_inr.inr.fit import FitConfig, FitResult, fit_rows, images_per_batch, measure_psnr
from rapid_inr.inr.layout import hidden_matrices, split_rows, unquantized
from rapid_inr.inr.steps import peak_lr
from rapid_inr.runlog.progress import Report, stage

METHODS = ("straight_through", "freeze")


@dataclass
class RefineConfig:
    """How quantized rows are trained before they are stored.

    Args:
        steps: optimiser steps through the quantization; 0 for none.
        method: ``straight_through`` rounds all weights in each step and learns their scales; ``freeze`` rounds the
            layers one after another for good, which is better for deep networks at 5 bits.
        lr_scale: their learning rate as a multiple of the fit's.
        betas: Adam's decay rates; rounding makes gradients noisy, so they are larger than those of `fit=fast`.

    Raises:
        ValueError: if a value is out of range.
    """

    steps: int = 0
    method: str = "straight_through"
    lr_scale: float = 0.5
    betas: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        self.betas = tuple(self.betas)
        checks = {
            "steps": (self.steps >= 0, "at least 0"),
            "method": (self.method in METHODS, f"one of {', '.join(METHODS)}"),
            "lr_scale": (0 < self.lr_scale <= MAX_LR_SCALE, f"in (0, {MAX_LR_SCALE}]"),
            "betas": (len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two numbers in [0, 1)"),
        }
        for name, (ok, expected) in checks.items():
            if not ok:
                raise UserError(f"refine.{name} is {getattr(self, name)}, expected {expected}")


@dataclass(frozen=True)
class Compressed:
    """B compressed images, with codes not yet packed.

    Args:
        rows: with code 0 for pruned weights.
        masks: bool [B, K], true where a hidden weight is kept.
        ratio: float64 [B], the pruned fraction of hidden weights.
    """

    rows: Quantized
    masks: Tensor
    ratio: Tensor


def refine(
    rows: Tensor,
    images: Tensor,
    spec: SirenSpec,
    config: FitConfig,
    projection: Projection,
    *,
    device: torch.device,
    on_progress: Report | None = None,
) -> Tensor:
    """Train rows on their images through a projection, batch by batch; train its scales in place.

    Args:
        rows: float32 [B, S] on the CPU, like `projection`.
        images: uint8 [B, height, width, 3].
        on_progress: called with the work done since the last call, in images.

    Returns:
        Projected rows, float32 [B, S] on the CPU; for a row that diverged, the projection of the original row.
    """

    def refine_batch(places: slice, report: Report) -> Tensor:
        before = projection.select(places)
        constraint = replace(before, log_scales=before.log_scales.clone()).to(device)
        start, originals = rows[places].to(device), images[places].to(device)
        result = fit_rows(start, originals, spec, config, constraint=constraint, on_progress=report).cpu()
        scales = constraint.log_scales.cpu()
        sound = result.isfinite().all(1) & scales.isfinite().flatten(1).all(1)
        if not before.shares_scales:
            before.log_scales.copy_(torch.where(sound[:, None, None], scales, before.log_scales))  # a view into `projection`
        return torch.where(sound[:, None], result, before.forward(rows[places]))

    at_once = images_per_batch(spec, config, n_pixels=images[0, ..., 0].numel(), device=device)
    return torch.cat(map_batches(refine_batch, len(rows), at_once=at_once, device=device, on_progress=on_progress))


def planned_steps(
    fit_config: FitConfig,
    prune_config: PruneConfig,
    quantize_config: QuantizeConfig,
    refine_config: RefineConfig,
) -> tuple[int, int, int]:
    """Return the most optimiser steps that an image takes for the fit, for pruning, and for QAT."""
    rounds = len(prune_ratios(prune_config))
    refining = refine_config.steps if quantize_config.is_integer else 0
    return fit_config.steps, rounds * prune_config.finetune_steps, refining


def require_roundable(spec: SirenSpec, quantize_config: QuantizeConfig, refine_config: RefineConfig) -> None:
    """Check before the fit that ``rounding=gptq`` can work.

    Raises:
        ValueError: if it is combined with QAT, or the network is too large.
    """
    if quantize_config.rounding != "gptq":
        return
    if refine_config.steps > 0:
        # GPTQ needs a network at a minimum, but QAT trains its rounding, not the network itself: together they reach 27 dB
        raise UserError(
            f"refine.steps is {refine_config.steps} with quantize.rounding=gptq, expected 0: choose refine=none or "
            "quantize.rounding=nearest"
        )
    if spec.n_weights > MAX_WEIGHTS:
        raise UserError(
            f"quantize.rounding is 'gptq' with {spec.n_weights:,} weights a network, expected at most {MAX_WEIGHTS:,}: choose "
            "quantize.rounding=nearest with refine=qat"
        )


def compress(
    result: FitResult,
    images: Tensor,
    spec: SirenSpec,
    fit_config: FitConfig,
    *,
    prune_config: PruneConfig,
    quantize_config: QuantizeConfig,
    refine_config: RefineConfig,
    device: torch.device,
    shared_scales: Tensor | None = None,
    on_progress: Report | None = None,
) -> Compressed:
    """Prune, refine and quantize fitted images of one size by the three configs.

    Args:
        shared_scales: float32 [1, D-1, 1], of the dataset (`calibrate`); None chooses scales for these images.
        on_progress: called with the work done since the last call, in images; all stages together count one an image.

    Raises:
        ValueError: see `require_roundable`.
    """
    require_roundable(spec, quantize_config, refine_config)
    _, pruning, refining = planned_steps(fit_config, prune_config, quantize_config, refine_config)
    share = pruning / max(1, pruning + refining)
    with stage(on_progress, worth=share * len(images), share=share) as report:
        pruned = _prune(result, images, spec, fit_config, prune_config, device, report)
    masks = None if bool(pruned.masks.all()) else pruned.masks
    rows, scales = fold_biases(pruned.rows, spec), shared_scales
    if refining > 0:
        with stage(on_progress, worth=(1 - share) * len(images), share=1 - share) as report:
            rows, scales = _train_rounded(
                rows, images, spec, fit_config, quantize_config, refine_config,
                masks=masks, scales=scales, device=device, on_progress=report,
            )  # fmt: skip
    if quantize_config.rounding == "gptq":
        height, width = images.shape[1:3]
        stored = gptq(rows, spec, quantize_config, height=height, width=width, masks=masks, scales=scales, device=device)
    else:
        stored = quantize(rows, spec, quantize_config, scales=scales)
    return Compressed(stored, pruned.masks, pruned.ratio)


def _train_rounded(
    rows: Tensor,
    images: Tensor,
    spec: SirenSpec,
    fit_config: FitConfig,
    quantize_config: QuantizeConfig,
    refine_config: RefineConfig,
    *,
    masks: Tensor | None,
    scales: Tensor | None,
    device: torch.device,
    on_progress: Report | None,
) -> tuple[Tensor, Tensor]:
    """Train rows by the method of `refine_config`; return them and the scales to store them with."""
    config = schedule(fit_config, spec, steps=refine_config.steps, lr_scale=refine_config.lr_scale)
    config = replace(config, betas=refine_config.betas)
    if refine_config.method == "freeze":
        if quantize_config.shares_scales and scales is None:
            scales = choose_scales(hidden_matrices(split_rows(rows, spec)[0], spec), quantize_config)
        return freeze(
            rows, images, spec, config, quantize_config, masks=masks, scales=scales, device=device, on_progress=on_progress
        )
    projection = Projection.of(rows, spec, masks=masks, quantize=quantize_config, scales=scales)
    rows = refine(rows, images, spec, config, projection, device=device, on_progress=on_progress)
    return rows, projection.scales()


def schedule(config: FitConfig, spec: SirenSpec, *, steps: int, lr_scale: float) -> FitConfig:
    """Return a fit's config for further training."""
    lr = peak_lr(spec, config)
    return replace(config, steps=max(1, steps), lr=lr * lr_scale)


def finetune(
    rows: Tensor,
    masks: Tensor,
    images: Tensor,
    spec: SirenSpec,
    fit_config: FitConfig,
    config: PruneConfig,
    *,
    device: torch.device,
    on_progress: Report | None = None,
) -> Tensor:
    """Train rows under masks, bool [B, K], after a round of pruning; other arguments are as for `refine`."""
    projection = Projection.of(rows, spec, masks=masks)
    if config.finetune_steps == 0:
        return projection.forward(rows)
    steps = schedule(fit_config, spec, steps=config.finetune_steps, lr_scale=config.lr_scale)
    return refine(rows, images, spec, steps, projection, device=device, on_progress=on_progress)


def _prune(
    result: FitResult,
    images: Tensor,
    spec: SirenSpec,
    fit_config: FitConfig,
    config: PruneConfig,
    device: torch.device,
    on_progress: Report | None,
) -> PruneResult:
    def train(rows: Tensor, masks: Tensor, places: Tensor) -> Tensor:
        a_round = len(images) / len(prune_ratios(config))  # a round counts the same for any number of images in it
        with stage(on_progress, worth=a_round, share=a_round / len(places)) as report:
            return finetune(rows, masks, images[places], spec, fit_config, config, device=device, on_progress=report)

    return prune(
        result.weights,
        lambda rows: split_rows(rows, spec)[0],
        result.psnr_db,
        config,
        n_layers=spec.depth - 1,
        refine=train,
        measure=lambda rows, places: measure_psnr(unquantized(rows.to(device), spec), images[places], spec),
    )
