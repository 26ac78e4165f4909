"""Images and masks go together: by the same draws, in the same order, whatever gives the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.shapes import shapes
from rapid_inr.inr.fit import FitConfig
from rapid_inr.models.unet import UNetConfig, build_unet
from rapid_inr.pipelines.on_device import inr_pipeline, resident_pipeline
from rapid_inr.training import segmentation
from rapid_inr.training.loop import TrainingDiverged
from rapid_inr.training.schedule import OptimizerConfig, rate_factor
from rapid_inr.training.segmentation import evaluate, masked_batches, summary, train_segmentation

AUGMENTS = {
    "shift": AugmentConfig(crop_padding=3, padding="reflect"),
    "zero": AugmentConfig(crop_padding=6, padding="zero"),
    "clamp": AugmentConfig(crop_padding=6, padding="clamp"),
    "crop": AugmentConfig(crop_padding=0, scale=(0.3, 1.0)),
    "turn": AugmentConfig(crop_padding=2, rotation_degrees=45, padding="zero"),
}
from tests.images import encode


def drawn_masks(n_images: int, size: tuple[int, int]) -> torch.Tensor:
    """Return masks of smooth regions of 3 classes, uint8 [N, height, width]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(rows / rng.uniform(2, 4) + 6 * rng.random()) + np.cos(columns / rng.uniform(2, 4)) for _ in range(n_images)]
    return torch.from_numpy(np.digitize(np.stack(waves), (-0.5, 0.7)).astype(np.uint8))
from tests.images import encode


def painted(masks: torch.Tensor, **options):
    """Return a pipeline whose images show their masks: 100 grey levels a class, in all channels."""
    images = (100 * masks)[..., None].expand(*masks.shape, 3).contiguous()
    stats = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return resident_pipeline(images, masks, device="cpu", **stats, **options)
from tests.images import encode


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
@pytest.mark.parametrize("size", [(20, 20), (14, 25)])
def test_a_mask_moves_with_its_image(augment, size):
    pipeline = painted(drawn_masks(12, size), batch_size=5, augment=augment, seed=3)
    for epoch in (0, 1):
        for images, masks in masked_batches(pipeline, epoch):
            assert (masks.dtype, masks.shape) == (torch.int64, images[:, 0].shape)
            shown = (images[:, 0] * 2.55).round().long()
            agree = (shown == masks).float().mean((1, 2))
            assert (agree > 0.85).all()  # at the borders of classes an image is a mixture, where a mask is one of two
            if augment.scale is None and not augment.rotation_degrees:
                assert torch.equal(shown, masks)
from tests.images import encode


def test_a_mask_is_where_its_inr_is_evaluated():
    source = shapes("train", count=6, classes=3, size=24)
    store, _ = encode(source, SirenSpec(3, 16, 15.0), FitConfig(steps=150), QuantizeConfig())
    masks = torch.from_numpy(np.stack([source.read_mask(i) for i in range(6)]))
    images = torch.from_numpy(np.stack([source.read(i) for i in range(6)]))
    options = {"batch_size": 3, "seed": 1, "augment": AUGMENTS["turn"]}
    from_inr = inr_pipeline(store, labels=masks, **options)
    from_raw = resident_pipeline(images, masks, device="cpu", mean=store.header.mean, std=store.header.std, **options)
    for (decoded, a), (raw, b) in zip(masked_batches(from_inr, 2), masked_batches(from_raw, 2), strict=True):
        assert torch.equal(a, b)
        assert torch.corrcoef(torch.stack([decoded.flatten(), raw.flatten()]))[0, 1] > 0.8
from tests.images import encode


def test_without_augmentation_the_masks_are_as_they_are_and_in_order():
    masks = drawn_masks(7, (9, 8))
    found = torch.cat([batch for _, batch in masked_batches(painted(masks, batch_size=3), 0)])
    assert torch.equal(found, masks.long())
from tests.images import encode


