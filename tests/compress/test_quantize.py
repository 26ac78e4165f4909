import pytest
import torch

from kernels.spec import SirenSpec, float_sections, n_floats
from rapid_inr.compress.quantize import QuantizeConfig, dequantize, join_rows, quantize, split_rows

SPECS = [SirenSpec(1, 4, 30.0), SirenSpec(2, 3, 30.0), SirenSpec(4, 7, 15.0)]


def rows_of(spec, n=6, scale=0.3):
    return torch.randn(n, spec.n_weights, generator=torch.Generator().manual_seed(0)) * scale


@pytest.mark.parametrize("spec", SPECS)
def test_splitting_rows_and_joining_them_loses_nothing(spec):
    rows = rows_of(spec)
    hidden, rest = split_rows(rows, spec)
    assert hidden.shape == (6, spec.n_hidden_weights)
    assert rest.shape == (6, n_floats(spec, scales=False))
    assert torch.equal(join_rows(hidden, rest, spec), rows)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("ends_bits", [16, 32])
def test_the_error_of_a_hidden_weight_is_at_most_half_a_step_of_its_column(spec, ends_bits):
    rows = rows_of(spec)
    codes, floats = quantize(rows, spec, QuantizeConfig(ends_bits=ends_bits))
    section = float_sections(spec, scales=True)["scales"]
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
    floats = torch.zeros(1, n_floats(spec, scales=True))
    section = float_sections(spec, scales=True)["scales"]
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
    assert floats.shape[1] == n_floats(spec, scales=False)
    dtype = {16: torch.float16, 32: torch.float32}[bits]
    assert torch.equal(dequantize(codes, floats, spec), rows.to(dtype).float())


def test_a_weight_too_large_for_half_precision_is_refused():
    spec = SPECS[1]
    rows = rows_of(spec)
    rows[0, 0] = 1e6
    with pytest.raises(ValueError, match="ends_bits=32"):
        quantize(rows, spec, QuantizeConfig())
    quantize(rows, spec, QuantizeConfig(ends_bits=32))


@pytest.mark.parametrize("bad", [{"bits": 7}, {"ends_bits": 8}])
def test_other_widths_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        QuantizeConfig(**bad)
