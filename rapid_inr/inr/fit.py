"""Fit a SIREN to each of many images at once: Adam on stacked rows [B, S], independently for each image.

The loss is the *sum* over images of the mean squared error over pixels and channels, so the gradient of a row depends only on its
image. Most steps see an even subset of the pixels (a lattice), the last ones see all. docs/fit.md shows what each choice gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.decode import decode_siren
from kernels.rows import PackedRows
from kernels.spec import SirenSpec
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import MAX_PSNR_DB, images_at_once, psnr_db
from rapid_inr.inr.batches import map_batches
from rapid_inr.inr.constraint import Constraint, FusedConstraint, Unconstrained
from rapid_inr.inr.coords import pixel_affine
from rapid_inr.inr.fused import BACKENDS, fits_fused, optimise_fused
from rapid_inr.inr.layout import unquantized
from rapid_inr.inr.optimizers import Adam, Soap
from rapid_inr.inr.siren import GradientWorkspace, even_start, initial_weights, layer_views, omega_factors
from rapid_inr.inr.steps import DECAYS, SCALE_LR, decays, first_full_step, lattice_passes, lattice_pixels, peak_lr
from rapid_inr.memory import gpu_budget_bytes
from rapid_inr.runlog.progress import Report

MAX_LR = 10.0  # a thousand times the best rate
MAX_SEED = 2**63 - 1
OPTIMIZERS = ("adam", "soap")
STARTS = {"even": even_start, "siren": initial_weights}
CPU_WORKSPACE_BYTES = 8 << 20  # buffers of a batch, small enough for the last-level cache; 4 to 32 MiB are equally fast


@dataclass
class FitConfig:
    """How an INR is optimised.

    Args:
        steps: optimiser steps.
        start: initial weights: ``siren`` as in Sitzmann et al. 2020, or ``even``, whose first layer has evenly spread
            waves (0.3 to 1 dB more after 200 steps).
        optimizer: ``adam``, or ``soap``, which fits better in the same steps and pays off if a step sees many pixels.
        lr: peak learning rate; null chooses by the shape: 0.01 at 3x16 and up to 64 px, less for deeper, wider or larger,
            and for more than 1,600 steps of SOAP.
        decay: ``cosine`` decays the rate to 0 over half a period; ``none`` keeps it, as COIN does.
        betas: the optimizer's decay rates.
        pixels_per_step: about how many pixels of an image a step sees before `full_from`; null for all pixels in all steps.
        full_from: fraction of the steps after which each step sees all pixels, in [0, 1].
        min_psnr_db: images below this PSNR have not converged.
        retries: number of times such an image is fitted again from other initial weights; the best attempt is kept.
        seed: of the initial weights.
        max_batch: most images fitted at once; null chooses by the free memory.
        backend: ``torch``, ``kernel`` (kernels/fit), or ``auto``: the kernel on a CUDA device if it supports the size. It also
            trains pruned and quantized weights.

    Raises:
        ValueError: if a value is out of range.
    """

    steps: int = 200
    start: str = "even"
    optimizer: str = "adam"
    lr: float | None = None
    decay: str = "cosine"
    betas: tuple[float, float] = (0.8, 0.8)
    pixels_per_step: int | None = 256
    full_from: float = 0.7
    min_psnr_db: float = 15.0
    retries: int = 1
    seed: int = 0
    max_batch: int | None = None
    backend: str = "torch"  # not auto until the kernel has passed its tests on a GPU

    def __post_init__(self) -> None:
        self.betas = tuple(self.betas)
        checks = {
            "steps": (self.steps >= 1, "at least 1"),
            "start": (self.start in STARTS, f"one of {', '.join(STARTS)}"),
            "optimizer": (self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            "lr": (self.lr is None or 0 < self.lr <= MAX_LR, f"in (0, {MAX_LR:g}], or null"),
            "decay": (self.decay in DECAYS, f"one of {', '.join(DECAYS)}"),
            "betas": (len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two numbers in [0, 1)"),
            "pixels_per_step": (self.pixels_per_step is None or self.pixels_per_step >= 1, "at least 1, or null"),
            "full_from": (0 <= self.full_from <= 1, "in [0, 1]"),
            "min_psnr_db": (0 <= self.min_psnr_db <= MAX_PSNR_DB, f"in [0, {MAX_PSNR_DB:g}]"),
            "retries": (self.retries >= 0, "at least 0"),
            "backend": (self.backend in BACKENDS, f"one of {', '.join(BACKENDS)}"),
            "max_batch": (self.max_batch is None or self.max_batch >= 1, "at least 1, or null"),
        }
        if self.optimizer == "soap" and self.backend == "kernel":
            raise UserError("fit.backend is kernel with fit.optimizer=soap, expected auto or torch: the kernel only has Adam")
        for name, (ok, expected) in checks.items():
            if not ok:
                raise UserError(f"fit.{name} is {getattr(self, name)}, expected {expected}")
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"seed is {self.seed}, expected 0 to {MAX_SEED}")


@dataclass(frozen=True)
class FitResult:
    """The fitted rows of B images, in their order.

    Args:
        weights: float32 [B, S] on the CPU; exactly the rows whose PSNR was measured.
        psnr_db: float64 [B], of the 8-bit decode of these rows on the device of the fit: in float32 on a CPU, with the kernel's
            float16 products on a GPU.
        attempts: int64 [B], number of fits of each image.
        converged: bool [B].
    """

    weights: Tensor
    psnr_db: Tensor
    attempts: Tensor
    converged: Tensor


def fit(
    images: Tensor,
    ids: Tensor,
    spec: SirenSpec,
    config: FitConfig,
    *,
    device: torch.device | str = "cpu",
    on_progress: Report | None = None,
) -> FitResult:
    """Fit a SIREN to each image.

    On a CPU, the result of an image does not depend on its batch or the number of threads, bit for bit. With torch on a GPU, the
    order of sums may depend on the size of the batch, and with it the last bits of each step.

    Args:
        images: uint8 [B, height, width, 3].
        ids: int64 [B], the index of each image in its source, which with `config.seed` determines the initial weights.
        on_progress: called with the work done since the last call, in images.

    Returns:
        A `FitResult` on the CPU.

    Raises:
        ValueError: if `images` is empty, not uint8, or not [B, height, width, 3].
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3 or images.numel() == 0:
        raise UserError(f"images are {images.dtype} {tuple(images.shape)}, expected non-empty uint8 [B, height, width, 3]")
    if ids.shape != images.shape[:1]:
        raise UserError(f"ids are {tuple(ids.shape)}, expected ({len(images)},)")
    device = torch.device(device)
    result = _fit_attempt(images, ids, spec, config, device, 0, on_progress)
    for attempt in range(1, config.retries + 1):
        poor = (~result.converged).nonzero().flatten()
        if len(poor) == 0:
            break
        again = _fit_attempt(images[poor], ids[poor], spec, config, device, attempt, None)
        result = _keep_better(result, poor, again)
    return result


