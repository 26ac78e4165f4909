"""The fused fit: one program fits one image, all steps of Adam in one launch, or in several for progress.

A row, its two moments and its gradient are read and written in memory, 2.6 KB each at 3x16, which stay in the caches of the one
multiprocessor that works on them. So Adam is one pass over a flat row, whatever its layers are. Registers hold the float16
operands of a step and the float32 sums of its gradient (gradient.py).
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.checks import require
from kernels.decode.fast_math import INTERPRETED
from kernels.decode.launch import capability_of
from kernels.fit.gradient import write_gradient
from kernels.fit.inputs import ADAM_EPS, AdamSteps, FitPixels, check_fit
from kernels.fit.launch import MAX_DEPTH, fit_constants, fit_launch, supports_fit
from kernels.spec import SirenSpec

_EPS = tl.constexpr(ADAM_EPS)


@triton.jit
def _adam_row(
    row_ptr, mean_ptr, square_ptr, grad_ptr, mask_ptr, scale, omega, rate, root, beta_1, beta_2,
    S: tl.constexpr, HIDDEN: tl.constexpr, MASKED: tl.constexpr, FLAT: tl.constexpr,
):  # fmt: skip
    """Take a step of Adam on a row; `rate` and `root` hold the bias corrections, `scale` is the loss's."""
    for start in range(0, S, FLAT):
        i = start + tl.arange(0, FLAT)
        inside = i < S
        g = tl.load(grad_ptr + i, mask=inside, other=0.0) * tl.where(i < S - 3 * HIDDEN - 3, scale * omega, scale)
        if MASKED:
            g = tl.where(tl.load(mask_ptr + i, mask=inside, other=0) != 0, g, 0.0)
        weight = tl.load(row_ptr + i, mask=inside, other=0.0)
        mean, square = tl.load(mean_ptr + i, mask=inside, other=0.0), tl.load(square_ptr + i, mask=inside, other=0.0)
        mean = g + (mean - g) * beta_1
        square = square * beta_2 + g * g * (1 - beta_2)
        tl.store(row_ptr + i, weight - rate * mean / (tl.sqrt(square) * root + _EPS), mask=inside)
        tl.store(mean_ptr + i, mean, mask=inside)
        tl.store(square_ptr + i, square, mask=inside)


@triton.jit(do_not_specialize=["first_step", "last_step", "first_full", "n_lattices", "mask_stride"])
def _fit_siren_kernel(
    rows_ptr, means_ptr, squares_ptr, grads_ptr, masks_ptr, targets_ptr, grid_ptr, starts_ptr, rates_ptr, roots_ptr,
    first_step, last_step, first_full, n_lattices, n_pixels, mask_stride, omega, beta_1, beta_2,
    S: tl.constexpr, DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, FLAT: tl.constexpr,
):  # fmt: skip
    """Take steps first_step..last_step of the fit of one image."""
    image = tl.program_id(0).to(tl.int64)
    row_ptr, mean_ptr, square_ptr = rows_ptr + image * S, means_ptr + image * S, squares_ptr + image * S
    grad_ptr, mask_ptr = grads_ptr + image * S, masks_ptr + image * mask_stride
    targets_ptr += image * n_pixels * 4
    for step in range(first_step, last_step):
        lattice, full = step % n_lattices, step >= first_full
        first = tl.where(full, 0, tl.load(starts_ptr + lattice))
        end = tl.where(full, n_pixels, tl.load(starts_ptr + lattice + 1))
        rate, root = tl.load(rates_ptr + step), tl.load(roots_ptr + step)
        write_gradient(first, end, row_ptr, grad_ptr, grid_ptr, targets_ptr, omega, S, DEPTH, HIDDEN, WIDTH, BLOCK)
        tl.debug_barrier()  # threads read here what others wrote
        scale = 2.0 / (3.0 * (end - first).to(tl.float32))
        _adam_row(
            row_ptr, mean_ptr, square_ptr, grad_ptr, mask_ptr, scale, omega, rate, root, beta_1, beta_2, S, HIDDEN, MASKED, FLAT
        )
        tl.debug_barrier()


def fit_siren(
    rows: Tensor,
    means: Tensor,
    squares: Tensor,
    targets: Tensor,
    *,
    spec: SirenSpec,
    pixels: FitPixels,
    steps: AdamSteps,
    masks: Tensor | None = None,
    first: int = 0,
    last: int | None = None,
) -> None:
    """Take steps `first` to `last` of Adam on many SIRENs in one launch, in place, without waiting for the device after it.

    The loss of an image is its mean squared error over the pixels of a step and the channels. An image depends on no other, and
    steps taken in several calls are those of a single one, bit for bit. A fit that diverges ends in rows that are not finite.

    Args:
        rows: float32 [B, S], laid out by `kernels.spec.weight_sections`.
        means, squares: float32 [B, S], Adam's moments; zeros before the first step.
        targets: float16 [B, P, 4], the colours in the order of `pixels`, the fourth value 0 (`image_targets`).
        spec: a size that `supports_fit`.
        steps: of the whole fit, as `pixels` on the device of the rows.
        masks: bool [B, S] or [1, S], false where a weight stays zero; None trains all.
        last: the step to stop before; None is the end.

    Raises:
        ValueError: naming the argument, what it is and what was expected.
    """
    chunk = range(first, len(steps) if last is None else last)
    check_fit(rows, means, squares, targets, spec, pixels, steps, masks, chunk)
    sizes = ", ".join(f"{depth}x{width}" for width, depth in MAX_DEPTH.items())
    require(
        supports_fit(spec), "spec", f"{spec.depth}x{spec.hidden}", f"depth x width of at most {sizes} (siren_fit_torch takes any)"
    )
    require(rows.is_cuda or INTERPRETED, "rows.device", rows.device, "a CUDA device (siren_fit_torch runs on any)")
    if masks is not None:
        for tensor in (rows, means, squares):
            tensor.mul_(masks)
    config = fit_launch(spec, capability=capability_of(rows.device))
    constants = fit_constants(spec, config, masked=masks is not None)
    with torch.cuda.device(rows.device) if rows.is_cuda else nullcontext():
        _fit_siren_kernel[(len(rows),)](
            rows, means, squares, torch.empty_like(rows), rows if masks is None else masks.view(torch.uint8), targets,
            pixels.operand, pixels.starts, steps.rates, steps.roots,
            first, chunk.stop, steps.first_full, len(pixels.sizes), len(pixels.coords),
            0 if masks is None or len(masks) == 1 else spec.n_weights, float(spec.omega), *steps.betas,
            **constants, num_warps=config.num_warps, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
