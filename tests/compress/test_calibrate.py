from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.compress import calibrate as calibrate_module
from rapid_inr.compress.calibrate import calibrate
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import CorruptImage, ImageSource
from rapid_inr.errors import UserError
from rapid_inr.inr.fit import FitConfig
from tests.images import smooth_images

SPEC = SirenSpec(depth=3, hidden=16, omega=10.0)
FIT = FitConfig(steps=20, pixels_per_step=64)
SHARED = QuantizeConfig(6, 8, "dataset", "mse")


def source_of(images, labels=None) -> ImageSource:
    arrays = [image.numpy() for image in images]
    return ImageSource(
        "test", (("train", len(arrays)),), np.arange(len(arrays)), labels, ("a", "b") if labels is not None else (),
        read=lambda i: arrays[i],
    )  # fmt: skip


def unreadable(image_id):
    raise CorruptImage(f"image {image_id} is torn")


def test_where_nothing_is_shared_no_image_is_read():
    source = replace(source_of(smooth_images(2, 8, 8)), read=unreadable)
    assert calibrate(source, SPEC, FIT, QuantizeConfig(8, 16, "tensor")) is None


def test_scales_come_from_images_of_every_class(monkeypatch):
    monkeypatch.setattr(calibrate_module, "SAMPLE_IMAGES", 2)
    seen = []
    source = source_of(smooth_images(6, 8, 8), np.array([0, 0, 0, 0, 0, 1]))
    watched = replace(source, read=lambda i: seen.append(i) or source.read(i))
    scales = calibrate(watched, SPEC, FIT, SHARED)
    assert scales.shape == (1, SPEC.depth - 1, 1)
    assert len(seen) == 2
    assert 5 in seen


def test_scales_come_from_the_commonest_size_and_from_what_can_be_read():
    images = [*smooth_images(1, 6, 9), *smooth_images(3, 8, 8)]
    source = source_of(images)
    expected = calibrate(replace(source, ids=source.ids[2:]), SPEC, FIT, SHARED)
    torn = replace(source, read=lambda i: unreadable(i) if i == 1 else source.read(i))
    assert torch.equal(calibrate(torn, SPEC, FIT, SHARED, on_corrupt="skip"), expected)
    with pytest.raises(CorruptImage, match="image 1 is torn"):
        calibrate(torn, SPEC, FIT, SHARED)
    with pytest.raises(UserError, match="none of 4 images could be read; the first: image 0 is torn"):
        calibrate(replace(source, read=unreadable), SPEC, FIT, SHARED, on_corrupt="skip")
