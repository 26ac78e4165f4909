"""Components are orthogonal in the weighted metric, the most an image can keep of few numbers, and even or odd."""

import pytest
import torch

from rapid_inr.cosine.components import largest_coefficients, mirror_signs, principal_components, project, weights
from rapid_inr.cosine.series import along_axes, analyse, colour_axes
from tests.images import smooth_images

F = 6


def series_of(images):
    z = analyse(images, F)
    return along_axes(z, *colour_axes(z))


Z = series_of(smooth_images(300, F, F))


def basis_of(n_coefficients, n_components):
    basis, places = principal_components(Z, n_coefficients, n_components)
    return basis.float(), places


def test_fine_detail_counts_more_in_brightness_and_the_same_in_colour():
    by_place = weights(torch.arange(3 * F * F), F).view(3, F, F)
    assert by_place[0, 0, 0] == 1
    assert by_place[0, 3, 4] == 2
    assert (by_place[0].diff(dim=0) > 0).all()
    assert (by_place[1:] == 2.5).all()


def test_components_are_orthogonal_but_for_rounding():
    basis, places = basis_of(60, 20)
    rows = torch.nn.functional.normalize(basis * weights(places, F).sqrt())
    torch.testing.assert_close(rows @ rows.T, torch.eye(20), rtol=0, atol=0.05)


def test_amplitudes_are_those_of_the_least_weighted_error():
    basis, places = basis_of(60, 20)
    amplitudes, lengths = project(Z, basis, places, F)
    scale = weights(places, F).sqrt().double()
    expected = torch.linalg.lstsq((basis * scale).T, (Z[:, places] * scale).T).solution.T
    torch.testing.assert_close(amplitudes / lengths, expected.float(), rtol=0, atol=1e-5)


def test_few_components_keep_more_than_as_many_coefficients():
    basis, places = basis_of(3 * F * F, 8)
    amplitudes, lengths = project(Z, basis, places, F)
    scale = weights(torch.arange(3 * F * F), F).sqrt()
    by_components = (Z - (amplitudes / lengths) @ basis) * scale
    energy = (Z * scale).square().sum(0).sort().values
    assert by_components.square().sum() < 0.9 * energy[:-8].sum()


def test_without_a_basis_amplitudes_are_coefficients():
    places = largest_coefficients(Z, 20)
    amplitudes, lengths = project(Z, None, places, F)
    torch.testing.assert_close(amplitudes / lengths, Z[:, places])
    by_matrix, same_lengths = project(Z, torch.eye(20), places, F)
    torch.testing.assert_close(by_matrix, amplitudes, rtol=0, atol=1e-6)
    torch.testing.assert_close(same_lengths, lengths)


@pytest.mark.parametrize("learned", [True, False])
def test_a_mirrored_image_has_amplitudes_of_the_signs_that_are_learned_from(learned):
    images = smooth_images(4, F, F, seed=1)
    z = analyse(images, F)
    colour, mean = colour_axes(z)
    z, mirrored = along_axes(z, colour, mean), along_axes(analyse(images.flip(2), F), colour, mean)
    basis, places = basis_of(60, 20) if learned else (None, largest_coefficients(Z, 20))
    signs = mirror_signs(basis, places, F)
    assert set(signs.tolist()) == {-1, 1}
    amplitudes, of_mirrored = (project(images, basis, places, F)[0] for images in (z, mirrored))
    torch.testing.assert_close(amplitudes * signs, of_mirrored, rtol=0, atol=1e-5)
