"""The fit by the fused kernel (kernels/fit): all steps of Adam on the GPU, in launches of a hundred.

It differs from `rapid_inr.inr.fit.optimise` in the float16 of its products, which moves the PSNR of a single image either way
and the mean hardly (docs/fit.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from kernels.fit.inputs import AdamSteps, FitPixels, image_targets
from kernels.fit.launch import MAX_DEPTH, kernel_runs_on, supports_fit
from kernels.spec import SirenSpec
from rapid_inr.errors import UserError
from rapid_inr.inr.constraint import Constraint
from rapid_inr.inr.coords import pixel_coords, pixel_lattices
from rapid_inr.runlog.progress import Report

BACKENDS = ("auto", "torch", "kernel")
LAUNCH_STEPS = 100  # between two reports of progress
SIZES = ", ".join(f"{depth}x{width}" for width, depth in MAX_DEPTH.items())


def fits_fused(backend: str, spec: SirenSpec, device: torch.device, constraint: Constraint | None = None) -> bool:
    """Return whether the kernel fits a size on a device.

    Args:
        backend: ``torch``, ``kernel``, or ``auto``: the kernel on a CUDA device, if it takes the size.
        constraint: of the rows; where it rounds, torch trains them whatever the backend.

    Raises:
        UserError: if the backend is ``kernel`` and the kernel cannot do it.
    """
    if constraint is not None and constraint.rounds:
        return False
    if backend == "kernel" and not (supports_fit(spec) and kernel_runs_on(device)):
        size = f"{spec.depth}x{spec.hidden} on {device.type}"
        raise UserError(f"fit.backend is kernel for {size}, expected a CUDA device and at most {SIZES}; use auto or torch")
    if backend == "auto" and device.type == "cuda" and not supports_fit(spec):
        _warn_of_size(spec.depth, spec.hidden)
    return backend == "kernel" or (backend == "auto" and device.type == "cuda" and supports_fit(spec))


@cache  # once a size
def _warn_of_size(depth: int, hidden: int) -> None:
    warnings.warn(
        f"the kernel fits SIRENs of at most {SIZES}; {depth}x{hidden} is fitted by torch, many times slower", stacklevel=4
    )


def optimise_fused(
    rows: Tensor,
    images: Tensor,
    spec: SirenSpec,
    *,
    learning_rates: Sequence[float],
    betas: tuple[float, float],
    lattice_pixels: int,
    first_full: int,
    masks: Tensor | None = None,
    on_progress: Report | None = None,
) -> Tensor:
    """Take a step of Adam at each learning rate and return the new rows.

    Args:
        rows: float32 [B, S], the weights to start from, on the device to work on.
        images: uint8 [B, height, width, 3] on the same device.
        lattice_pixels: about how many pixels a step sees before step `first_full`, which is the first to see all.
        masks: bool [B, S] or [1, S], false where a weight stays zero.

    Returns:
        float32 [B, S].
    """
    from kernels.fit.triton import fit_siren  # not at the top: triton exists for Linux only

    height, width = images.shape[1:3]
    lattices = pixel_lattices(height, width, lattice_pixels)
    order = torch.cat(lattices)
    pixels = FitPixels(pixel_coords(height, width)[order].to(rows.device), tuple(map(len, lattices)))
    steps = AdamSteps.of(learning_rates, betas, first_full, rows.device)
    targets = image_targets(images, order.to(rows.device))
    rows = rows.clone()
    means, squares = torch.zeros_like(rows), torch.zeros_like(rows)
    for first in range(0, len(steps), LAUNCH_STEPS):
        last = min(first + LAUNCH_STEPS, len(steps))
        fit_siren(rows, means, squares, targets, spec=spec, pixels=pixels, steps=steps, masks=masks, first=first, last=last)
        if on_progress is not None:
            if rows.is_cuda:
                torch.cuda.synchronize(rows.device)  # a launch returns before its steps are taken
            on_progress(len(rows) * (last - first) / len(steps))
    return rows
