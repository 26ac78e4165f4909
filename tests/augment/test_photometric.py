import pytest
import torch

from rapid_inr.augment.photometric import GREY, cut_out, jitter_colours, mix_neighbours
from rapid_inr.augment.policy import AugmentParams

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.25, 0.2, 0.15])


def normalised(rgb: torch.Tensor) -> torch.Tensor:
    return (rgb - MEAN[:, None, None]) / STD[:, None, None]


def shown(images: torch.Tensor) -> torch.Tensor:
    return images * STD[:, None, None] + MEAN[:, None, None]


def random_rgb(n_images: int = 3) -> torch.Tensor:
    return torch.rand(n_images, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def params(keeps: list[float], pastes: list[list[float]]) -> AugmentParams:
    still = torch.zeros(len(keeps), 2, dtype=torch.int64)
    return AugmentParams(still, still[:, 0].bool(), keeps=torch.tensor(keeps), pastes=torch.tensor(pastes))


def test_colours_follow_the_formula_image_by_image():
    rgb, factors = random_rgb(), torch.tensor([[1.3, 1.0, 1.0], [0.8, 1.4, 1.0], [1.2, 0.7, 0.5]])
    found = shown(jitter_colours(normalised(rgb), factors, mean=MEAN, std=STD))
    weights = torch.tensor(GREY)[:, None, None]
    for image, (brightness, contrast, saturation), result in zip(rgb, factors.tolist(), found, strict=True):
        bright = (image * brightness).clamp(0, 1)
        level = (bright * weights).sum(0).mean()
        even = (level + (bright - level) * contrast).clamp(0, 1)
        grey = (even * weights).sum(0)
        torch.testing.assert_close(result, (grey + (even - grey) * saturation).clamp(0, 1), atol=1e-6, rtol=0)


def test_factors_of_one_change_nothing():
    images = normalised(random_rgb())
    torch.testing.assert_close(jitter_colours(images, torch.ones(3, 3), mean=MEAN, std=STD), images, atol=2e-6, rtol=0)


def test_the_dtype_stays():
    images = normalised(random_rgb()).bfloat16()
    assert jitter_colours(images, torch.ones(3, 3), mean=MEAN, std=STD).dtype == torch.bfloat16


def test_a_square_is_cut_out_around_its_centre():
    images = torch.ones(3, 2, 6, 8)
    cut = cut_out(images, torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.25]]), 4) == 0
    assert torch.equal(cut[:, 0], cut[:, 1])
    for found, (rows, columns) in zip(cut[:, 0], [((1, 5), (2, 6)), ((0, 2), (0, 2)), ((4, 6), (0, 4))], strict=True):
        expected = torch.zeros(6, 8, dtype=torch.bool)
        expected[slice(*rows), slice(*columns)] = True
        assert torch.equal(found, expected)


def test_mixup_blends_with_the_image_before():
    images = random_rgb()
    mixed, keeps = mix_neighbours(images, images.roll(1, 0), params([1.0, 0.25, 0.6], [[0.5, 0.5]] * 3), paste=False)
    assert keeps.tolist() == pytest.approx([1.0, 0.25, 0.6])
    torch.testing.assert_close(mixed[0], images[0])
    torch.testing.assert_close(mixed[1], 0.25 * images[1] + 0.75 * images[0])
    torch.testing.assert_close(mixed[2], 0.6 * images[2] + 0.4 * images[1])


def test_cutmix_pastes_and_counts_what_was_pasted():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 2, 8, 8)
    mixed, keeps = mix_neighbours(
        images, images.roll(1, 0), params([1.0, 0.75, 0.75], [[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]), paste=True
    )
    assert keeps.tolist() == [1.0, 1 - 16 / 64, 1 - 4 / 64]
    assert torch.equal(mixed[0], images[0])
    expected = torch.ones(8, 8)
    expected[2:6, 2:6] = 0.0
    assert torch.equal(mixed[1, 0], expected)
    assert (mixed[2] == 1.0).sum() == 2 * 4
