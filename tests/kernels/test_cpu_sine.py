"""The sine of the torch backend on a CPU against float64."""

import math

import torch

from kernels.decode.cpu_sine import SINE_ERROR, TURN, sine_


def test_the_sine_keeps_its_stated_error():
    radians = torch.linspace(-100, 100, 400_001, dtype=torch.float64)
    error = (sine_((radians / TURN).float()).double() - radians.sin()).abs()
    assert error.max() <= SINE_ERROR
    assert error.max() > SINE_ERROR / 10, "the statement could be stricter"


def test_the_sine_of_what_is_not_finite_is_nan():
    assert sine_(torch.tensor([math.nan, math.inf, -math.inf])).isnan().all()


def test_the_sine_is_taken_in_place():
    phase = torch.tensor([0.0, 0.25, -0.25])
    sine_(phase)
    torch.testing.assert_close(phase, torch.tensor([0.0, 1.0, -1.0]), atol=SINE_ERROR, rtol=0)
