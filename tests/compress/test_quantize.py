import pytest
import torch

from kernels.spec import SirenSpec, end_sections, n_ends
from rapid_inr.compress.quantize import QuantizeConfig, Quantized, dequantize, quantize
from rapid_inr.inr.layout import hidden_matrices, join_rows, split_rows

SPECS = [SirenSpec(1, 4, 30.0), SirenSpec(2, 3, 30.0), SirenSpec(4, 7, 15.0)]


def rows_of(spec, n=6, scale=0.3):
    return torch.randn(n, spec.n_weights, generator=torch.Generator().manual_seed(0)) * scale


@pytest.mark.parametrize("spec", SPECS)
def test_splitting_rows_and_joining_them_loses_nothing(spec):
    rows = rows_of(spec)
    hidden, rest = split_rows(rows, spec)
    assert hidden.shape == (6, spec.n_hidden_weights)
    assert rest.shape == (6, n_ends(spec))
    assert torch.equal(join_rows(hidden, rest, spec), rows)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("ends_bits", [8, 16, 32])
def test_the_error_of_a_hidden_weight_is_at_most_half_a_step_of_its_column(spec, ends_bits):
    rows = rows_of(spec)
    stored = quantize(rows, spec, QuantizeConfig(ends_bits=ends_bits))
    scales = stored.scales.float().unflatten(1, (spec.depth - 1, 1, spec.hidden))
    error = hidden_matrices(dequantize_hidden(stored, spec) - split_rows(rows, spec)[0], spec).abs()
    assert (error <= 0.5001 * scales).all()
    assert stored.codes.dtype == torch.int8
    assert stored.scales.dtype == (torch.float32 if ends_bits == 32 else torch.float16)
    assert stored.codes.numel() == 0 or stored.codes.min() >= -127


def dequantize_hidden(stored, spec):
    return split_rows(dequantize(stored, spec), spec)[0]


@pytest.mark.parametrize("spec", SPECS)
def test_eight_bit_ends_have_a_scale_for_each_of_their_sections(spec):
    rows = rows_of(spec)
    ends, wanted = split_rows(rows, spec)[1], end_sections(spec).values()
    ends *= torch.cat([torch.full((section.size,), 10.0**i) for i, section in enumerate(wanted)])
    ends[0, : 2 * spec.hidden] = 0
    stored = quantize(join_rows(split_rows(rows, spec)[0], ends, spec), spec, QuantizeConfig(ends_bits=8))
    assert stored.ends.dtype == torch.int8
    assert stored.end_scales.shape == (6, 4)
    found = split_rows(dequantize(stored, spec), spec)[1]
    for i, section in enumerate(wanted):
        part = slice(section.start, section.stop)
        step = ends[:, part].abs().amax(1, keepdim=True) / 127
        assert ((found - ends)[:, part].abs() <= 0.501 * step).all()  # a scale is rounded up by at most 2^-10
        assert stored.ends[1:, part].abs().amax(1).tolist() == [127] * 5
        torch.testing.assert_close(stored.end_scales[1:, i].float(), step[1:, 0], atol=0, rtol=2**-10)
    assert (stored.ends[0, : 2 * spec.hidden] == 0).all()


def test_scales_of_a_dataset_suit_its_largest_weights():
    spec = SPECS[2]
    rows, config = rows_of(spec), QuantizeConfig(6, 32, "dataset")
    stored = quantize(rows, spec, config)
    assert stored.scales.shape == (1, 3)
    largest = hidden_matrices(split_rows(rows, spec)[0], spec).abs().amax((0, 2, 3))
    torch.testing.assert_close(stored.scales[0], largest / 31, atol=0, rtol=1e-6)
    error = hidden_matrices(dequantize_hidden(stored, spec) - split_rows(rows, spec)[0], spec).abs()
    assert (error <= 0.5001 * stored.scales[0][:, None, None]).all()
    given = quantize(rows[:2], spec, config, scales=stored.scales.unflatten(1, (3, 1)))
    assert torch.equal(given.codes, stored.codes[:2])
    assert torch.equal(given.scales, stored.scales)


