"""The sines against float64."""

import math
import struct

import pytest
import torch
import triton
import triton.language as tl

from kernels.decode.fast_math import _polynomial_asm, accurate_sin, fast_sin
from tests.tolerances import ACCURATE_SIN

N = 1 << 16
# the interpreter computes with numpy, which warns of what a GPU takes in silence
interpreter_warnings = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@triton.jit
def _apply(x_ptr, y_ptr, ACCURATE: tl.constexpr, POLYNOMIAL_EVERY: tl.constexpr, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    x = tl.load(x_ptr + i)
    tl.store(y_ptr + i, accurate_sin(x) if ACCURATE else fast_sin(x, POLYNOMIAL_EVERY))


def apply(x: torch.Tensor, *, accurate: bool, polynomial_every: int = 0) -> torch.Tensor:
    y = torch.full_like(x, 7.0)
    _apply[(x.numel() // 1024,)](x, y, ACCURATE=accurate, POLYNOMIAL_EVERY=polynomial_every, N=1024, enable_fp_fusion=True)
    return y


def arguments(limit: float, device: torch.device) -> torch.Tensor:
    return torch.empty(N, device=device).uniform_(-limit, limit, generator=torch.Generator(device).manual_seed(int(limit)))


@pytest.mark.parametrize("limit", [1.6, 3.2, 50, 1_000, 10_000])
def test_the_accurate_sine_keeps_its_bound(device, limit):
    x = arguments(limit, device)
    torch.testing.assert_close(apply(x, accurate=True).double(), x.double().sin(), atol=ACCURATE_SIN, rtol=0)


@pytest.mark.parametrize(("polynomial_every", "bound"), [(0, 4e-7), (4, 6.5e-6), (8, 6.5e-6)])
@pytest.mark.parametrize("limit", [1.6, 3.2, 50, 100])
def test_the_fast_sine_keeps_its_bound(device, limit, polynomial_every, bound):
    x = arguments(limit, device)
    error = (apply(x, accurate=False, polynomial_every=polynomial_every).double() - x.double().sin()).abs()
    assert (error <= bound + 1.6e-7 * x.abs().double()).all()


def ptx_value(text: str, registers: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.tensor(struct.unpack(">f", bytes.fromhex(text[2:]))[0]) if text.startswith("0f") else registers[text]


def run_ptx(lines: str, x: torch.Tensor) -> torch.Tensor:
    """Run the few instructions that `_polynomial_asm` writes, each rounded to float32 once."""
    operations = {"fma.rn.f32": lambda a, b, c: a * b + c, "mul.f32": lambda a, b: a * b, "sub.f32": lambda a, b: a - b}
    registers = {"x": x}
    for line in lines.splitlines():
        name, operands = line.removesuffix(";").split(" ", 1)
        target, *sources = (operand.strip() for operand in operands.split(","))
        registers[target] = operations[name](*(ptx_value(source, registers).double() for source in sources)).float()
    return registers["y"]


@pytest.mark.parametrize("limit", [1.6, 50, 1000, 2.6e7])
def test_the_instructions_of_the_polynomial_keep_its_bound(limit):
    x = torch.empty(N).uniform_(-limit, limit, generator=torch.Generator().manual_seed(0))
    error = (run_ptx(_polynomial_asm("x", "y"), x).double() - x.double().sin()).abs()
    assert (error <= 6.5e-6 + 1.01e-7 * x.abs().double()).all()
    assert len(_polynomial_asm("x", "y").splitlines()) == 9


def test_the_slope_of_the_fast_sines_bound_is_that_of_its_range_reduction():
    """Turning radians into turns in float32, rounded towards zero as the hardware does, and taking the sine of that exactly."""
    x = arguments(100, torch.device("cpu"))
    exact = x.double() * torch.tensor(1 / (2 * math.pi)).double()
    turns = exact.float()
    turns = torch.where(turns.abs() > exact.abs(), turns.nextafter(torch.zeros_like(turns)), turns).double()
    error = ((2 * math.pi * turns).sin() - x.double().sin()).abs()
    assert (error <= 1.6e-7 * x.abs().double()).all()
    assert (error > 1.4e-7 * x.abs().double()).any()


@interpreter_warnings
@pytest.mark.parametrize("accurate", [False, True])
def test_nan_and_infinity_have_no_sine(device, accurate):
    x = torch.zeros(1024, device=device)
    x[:3] = torch.tensor([math.nan, math.inf, -math.inf])
    assert apply(x, accurate=accurate).isnan().tolist() == [True] * 3 + [False] * 1021


@interpreter_warnings
def test_the_accurate_sine_is_bounded_far_out_and_odd_within_its_range(device):
    x = torch.logspace(-30, 38, 1024, device=device)
    y, mirrored = apply(x, accurate=True), apply(-x, accurate=True)
    assert (torch.stack((y, mirrored)).abs() <= 1 + ACCURATE_SIN).all()
    assert torch.equal(mirrored[x <= 10_000], -y[x <= 10_000])
