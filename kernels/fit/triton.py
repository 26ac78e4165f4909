"""The fused fit: one program fits one image, with all steps of Adam in one launch, or in several to report progress.

A row, its two moments and its gradient are in memory (2.6 KB each at 3x16) and stay in the caches of the multiprocessor that
works on them. So Adam is one pass over a flat row (adam.py). Registers hold the float16 operands of a step and the float32 sums
of its gradient (gradient.py). With QAT, the rounded row is written to separate memory before each step (rounding.py).
"""

from __future__ import annotations

from threading import Lock

import torch
import triton
import triton.language as tl

from kernels.checks import require
from kernels.decode.fast_math import INTERPRETED
from kernels.decode.launch import capability_of
from kernels.fit.adam import adam_row
from kernels.fit.gradient import write_gradient
from kernels.fit.inputs import FitState
from kernels.fit.launch import MAX_DEPTH, fit_constants, fit_launch, supports_fit
from kernels.fit.rounding import pull_back, round_row

_INTERPRETER = Lock()  # the interpreter keeps the number of the current program in a global variable


@triton.jit(do_not_specialize=["first_step", "last_step", "first_full", "n_lattices", "mask_stride"])
def _fit_siren_kernel(
    rows_ptr, means_ptr, squares_ptr, grads_ptr, masks_ptr, targets_ptr, grid_ptr, starts_ptr, rates_ptr, roots_ptr,
    rounded_ptr, log_scales_ptr, scale_means_ptr, scale_squares_ptr,
    first_step, last_step, first_full, n_lattices, n_pixels, mask_stride, omega, beta_1, beta_2, max_code, relative_rate,
    S: tl.constexpr, DEPTH: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, LAYERS: tl.constexpr, BLOCK: tl.constexpr,
    FLAT: tl.constexpr, MASKED: tl.constexpr, ENDS_BITS: tl.constexpr, SCALES: tl.constexpr, LEARNED: tl.constexpr,
):  # fmt: skip
    """Take steps first_step..last_step - 1 of the fit of one image; ENDS_BITS is 0 without rounding."""
    image = tl.program_id(0).to(tl.int64)
    row_ptr, mean_ptr, square_ptr = rows_ptr + image * S, means_ptr + image * S, squares_ptr + image * S
    grad_ptr, mask_ptr, seen_ptr = grads_ptr + image * S, masks_ptr + image * mask_stride, rounded_ptr + image * S
    if LEARNED:
        log_scales_ptr += image * (DEPTH - 1) * SCALES
        scale_means_ptr += image * (DEPTH - 1) * SCALES
        scale_squares_ptr += image * (DEPTH - 1) * SCALES
    targets_ptr += image * n_pixels * 4
    for step in range(first_step, last_step):
        lattice, full = step % n_lattices, step >= first_full
        first = tl.where(full, 0, tl.load(starts_ptr + lattice))
        end = tl.where(full, n_pixels, tl.load(starts_ptr + lattice + 1))
        rate, root = tl.load(rates_ptr + step), tl.load(roots_ptr + step)
        scale = 2.0 / (3.0 * (end - first).to(tl.float32))
        if ENDS_BITS:
            round_row(row_ptr, seen_ptr, log_scales_ptr, max_code, S, DEPTH, HIDDEN, WIDTH, LAYERS, ENDS_BITS, SCALES)
            tl.debug_barrier()  # here and below, threads read what others wrote
        write_gradient(first, end, seen_ptr, grad_ptr, grid_ptr, targets_ptr, omega, S, DEPTH, HIDDEN, WIDTH, BLOCK)
        tl.debug_barrier()
        if ENDS_BITS:
            pull_back(
                row_ptr, grad_ptr, log_scales_ptr, scale_means_ptr, scale_squares_ptr, max_code, scale * omega,
                rate * relative_rate, root, beta_1, beta_2, DEPTH, HIDDEN, WIDTH, ENDS_BITS, SCALES, LEARNED,
            )  # fmt: skip
            tl.debug_barrier()
        adam_row(
            row_ptr, mean_ptr, square_ptr, grad_ptr, mask_ptr, scale, omega, rate, root, beta_1, beta_2, S, HIDDEN, MASKED, FLAT
        )
        tl.debug_barrier()


def fit_siren(state: FitState, *, first: int = 0, last: int | None = None) -> None:
    """Take steps `first` to `last` of Adam on many SIRENs in place, in one launch, without waiting for its end.

    Images are independent, and steps split over several calls give the same result as one call, bit for bit.

    Args:
        state: of a size that `supports_fit`.
        last: the step to stop before; None for the end.

    Raises:
        ValueError: if an argument is wrong; the message names it, its value and the expected values.
    """
    chunk, rows, spec, steps, rounding = state.chunk(first, last), state.rows, state.spec, state.steps, state.rounding
    sizes = ", ".join(f"{depth}x{width}" for width, depth in MAX_DEPTH.items())
    require(
        supports_fit(spec), "spec", f"{spec.depth}x{spec.hidden}", f"depth x width of at most {sizes} (siren_fit_torch takes any)"
    )
    needs = "a CUDA device, or TRITON_INTERPRET=1 for Triton's interpreter (siren_fit_torch runs on any)"
    require(rows.is_cuda or INTERPRETED, "rows.device", rows.device, needs)
    config = fit_launch(spec, capability=capability_of(rows.device))
    masks, unused = state.masks, (rows,) * 4
    through = unused if rounding is None else (torch.empty_like(rows), rounding.log_scales, rounding.means, rounding.squares)
    with torch.cuda.device(rows.device) if rows.is_cuda else _INTERPRETER:
        _fit_siren_kernel[(len(rows),)](
            rows, state.means, state.squares, torch.empty_like(rows), rows if masks is None else masks.view(torch.uint8),
            state.targets, state.pixels.operand, state.pixels.starts, steps.rates, steps.roots, *through,
            chunk.start, chunk.stop, steps.first_full, len(state.pixels.sizes), len(state.pixels.coords),
            0 if masks is None or len(masks) == 1 else spec.n_weights, float(spec.omega), *steps.betas,
            *((0.0, 0.0) if rounding is None else (float(rounding.max_code), float(rounding.relative_rate))),
            **fit_constants(spec, config, masked=masks is not None, rounding=rounding),
            num_warps=config.num_warps, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
