import math

import numpy as np
import pytest
import torch

from kernels.spec import SirenSpec, weight_sections
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.siren import (
    GradientWorkspace,
    default_omega,
    even_start,
    initial_weights,
    layer_views,
    omega_factors,
    random_words,
    siren,
)

SPEC = SirenSpec(depth=3, hidden=5, omega=7.0)


def one_pixel_in_plain_python(row, spec, coordinate):
    sections = weight_sections(spec)
    h = list(coordinate)
    for layer, (fan_in, fan_out) in enumerate(spec.fans):
        weight, bias = sections[f"weight_{layer}"].start, sections[f"bias_{layer}"].start
        z = [sum(h[i] * row[weight + i * fan_out + j] for i in range(fan_in)) + row[bias + j] for j in range(fan_out)]
        h = z if layer == spec.depth else [math.sin(spec.omega * value) for value in z]
    return h


def test_a_pixel_is_what_the_formula_says():
    rows = initial_weights(SPEC, [3, 8], seed=1).double()
    coords = torch.tensor([[0.25, -0.75], [-1.0, 0.5]], dtype=torch.float64)
    rgb = siren(rows, coords, SPEC)
    for b, row in enumerate(rows.tolist()):
        for p, coordinate in enumerate(coords.tolist()):
            assert rgb[b, p].tolist() == pytest.approx(one_pixel_in_plain_python(row, SPEC, coordinate), abs=1e-12)


@pytest.mark.parametrize("parts", [(12, 12), (13, 11), (11, 13)])  # a workspace takes passes of its size and smaller ones
@pytest.mark.parametrize("spec", [SPEC, SirenSpec(1, 4, 30.0), SirenSpec(2, 16, 15.0)])
def test_the_hand_written_gradient_is_that_of_autograd(spec, parts):
    rows = initial_weights(spec, range(3), seed=0)
    coords, target = pixel_coords(4, 6), torch.rand(3, 24, 3, generator=torch.Generator().manual_seed(0))
    reference = rows.double().requires_grad_()
    (((siren(reference, coords.double(), spec) - target) ** 2).mean((1, 2)).sum()).backward()

    factors = omega_factors(spec)
    folded, grad = rows * factors, torch.zeros_like(rows)
    workspace = GradientWorkspace(spec, n_images=3, n_pixels=max(parts), device=torch.device("cpu"))
    for part in (slice(0, parts[0]), slice(parts[0], 24)):  # two passes add up
        layers, grads = layer_views(folded, spec), layer_views(grad, spec)
        workspace.add_gradient(layers, grads, coords[part].expand(3, -1, -1), target[:, part], scale=2 / (3 * 24))
    # sines off by up to 1e-5 against float64: measured 5.6e-6 of the largest entry
    assert torch.allclose((grad * factors).double(), reference.grad, atol=3e-5 * reference.grad.abs().max().item(), rtol=0)


def mix_in_plain_python(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_random_words_are_those_of_splitmix64():
    gamma, ids = 0x9E3779B97F4A7C15, [0, 5, 2**63 - 1]
    assert mix_in_plain_python((1234567 + gamma) % 2**64) == 6457827717110365317  # the published first word of this seed
    for number, words in zip(ids, random_words(torch.tensor(ids), 4, 2**63 - 1, 3).tolist(), strict=True):
        state = mix_in_plain_python((number + gamma) % 2**64)
        for key in (2**63 - 1, 3):
            state = mix_in_plain_python(state ^ key)
        assert [word % 2**64 for word in words] == [mix_in_plain_python((state + j * gamma) % 2**64) for j in range(1, 5)]


def test_words_of_images_do_not_hang_together():
    words = random_words(torch.arange(500), 40, 0, 0)
    assert len(words.unique()) == words.numel()
    bits = (words[..., None] >> torch.arange(64) & 1).double()  # [500, 40, 64]
    assert (bits.mean(0) - 0.5).abs().max() < 0.13  # six standard deviations of 500 fair coins
    assert ((bits[1:] == bits[:-1]).double().mean((1, 2)) - 0.5).abs().max() < 0.06  # of 2,560 coins


@pytest.mark.parametrize("draw", [initial_weights, even_start])
def test_a_start_depends_on_seed_and_id_alone(draw):
    together = draw(SPEC, [4, 7, 100_000], seed=3)
    assert torch.equal(together[1:2], draw(SPEC, [7], seed=3))
    assert not torch.equal(together[0], together[1])
    for other in (draw(SPEC, [7], seed=4), draw(SPEC, [7], seed=3, attempt=1)):
        (first_weight, _), *_ = layer_views(other, SPEC)
        assert not torch.equal(first_weight, layer_views(together[1:2], SPEC)[0][0])


def test_an_even_start_has_a_wave_in_every_part_of_its_range():
    spec = SirenSpec(3, 64, 15.0)
    rows = even_start(spec, range(5), seed=0)
    (weight, bias), *layers = layer_views(rows, spec)  # [5, 2, 64], [5, 1, 64]
    waves = torch.cat([weight / 0.5, bias * 15 / math.pi], 1)  # of frequency and phase, in [-1, 1)
    assert waves.min() >= -1
    assert waves.max() < 1
    for axes in ((0, 1), (0, 2), (1, 2)):  # eight by eight fields of two of them: one wave in each
        fields = ((waves[:, axes] + 1) * 4).long()
        assert all(len(set(zip(*one.tolist(), strict=True))) == 64 for one in fields)
    drawn = layer_views(initial_weights(spec, range(5), seed=0), spec)[1:]
    assert all(torch.equal(ours, theirs) for (ours, _), (theirs, _) in zip(layers[:-1], drawn[:-1], strict=True))
    assert not any(bias.any() for _, bias in layers[:-1])


def test_an_even_start_is_a_grey_image():
    rows = even_start(SPEC, range(2), seed=0)
    rgb = siren(rows, pixel_coords(4, 5), SPEC)
    assert torch.equal(rgb, torch.full_like(rgb, 0.5))


def test_initial_weights_fill_the_published_bounds():
    spec = SirenSpec(2, 64, 30.0)
    rows = initial_weights(spec, range(20), seed=0)
    for i, (weight, bias) in enumerate(layer_views(rows, spec)):
        fan_in = spec.fans[i][0]
        bound = 0.5 if i == 0 else math.sqrt(6 / fan_in) / 30
        assert 0.97 * bound < weight.abs().max() <= bound
        assert abs(weight.mean()) < 0.05 * bound
        if i < spec.depth:
            assert 0.9 / math.sqrt(fan_in) < bias.abs().max() <= 1 / math.sqrt(fan_in)
        else:
            assert torch.equal(bias, torch.full_like(bias, 0.5))


def test_layer_views_share_memory_with_their_row():
    rows = torch.arange(2 * SPEC.n_weights, dtype=torch.float32).reshape(2, -1)
    views = layer_views(rows, SPEC)
    assert sum(w[0].numel() + b[0].numel() for w, b in views) == SPEC.n_weights
    assert np.array_equal(np.concatenate([np.concatenate([w[1].flatten(), b[1].flatten()]) for w, b in views]), rows[1].numpy())
    views[1][0][0, 2, 3] = -1
    assert (rows == -1).sum() == 1


def test_omega_is_that_of_the_resolution():
    assert (default_omega(32, 32), default_omega(64, 48), default_omega(64, 65), default_omega(512, 768)) == (15, 15, 30, 30)
