import numpy as np
import pytest

from rapid_inr.data import moments
from rapid_inr.data.moments import ChannelMoments


def random_images(seed: int, *shape: int) -> np.ndarray:
    # channels of different spread, so that one taken for another shows
    return (np.random.default_rng(seed).random((*shape, 3)) ** [0.5, 1, 3] * 255).astype(np.uint8)


def test_mean_and_std_are_those_of_all_pixels_in_0_to_1():
    first, second = random_images(0, 5, 8, 8), random_images(1, 7, 9)
    found = ChannelMoments()
    found.add(first)
    found.add(second)
    mean, std = found.mean_std()
    pixels = np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)]).astype(np.float64) / 255
    assert found.n_pixels == 5 * 8 * 8 + 7 * 9
    np.testing.assert_allclose(mean, pixels.mean(0), atol=1e-12)
    np.testing.assert_allclose(std, pixels.std(0), atol=1e-12)


def test_neither_order_nor_chunks_matter(monkeypatch):
    images = random_images(2, 9, 6, 6)
    results = []
    for pixels_at_once, order in ((1 << 22, 1), (7, -1)):
        monkeypatch.setattr(moments, "CHUNK_PIXELS", pixels_at_once)
        found = ChannelMoments()
        for image in images[::order]:
            found.add(image)
        results.append(found.mean_std())
    whole = ChannelMoments()
    whole.add(images)
    assert results == [whole.mean_std()] * 2


def test_a_channel_without_contrast_can_still_be_divided_by():
    found = ChannelMoments()
    found.add(np.full((4, 4, 3), (0, 128, 255), dtype=np.uint8))
    mean, std = found.mean_std()
    assert mean == (0.0, 128 / 255, 1.0)
    assert std == (1 / 255,) * 3


def test_the_result_is_plain_floats():
    found = ChannelMoments()
    found.add(random_images(3, 4, 4))
    assert all(type(value) is float for triple in found.mean_std() for value in triple)


def test_no_pixels_have_no_mean():
    with pytest.raises(ValueError, match="no pixel was counted"):
        ChannelMoments().mean_std()


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2, 3)), np.zeros((2, 2, 4), dtype=np.uint8), np.zeros((3, 6, 6), dtype=np.uint8)]
)
def test_other_pixels_than_8_bit_rgb_are_refused(pixels):
    with pytest.raises(ValueError, match=r"expected uint8 \[\.\.\., 3\]"):
        ChannelMoments().add(pixels)


def test_moments_of_parts_are_those_of_the_whole():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3), dtype=np.uint8)
    whole, parts = ChannelMoments(), [ChannelMoments(), ChannelMoments()]
    whole.add(pixels)
    parts[0].add(pixels[:7])
    parts[1].add(pixels[7:])
    parts[0].include(parts[1])
    assert parts[0].mean_std() == whole.mean_std()
