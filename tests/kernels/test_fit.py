"""The fused fit: kernel and torch against the gradient in float64, and what every fit must keep to."""

import math
import re
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from kernels.fit.inputs import AdamSteps, FitPixels, image_targets
from kernels.fit.launch import fit_width, supports_fit
from kernels.fit.torch import siren_fit_torch
from kernels.spec import SirenSpec
from rapid_inr.inr.coords import pixel_coords, pixel_lattices
from rapid_inr.inr.siren import initial_weights, siren
from tests.images import smooth_images
from tests.kernels.conftest import HAS_TRITON
from tests.tolerances import FIT_GRADIENT, FIT_MOMENTS

SPEC = SirenSpec(3, 16, 15.0)


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

    def fit(self, backend: str, **changes) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows and moments after the fit; arguments may be changed by name."""
        tensors = [changes.pop("rows", self.rows).clone()]
        tensors += [changes.pop(name, torch.zeros_like(self.rows)).clone() for name in ("means", "squares")]
        run(backend, self, tensors, **changes)
        return tuple(tensors)


def run(backend: str, problem: Problem, tensors: list[Tensor], **changes) -> None:
    arguments = {"targets": problem.targets, "spec": problem.spec, "pixels": problem.pixels, "steps": problem.steps} | changes
    fit_function(backend)(*tensors, **arguments)


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


def relative_error(tensor: Tensor, exact: Tensor) -> float:
    """Return the largest error of a row over its norm."""
    return ((tensor - exact).norm(dim=1) / exact.norm(dim=1)).max().item()


@pytest.mark.parametrize(
    ("depth", "hidden", "height", "width"),
    [
        (1, 16, 16, 16),
        (1, 7, 7, 7),
        (2, 16, 20, 13),
        (3, 13, 9, 9),
        (3, 16, 16, 32),
        (4, 14, 17, 17),
        (5, 13, 8, 8),
        (5, 32, 20, 13),
    ],
)
def test_the_gradient_is_that_of_float64(backend, device, depth, hidden, height, width):
    problem = make_problem(device, spec=SirenSpec(depth, hidden, 15.0), height=height, width=width, n_steps=1, betas=(0.0, 0.0))
    rows = problem.rows.double().cpu().requires_grad_()
    error = siren(rows, pixel_coords(height, width).double(), problem.spec) - problem.images.flatten(1, 2).double() / 255
    (error**2).mean((1, 2)).sum().backward()
    mean = problem.fit(backend)[1]  # with a beta of 0 it is the gradient
    assert relative_error(mean.cpu(), rows.grad) < FIT_GRADIENT


@pytest.mark.skipif(not HAS_TRITON, reason="needs triton")
@pytest.mark.parametrize("n_steps", [1, 4])
def test_kernel_and_torch_have_the_same_moments(device, n_steps):
    """Moments, since Adam makes a whole step of a gradient that is nothing but rounding."""
    problem = make_problem(device, n_steps=n_steps, lattice=48)
    for ours, reference in zip(problem.fit("kernel")[1:], problem.fit("torch")[1:], strict=True):
        assert relative_error(ours, reference) < FIT_MOMENTS[n_steps]


def test_a_fit_lowers_the_error(backend, device):
    problem = make_problem(device, n_steps=20, lattice=48)
    coords, wanted = pixel_coords(12, 10).double(), problem.images.flatten(1, 2) / 255

    def error(rows):
        return (siren(rows.double().cpu(), coords, SPEC) - wanted).pow(2).mean((1, 2))

    assert (error(problem.fit(backend)[0]) < 0.1 * error(problem.rows)).all()


def test_steps_in_chunks_are_those_of_one_call(backend, device):
    problem = make_problem(device, n_steps=5, lattice=48)
    tensors = [problem.rows.clone(), *(torch.zeros_like(problem.rows) for _ in range(2))]
    for first, last in ((0, 2), (2, 3), (3, None)):
        run(backend, problem, tensors, first=first, last=last)
    for chunked, whole in zip(tensors, problem.fit(backend), strict=True):
        assert torch.equal(chunked, whole)


def test_an_image_does_not_depend_on_its_batch(device):
    problem = make_problem(device, batch=3, lattice=48)
    whole = problem.fit("kernel" if HAS_TRITON else "torch")
    alone = replace(problem, rows=problem.rows[1:2], targets=problem.targets[1:2]).fit("kernel" if HAS_TRITON else "torch")
    for one, many in zip(alone, whole, strict=True):
        assert torch.equal(one[0], many[1])


def in_nan(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a copy of a tensor that lies amid NaN, and all that memory."""
    memory = torch.full((tensor.numel() + 2 * 4096,), torch.nan, dtype=tensor.dtype, device=tensor.device)
    copy = memory[4096:-4096].view(tensor.shape)
    copy.copy_(tensor)
    return copy, memory


