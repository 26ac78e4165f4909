"""Compress fitted rows: prune under a rule, quantize, and train what is left through both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.spec import SirenSpec
from rapid_inr.compress.fold import fold_biases
from rapid_inr.compress.gptq import MAX_WEIGHTS, gptq
from rapid_inr.compress.projection import Projection
from rapid_inr.compress.prune import PruneConfig, PruneResult, prune, prune_ratios
from rapid_inr.compress.quantize import QuantizeConfig, Quantized, quantize, split_rows
from rapid_inr.errors import UserError
from rapid_inr.inr.fit import FitConfig, FitResult, default_lr, images_per_batch, measure_psnr, optimise
from rapid_inr.runlog.progress import Report, stage


@dataclass(frozen=True)
class RefineConfig:
    """How quantized rows are trained before they are stored.

    Args:
        steps: optimiser steps through the quantization; 0 for none.
        lr_scale: their rate over that of the fit.
        betas: Adam's decay rates: through a rounding gradients are noisy, and want a longer memory than those of `fit=fast`.

    Raises:
        ValueError: if a value is out of range.
    """

    steps: int = 0
    lr_scale: float = 0.5
    betas: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UserError(f"refine.steps is {self.steps}, expected at least 0")
        if not (len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)):
            raise UserError(f"refine.betas is {self.betas}, expected two numbers in [0, 1)")
        if not self.lr_scale > 0:  # nor what is not a number
            raise UserError(f"refine.lr_scale is {self.lr_scale}, expected positive")


@dataclass(frozen=True)
class Compressed:
    """B images as a store holds them, codes not yet packed.

    Args:
        rows: codes are 0 where a mask has left a weight out.
        masks: bool [B, K], true where a hidden weight is kept.
        ratio: float64 [B], pruned hidden weights over all.
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
    """Train rows on their images through a projection, batch by batch, its scales in place.

    Args:
        rows: float32 [B, S] on the CPU, like `projection`.
        images: uint8 [B, height, width, 3].
        on_progress: called now and then with the work done since, in images.

    Returns:
        float32 [B, S] on the CPU, projected; a row that diverged is as it was, projected.
    """
    batch = images_per_batch(spec, config, n_pixels=images[0, ..., 0].numel(), device=device)
    trained = []
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        before = projection.select(part)
        there = replace(before, log_scales=before.log_scales.clone()).to(device)
        found = optimise(
            rows[part].to(device), images[part].to(device), spec, config, projection=there, on_progress=on_progress
        ).cpu()
        scales = there.log_scales.cpu()
        sound = found.isfinite().all(1) & scales.isfinite().flatten(1).all(1)
        trained.append(torch.where(sound[:, None], found, before.forward(rows[part])))
        if not before.shares_scales:
            before.log_scales.copy_(torch.where(sound[:, None, None], scales, before.log_scales))  # a view of the whole
    return torch.cat(trained)


@dataclass(frozen=True)
class Calibration:
    """What all images of a dataset share, decided before the first of them is encoded (`rapid_inr.compress.calibrate`).

    Args:
        mask: bool [1, K], under which every image is fitted; None: an image keeps all weights or has a mask of its own.
        scales: float32 [1, D-1, 1], for ``granularity=dataset``; None: every image has its own.
        hidden_bytes: what codes and mask of an image may take on average, for ``prune.rule=budget``.
    """

    mask: Tensor | None = None
    scales: Tensor | None = None
    hidden_bytes: float | None = None


NOTHING_SHARED = Calibration()


def planned_steps(
    fit_config: FitConfig,
    prune_config: PruneConfig,
    quantize_config: QuantizeConfig,
    refine_config: RefineConfig,
    calibration: Calibration,
) -> tuple[int, int, int]:
    """Return the optimiser steps that an image takes at most to be fitted, pruned, and trained through the quantization."""
    rounds = len(prune_ratios(prune_config)) if calibration.mask is None else 0
    refining = refine_config.steps if quantize_config.is_integer else 0
    return fit_config.steps, rounds * prune_config.finetune_steps, refining


