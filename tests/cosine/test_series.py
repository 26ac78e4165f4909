"""The analysis is the inverse of the decode's formula, and errors of coefficients are errors of pixels."""

import math

import pytest
import torch

from rapid_inr.cosine.series import along_axes, analyse, colour_axes, cosines, synthesise
from tests.images import smooth_images

IMAGES = smooth_images(5, 9, 7)


def test_cosines_are_orthogonal_at_the_centres_of_pixels():
    phi = cosines(7, 9).double()
    torch.testing.assert_close(phi @ phi.T / 9, torch.eye(7, dtype=torch.float64), rtol=0, atol=1e-6)
    assert phi[3, 4].item() == pytest.approx(math.sqrt(2) * math.cos(math.pi * 3 * 4.5 / 9), abs=1e-6)


def series_of(images):
    """Return all that a series has of square images, or of the shorter side of others."""
    z = analyse(images, min(images.shape[1:3]))
    colour, mean = colour_axes(z)
    return along_axes(z, colour, mean), colour, mean


def test_the_axes_of_colours_are_a_rotation_after_which_they_do_not_correlate():
    images = smooth_images(5, 8, 8)
    _, colour, mean = series_of(images)
    torch.testing.assert_close(colour.T @ colour, torch.eye(3), rtol=0, atol=1e-6)
    colours = images.reshape(-1, 3) / 255
    torch.testing.assert_close(mean, colours.mean(0))
    covariance = ((colours - mean) @ colour).T.cov()
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-5 * covariance.max()
    assert covariance.diag().tolist() == sorted(covariance.diag().tolist(), reverse=True)


@pytest.mark.parametrize("size", [(7, 7), (8, 8)])
def test_all_frequencies_give_the_pixels_back(size):
    images = smooth_images(4, *size)
    torch.testing.assert_close(synthesise(*series_of(images), size), images / 255, rtol=0, atol=1e-5)


def test_the_squared_error_of_pixels_is_a_third_of_that_of_coefficients():
    z, colour, mean = series_of(IMAGES)
    other = z + torch.randn(z.shape, generator=torch.Generator().manual_seed(0)) / 100
    error = synthesise(other, colour, mean, (9, 7)) - synthesise(z, colour, mean, (9, 7))
    torch.testing.assert_close(error.square().mean((1, 2, 3)), (other - z).square().sum(1) / 3)