def _keep_better(result: FitResult, poor: Tensor, again: FitResult) -> FitResult:
    won = again.psnr_db > result.psnr_db[poor]
    rows = poor[won]
    weights, psnr, converged = result.weights.clone(), result.psnr_db.clone(), result.converged.clone()
    weights[rows], psnr[rows], converged[rows] = again.weights[won], again.psnr_db[won], again.converged[won]
    attempts = result.attempts.clone()
    attempts[poor] += 1
    return FitResult(weights, psnr, attempts, converged)


def _fit_attempt(
    images: Tensor,
    ids: Tensor,
    spec: SirenSpec,
    config: FitConfig,
    device: torch.device,
    attempt: int,
    on_progress: Report | None,
) -> FitResult:
    def fit_batch(places: slice, report: Report) -> tuple[Tensor, Tensor, Tensor]:
        start = STARTS[config.start](spec, ids[places].to(device), seed=config.seed, attempt=attempt)
        originals = images[places].to(device)
        rows = fit_rows(start, originals, spec, config, on_progress=report)
        finite = rows.isfinite().all(1, keepdim=True)
        rows = torch.where(finite, rows, 0)  # a diverged fit becomes a black image, so that stores hold no NaN
        return rows.cpu(), measure_psnr(unquantized(rows, spec), originals, spec), finite.flatten().cpu()

    at_once = images_per_batch(spec, config, n_pixels=images[0, ..., 0].numel(), device=device)
    batches = map_batches(fit_batch, len(images), at_once=at_once, device=device, on_progress=on_progress)
    weights, psnr, finite = (torch.cat(columns) for columns in zip(*batches, strict=True))
    return FitResult(weights, psnr, torch.ones(len(ids), dtype=torch.int64), finite & (psnr >= config.min_psnr_db))