def require_roundable(spec: SirenSpec, quantize_config: QuantizeConfig, refine_config: RefineConfig) -> None:
    """Refuse ``rounding=gptq`` where it cannot work, before anything is fitted.

    Raises:
        ValueError: if weights would be trained through the rounding first, or the network is too large.
    """
    if quantize_config.rounding != "gptq":
        return
    if refine_config.steps > 0:
        # a network is trained there to be good once rounded, and is not at a minimum itself: measured, 27 dB
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
    calibration: Calibration = NOTHING_SHARED,
    on_progress: Report | None = None,
) -> Compressed:
    """Prune, quantize and refine fitted images of one size, as the three configs say.

    Args:
        result: of images that were fitted under ``calibration.mask``, if there is one.
        calibration: of the dataset; with ``granularity=dataset`` and no scales in it, these images choose them.
        on_progress: called now and then with the work done since, in images: all stages of this function together are one each.

    Raises:
        ValueError: see `require_roundable`.
    """
    require_roundable(spec, quantize_config, refine_config)
    _, pruning, refining = planned_steps(fit_config, prune_config, quantize_config, refine_config, calibration)
    share, bits = pruning / max(1, pruning + refining), quantize_config.bits
    with stage(on_progress, worth=share * len(images), share=share) as report:
        pruned = _prune(result, images, spec, fit_config, prune_config, device, calibration, report, bits=bits)
    masks = None if bool(pruned.masks.all()) else pruned.masks
    rows, scales = fold_biases(pruned.rows, spec), calibration.scales
    if quantize_config.is_integer and refine_config.steps > 0:
        projection = Projection.of(rows, spec, masks=masks, quantize=quantize_config, scales=scales)
        config = schedule(fit_config, spec, steps=refine_config.steps, lr_scale=refine_config.lr_scale)
        config = replace(config, betas=refine_config.betas)
        with stage(on_progress, worth=(1 - share) * len(images), share=1 - share) as report:
            rows = refine(rows, images, spec, config, projection, device=device, on_progress=report)
        scales = projection.scales()
    if quantize_config.rounding == "gptq":
        height, width = images.shape[1:3]
        stored = gptq(rows, spec, quantize_config, height=height, width=width, masks=masks, scales=scales, device=device)
    else:
        stored = quantize(rows, spec, quantize_config, scales=scales)
    return Compressed(stored, pruned.masks, pruned.ratio)


def schedule(config: FitConfig, spec: SirenSpec, *, steps: int, lr_scale: float) -> FitConfig:
    """Return the config of a fit for training its result further."""
    lr = config.lr if config.lr is not None else default_lr(spec)
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
    """Train rows under masks, bool [B or 1, K], as after each round of pruning; other arguments as for `refine`."""
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
    calibration: Calibration,
    on_progress: Report | None,
    *,
    bits: int,
) -> PruneResult:
    if calibration.mask is not None:
        return PruneResult(result.weights, calibration.mask.expand(len(images), -1), result.psnr_db)

    def train(rows: Tensor, masks: Tensor, places: Tensor) -> Tensor:
        a_round = len(images) / len(prune_ratios(config))  # whatever images still take part in it
        with stage(on_progress, worth=a_round, share=a_round / len(places)) as report:
            return finetune(rows, masks, images[places], spec, fit_config, config, device=device, on_progress=report)

    return prune(
        result.weights,
        lambda rows: split_rows(rows, spec)[0],
        result.psnr_db,
        config,
        n_layers=spec.depth - 1,
        refine=train,
        measure=lambda rows, places: measure_psnr(Quantized(*split_rows(rows, spec)), images[places], spec, device=device),
        bits=bits,
        hidden_bytes=None if calibration.hidden_bytes is None else int(calibration.hidden_bytes * len(images)),
    )
