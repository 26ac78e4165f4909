"""The fused fit: kernel and torch against the gradient in float64, and what every fit must keep to."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels.fit.inputs import AdamSteps, FitPixels, FitState
from kernels.fit.launch import fit_width, supports_fit
from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.layout import hidden_matrices, join_rows, split_rows
from rapid_inr.inr.siren import siren
from tests.kernels.conftest import HAS_TRITON
from tests.kernels.fit_problem import INT3, SPEC, Problem, fit_function, make_problem, projection, results
from tests.tolerances import FIT_GRADIENT, FIT_MOMENTS

ROUNDED = {
    "3 bits, int8 ends": INT3,
    "6 bits, a scale a layer": QuantizeConfig(6, 16, "tensor"),
    "4 bits, float32 ends": QuantizeConfig(4, 32, "column", "mse"),
    "5 bits, shared scales": QuantizeConfig(5, 8, "dataset"),
}


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


def straight_through(rows: Tensor, log_scales: Tensor, ends: Tensor, problem: Problem, config: QuantizeConfig) -> Tensor:
    """Return rounded rows in float64 that autograd differentiates as if rounding to an integer were the identity."""
    hidden = hidden_matrices(split_rows(rows, problem.spec)[0], problem.spec)
    scales, q = log_scales.exp().unsqueeze(2), config.max_code
    clipped = (hidden / scales).clamp(-q, q)
    hidden = (clipped + (clipped.round() - clipped).detach()) * scales
    own_ends = split_rows(rows, problem.spec)[1]
    return join_rows(hidden.flatten(1), own_ends + (ends - own_ends).detach(), problem.spec)


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize(("depth", "hidden"), [(1, 7), (2, 16), (3, 13), (4, 20)])
def test_the_gradient_through_a_rounding_is_that_of_float64_for_rows_and_scales(backend, device, name, depth, hidden):
    problem, config = make_problem(device, spec=SirenSpec(depth, hidden, 15.0), n_steps=1, betas=(0.0, 0.0)), ROUNDED[name]
    rounded = projection(problem, config)
    rows = problem.rows.double().cpu().requires_grad_()
    log_scales = rounded.scales().log().double().cpu().requires_grad_()
    ends = split_rows(rounded.forward(problem.rows), problem.spec)[1].double().cpu()
    stored = straight_through(rows, log_scales, ends, problem, config)
    error = siren(stored, pixel_coords(12, 10).double(), problem.spec) - problem.images.flatten(1, 2).double() / 255
    (error**2).mean((1, 2)).sum().backward()
    _, mean, _, log_scales_after, scale_mean, _ = problem.fit(backend, rounded=rounded)  # with a beta of 0 means are gradients
    assert relative_error(mean.cpu(), rows.grad) < FIT_GRADIENT
    if config.shares_scales:
        assert torch.equal(log_scales_after, rounded.log_scales)
    elif depth > 1:
        assert relative_error(scale_mean.flatten(1).cpu(), log_scales.grad.flatten(1)) < FIT_GRADIENT


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", ROUNDED)
def test_the_kernel_rounds_as_torch_does(device, name, pruned):
    """Exactly so: where a code is another, its weight is off by a whole step, and the moments by more than the bound."""
    if not HAS_TRITON:
        pytest.skip("needs triton")
    problem = make_problem(device, n_steps=1)
    rounded = projection(problem, ROUNDED[name], pruned=pruned)
    for ours, reference in zip(
        problem.fit("kernel", rounded=rounded)[1:], problem.fit("torch", rounded=rounded)[1:], strict=True
    ):
        if reference.any():
            assert relative_error(ours.flatten(1), reference.flatten(1)) < FIT_MOMENTS[1]


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


@pytest.mark.parametrize("rounds", [False, True])
def test_steps_in_chunks_are_those_of_one_call(backend, device, rounds):
    problem = make_problem(device, n_steps=5, lattice=48)
    rounded = projection(problem, pruned=True) if rounds else None
    state = problem.state(rounded=rounded)
    for first, last in ((0, 2), (2, 3), (3, None)):
        fit_function(backend)(state, first=first, last=last)
    for chunked, whole in zip(results(state), problem.fit(backend, rounded=rounded), strict=True):
        assert torch.equal(chunked, whole)


@pytest.mark.parametrize("rounds", [False, True])
def test_an_image_does_not_depend_on_its_batch(device, rounds):
    problem, backend = make_problem(device, batch=3, lattice=48), "kernel" if HAS_TRITON else "torch"
    rounded = projection(problem, pruned=True) if rounds else None
    whole = problem.fit(backend, rounded=rounded)
    alone = replace(problem, rows=problem.rows[1:2], targets=problem.targets[1:2]).fit(
        backend, rounded=rounded and rounded.select(slice(1, 2))
    )
    for one, many in zip(alone, whole, strict=True):
        assert torch.equal(one[0], many[1])


def in_nan(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a copy of a tensor that lies amid NaN, and all that memory."""
    memory = torch.full((tensor.numel() + 2 * 4096,), torch.nan, dtype=tensor.dtype, device=tensor.device)
    copy = memory[4096:-4096].view(tensor.shape)
    copy.copy_(tensor)
    return copy, memory


