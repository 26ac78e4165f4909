import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rapid_inr.evaluation.metrics import (
    BATCH_PIXELS,
    MAX_PSNR_DB,
    bpp,
    confusion,
    images_at_once,
    miou_pct,
    psnr_db,
    rgb_pct,
    ssim,
    to_8bit,
)


def random_images(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_psnr_is_the_formula_in_plain_python():
    decoded, original = random_images(2, 3, 4, 5, seed=0), random_images(2, 3, 4, 5, seed=1)
    for i, found in enumerate(psnr_db(decoded, original).tolist()):
        pairs = list(zip(decoded[i].flatten().tolist(), original[i].flatten().tolist(), strict=True))
        mse = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
        assert found == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-12)


def test_the_largest_error_is_0_db_and_does_not_wrap_around():
    black, white = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert psnr_db(black, white).tolist() == psnr_db(white, black).tolist() == [0.0]


def test_equal_images_have_the_largest_psnr():
    images = random_images(3, 8, 8, 3, seed=2)
    assert psnr_db(images, images).tolist() == [MAX_PSNR_DB] * 3 == [100.0] * 3


def test_an_image_keeps_its_psnr_in_any_batch():
    decoded, original = random_images(5, 7, 9, 3, seed=3), random_images(5, 7, 9, 3, seed=4)
    together = psnr_db(decoded, original)
    assert together.dtype == torch.float64
    assert together.tolist() == [psnr_db(decoded[i : i + 1], original[i : i + 1]).item() for i in range(5)]


def test_psnr_in_parts_is_the_same(monkeypatch):
    decoded, original = random_images(5, 7, 9, 3, seed=3), random_images(5, 7, 9, 3, seed=4)
    whole = psnr_db(decoded, original)
    for batch_pixels in (1, 63, 2 * 63):
        monkeypatch.setattr("rapid_inr.evaluation.metrics.BATCH_PIXELS", batch_pixels)
        assert torch.equal(psnr_db(decoded, original), whole)


def test_images_at_once_hold_a_bounded_number_of_pixels():
    assert images_at_once(1024) * 1024 == BATCH_PIXELS
    assert images_at_once(1 << 30) == images_at_once(BATCH_PIXELS) == 1


def test_no_images_have_no_psnr():
    assert psnr_db(random_images(0, 4, 4, 3, seed=0), random_images(0, 4, 4, 3, seed=0)).shape == (0,)


@pytest.mark.parametrize("swap", [False, True])
def test_psnr_before_rounding_is_refused(swap):
    images = random_images(1, 4, 4, 3, seed=0)
    pair = (images, images.float()) if swap else (images.float(), images)
    with pytest.raises(ValueError, match=r"takes uint8 images, got .*float32"):
        psnr_db(*pair)


def test_psnr_of_different_shapes_is_refused():
    with pytest.raises(ValueError, match=r"differ in shape: \(1, 4, 4, 3\) and \(1, 3, 4, 4\)"):
        psnr_db(random_images(1, 4, 4, 3, seed=0), random_images(1, 3, 4, 4, seed=0))


