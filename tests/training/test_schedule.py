from itertools import pairwise

import pytest

from rapid_inr.training.schedule import OptimizerConfig, rate_factor, size_at


def test_the_rate_rises_linearly_and_falls_by_a_cosine():
    total = 200
    factor = rate_factor(OptimizerConfig(warmup=0.1), total)
    factors = [factor(step) for step in range(total)]
    steps = [b - a for a, b in pairwise(factors[:21])]
    assert factors[0] == pytest.approx(1 / 21)
    assert max(steps) == pytest.approx(min(steps)) == pytest.approx(1 / 21)
    assert factors[20] == max(factors) == 1
    assert factors[110] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in pairwise(factors[20:]))
    assert factors[-1] < 1e-4
    assert factor(total) == pytest.approx(0, abs=1e-12)


def test_without_a_warm_up_the_rate_starts_at_its_peak():
    assert rate_factor(OptimizerConfig(warmup=0), 10)(0) == 1


def test_a_linear_schedule_falls_in_a_straight_line():
    factor = rate_factor(OptimizerConfig(warmup=0.2, schedule="linear"), 100)
    assert factor(20) == 1
    assert [factor(step) for step in (40, 60, 80, 100)] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_progressive_sizes_rise_to_full_size_and_keep_the_shape():
    config = OptimizerConfig(epochs=20, first_size=16, full_size_from=0.5)
    sizes = [size_at(config, epoch, (32, 32)) for epoch in range(20)]
    assert sizes[0] == (16, 16)
    assert sizes[10:] == [(32, 32)] * 10
    assert all(a <= b for a, b in pairwise(sizes))
    assert all(height % 4 == 0 for height, _ in sizes)
    assert size_at(config, 0, (32, 64)) == (8, 16)
    assert size_at(config, 0, (12, 16)) == (12, 16)
    assert size_at(OptimizerConfig(), 0, (32, 32)) == (32, 32)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("label_smoothing", 1.0),
        ("warmup", 1.0),
        ("schedule", "step"),
        ("ema", 1.0),
        ("validation_split", 1.0),
        ("first_size", 0),
        ("full_size_from", 0.0),
    ],
)
def test_an_optimisation_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"optimizer\.{name} is {value}, expected "):
        OptimizerConfig(**{name: value})