def test_a_network_that_shows_what_it_sees_has_100_percent_and_one_that_sees_one_class_its_share():
    masks = drawn_masks(8, (16, 16))
    pipeline = painted(masks, batch_size=3)

    class Reader(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot((images[:, 0] * 2.55).round().long(), 3).permute(0, 3, 1, 2).float()

    class Constant(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(len(images), 3, *images.shape[2:])

    assert evaluate(Reader(), pipeline, n_classes=3, autocast=False) == 100
    share = 100 * (masks == 0).double().mean().item() / 3
    assert evaluate(Constant(), pipeline, n_classes=3, autocast=False) == pytest.approx(share)
from tests.images import encode


CONFIG = OptimizerConfig(epochs=4, batch_size=6, lr=0.05)
from tests.images import encode


def trained(config=CONFIG, *, seed=0, **options):
    masks = drawn_masks(24, (16, 16))
    pipeline = painted(masks, batch_size=config.batch_size, augment=AUGMENTS["crop"], seed=seed)
    model = build_unet(UNetConfig(width=4, levels=2), n_classes=3, seed=seed)
    clean = painted(masks, batch_size=10)
    run = {"clean": clean, "n_classes": 3, "device": "cpu", "autocast": False} | options
    return train_segmentation(model, pipeline, config, **run), model
from tests.images import encode


def test_a_network_learns_to_segment_and_says_so_each_epoch():
    told = []
    reports, _ = trained(replace(CONFIG, epochs=20, lr=0.5), on_epoch=told.append)
    assert told == reports
    assert [report.epoch for report in reports] == list(range(20))
    assert reports[-1].miou_pct > 80 > reports[0].miou_pct
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].decoded_miou_pct is None
from tests.images import encode


def test_the_same_seed_gives_the_same_training():
    (a, _), (b, _), (other, _) = trained(), trained(), trained(seed=1)
    assert [report.loss for report in a] == [report.loss for report in b]
    assert a[0].loss != other[0].loss
from tests.images import encode


def test_decoded_images_are_judged_too_and_the_summary_is_of_the_last_epoch():
    noise = drawn_masks(10, (16, 16))
    (reports, _) = trained(decoded=painted(noise, batch_size=10))
    found = summary(reports)
    assert found["decoded_miou_pct"] == reports[-1].decoded_miou_pct
    assert found["miou_pct"] == reports[-1].miou_pct != found["decoded_miou_pct"]
    assert found["epochs"] == 4
from tests.images import encode


def test_the_rate_goes_on_from_epoch_to_epoch(monkeypatch):
    asked = []

    def recorded(config, total):
        def factor(step):
            asked.append((step, total))
            return rate_factor(config, total)(step)

        return factor

    monkeypatch.setattr(segmentation, "rate_factor", recorded)
    trained()
    assert list(dict.fromkeys(asked)) == [(step, 16) for step in range(16)]  # 4 epochs of 4 batches
from tests.images import encode


def test_a_training_that_diverges_is_named():
    with pytest.raises(TrainingDiverged, match=r"the training loss is (nan|inf) in epoch \d; a lower optimizer.lr may help"):
        trained(replace(CONFIG, lr=1e30))
from tests.images import encode


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": replace(CONFIG, ema=0.9)}, "optimizer.ema is 0.9, which segmentation does not have"),
        ({"config": replace(CONFIG, validation_split=0.1)}, "optimizer.validation_split is 0.1"),
        ({"n_classes": 2}, "masks hold class 2, the network has classes 0..1"),
        ({"clean": painted(drawn_masks(4, (16, 16))[:, :8], batch_size=2)}, None),
    ],
)
def test_what_cannot_be_trained_is_refused(options, message):
    if message is None:
        options = {"clean": replace(options["clean"], image_size=(16, 16))}
        message = r"masks are \(8, 16\), the images \(16, 16\)"
    with pytest.raises(ValueError, match=message):
        trained(**options)
from tests.images import encode


def test_a_mixture_of_images_is_refused():
    mixed = painted(drawn_masks(6, (16, 16)), batch_size=3, augment=AugmentConfig(mix="cutmix"), seed=0)
    with pytest.raises(ValueError, match=r"augment\.mix is cutmix, expected none: a mixture of images has no mask"):
        trained(clean=mixed)
