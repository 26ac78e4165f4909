import pytest
import torch

from kernels.spec import SirenSpec, float_sections, n_floats
from rapid_inr.compress.quantize import QuantizeConfig, dequantize, hidden_matrices, join_rows, quantize, split_rows

SPECS = [SirenSpec(1, 4, 30.0), SirenSpec(2, 3, 30.0), SirenSpec(4, 7, 15.0)]


def rows_of(spec, n=6, scale=0.3):
    return torch.randn(n, spec.n_weights, generator=torch.Generator().manual_seed(0)) * scale


@pytest.mark.parametrize("spec", SPECS)
def test_splitting_rows_and_joining_them_loses_nothing(spec):
    rows = rows_of(spec)
    hidden, rest = split_rows(rows, spec)
    assert hidden.shape == (6, spec.n_hidden_weights)
    assert rest.shape == (6, n_floats(spec, scales=0))
    assert torch.equal(join_rows(hidden, rest, spec), rows)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("ends_bits", [16, 32])
def test_the_error_of_a_hidden_weight_is_at_most_half_a_step_of_its_column(spec, ends_bits):
    rows = rows_of(spec)
    codes, floats = quantize(rows, spec, QuantizeConfig(ends_bits=ends_bits))
    section = float_sections(spec, scales=spec.hidden)["scales"]
    scales = floats[:, section.start : section.stop].float().unflatten(1, section.shape)  # [B, D-1, H]
    shape = (6, spec.depth - 1, spec.hidden, spec.hidden)
    error = (dequantize_hidden(codes, floats, spec) - split_rows(rows, spec)[0]).reshape(shape).abs()
    assert (error <= 0.5001 * scales.unsqueeze(2)).all()
    assert codes.dtype == torch.int8
    assert codes.numel() == 0 or codes.min() >= -127


def dequantize_hidden(codes, floats, spec):
    return split_rows(dequantize(codes, floats, spec), spec)[0]


def test_each_column_has_its_own_scale():
    spec = SirenSpec(2, 4, 30.0)
    rows = rows_of(spec)
    hidden = split_rows(rows, spec)[0].reshape(6, 4, 4)
    hidden_rows = (hidden * torch.tensor([1.0, 10.0, 100.0, 0.01])).flatten(1)
    codes, _ = quantize(join_rows(hidden_rows, split_rows(rows, spec)[1], spec), spec, QuantizeConfig(ends_bits=32))
    # the largest weight of every column has the largest code
    assert (codes.reshape(6, 4, 4).abs().amax(1) == 127).all()


def test_every_code_survives_a_round_trip():
    spec = SirenSpec(2, 16, 30.0)  # 256 hidden weights: 255 codes and one more
    codes = torch.cat([torch.arange(-127, 128), torch.tensor([127])]).to(torch.int8)
    codes = codes[torch.randperm(256, generator=torch.Generator().manual_seed(0))][None]
    codes[0, :16] = 127  # each column holds the largest code, so that its scale is 1 again
    floats = torch.zeros(1, n_floats(spec, scales=spec.hidden))
    section = float_sections(spec, scales=spec.hidden)["scales"]
    floats[:, section.start : section.stop] = 1.0
    assert torch.equal(quantize(dequantize(codes, floats, spec), spec, QuantizeConfig(ends_bits=32))[0], codes)


def test_a_column_of_zeros_stays_zero():
    spec = SirenSpec(2, 4, 30.0)
    rows = rows_of(spec)
    hidden, rest = split_rows(rows, spec)
    hidden = hidden.reshape(6, 4, 4).clone()
    hidden[:, :, 2] = 0
    codes, floats = quantize(join_rows(hidden.flatten(1), rest, spec), spec, QuantizeConfig())
    assert (codes.reshape(6, 4, 4)[:, :, 2] == 0).all()
    assert floats.isfinite().all()


@pytest.mark.parametrize("bits", [16, 32])
def test_floating_hidden_weights_are_kept_as_they_are(bits):
    spec = SPECS[2]
    rows = rows_of(spec)
    codes, floats = quantize(rows, spec, QuantizeConfig(bits=bits, ends_bits=bits))
    assert floats.shape[1] == n_floats(spec, scales=0)
    dtype = {16: torch.float16, 32: torch.float32}[bits]
    assert torch.equal(dequantize(codes, floats, spec), rows.to(dtype).float())


def test_a_weight_too_large_for_half_precision_is_refused():
    spec = SPECS[1]
    rows = rows_of(spec)
    rows[0, 0] = 1e6
    with pytest.raises(ValueError, match="quantize=fp32"):
        quantize(rows, spec, QuantizeConfig())
    quantize(rows, spec, QuantizeConfig(ends_bits=32))


@pytest.mark.parametrize("bad", [{"bits": 1}, {"bits": 9}, {"ends_bits": 8}, {"granularity": "row"}, {"range": "min"}])
def test_other_widths_are_refused(bad):
    with pytest.raises(ValueError, match=rf"quantize\.{next(iter(bad))} is .* expected one of"):
        QuantizeConfig(**bad)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("granularity", ["column", "tensor"])
def test_every_width_keeps_its_codes_symmetric_and_its_error_below_half_a_step(bits, granularity):
    spec = SPECS[2]
    rows, config = rows_of(spec), QuantizeConfig(bits, 32, granularity)
    codes, floats = quantize(rows, spec, config)
    assert (
        (int(codes.min()), int(codes.max())) == (-config.max_code, config.max_code) == (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    )
    assert floats.shape[1] == n_floats(spec, scales=spec.hidden if granularity == "column" else 1)
    scales = floats[:, n_floats(spec, scales=0) :].unflatten(1, (3, 1, -1))
    error = hidden_matrices(dequantize_hidden(codes, floats, spec) - split_rows(rows, spec)[0], spec).abs()
    assert (error <= 0.5001 * scales).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("granularity", ["column", "tensor"])
def test_the_range_of_least_error_has_less_error_than_the_full_one(bits, granularity):
    spec = SirenSpec(3, 16, 15.0)
    rows = rows_of(spec)
    errors = {}
    for name in ("max", "mse"):
        codes, floats = quantize(rows, spec, QuantizeConfig(bits, 32, granularity, name))
        errors[name] = (dequantize(codes, floats, spec) - rows).square().sum().item()
    assert errors["mse"] < (0.97 if bits < 6 else 1.0) * errors["max"]
