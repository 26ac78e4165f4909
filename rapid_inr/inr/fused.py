"""The fit by the fused kernel (kernels/fit): all steps of Adam on the GPU, in launches of a hundred steps.

It differs from `rapid_inr.inr.fit.optimise` by its float16 products, which change the PSNR of single images either way, but
hardly the mean (docs/fit.md).
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.fit.inputs import AdamSteps, FitPixels, FitState, image_targets
from kernels.fit.launch import MAX_DEPTH, kernel_runs_on, supports_fit
from kernels.spec import SirenSpec
from rapid_inr.errors import UserError
from rapid_inr.inr.constraint import FusedConstraint, Unconstrained
from rapid_inr.inr.coords import pixel_coords, pixel_lattices
from rapid_inr.inr.steps import SCALE_LR, decays, first_full_step, lattice_pixels, peak_lr
from rapid_inr.runlog.progress import Report

if TYPE_CHECKING:
    from rapid_inr.inr.fit import FitConfig

BACKENDS = ("auto", "torch", "kernel")
LAUNCH_STEPS = 100  # of a launch; progress is reported after each
SIZES = ", ".join(f"{depth}x{width}" for width, depth in MAX_DEPTH.items())


def fits_fused(config: FitConfig, spec: SirenSpec, device: torch.device) -> bool:
    """Return whether the kernel is to fit a size on a device, by `config.backend`.

    Raises:
        UserError: if the backend is ``kernel`` and it does not support the size or the device.
    """
    if config.optimizer != "adam" or config.backend == "torch":
        return False
    if config.backend == "kernel" and not (supports_fit(spec) and kernel_runs_on(device)):
        size = f"{spec.depth}x{spec.hidden} on {device.type}"
        raise UserError(f"fit.backend is kernel for {size}, expected a CUDA device and at most {SIZES}; use auto or torch")
    if config.backend == "auto" and device.type == "cuda" and not supports_fit(spec):
        _warn_of_size(spec.depth, spec.hidden)
    return config.backend == "kernel" or (device.type == "cuda" and supports_fit(spec))


@cache  # once a size
def _warn_of_size(depth: int, hidden: int) -> None:
    warnings.warn(
        f"the kernel fits SIRENs of at most {SIZES}; {depth}x{hidden} is fitted by torch, many times slower", stacklevel=4
    )


def optimise_fused(
    rows: Tensor,
    images: Tensor,
    spec: SirenSpec,
    config: FitConfig,
    *,
    constraint: FusedConstraint | None = None,
    on_progress: Report | None = None,
) -> Tensor:
    """Do the same as `rapid_inr.inr.fit.optimise` by the kernel, with Adam."""
    from kernels.fit.triton import fit_siren  # not at the top: triton exists for Linux only

    height, width = images.shape[1:3]
    lattices = pixel_lattices(height, width, lattice_pixels(config, height * width))
    order, rate, constraint = torch.cat(lattices), peak_lr(spec, config), constraint or Unconstrained()
    rates = [rate * decay for decay in decays(config)]
    state = FitState(
        rows.clone(), image_targets(images, order.to(rows.device)), spec,
        FitPixels(pixel_coords(height, width)[order].to(rows.device), tuple(map(len, lattices))),
        AdamSteps.of(rates, config.betas, first_full_step(config), rows.device),
        constraint.row_masks(), constraint.rounding(SCALE_LR / rate),
    )  # fmt: skip
    for first in range(0, config.steps, LAUNCH_STEPS):
        last = min(first + LAUNCH_STEPS, config.steps)
        fit_siren(state, first=first, last=last)
        if on_progress is not None:
            if rows.is_cuda:
                torch.cuda.synchronize(rows.device)  # a launch returns before its steps are done
            on_progress(len(rows) * (last - first) / config.steps)
    return constraint.forward(state.rows)
