import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.compress.projection import Projection
from rapid_inr.compress.quantize import QuantizeConfig, dequantize, quantize
from rapid_inr.inr.layout import split_rows

SPEC = SirenSpec(3, 6, 15.0)


def rows_of(n=4):
    return torch.randn(n, SPEC.n_weights, generator=torch.Generator().manual_seed(0)) * 0.2


def masks_of(n=4):
    return torch.rand(n, SPEC.n_hidden_weights, generator=torch.Generator().manual_seed(1)) < 0.6


@pytest.mark.parametrize("granularity", ["column", "tensor", "dataset"])
@pytest.mark.parametrize("range_", ["max", "mse"])
@pytest.mark.parametrize("ends_bits", [8, 16])
@pytest.mark.parametrize("masks", [None, masks_of()])
def test_forward_is_what_storing_with_its_scales_leaves(granularity, range_, masks, ends_bits):
    config = QuantizeConfig(4, ends_bits, granularity, range_)
    projection = Projection.of(rows_of(), SPEC, masks=masks, quantize=config)
    there = projection.forward(rows_of())
    again = dequantize(quantize(there, SPEC, config, scales=projection.scales()), SPEC)
    assert torch.equal(there, again)
    if masks is not None:
        assert (split_rows(there, SPEC)[0][~masks] == 0).all()


def test_without_rounding_only_the_mask_acts():
    masks, rows = masks_of(), rows_of()
    projection = Projection.of(rows, SPEC, masks=masks)
    hidden, rest = split_rows(projection.forward(rows), SPEC)
    assert torch.equal(hidden, split_rows(rows, SPEC)[0] * masks)
    assert torch.equal(rest, split_rows(rows, SPEC)[1])
    grad, scale_grad = projection.backward(rows, torch.ones_like(rows))
    assert torch.equal(split_rows(grad, SPEC)[0], masks.float())
    assert scale_grad.numel() == 0


@pytest.mark.parametrize("granularity", ["column", "tensor"])
def test_the_gradient_of_the_scales_is_that_of_the_rounded_weights(granularity):
    # a scale moves every code's value along: compare with finite differences of sum(grad * forward) where no code changes
    config = QuantizeConfig(3, 32, granularity, "mse")
    rows = rows_of()
    projection = Projection.of(rows, SPEC, masks=masks_of(), quantize=config)
    hidden = split_rows(rows, SPEC)[0]
    grad = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2))
    _, scale_grad = projection.backward(rows, grad)
    codes = quantize(projection.forward(rows), SPEC, config, scales=projection.scales()).codes.float()
    scales = projection.scales().unsqueeze(2)
    shape = (4, 2, 6, 6)
    exact = hidden.reshape(shape) / scales
    slope = codes.reshape(shape) - torch.where(exact.abs() <= config.max_code, exact, 0)
    masked = (split_rows(grad, SPEC)[0] * projection.masks).reshape(shape)
    expected = (masked * slope * scales).sum((2,) if granularity == "column" else (2, 3))
    torch.testing.assert_close(scale_grad, expected.reshape(scale_grad.shape), atol=1e-5, rtol=1e-5)


def test_a_clipped_weight_gets_no_gradient():
    config = QuantizeConfig(2, 32, "tensor")
    rows = rows_of(1)
    projection = Projection.of(rows, SPEC, quantize=config)
    smaller = Projection(SPEC, None, config, projection.log_scales - 2.0)
    hidden = split_rows(rows, SPEC)[0].reshape(1, 2, 36)
    grad = split_rows(smaller.backward(rows, torch.ones_like(rows))[0], SPEC)[0].reshape(1, 2, 36)
    outside = hidden.abs() > smaller.scales().reshape(1, 2, 1)
    assert torch.equal(grad == 0, outside)
    assert 0 < outside.float().mean() < 1


def test_selecting_rows_selects_their_masks_and_scales():
    projection = Projection.of(rows_of(), SPEC, masks=masks_of(), quantize=QuantizeConfig(4))
    some = projection.select(torch.tensor([2, 0]))
    assert torch.equal(some.forward(rows_of()[[2, 0]]), projection.forward(rows_of())[[2, 0]])


def test_the_gradient_passes_straight_through_the_rounding_of_ends():
    projection = Projection.of(rows_of(), SPEC, quantize=QuantizeConfig(4, 8))
    rows = rows_of()
    assert not torch.equal(split_rows(projection.forward(rows), SPEC)[1], split_rows(rows, SPEC)[1])
    grad = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(split_rows(projection.backward(rows, grad)[0], SPEC)[1], split_rows(grad, SPEC)[1])


def test_scales_that_all_images_share_are_not_learned():
    projection = Projection.of(rows_of(), SPEC, quantize=QuantizeConfig(4, 16, "dataset"))
    assert projection.log_scales.shape == (1, 2, 1)
    row_grad, scale_grad = projection.backward(rows_of(), torch.ones_like(rows_of()))
    assert row_grad.any()
    assert scale_grad.shape == projection.log_scales.shape
    assert not scale_grad.any()
    assert torch.equal(projection.select(slice(1, 3)).log_scales, projection.log_scales)
