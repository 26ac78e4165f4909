import pytest
import torch

from kernels.spec import SirenSpec, weight_sections
from rapid_inr.compress.freeze import FIRST_AT, LAST_AT, NOISE, Freezing, freeze, round_in_turn
from rapid_inr.compress.quantize import QuantizeConfig, choose_scales, dequantize, quantize
from rapid_inr.inr.fit import FitConfig, fit, measure_psnr
from rapid_inr.inr.layout import hidden_matrices, split_rows
from tests.images import smooth_images

SPEC = SirenSpec(3, 6, 15.0)
INT5 = QuantizeConfig(5, 8, "tensor", "mse")


def rows_of(n=4, seed=0):
    return torch.randn(n, SPEC.n_weights, generator=torch.Generator().manual_seed(seed)) * 0.2


def weights_of(rows, layer):
    section = weight_sections(SPEC)[f"weight_{layer}"]
    return rows[:, section.start : section.stop]


def test_layers_are_frozen_from_front_to_back_and_then_neither_move_nor_have_a_gradient():
    freezing, ones = Freezing(rows_of(), SPEC, INT5), torch.ones_like(rows_of())
    frozen = []
    for done, n_frozen in ((0.0, 0), (FIRST_AT, 1), (0.4, 1), ((FIRST_AT + LAST_AT) / 2 + 0.01, 2), (LAST_AT, 3), (1.0, 3)):
        before, after = (freezing.forward(rows_of(seed=seed), done) for seed in (1, 2))
        grad, scale_grad = freezing.backward(after, ones)
        for layer in range(SPEC.depth + 1):
            assert torch.equal(weights_of(before, layer), weights_of(after, layer)) == (layer < n_frozen)
            assert (weights_of(grad, layer) == (0 if layer < n_frozen else 1)).all()
        frozen.append(weights_of(after, 0))
    assert scale_grad.numel() == 0
    assert all(torch.equal(first, frozen[1]) for first in frozen[2:])


def test_hidden_weights_that_are_not_frozen_have_noise_below_their_rounding_error():
    rows = rows_of()
    freezing = Freezing(rows, SPEC, INT5)
    noise = [(freezing.forward(rows, done) - rows).abs() for done in (0.0, 0.1)]
    hidden, ends = split_rows(noise[0], SPEC)
    widths = choose_scales(hidden_matrices(split_rows(rows, SPEC)[0], SPEC), QuantizeConfig(5, 8, "tensor", "max"))
    relative = hidden_matrices(hidden, SPEC) / widths.unsqueeze(2)
    assert NOISE / 3 < relative.max() < NOISE / 2 + 1e-4
    assert (ends == 0).all()
    assert not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("granularity", ["column", "tensor", "dataset"])
@pytest.mark.parametrize("ends_bits", [8, 16])
def test_what_is_frozen_is_what_a_store_keeps(granularity, ends_bits):
    config, rows = QuantizeConfig(5, ends_bits, granularity, "mse"), rows_of()
    shared = choose_scales(hidden_matrices(split_rows(rows, SPEC)[0], SPEC), config) if granularity == "dataset" else None
    freezing = Freezing(rows, SPEC, config, scales=shared)
    whole = freezing.forward(rows)
    stored = dequantize(quantize(whole, SPEC, config, scales=freezing.all_scales()), SPEC)
    for layer in range(SPEC.depth):
        assert torch.equal(weights_of(stored, layer), weights_of(whole, layer))
    assert shared is None or torch.equal(freezing.all_scales(), shared)


def test_a_layer_that_is_rounded_in_turn_changes_its_outputs_less_than_one_rounded_to_the_nearest():
    generator = torch.Generator().manual_seed(0)
    matrices, config = torch.randn(3, 8, 8, generator=generator), QuantizeConfig(3, 8, "column")
    inputs = torch.randn(3, 200, 8, generator=generator) @ torch.randn(8, 8, generator=generator)  # correlated
    scales = choose_scales(matrices[:, None], config).squeeze(1)
    in_turn = round_in_turn(matrices, inputs, scales, config)
    codes = in_turn / scales[:, None]
    torch.testing.assert_close(codes, codes.round())
    assert codes.abs().max() <= config.max_code
    nearest = (matrices / scales[:, None]).round() * scales[:, None]
    errors = [(inputs @ (rounded - matrices)).square().mean((1, 2)) for rounded in (in_turn, nearest)]
    assert (errors[0] < 0.8 * errors[1]).all()
    assert torch.equal(round_in_turn(matrices[1:2], inputs[1:2], scales[1:2], config)[0], in_turn[1])


def test_pruned_weights_stay_zero_though_others_make_errors():
    spec, generator = SirenSpec(3, 16, 15.0), torch.Generator().manual_seed(1)
    masks = torch.rand(4, spec.n_hidden_weights, generator=generator) < 0.6
    start = torch.randn(4, spec.n_weights, generator=generator) * 0.02
    freezing = Freezing(start, spec, INT5, masks=masks)
    for done in (0.0, 0.5, 1.0):
        rows = freezing.forward(start, done)
        assert (split_rows(rows, spec)[0][~masks] == 0).all()
        assert (split_rows(freezing.backward(rows, torch.ones_like(rows))[0], spec)[0][~masks] == 0).all()


def test_training_between_makes_up_for_the_rounding():
    images = smooth_images(8, 16, 16)
    config = FitConfig(steps=150, pixels_per_step=64)
    fitted = fit(images, torch.arange(8), SPEC, config)
    rows, scales = freeze(fitted.weights, images, SPEC, config, INT5, device=torch.device("cpu"))
    psnr = [
        measure_psnr(quantize(some, SPEC, INT5, scales=its_scales).packed(), images, SPEC).mean()
        for some, its_scales in ((fitted.weights, None), (rows, scales))
    ]
    assert psnr[1] > psnr[0] + 2  # measured 5.0; from 1.5 to 5 over sets of 3 to 16 images


def test_a_network_without_hidden_weights_is_frozen_too():
    spec = SirenSpec(1, 6, 15.0)
    rows, scales = freeze(
        torch.ones(2, spec.n_weights), smooth_images(2, 8, 8), spec, FitConfig(steps=5), INT5, device=torch.device("cpu")
    )
    assert quantize(rows, spec, INT5, scales=scales).codes.shape == (2, 0)


def test_a_row_that_diverges_stays_as_it_was_and_the_others_are_frozen():
    rows, images = rows_of(2), smooth_images(2, 8, 8)
    rows[1, 0] = torch.inf
    result, scales = freeze(rows, images, SPEC, FitConfig(steps=10, lr=1e-3), INT5, device=torch.device("cpu"))
    assert torch.equal(result[1], rows[1])
    assert not torch.equal(result[0], rows[0])
    assert scales.isfinite().all()


def test_frozen_images_do_not_depend_on_their_batch():
    rows, images = rows_of(3), smooth_images(3, 8, 8)
    together, scales = freeze(rows, images, SPEC, FitConfig(steps=20, lr=1e-3), INT5, device=torch.device("cpu"))
    config = FitConfig(steps=20, lr=1e-3, max_batch=1)
    alone, own_scales = freeze(rows, images, SPEC, config, INT5, device=torch.device("cpu"))
    assert torch.equal(together, alone)
    assert torch.equal(scales, own_scales)