def ssim_by_formula(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the SSIM of two planes [height, width], window by window and pixel by pixel."""
    offsets = range(-5, 6)
    gauss = [[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in offsets] for i in offsets]
    total = sum(map(sum, gauss))
    found = []
    for row in range(5, x.shape[0] - 5):
        for column in range(5, x.shape[1] - 5):
            window = [
                (gauss[i + 5][j + 5] / total, float(x[row + i, column + j]), float(y[row + i, column + j]))
                for i in offsets for j in offsets
            ]  # fmt: skip
            mean_x, mean_y = sum(w * a for w, a, _ in window), sum(w * b for w, _, b in window)
            var_x, var_y = sum(w * (a - mean_x) ** 2 for w, a, _ in window), sum(w * (b - mean_y) ** 2 for w, _, b in window)
            covariance = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in window)
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
            found.append(above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
    return sum(found) / len(found)


def test_ssim_is_the_formula_in_plain_python():
    original = random_images(2, 12, 14, 3, seed=0)
    noise = random_images(2, 12, 14, 3, seed=1) // torch.tensor([4, 16, 64], dtype=torch.uint8)  # a channel unlike the next
    decoded = (original // 2) + noise
    for i, found in enumerate(ssim(decoded, original).tolist()):
        channels = [ssim_by_formula(decoded[i, ..., c], original[i, ..., c]) for c in range(3)]
        assert found == pytest.approx(sum(channels) / 3, abs=1e-12)
        assert max(channels) - min(channels) > 0.01


def test_ssim_is_1_for_equal_images_and_does_not_depend_on_the_batch():
    images, others = random_images(3, 16, 11, 3, seed=2), random_images(3, 16, 11, 3, seed=3)
    assert ssim(images, images).tolist() == pytest.approx([1.0] * 3, abs=1e-12)
    assert torch.equal(ssim(images, others), torch.cat([ssim(images[i : i + 1], others[i : i + 1]) for i in range(3)]))


def test_ssim_of_images_smaller_than_its_window_is_refused():
    with pytest.raises(ValueError, match=r"images are \(1, 10, 32, 3\), expected .* at least 11 pixels a side"):
        ssim(random_images(1, 10, 32, 3, seed=0), random_images(1, 10, 32, 3, seed=1))
    with pytest.raises(ValueError, match="ssim takes uint8 images"):
        ssim(random_images(1, 12, 12, 3, seed=0), random_images(1, 12, 12, 3, seed=1).float())


def test_ties_round_to_even():
    assert to_8bit(torch.tensor([0.5, 1.5, 2.5, 3.5, 254.5], dtype=torch.float64) / 255).tolist() == [0, 2, 2, 4, 254]


def test_what_lies_outside_is_clamped_and_nan_is_black():
    values = torch.tensor([-0.1, 1.1, math.nan, math.inf, -math.inf, 1.0, 0.0])
    assert to_8bit(values).tolist() == [0, 255, 0, 255, 0, 255, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_level_survives_a_round_trip(dtype):
    levels = torch.arange(256)
    assert torch.equal(to_8bit(levels.to(dtype) / 255), levels.to(torch.uint8))


@given(n_pixels=st.integers(1, 10**12))
def test_raw_rgb_is_24_bits_a_pixel_and_100_percent(n_pixels):
    assert bpp(n_bytes=3 * n_pixels, n_pixels=n_pixels) == 24
    assert rgb_pct(n_bytes=3 * n_pixels, n_pixels=n_pixels) == 100


def test_the_rates_count_bits_and_percent():
    assert bpp(n_bytes=100, n_pixels=400) == 2.0
    assert rgb_pct(n_bytes=300, n_pixels=400) == 25.0


def test_the_mean_iou_is_that_of_sets_of_pixels():
    rng = torch.Generator().manual_seed(0)
    predicted, true = (torch.randint(0, 4, (3, 5, 7), generator=rng) for _ in range(2))
    counts = confusion(predicted, true, n_classes=5)  # a class that is nowhere does not count
    shares = []
    for label in range(4):
        given, there = ({i for i, v in enumerate(mask.flatten().tolist()) if v == label} for mask in (predicted, true))
        shares.append(len(given & there) / len(given | there))
    assert miou_pct(counts) == pytest.approx(100 * sum(shares) / 4)


def test_a_confusion_has_a_row_a_true_class_and_is_the_sum_of_its_parts():
    true, predicted = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 0, 0])
    counts = confusion(predicted, true, n_classes=3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 1]]
    parts = [confusion(predicted[part], true[part], n_classes=3) for part in (slice(2), slice(2, None))]
    assert torch.equal(sum(parts), counts)


def test_a_class_that_is_there_and_never_found_counts_as_none_of_it():
    assert miou_pct(confusion(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 0, 1]), n_classes=2)) == pytest.approx(37.5)
