import numpy as np
import pytest
import torch

from rapid_inr.augment import AugmentConfig, crop_and_flip, draw

BLACK = torch.tensor([-1.5, -2.0, 0.25])


def random_images(n_images: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(n_images, 3, height, width, generator=torch.Generator().manual_seed(0))


def naive(images: torch.Tensor, shifts: torch.Tensor, flips: torch.Tensor, *, pad: int, padding: str) -> torch.Tensor:
    """Pad, crop and mirror with numpy, image by image."""
    height, width = images.shape[2:]
    results = []
    for image, (down, right), flip in zip(images.numpy(), shifts.tolist(), flips.tolist(), strict=True):
        margins = ((pad, pad), (pad, pad))
        if padding == "reflect":
            padded = np.stack([np.pad(channel, margins, mode="reflect") for channel in image])
        else:
            padded = np.stack([np.pad(image[c], margins, constant_values=BLACK[c].item()) for c in range(3)])
        crop = padded[:, pad + down : pad + down + height, pad + right : pad + right + width]
        results.append(crop[:, :, ::-1] if flip else crop)
    return torch.from_numpy(np.stack(results))


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("size", [(8, 8), (7, 12), (5, 5)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gather_is_pad_crop_and_mirror_of_each_image(padding, size, channels_last):
    images = random_images(64, *size)
    draws = draw(64, AugmentConfig(crop_padding=4, padding=padding), seed=1, epoch=2)
    given = images.to(memory_format=torch.channels_last) if channels_last else images
    found = crop_and_flip(given, draws.shifts, draws.flips, padding=padding, black=BLACK)
    assert torch.equal(found, naive(images, draws.shifts, draws.flips, pad=4, padding=padding))


def test_no_shift_and_no_flip_change_nothing():
    images = random_images(3, 6, 5)
    for padding in ("reflect", "zero"):
        still = crop_and_flip(
            images, torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.bool), padding=padding, black=BLACK
        )
        assert torch.equal(still, images)


def test_two_flips_cancel():
    images, still, all_of_them = random_images(3, 6, 5), torch.zeros(3, 2, dtype=torch.int64), torch.ones(3, dtype=torch.bool)
    once = crop_and_flip(images, still, all_of_them, padding="reflect", black=BLACK)
    assert torch.equal(once, images.flip(3))
    assert torch.equal(crop_and_flip(once, still, all_of_them, padding="reflect", black=BLACK), images)


def test_an_image_shifted_out_of_sight_is_black_or_its_edge():
    images, no_flips = random_images(1, 4, 4), torch.zeros(1, dtype=torch.bool)
    shift = torch.tensor([[0, 40]])
    out = crop_and_flip(images, shift, no_flips, padding="zero", black=BLACK)
    assert torch.equal(out, BLACK[None, :, None, None].expand(1, 3, 4, 4))
    edge = crop_and_flip(images, shift, no_flips, padding="reflect", black=BLACK)
    assert torch.equal(edge, images[:, :, :, :1].expand(-1, -1, -1, 4))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_and_the_dtype_are_kept(memory_format):
    images = random_images(4, 6, 6).to(torch.bfloat16, memory_format=memory_format)
    draws = draw(4, AugmentConfig(padding="zero"), seed=0, epoch=0)
    moved = crop_and_flip(images, draws.shifts, draws.flips, padding="zero", black=BLACK)
    assert moved.dtype == torch.bfloat16
    assert moved.is_contiguous(memory_format=memory_format)


def test_an_image_is_augmented_alike_in_any_batch():
    images = random_images(12, 8, 8)
    draws = draw(12, AugmentConfig(), seed=3, epoch=1)
    whole = crop_and_flip(images, draws.shifts, draws.flips, padding="reflect", black=BLACK)
    some = torch.tensor([7, 2, 11])
    part = crop_and_flip(images[some], draws.shifts[some], draws.flips[some], padding="reflect", black=BLACK)
    assert torch.equal(part, whole[some])


def test_the_draws_depend_on_seed_and_epoch_alone():
    config = AugmentConfig()
    first = draw(100, config, seed=5, epoch=3)
    torch.manual_seed(1234)
    np.random.seed(1234)
    again = draw(100, config, seed=5, epoch=3)
    assert torch.equal(first.shifts, again.shifts)
    assert torch.equal(first.flips, again.flips)
    for other in (draw(100, config, seed=6, epoch=3), draw(100, config, seed=5, epoch=4), draw(100, config, seed=3, epoch=5)):
        assert not torch.equal(first.shifts, other.shifts)
        assert not torch.equal(first.flips, other.flips)


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    draw(100, AugmentConfig(), seed=5, epoch=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_shifts_are_uniform_and_half_of_the_images_are_mirrored():
    n_images, pad = 90_000, 4
    draws = draw(n_images, AugmentConfig(crop_padding=pad), seed=0, epoch=0)
    assert draws.shifts.dtype == torch.int64
    assert draws.flips.dtype == torch.bool
    five_sigma = 5 * (n_images / 9) ** 0.5
    for axis in range(2):
        counts = torch.bincount(draws.shifts[:, axis] + pad, minlength=2 * pad + 1)
        assert len(counts) == 2 * pad + 1
        assert (counts - n_images / 9).abs().max() < five_sigma
    assert abs(draws.flips.sum().item() - n_images / 2) < 5 * (n_images / 4) ** 0.5
    joint = torch.corrcoef(torch.stack([draws.shifts[:, 0], draws.shifts[:, 1], draws.flips.long()]).double())
    assert (joint - torch.eye(3)).abs().max() < 5 / n_images**0.5


def test_what_is_turned_off_does_not_happen():
    assert not draw(1000, AugmentConfig(flip=False), seed=0, epoch=0).flips.any()
    assert not draw(1000, AugmentConfig(crop_padding=0), seed=0, epoch=0).shifts.any()


def test_turning_the_flip_off_keeps_the_crops():
    crops = [draw(100, AugmentConfig(flip=flip), seed=0, epoch=0).shifts for flip in (True, False)]
    assert torch.equal(*crops)


def test_an_augmentation_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"augment.crop_padding is -1, expected at least 0"):
        AugmentConfig(crop_padding=-1)
    with pytest.raises(ValueError, match=r"augment.padding is 'edge', expected 'reflect' or 'zero'"):
        AugmentConfig(padding="edge")
    with pytest.raises(ValueError, match=r"augment.padding is 'edge'"):
        crop_and_flip(
            random_images(1, 4, 4),
            torch.zeros(1, 2, dtype=torch.int64),
            torch.zeros(1, dtype=torch.bool),
            padding="edge",
            black=BLACK,
        )