def fit_rows(
    rows: Tensor,
    images: Tensor,
    spec: SirenSpec,
    config: FitConfig,
    *,
    constraint: FusedConstraint | None = None,
    on_progress: Report | None = None,
) -> Tensor:
    """Run `config.steps` of the optimizer by the backend of `config`; see `optimise`, the torch backend.

    Raises:
        UserError: if the backend is ``kernel`` and it does not support the size or the device.
    """
    run = optimise_fused if fits_fused(config, spec, rows.device) else optimise
    return run(rows, images, spec, config, constraint=constraint, on_progress=on_progress)


def optimise(
    rows: Tensor,
    images: Tensor,
    spec: SirenSpec,
    config: FitConfig,
    *,
    constraint: Constraint | None = None,
    on_progress: Report | None = None,
) -> Tensor:
    """Run `config.steps` of the optimizer from `rows` and return the new rows.

    Args:
        rows: float32 [B, S], initial weights, on the device to work on.
        images: uint8 [B, height, width, 3] on the same device.
        constraint: a mask or a quantization of these rows; its scales are trained in place.

    Returns:
        float32 [B, S], which satisfy the constraint.
    """
    passes = lattice_passes(images, config)
    n_pixels = max(target.shape[1] for _, target in passes)
    workspace = GradientWorkspace(spec, n_images=len(images), n_pixels=n_pixels, device=rows.device)
    factors, rows = omega_factors(spec).to(rows.device), rows.clone()
    folded, grad = torch.zeros_like(rows), torch.zeros_like(rows)
    layers, grads = layer_views(folded, spec), layer_views(grad, spec)
    constraint = constraint or Unconstrained()
    optimizer = Soap(rows, config.betas, spec) if config.optimizer == "soap" else Adam(rows, config.betas)
    scale_optimizer = Adam(constraint.log_scales, config.betas)
    rate, first_full = peak_lr(spec, config), first_full_step(config)
    for step, decay in enumerate(decays(config)):
        seen = passes if step >= first_full else [passes[step % len(passes)]]
        scale = 2 / (3 * sum(target.shape[1] for _, target in seen))
        torch.mul(constraint.forward(rows, step / config.steps), factors, out=folded)
        grad.zero_()
        for coords, target in seen:
            workspace.add_gradient(layers, grads, coords, target, scale=scale)
        row_grad, scale_grad = constraint.backward(rows, grad.mul_(factors))
        optimizer.step(rows, row_grad, rate * decay)
        scale_optimizer.step(constraint.log_scales, scale_grad, SCALE_LR * decay)
        if on_progress is not None:
            on_progress(len(images) / config.steps)
    return constraint.forward(rows)


def measure_psnr(rows: PackedRows, images: Tensor, spec: SirenSpec) -> Tensor:
    """Return the PSNR of images decoded on the device of the rows.

    Args:
        rows: of B images.
        images: uint8 [B, height, width, 3], the originals, on any device.

    Returns:
        float64 [B] in dB on the CPU.
    """
    height, width = images.shape[1:3]
    affine, psnr = pixel_affine(height, width).to(rows.device), []
    for ids in torch.arange(len(rows)).split(images_at_once(height * width)):
        decoded = decode_siren(
            rows, ids.to(rows.device), affine,
            spec=spec, height=height, width=width, dtype=torch.uint8, channels_last=True,
        )  # fmt: skip
        psnr.append(psnr_db(decoded.permute(0, 2, 3, 1), images[ids].to(rows.device)).cpu())
    return torch.cat(psnr)


def images_per_batch(spec: SirenSpec, config: FitConfig, *, n_pixels: int, device: torch.device) -> int:
    """Return how many images to fit at once: as many as fit in a CPU's cache or a GPU's free memory."""
    if fits_fused(config, spec, device):
        # targets and their intermediate tensors; start, rows, rounded rows, gradient, two moments and masks
        floats = 8 * n_pixels + 7 * spec.n_weights
    else:
        pixels = lattice_pixels(config, n_pixels)
        # workspace, targets, and eight rows: start, rows, folded, gradient, two moments, and two temporaries of Adam
        floats = (2 * spec.depth + 1) * spec.hidden * pixels + 3 * pixels + 3 * n_pixels + 8 * spec.n_weights
    budget = gpu_budget_bytes(device) if device.type == "cuda" else CPU_WORKSPACE_BYTES
    return max(1, min(budget // (4 * floats), config.max_batch or 1 << 30))
