import math

import numpy as np
import pytest
import torch

from rapid_inr.augment.policy import AugmentConfig, AugmentParams, sample_params


def sampled(n_images: int, config: AugmentConfig, *, seed: int = 0, epoch: int = 0, image_size=(32, 32)) -> AugmentParams:
    return sample_params(n_images, config, seed=seed, epoch=epoch, image_size=image_size)


EVERYTHING = AugmentConfig(
    crop_padding=0, scale=(0.1, 1.0), rotation_degrees=20, cutout=4, mix="cutmix", brightness=0.3, contrast=0.2, saturation=0.1
)


def test_the_parameters_depend_on_seed_and_epoch_alone():
    config = AugmentConfig()
    first = sampled(100, config, seed=5, epoch=3)
    torch.manual_seed(1234)
    np.random.seed(1234)
    before = torch.get_rng_state()
    again = sampled(100, config, seed=5, epoch=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.shifts, again.shifts)
    assert torch.equal(first.flips, again.flips)
    for other in (
        sampled(100, config, seed=6, epoch=3),
        sampled(100, config, seed=5, epoch=4),
        sampled(100, config, seed=3, epoch=5),
    ):
        assert not torch.equal(first.shifts, other.shifts)
        assert not torch.equal(first.flips, other.flips)


def test_shifts_are_uniform_and_half_of_the_images_are_mirrored():
    n_images, pad = 90_000, 4
    params = sampled(n_images, AugmentConfig(crop_padding=pad), seed=0, epoch=0)
    assert params.shifts.dtype == torch.int64
    assert params.flips.dtype == torch.bool
    five_sigma = 5 * (n_images / 9) ** 0.5
    for axis in range(2):
        counts = torch.bincount(params.shifts[:, axis] + pad, minlength=2 * pad + 1)
        assert len(counts) == 2 * pad + 1
        assert (counts - n_images / 9).abs().max() < five_sigma
    assert abs(params.flips.sum().item() - n_images / 2) < 5 * (n_images / 4) ** 0.5
    joint = torch.corrcoef(torch.stack([params.shifts[:, 0], params.shifts[:, 1], params.flips.long()]).double())
    assert (joint - torch.eye(3)).abs().max() < 5 / n_images**0.5


def test_what_is_turned_off_does_not_happen():
    assert not sampled(1000, AugmentConfig(flip=False), seed=0, epoch=0).flips.any()
    assert not sampled(1000, AugmentConfig(crop_padding=0), seed=0, epoch=0).shifts.any()


def test_an_alternate_flip_shows_every_image_both_ways_in_two_epochs():
    config = AugmentConfig(flip="alternate")
    epochs = [sampled(1000, config, seed=3, epoch=epoch).flips for epoch in range(4)]
    assert torch.equal(epochs[1], ~epochs[0])
    assert torch.equal(epochs[2], epochs[0])
    assert torch.equal(epochs[3], epochs[1])
    assert 400 < int(epochs[0].sum()) < 600
    assert torch.equal(sampled(1000, config, seed=3, epoch=1).shifts, sampled(1000, AugmentConfig(), seed=3, epoch=1).shifts)
    assert not torch.equal(sampled(1000, config, seed=4, epoch=0).flips, epochs[0])


def test_every_kind_of_parameter_has_a_stream_of_its_own():
    whole = sampled(50, EVERYTHING)
    quieter = sampled(50, AugmentConfig(crop_padding=0, flip=False, scale=(0.1, 1.0), contrast=0.2))
    assert torch.equal(whole.boxes, quieter.boxes)
    assert torch.equal(whole.colours[:, 1], quieter.colours[:, 1])
    assert quieter.angles is quieter.cutouts is quieter.keeps is None
    numbers = [whole.angles, *whole.cutouts.T, *whole.colours.T, *whole.pastes.T, whole.flips, whole.boxes[:, 0]]
    correlation = torch.corrcoef(torch.stack([values.double() for values in numbers]))
    assert (correlation - torch.eye(len(numbers))).abs().max() < 0.7  # 5 / sqrt(50): no two are the same numbers


def test_the_parameters_of_a_batch_are_rows_of_those_of_all():
    whole, ids = sampled(10, EVERYTHING), torch.tensor([7, 2, 2])
    some = whole[ids]
    for name in ("shifts", "flips", "boxes", "angles", "cutouts", "colours", "keeps", "pastes"):
        assert torch.equal(getattr(some, name), getattr(whole, name)[[7, 2, 2]])
    assert sampled(10, AugmentConfig())[ids].boxes is None


@pytest.mark.parametrize("image_size", [(32, 32), (24, 48)])
def test_crops_to_resize_lie_inside_and_have_the_areas_and_ratios_asked_for(image_size):
    height, width = image_size
    config = AugmentConfig(crop_padding=0, scale=(0.25, 1.0), ratio=(0.5, 2.0))
    top, left, high, wide = sampled(40_000, config, image_size=image_size).boxes.T
    assert min(top.min(), left.min()) == 0
    assert min(high.min(), wide.min()) >= 1
    assert (top + high).max() == height
    assert (left + wide).max() == width
    share = (high * wide).double() / (height * width)
    assert share.mean().item() == pytest.approx(0.625, abs=0.01)  # uniform, but for the rounding to pixels
    assert share.quantile(0.25).item() == pytest.approx(0.4375, abs=0.02)
    lean = (wide / high).log()
    assert (lean.min() > math.log(0.5) - 0.15, lean.max() < math.log(2) + 0.15) == (True, True)
    if height == width:
        assert lean.mean().item() == pytest.approx(0, abs=0.01)


def test_angles_colours_and_shares_are_distributed_as_the_configuration_says():
    n_images = 40_000
    params = sampled(
        n_images, AugmentConfig(rotation_degrees=30, brightness=0.4, contrast=0.2, mix="mixup", mix_alpha=0.5, cutout=3)
    )
    most = math.radians(30)
    assert params.angles.abs().max() <= most + 1e-6
    assert params.angles.std().item() == pytest.approx(most / 3**0.5, rel=0.02)
    assert (params.colours.min(0).values - torch.tensor([0.6, 0.8, 1.0])).abs().max() < 1e-3
    assert (params.colours.max(0).values - torch.tensor([1.4, 1.2, 1.0])).abs().max() < 1e-3
    assert params.keeps.mean().item() == pytest.approx(0.5, abs=0.01)
    assert params.keeps.var().item() == pytest.approx(0.25 / 2, rel=0.03)  # of Beta(1/2, 1/2)
    assert params.cutouts.mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_configuration_knows_what_it_asks_for():
    assert not AugmentConfig(crop_padding=0, flip=False).changes_anything
    for name, value in (("crop_padding", 1), ("flip", True), ("cutout", 1), ("mix", "mixup"), ("contrast", 0.1)):
        assert AugmentConfig(**{"crop_padding": 0, "flip": False, name: value}).changes_anything


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_padding", -1),
        ("padding", "edge"),
        ("scale", (0.0, 1.0)),
        ("scale", (0.5, 0.4)),
        ("ratio", (0.0, 1.0)),
        ("rotation_degrees", 181),
        ("cutout", -1),
        ("mix", "cut"),
        ("mix_alpha", 0.0),
        ("brightness", 1.5),
        ("saturation", -0.1),
    ],
)
def test_an_augmentation_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"augment\.{name} is "):
        AugmentConfig(**{"crop_padding": 0, name: value})


def test_two_kinds_of_crop_at_once_are_refused():
    with pytest.raises(ValueError, match="both crop"):
        AugmentConfig(crop_padding=4, scale=(0.5, 1.0))