def test_each_column_has_its_own_scale():
    spec = SirenSpec(2, 4, 30.0)
    rows = rows_of(spec)
    hidden = split_rows(rows, spec)[0].reshape(6, 4, 4)
    hidden_rows = (hidden * torch.tensor([1.0, 10.0, 100.0, 0.01])).flatten(1)
    codes = quantize(join_rows(hidden_rows, split_rows(rows, spec)[1], spec), spec, QuantizeConfig(ends_bits=32)).codes
    # the largest weight of every column has the largest code
    assert (codes.reshape(6, 4, 4).abs().amax(1) == 127).all()


def test_every_code_survives_a_round_trip():
    spec = SirenSpec(2, 16, 30.0)  # 256 hidden weights: 255 codes and one more
    codes = torch.cat([torch.arange(-127, 128), torch.tensor([127])]).to(torch.int8)
    codes = codes[torch.randperm(256, generator=torch.Generator().manual_seed(0))][None]
    codes[0, :16] = 127  # each column holds the largest code, so that its scale is 1 again
    stored = Quantized(codes, torch.zeros(1, n_ends(spec)), torch.ones(1, spec.hidden))
    assert torch.equal(quantize(dequantize(stored, spec), spec, QuantizeConfig(ends_bits=32)).codes, codes)


def test_a_column_of_zeros_stays_zero():
    spec = SirenSpec(2, 4, 30.0)
    rows = rows_of(spec)
    hidden, rest = split_rows(rows, spec)
    hidden = hidden.reshape(6, 4, 4).clone()
    hidden[:, :, 2] = 0
    stored = quantize(join_rows(hidden.flatten(1), rest, spec), spec, QuantizeConfig())
    assert (stored.codes.reshape(6, 4, 4)[:, :, 2] == 0).all()
    assert (stored.scales > 0).all()


@pytest.mark.parametrize("bits", [16, 32])
def test_floating_hidden_weights_are_kept_as_they_are(bits):
    spec = SPECS[2]
    rows = rows_of(spec)
    stored = quantize(rows, spec, QuantizeConfig(bits=bits, ends_bits=bits))
    assert stored.scales is None
    dtype = {16: torch.float16, 32: torch.float32}[bits]
    assert torch.equal(dequantize(stored, spec), rows.to(dtype).float())


def test_a_weight_too_large_for_half_precision_is_refused():
    spec = SPECS[1]
    rows = rows_of(spec)
    rows[0, 0] = 1e6
    with pytest.raises(ValueError, match="quantize=fp32"):
        quantize(rows, spec, QuantizeConfig())
    quantize(rows, spec, QuantizeConfig(ends_bits=32))
    rows[0, 0] = torch.nan
    for ends_bits in (8, 32):
        with pytest.raises(ValueError, match="not finite"):
            quantize(rows, spec, QuantizeConfig(ends_bits=ends_bits))


@pytest.mark.parametrize("bad", [{"bits": 1}, {"bits": 9}, {"ends_bits": 4}, {"granularity": "row"}, {"range": "min"}])
def test_other_widths_are_refused(bad):
    with pytest.raises(ValueError, match=rf"quantize\.{next(iter(bad))} is .* expected one of"):
        QuantizeConfig(**bad)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("granularity", ["column", "tensor", "dataset"])
def test_every_width_keeps_its_codes_symmetric_and_its_error_below_half_a_step(bits, granularity):
    spec = SPECS[2]
    rows, config = rows_of(spec), QuantizeConfig(bits, 32, granularity)
    stored = quantize(rows, spec, config)
    assert int(stored.codes.int().abs().max()) == config.max_code
    if granularity != "dataset":
        assert int(stored.codes.min()) == -config.max_code
    assert config.max_code == 2 ** (bits - 1) - 1
    assert stored.scales.shape == (1 if granularity == "dataset" else 6, 3 * (spec.hidden if granularity == "column" else 1))
    scales = stored.scales.unflatten(1, (3, 1, -1))
    error = hidden_matrices(dequantize_hidden(stored, spec) - split_rows(rows, spec)[0], spec).abs()
    assert (error <= 0.5001 * scales).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("granularity", ["column", "tensor", "dataset"])
def test_the_range_of_least_error_has_less_error_than_the_full_one(bits, granularity):
    spec = SirenSpec(3, 16, 15.0)
    rows = rows_of(spec)
    errors = {}
    for name in ("max", "mse"):
        stored = quantize(rows, spec, QuantizeConfig(bits, 32, granularity, name))
        errors[name] = (dequantize(stored, spec) - rows).square().sum().item()
    assert errors["mse"] < (0.97 if bits < 6 else 1.0) * errors["max"]
