from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import CorruptImage, ImageSource
from rapid_inr.decode import decode, decode_each
from rapid_inr.encode import encode
from rapid_inr.fit import FitConfig
from rapid_inr.metrics import psnr_db
from rapid_inr.store.format import read_store, write_store
from tests.images import smooth_images

SPEC = SirenSpec(depth=2, hidden=8, omega=10.0)
FIT = FitConfig(steps=60, pixels_per_step=64)


def source_of(images, labels=None, classes=("a", "b")) -> ImageSource:
    arrays = [image.numpy() for image in images]
    return ImageSource(
        "test", (("train", len(arrays)),), np.arange(len(arrays)), labels and np.array(labels), classes if labels else (),
        read=lambda i: arrays[i],
    )  # fmt: skip


def mixed_images():
    tall, wide = smooth_images(2, 12, 8), smooth_images(3, 8, 12, seed=1)
    return [tall[0], wide[0], wide[1], tall[1], wide[2]]


def test_the_psnr_reported_is_that_of_the_file_read_back_and_decoded(tmp_path):
    images = smooth_images(5, 12, 12)
    store, report = encode(source_of(images, [0, 1, 0, 1, 1]), SPEC, FIT, QuantizeConfig())
    write_store(tmp_path / "a.inr", store)
    again = read_store(tmp_path / "a.inr")
    decoded = torch.stack(list(decode_each(again)))
    assert torch.allclose(psnr_db(decoded, images), report.psnr_db, atol=0.05)  # a pixel on the edge of rounding may differ
    assert again.labels.tolist() == [0, 1, 0, 1, 1]
    assert report.psnr_db.min() > 20  # measured 23.3


def test_int8_costs_little_and_is_measured():
    _, report = encode(source_of(smooth_images(6, 16, 16)), SPEC, FIT, QuantizeConfig())
    loss = (report.fit_psnr_db - report.psnr_db).mean()
    assert abs(loss) < 0.3  # measured 0.005 better, by luck
    _, coarse = encode(source_of(smooth_images(6, 16, 16)), SPEC, FIT, QuantizeConfig(bits=3))
    assert (coarse.fit_psnr_db - coarse.psnr_db).mean() > 3


def test_images_of_mixed_sizes_keep_their_order_and_sizes():
    images = mixed_images()
    store, report = encode(source_of(images), SPEC, FIT, QuantizeConfig())
    assert store.header.size is None
    assert store.sizes.tolist() == [list(image.shape[:2]) for image in images]
    for image, decoded, reported in zip(images, decode_each(store), report.psnr_db.tolist(), strict=True):
        assert psnr_db(decoded[None], image[None]).item() == pytest.approx(reported, abs=0.05)


def test_a_batch_of_mixed_sizes_needs_a_size_to_decode_at():
    store, _ = encode(source_of(mixed_images()), SPEC, replace(FIT, steps=2), QuantizeConfig())
    with pytest.raises(ValueError, match="differ in size"):
        decode(store, torch.tensor([0, 1]))
    assert decode(store, torch.tensor([0, 1]), size=(5, 7)).shape == (2, 3, 5, 7)
    assert decode(store, torch.tensor([1, 2])).shape == (2, 3, 8, 12)


def test_the_header_knows_the_channels_of_the_originals():
    images = smooth_images(4, 9, 7)
    store, _ = encode(source_of(images), SPEC, replace(FIT, steps=1), QuantizeConfig())
    flat = images.reshape(-1, 3).double() / 255
    assert store.header.mean == pytest.approx(flat.mean(0).tolist(), abs=1e-9)
    assert store.header.std == pytest.approx(flat.std(0, correction=0).tolist(), abs=1e-9)


def with_a_corrupt_image(images) -> ImageSource:
    source = source_of(images, [0] * len(images))

    def read(i):
        if i == 1:
            raise CorruptImage("img_1.jpg: truncated")
        return images[i].numpy()

    return replace(source, read=read)


def test_a_corrupt_image_is_fatal_or_skipped_by_choice():
    source, quick = with_a_corrupt_image(smooth_images(4, 8, 8)), replace(FIT, steps=2)
    with pytest.raises(CorruptImage, match=r"img_1\.jpg"):
        encode(source, SPEC, quick, QuantizeConfig())
    store, report = encode(source, SPEC, quick, QuantizeConfig(), on_corrupt="skip")
    assert report.skipped == ("img_1.jpg: truncated",)
    assert store.source_ids.tolist() == [0, 2, 3]
    assert [store.name_of(i) for i in range(3)] == ["train_00000", "train_00002", "train_00003"]


def test_an_image_that_did_not_converge_is_named():
    noise = torch.randint(0, 256, (2, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = torch.cat([smooth_images(1, 12, 12), noise])
    _, report = encode(source_of(images), SPEC, replace(FIT, min_psnr_db=25.0), QuantizeConfig())
    assert report.unconverged == ("train_00001", "train_00002")


def test_the_rows_of_an_image_do_not_depend_on_what_is_encoded_beside_it():
    images = smooth_images(5, 8, 8)
    whole, _ = encode(source_of(images), SPEC, FIT, QuantizeConfig())
    source = source_of(images)
    part, _ = encode(replace(source, ids=source.ids[3:]), SPEC, FIT, QuantizeConfig())
    assert torch.equal(whole.codes[3:], part.codes)
    assert torch.equal(whole.floats[3:], part.floats)
    assert part.source_ids.tolist() == [3, 4]
