"""Segmentation is a task of the one training loop: masks move with their images, whatever gives the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.shapes import shapes
from rapid_inr.encoding.encode import encode
from rapid_inr.encoding.siren import SirenConfig
from rapid_inr.inr.fit import FitConfig
from rapid_inr.models.unet import UNetConfig, build_unet
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.pipelines.resident import resident_pipeline
from rapid_inr.training.loop import EvalSets, evaluate, train
from rapid_inr.training.schedule import OptimizerConfig
from rapid_inr.training.tasks import require_classes, segmentation

AUGMENTS = {
    "shift": AugmentConfig(crop_padding=3, padding="reflection"),
    "zeros": AugmentConfig(crop_padding=6, padding="zeros"),
    "border": AugmentConfig(crop_padding=6, padding="border"),
    "crop": AugmentConfig(crop_padding=0, scale=(0.3, 1.0)),
    "turn": AugmentConfig(crop_padding=2, rotation_degrees=45, padding="zeros"),
}
TASK = segmentation(3)
HERE = {"device": "cpu", "autocast": False}


def smooth_masks(n_images: int, size: tuple[int, int]) -> torch.Tensor:
    """Return masks of smooth regions of 3 classes, uint8 [N, height, width]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(rows / rng.uniform(2, 4) + 6 * rng.random()) + np.cos(columns / rng.uniform(2, 4)) for _ in range(n_images)]
    return torch.from_numpy(np.digitize(np.stack(waves), (-0.5, 0.7)).astype(np.uint8))


def painted(masks: torch.Tensor, **options):
    """Return a pipeline whose images show their masks: 100 grey levels a class, in all channels."""
    images = (100 * masks)[..., None].expand(*masks.shape, 3).contiguous()
    stats = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return resident_pipeline(images, masks, device="cpu", masks=True, **stats, **options)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
@pytest.mark.parametrize("size", [(20, 20), (14, 25)])
def test_a_mask_moves_with_its_image(augment, size):
    pipeline = painted(smooth_masks(12, size), batch_size=5, augment=augment, seed=3)
    for epoch in (0, 1):
        for images, masks in pipeline.epoch(epoch):
            assert (masks.dtype, masks.shape) == (torch.int64, images[:, 0].shape)
            shown = (images[:, 0] * 2.55).round().long()
            agree = (shown == masks).float().mean((1, 2))
            assert (agree > 0.85).all()  # at the borders of classes an image is a mixture, where a mask is one of two
            if augment.scale is None and not augment.rotation_degrees:
                assert torch.equal(shown, masks)


def test_a_mask_shrinks_with_its_image():
    pipeline = replace(painted(smooth_masks(6, (16, 16)), batch_size=6), size=(8, 8))
    (images, masks), *_ = pipeline.epoch(0)
    assert masks.shape == (6, 8, 8)
    assert ((images[:, 0] * 2.55).round() == masks).float().mean() > 0.7


def test_a_mask_is_where_its_inr_is_evaluated():
    source = shapes("train", count=6, classes=3, size=24)
    store, _ = encode(source, SirenConfig(SirenSpec(3, 16, 15.0), FitConfig(steps=150), QuantizeConfig()))
    masks = torch.from_numpy(np.stack([source.read_mask(i) for i in range(6)]))
    images = torch.from_numpy(np.stack([source.read(i) for i in range(6)]))
    options = {"batch_size": 3, "seed": 1, "augment": AUGMENTS["turn"], "masks": True}
    from_inr = inr_pipeline(store, labels=masks, **options)
    from_raw = resident_pipeline(images, masks, device="cpu", mean=store.header.mean, std=store.header.std, **options)
    for (decoded, a), (raw, b) in zip(from_inr.epoch(2), from_raw.epoch(2), strict=True):
        assert torch.equal(a, b)
        assert torch.corrcoef(torch.stack([decoded.flatten(), raw.flatten()]))[0, 1] > 0.8


def test_a_network_that_shows_what_it_sees_has_100_percent_and_one_that_sees_one_class_its_share():
    masks = smooth_masks(8, (16, 16))
    pipeline = painted(masks, batch_size=3)

    def reader(images):
        return torch.nn.functional.one_hot((images[:, 0] * 2.55).round().long(), 3).permute(0, 3, 1, 2).float()

    def constant(images):
        return torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(len(images), 3, *images.shape[2:])

    assert evaluate(reader, pipeline, TASK, **HERE) == 100
    share = 100 * (masks == 0).double().mean().item() / 3
    assert evaluate(constant, pipeline, TASK, **HERE) == pytest.approx(share)


def test_a_network_learns_to_segment():
    masks, config = smooth_masks(24, (16, 16)), OptimizerConfig(epochs=20, batch_size=6, lr=0.5, ema=0.5)
    pipeline = painted(masks, batch_size=6, augment=AUGMENTS["crop"], seed=0)
    model = build_unet(UNetConfig(width=4, levels=2), n_classes=3, seed=0)
    test = painted(masks, batch_size=10)
    eval_sets = EvalSets(test, test, replace(test, subset=torch.arange(5)))
    reports = train(model, pipeline, eval_sets, config, task=TASK, **HERE)
    assert reports[-1].scores["miou_pct"] > 80 > reports[0].scores["miou_pct"]
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].scores.keys() == {"miou_pct", "decoded_miou_pct", "val_miou_pct"}


def test_masks_of_another_size_or_of_mixed_images_are_refused():
    masks = smooth_masks(6, (16, 16))
    with pytest.raises(ValueError, match=r"masks are \(8, 16\), the images \(16, 16\)"):
        replace(painted(masks, batch_size=2), labels=masks[:, :8])
    with pytest.raises(ValueError, match=r"augment\.mix is cutmix, expected none: a mixture of images has no mask"):
        painted(masks, batch_size=3, augment=AugmentConfig(mix="cutmix"), seed=0)


def test_labels_beyond_the_networks_classes_are_refused():
    require_classes(torch.tensor([0, 2]), 3)
    for labels in ([0, 3], [-1, 2]):
        with pytest.raises(ValueError, match=r"labels reach from -?\d to \d, the network has classes 0\.\.2"):
            require_classes(torch.tensor(labels), 3)
