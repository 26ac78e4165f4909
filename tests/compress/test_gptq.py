from dataclasses import replace

import pytest
import torch

from kernels.spec import SirenSpec, n_ends
from rapid_inr.compress import gptq as gptq_module
from rapid_inr.compress.fold import fold_biases
from rapid_inr.compress.gptq import gptq, hessian
from rapid_inr.compress.quantize import QuantizeConfig, Quantized, choose_scales, dequantize, quantize
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.fit import FitConfig, fit, measure_psnr
from rapid_inr.inr.layout import hidden_matrices, join_rows, split_rows
from rapid_inr.inr.siren import initial_weights, siren
from tests.images import smooth_images

SPEC = SirenSpec(3, 8, 10.0)
SIZE = {"height": 16, "width": 12}
INT6, INT5 = QuantizeConfig(6, 8, "tensor", "mse", "gptq"), QuantizeConfig(5, 8, "tensor", "mse", "gptq")


@pytest.fixture(scope="module")
def images():
    return smooth_images(6, **SIZE)


@pytest.fixture(scope="module")
def rows(images):
    fitted = fit(images, torch.arange(6), SPEC, FitConfig(steps=150, pixels_per_step=96))
    return fold_biases(fitted.weights, SPEC)


def select(stored, which):
    scales = stored.scales if stored.scales is None or len(stored.scales) == 1 else stored.scales[which]
    return Quantized(
        stored.codes[which], stored.ends[which], scales, None if stored.end_scales is None else stored.end_scales[which]
    )


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True) if x is not None)


def predicted(stored, rows):
    """Return e^T H e of the error that storing rows leaves."""
    error = (dequantize(stored, SPEC) - rows)[:, :, None]
    return (error.mT @ hessian(rows, SPEC, pixel_coords(**SIZE)) @ error).flatten()


@pytest.mark.parametrize("spec", [SirenSpec(1, 4, 30.0), SirenSpec(2, 3, 30.0), SirenSpec(4, 5, 15.0)])
def test_the_hessian_is_that_of_the_jacobian(spec, monkeypatch):
    monkeypatch.setattr(gptq_module, "PIXELS_AT_ONCE", 13)  # 35 pixels come in pieces, the last a smaller one
    rows, coords = initial_weights(spec, range(2), seed=0).double(), pixel_coords(7, 5).double()
    found = hessian(rows, spec, coords)
    for row, h in zip(rows, found, strict=True):
        jacobian = torch.func.jacrev(lambda r: siren(r[None], coords, spec).flatten())(row)  # [3P, S]
        torch.testing.assert_close(h, jacobian.T @ jacobian / len(jacobian), atol=1e-12, rtol=1e-10)


def test_codes_are_those_of_the_formula(rows):
    """In float64, weight by weight, with the factor divided by its diagonal."""
    h = hessian(rows[:1].double(), SPEC, pixel_coords(**SIZE).double())[0]
    order = gptq_module._order(SPEC)
    h = h[order[:, None], order]
    h += gptq_module.DAMPING * h.diagonal().mean() * torch.eye(len(h))
    r = torch.linalg.cholesky(h).T
    nearest, k = quantize(rows[:1], SPEC, INT6), n_ends(SPEC)
    w, taken = rows[0, order].double(), torch.empty(len(h), dtype=torch.float64)
    steps = torch.cat([end_steps(nearest), nearest.scales[0].float().repeat_interleave(SPEC.hidden**2).flip(0)])
    for i in reversed(range(len(h))):
        wanted = w[i] + (r[i, i + 1 :] / r[i, i] * (w[i + 1 :] - taken[i + 1 :])).sum()
        limit = 127 if i < k else 31
        taken[i] = (wanted / steps[i]).round().clamp(-limit, limit) * steps[i]
    found = dequantize(gptq(rows[:1], SPEC, INT6, **SIZE), SPEC)[0, order]
    # float32 may decide a tie otherwise, after which all that follow may differ
    assert ((found - taken).abs() < 1e-6).double().mean() > 0.9


def end_steps(stored):
    ones = replace(stored, codes=torch.zeros_like(stored.codes), ends=torch.ones_like(stored.ends))
    return split_rows(dequantize(ones, SPEC), SPEC)[1][0]


@pytest.mark.parametrize(("config", "gain_db"), [(INT6, 1.0), (INT5, 2.0)])
def test_what_rounding_costs_is_mostly_won_back_in_the_same_bytes(rows, images, config, gain_db):
    nearest, found = quantize(rows, SPEC, config), gptq(rows, SPEC, config, **SIZE)
    assert predicted(found, rows).mean() < 0.5 * predicted(nearest, rows).mean()
    psnr_db = [measure_psnr(stored.packed(), images, SPEC).mean() for stored in (nearest, found)]
    assert psnr_db[1] > psnr_db[0] + gain_db
    for name, value in vars(nearest).items():
        assert getattr(found, name).shape == value.shape
        assert getattr(found, name).dtype == value.dtype
    assert torch.equal(found.scales, nearest.scales)
    assert torch.equal(found.end_scales, nearest.end_scales)
    assert int(found.codes.int().abs().max()) <= config.max_code
    assert int(found.ends.int().abs().max()) <= 127