@pytest.mark.parametrize("rounds", [False, True])
def test_nothing_is_read_or_written_beside_the_tensors(backend, device, monkeypatch, rounds):
    problem = make_problem(device, spec=SirenSpec(2, 13, 15.0), height=7, width=9, lattice=20)
    rounded = projection(problem) if rounds else None
    expected, state = problem.fit(backend, rounded=rounded), problem.state(rounded=rounded)
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, torch.nan))
    state.targets, state.pixels = in_nan(state.targets)[0], FitPixels(in_nan(problem.pixels.coords)[0], problem.pixels.sizes)
    state.pixels.__dict__["operand"] = in_nan(problem.pixels.operand)[0]
    copies, memories = zip(*map(in_nan, results(state)), strict=True)
    state.rows, state.means, state.squares = copies[:3]
    if rounds:  # with torch's functions, which read the scales of their projection
        inside = replace(rounded, log_scales=copies[3])
        state.rounding = inside.rounding(2.0)
        state.rounding.means, state.rounding.squares = copies[4:]
    fit_function(backend)(state)
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


def test_weights_under_a_mask_stay_zero_through_a_rounding(backend, device):
    problem = make_problem(device, lattice=48)
    rounded = projection(problem, pruned=True)
    for tensor in problem.fit(backend, rounded=rounded)[:3]:
        hidden = split_rows(tensor, SPEC)[0]
        assert (hidden[~rounded.masks] == 0).all()
        assert (hidden[rounded.masks] != 0).float().mean() > 0.5  # others are clipped


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, which the interpreter computes with
def test_a_fit_that_diverges_ends_in_rows_that_are_not_finite(backend, device):
    problem = make_problem(device)
    rows = problem.rows.clone()
    rows[0] = 1e30
    fitted = problem.fit(backend, rows=rows)[0]
    assert not fitted[0].isfinite().all()
    assert torch.equal(fitted[1:], problem.fit(backend)[0][1:])


def test_bad_input_is_named_with_what_was_expected(device):
    problem = make_problem(device)
    arguments = {"targets": problem.targets, "spec": SPEC, "pixels": problem.pixels, "steps": problem.steps}
    nan = torch.full_like(problem.rows, torch.nan)
    bad = {
        "rows.shape is (2, 9)": {"rows": problem.rows[:, :9].contiguous()},
        "rows.dtype is torch.float64": {"rows": problem.rows.double()},
        "rows is not finite": {"rows": nan},
        "rows is strided": {"rows": problem.rows.T.contiguous().T},
        "targets.shape is (2, 120, 3)": {"targets": problem.targets[..., :3]},
        "targets.dtype is torch.float32": {"targets": problem.targets.float()},
        "targets is not finite": {"targets": problem.targets * torch.nan},
        "masks.shape is (3,": {"masks": problem.rows.new_ones(3, SPEC.n_weights, dtype=torch.bool)},
        "masks.dtype is torch.uint8": {"masks": problem.rows.new_ones(2, SPEC.n_weights, dtype=torch.uint8)},
    }
    for message, changes in bad.items():
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            FitState(**{"rows": problem.rows, **arguments} | changes)
    for first, last in ((3, 3), (0, 5)):
        with pytest.raises(ValueError, match=f"^first and last is {first} and {last}, expected a range of the 4 steps"):
            problem.state().chunk(first, last)


def test_a_rounding_that_cannot_be_is_refused(device):
    problem = make_problem(device)
    good = projection(problem).rounding(1.0)
    for message, changes in {
        "log_scales.shape is (2, 1, 16), expected (2, 2, 1) or (2, 2, 16)": {"log_scales": good.log_scales[:, :1]},
        "log_scales.shape is (2, 2, 16), expected (1, 2, 1)": {"relative_rate": 0.0},
        "log_scales is not finite": {"log_scales": good.log_scales * torch.nan},
        "log_scales.dtype is torch.float64": {"log_scales": good.log_scales.double()},
        "max_code is 128": {"max_code": 128},
        "ends_bits is 4": {"ends_bits": 4},
    }.items():
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            problem.state(rounding=replace(good, **changes))


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
