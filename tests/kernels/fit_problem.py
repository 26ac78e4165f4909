"""Small fits for the tests of the fused fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.fit.inputs import AdamSteps, FitPixels, FitState, image_targets
from kernels.fit.torch import siren_fit_torch
from kernels.spec import SirenSpec
from rapid_inr.compress.projection import Projection
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.inr.coords import pixel_coords, pixel_lattices
from rapid_inr.inr.siren import initial_weights
from tests.images import smooth_images

SPEC = SirenSpec(3, 16, 15.0)
INT3 = QuantizeConfig(3, 8, "column", "mse")  # clips some weights  # clips some weights


def fit_function(backend: str):
    if backend == "torch":
        return siren_fit_torch
    from kernels.fit.triton import fit_siren

    return fit_siren


@dataclass
class Problem:
    """Images, rows to begin from, and the steps of a fit."""

    spec: SirenSpec
    images: Tensor
    rows: Tensor
    targets: Tensor
    pixels: FitPixels
    steps: AdamSteps

    def state(self, *, rounded=None, **changes) -> FitState:
        """Return the fit before its first step; `rounded` is a `Projection`, and arguments may be changed by name."""
        changes = {"rows": self.rows, "masks": None, "rounding": None} | changes
        if rounded is not None:
            rounded = replace(rounded, log_scales=rounded.log_scales.clone())
            changes |= {"masks": rounded.row_masks(), "rounding": rounded.rounding(2.0)}
        changes["rows"] = changes["rows"].clone()
        return FitState(**{"targets": self.targets, "spec": self.spec, "pixels": self.pixels, "steps": self.steps} | changes)

    def fit(self, backend: str, **changes) -> list[Tensor]:
        """Return rows and moments after the fit, and scales and their moments where rows are rounded."""
        state = self.state(**changes)
        fit_function(backend)(state)
        return results(state)


def results(state: FitState) -> list[Tensor]:
    rounding = state.rounding
    learned = [] if rounding is None else [rounding.log_scales, rounding.means, rounding.squares]
    return [state.rows, state.means, state.squares, *learned]


def make_problem(
    device, *, spec=SPEC, height=12, width=10, batch=2, n_steps=4, lattice=None, betas=(0.8, 0.9), lr=0.01
) -> Problem:
    images = smooth_images(batch, height, width)
    lattices = pixel_lattices(height, width, lattice or height * width)
    order = torch.cat(lattices)
    pixels = FitPixels(pixel_coords(height, width)[order].to(device), tuple(map(len, lattices)))
    steps = AdamSteps.of([lr] * n_steps, betas, first_full=math.floor(0.75 * n_steps), device=device)
    rows = initial_weights(spec, range(batch), seed=0).to(device)
    return Problem(spec, images, rows, image_targets(images.to(device), order.to(device)), pixels, steps)


def projection(problem: Problem, config: QuantizeConfig = INT3, *, pruned: bool = False) -> Projection:
    shape = (len(problem.rows), problem.spec.n_hidden_weights)
    masks = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(problem.rows.device) < 0.6 if pruned else None
    rounded = Projection.of(problem.rows, problem.spec, masks=masks, quantize=config)
    # no weight lies on the edge of its range, where the last bit of a scale decides whether it is clipped
    return replace(rounded, log_scales=rounded.log_scales - 0.01)