@pytest.mark.parametrize("ends_bits", [16, 32])
def test_floating_ends_make_up_for_what_is_left_before_they_are_cast(rows, images, ends_bits):
    config = QuantizeConfig(5, ends_bits, "column", "max", "gptq")
    found = gptq(rows, SPEC, config, **SIZE)
    assert found.ends.dtype == config.ends_dtype
    assert found.end_scales is None
    kept = replace(found, ends=quantize(rows, SPEC, config).ends)  # the same codes, and ends as they were fitted
    assert measure_psnr(found.packed(), images, SPEC).mean() > measure_psnr(kept.packed(), images, SPEC).mean() + 1
    # at the minimum that codes leave them: no ends near them have less error, by the Hessian and its damping
    order, k = gptq_module._order(SPEC), n_ends(SPEC)
    h = hessian(rows, SPEC, pixel_coords(**SIZE))[:, order[:, None], order]
    h.diagonal(dim1=1, dim2=2).add_(gptq_module.DAMPING * h.diagonal(dim1=1, dim2=2).mean(1, keepdim=True))
    error = (dequantize(found, SPEC) - rows)[:, order, None]
    slope = (h @ error)[:, :k]
    codes_alone = (h[:, :k, k:] @ error[:, k:]).norm()
    assert slope.norm() < (0.1 if ends_bits == 16 else 1e-3) * codes_alone  # measured 0.03, of the cast alone


def test_pruned_weights_stay_zero_and_the_others_make_up_for_each_other(rows):
    masks = torch.rand(6, SPEC.n_hidden_weights, generator=torch.Generator().manual_seed(1)) < 0.5
    hidden, ends = split_rows(rows, SPEC)
    pruned = join_rows(hidden * masks, ends, SPEC)
    found, unaware = gptq(pruned, SPEC, INT5, **SIZE, masks=masks), gptq(pruned, SPEC, INT5, **SIZE)
    left_out = ~masks
    assert (found.codes[left_out] == 0).all()
    assert (unaware.codes[left_out] != 0).any()
    cleared = replace(unaware, codes=torch.where(left_out, 0, unaware.codes))
    costs = [predicted(stored, pruned).mean() for stored in (found, cleared, quantize(pruned, SPEC, INT5))]
    assert costs[0] < 0.5 * min(costs[1:])


@pytest.mark.parametrize("granularity", ["column", "tensor", "dataset"])
def test_scales_that_are_given_are_kept(rows, granularity):
    config = QuantizeConfig(6, 8, granularity, "mse", "gptq")
    scales = choose_scales(hidden_matrices(split_rows(rows, SPEC)[0], SPEC), config)
    found = gptq(rows[:2], SPEC, config, **SIZE, scales=scales if granularity == "dataset" else scales[:2])
    assert torch.equal(found.scales.float(), scales[: len(found.scales)].flatten(1))
    assert same(found, select(gptq(rows, SPEC, config, **SIZE), slice(0, 2)))


@pytest.mark.parametrize("ends_bits", [8, 16])
def test_an_image_does_not_depend_on_its_batch(rows, monkeypatch, ends_bits):
    config = replace(INT6, ends_bits=ends_bits)
    whole = gptq(rows, SPEC, config, **SIZE)
    for part in (slice(0, 1), slice(2, 5), slice(5, 6)):
        assert same(gptq(rows[part], SPEC, config, **SIZE), select(whole, part))
    monkeypatch.setattr(gptq_module, "CPU_FACTOR_BYTES", 4 * 4 * SPEC.n_weights**2)
    assert same(gptq(rows, SPEC, config, **SIZE), whole)


def test_a_network_whose_hessian_has_no_factor_is_rounded_to_the_nearest(rows, monkeypatch):
    real = gptq_module.hessian

    def broken(some, *args):
        bad = torch.isin(some[:, 0], rows[[1, 4], 0])[:, None, None]
        return torch.where(bad, torch.full((), -1.0 if bool(some[0, 0] == rows[1, 0]) else torch.nan), real(some, *args))

    sound, nearest = gptq(rows, SPEC, INT6, **SIZE), quantize(rows, SPEC, INT6)
    monkeypatch.setattr(gptq_module, "hessian", broken)
    found = gptq(rows, SPEC, INT6, **SIZE)
    for i in range(6):
        expected = nearest if i in (1, 4) else sound
        assert torch.equal(found.codes[i], expected.codes[i])
        assert torch.equal(found.ends[i], expected.ends[i])
    assert not torch.equal(sound.codes[1], nearest.codes[1])


@pytest.mark.parametrize("config", [INT6, replace(INT6, ends_bits=16)])
def test_extreme_networks_are_stored_all_the_same(rows, config):
    extreme = torch.stack([torch.zeros(SPEC.n_weights), rows[0] * 1e4])
    found = gptq(extreme, SPEC, config, **SIZE)
    assert dequantize(found, SPEC).isfinite().all()
    assert (dequantize(found, SPEC)[0] == 0).all()


def test_a_weight_that_is_not_finite_is_refused_as_without(rows):
    with pytest.raises(ValueError, match="not finite"):
        gptq(torch.full_like(rows, torch.nan), SPEC, INT6, **SIZE)


def test_a_single_sine_layer_has_ends_alone_to_round():
    spec = SirenSpec(1, 8, 10.0)
    found = gptq(initial_weights(spec, range(2), seed=0), spec, INT6, **SIZE)
    assert found.codes.shape == (2, 0)
    assert found.ends.abs().amax() <= 127


def test_where_the_accelerator_is_the_result_is_as_good(rows, images, device):
    psnr_db = [measure_psnr(gptq(rows, SPEC, INT6, **SIZE, device=d).packed(), images, SPEC).mean() for d in ("cpu", device)]
    assert abs(psnr_db[0] - psnr_db[1]) < 0.3  # codes that differ by a last bit lead to others, about as good


@pytest.mark.parametrize("bits", [16, 32])
def test_floating_weights_have_nothing_to_round(bits):
    with pytest.raises(ValueError, match=rf"quantize\.rounding is 'gptq' with quantize\.bits={bits}, expected 2 to 8 bits"):
        QuantizeConfig(bits, rounding="gptq")