def test_nothing_is_read_or_written_beside_the_tensors(backend, device, monkeypatch):
    problem = make_problem(device, spec=SirenSpec(2, 13, 15.0), height=7, width=9, lattice=20)
    expected = problem.fit(backend)
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, torch.nan))
    pixels = FitPixels(in_nan(problem.pixels.coords)[0], problem.pixels.sizes)
    pixels.__dict__["operand"] = in_nan(problem.pixels.operand)[0]
    copies, memories = zip(*map(in_nan, (problem.rows, *(torch.zeros_like(problem.rows) for _ in range(2)))), strict=True)
    run(backend, problem, list(copies), targets=in_nan(problem.targets)[0], pixels=pixels)
    for copy, memory, tensor in zip(copies, memories, expected, strict=True):
        assert torch.equal(copy, tensor)
        assert memory[:4096].isnan().all()
        assert memory[-4096:].isnan().all()


@pytest.mark.parametrize("own", [True, False])
def test_weights_under_a_mask_are_zero_and_stay_so(backend, device, own):
    problem = make_problem(device, lattice=48)
    masks = torch.rand(2 if own else 1, SPEC.n_weights, generator=torch.Generator().manual_seed(0)) < 0.6
    masks = masks.to(device)
    for tensor in problem.fit(backend, masks=masks):
        assert (tensor[~masks.expand_as(tensor)] == 0).all()
        assert (tensor[masks.expand_as(tensor)] != 0).float().mean() > 0.9


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, which the interpreter computes with
def test_a_fit_that_diverges_ends_in_rows_that_are_not_finite(backend, device):
    problem = make_problem(device)
    rows = problem.rows.clone()
    rows[0] = 1e30
    fitted = problem.fit(backend, rows=rows)[0]
    assert not fitted[0].isfinite().all()
    assert torch.equal(fitted[1:], problem.fit(backend)[0][1:])


def test_bad_input_is_named_with_what_was_expected(backend, device):
    problem = make_problem(device)
    nan = torch.full_like(problem.rows, torch.nan)
    bad = {
        "rows.shape is (2, 9)": {"rows": problem.rows[:, :9].contiguous()},
        "rows.dtype is torch.float64": {"rows": problem.rows.double()},
        "rows is not finite": {"rows": nan},
        "means.shape is (1,": {"means": problem.rows[:1]},
        "squares is strided": {"squares": problem.rows.new_zeros(problem.rows.shape[::-1]).T},
        "targets.shape is (2, 120, 3)": {"targets": problem.targets[..., :3]},
        "targets.dtype is torch.float32": {"targets": problem.targets.float()},
        "targets is not finite": {"targets": problem.targets * torch.nan},
        "masks.shape is (3,": {"masks": problem.rows.new_ones(3, SPEC.n_weights, dtype=torch.bool)},
        "masks.dtype is torch.uint8": {"masks": problem.rows.new_ones(2, SPEC.n_weights, dtype=torch.uint8)},
        "first and last is 3 and 3, expected a run of the 4 steps": {"first": 3, "last": 3},
        "first and last is 0 and 5": {"last": 5},
    }
    for message, changes in bad.items():
        tensors = [changes.pop(name, problem.rows) for name in ("rows", "means", "squares")]
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            run(backend, problem, tensors, **changes)


def test_pixels_and_steps_that_cannot_be_are_refused():
    coords = pixel_coords(4, 4)
    for message, make in {
        r"coords.shape is \(16, 1\)": lambda: FitPixels(coords[:, :1], (16,)),
        "coords.dtype is torch.float64": lambda: FitPixels(coords.double(), (16,)),
        "sizes is 15 in all, expected 16": lambda: FitPixels(coords, (8, 7)),
        r"sizes is \(16, 0\)": lambda: FitPixels(coords, (16, 0)),
        "learning_rates is empty": lambda: AdamSteps.of([], (0.9, 0.9), 0),
        r"learning_rates is \[nan\]": lambda: AdamSteps.of([math.nan], (0.9, 0.9), 0),
        r"betas is \(0.9, 1.0\)": lambda: AdamSteps.of([0.1], (0.9, 1.0), 0),
    }.items():
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.skipif(not HAS_TRITON, reason="needs triton")
def test_the_kernel_refuses_a_size_that_it_does_not_take(device):
    problem = make_problem(device, spec=SirenSpec(1, 65, 15.0))
    with pytest.raises(ValueError, match="spec is 1x65, expected depth x width of at most 8x16, 10x32, 6x64"):
        problem.fit("kernel")
    problem.fit("torch")


def test_the_sizes_that_the_kernel_takes():
    taken = {(3, 16), (8, 13), (10, 32), (6, 44), (6, 64)}
    refused = {(9, 16), (11, 32), (7, 44), (10, 40), (1, 65)}
    assert all(supports_fit(SirenSpec(*size, 30.0)) for size in taken)
    assert not any(supports_fit(SirenSpec(*size, 30.0)) for size in refused)
    assert [fit_width(SirenSpec(1, hidden, 30.0)) for hidden in (1, 16, 17, 33, 65)] == [16, 16, 32, 64, 128]
