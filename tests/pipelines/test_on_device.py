from dataclasses import replace

import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.augment.policy import AugmentConfig, sample_params
from rapid_inr.augment.warp import crop_and_flip
from rapid_inr.compress.quantize import QuantizeConfig, quantize
from rapid_inr.evaluation.metrics import to_8bit
from rapid_inr.inr.siren import initial_weights
from rapid_inr.pipelines import batches as batches_module
from rapid_inr.pipelines.base import BatchPipeline, Streamed
from rapid_inr.pipelines.batches import DeviceTooSmall
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.pipelines.resident import resident_pipeline
from rapid_inr.store.codes import pack_codes
from rapid_inr.store.decode import decode
from rapid_inr.store.packed import PackedStore, StoreHeader
from rapid_inr.store.siren import SirenCode

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.15)
N = 10


def every_level() -> torch.Tensor:
    """Return N images in which each channel takes all 256 values, uint8 [N, 16, 20, 3]."""
    levels = torch.arange(N * 16 * 20 * 3) * 7 % 256
    return levels.to(torch.uint8).reshape(N, 16, 20, 3)


def resident(images: torch.Tensor | None = None, *, labels: torch.Tensor | None = None, device="cpu", batch_size=4, **options):
    images = every_level() if images is None else images
    labels = torch.arange(len(images)) if labels is None else labels
    return resident_pipeline(images, labels, mean=MEAN, std=STD, device=device, batch_size=batch_size, **options)


def small_store(device: torch.device | str, *, labels: bool = True, one_size: bool = True) -> PackedStore:
    """Return a store of N SIRENs as they start, on the device."""
    spec, config = SirenSpec(depth=2, hidden=8, omega=15.0), QuantizeConfig()
    rows = quantize(initial_weights(spec, range(N), seed=0), spec, config)
    header = StoreHeader(SirenCode(spec, config), (6, 8) if one_size else None, (("train", N),), ("a", "b", "c"), MEAN, STD)
    sizes = None if one_size else torch.tensor([[6, 8 + i % 2] for i in range(N)], dtype=torch.int32)
    names = torch.arange(N).remainder(3).to(torch.uint8) if labels else None
    packed = {"codes": pack_codes(rows.codes, 8), "ends": rows.ends, "scales": rows.scales}
    return PackedStore(header, packed, sizes=sizes, labels=names).to(device)


def test_resident_images_are_normalised_like_the_formula():
    images = every_level()
    (batch,) = resident(images, batch_size=N).epoch(0)
    expected = (images.double() / 255 - torch.tensor(MEAN, dtype=torch.float64)) / torch.tensor(STD, dtype=torch.float64)
    # a product and a difference in float32 of values up to 6.7, each off by 2^-24 of that at most
    torch.testing.assert_close(batch.images.double(), expected.permute(0, 3, 1, 2), atol=2e-6, rtol=0)


def test_the_raw_bytes_can_be_had_back_from_resident_images():
    images = every_level()
    assert len(images.unique()) == 256
    (batch,) = resident(images, batch_size=N).epoch(0)
    back = batch.images.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)
    assert torch.equal(to_8bit(back), images)


def test_each_image_comes_with_its_label_and_its_id():
    images = every_level()
    labels = (torch.arange(N) * 3 % 7).to(torch.uint8)
    everything = next(iter(resident(images, batch_size=N).epoch(0))).images
    seen = []
    for batch in resident(images, labels=labels, batch_size=4, seed=1).epoch(2):
        assert batch.ids.dtype == torch.int64
        assert batch.ids.device.type == "cpu"
        assert torch.equal(batch.labels, labels[batch.ids])
        assert torch.equal(batch.images, everything[batch.ids])
        seen += batch.ids.tolist()
    assert len(seen) == len(set(seen)) == 8


def test_batches_are_channels_last_on_the_device(device):
    store = small_store(device)
    for pipeline in (resident(device=device), inr_pipeline(store, batch_size=4)):
        for batch in pipeline.epoch(0):
            assert batch.images.device.type == batch.labels.device.type == device.type
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            assert batch.labels.dtype == torch.int64


@pytest.mark.parametrize("augment", [None, AugmentConfig()])
def test_augmented_batches_are_channels_last_too(augment):
    batch = next(iter(resident(augment=augment, seed=0, dtype=torch.bfloat16).epoch(0)))
    assert batch.images.dtype == torch.bfloat16
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", ["reflection", "zeros"])
def test_an_image_gets_its_own_draw_of_the_epoch(padding):
    augment = AugmentConfig(crop_padding=3, padding=padding)
    clean = next(iter(resident(batch_size=N).epoch(0))).images
    params = sample_params(N, augment, seed=4, epoch=5, image_size=(16, 20))
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    expected = crop_and_flip(clean, params.shifts, params.flips, padding=padding, black=black)
    for batch_size in (3, 5):
        for batch in resident(batch_size=batch_size, augment=augment, seed=4).epoch(5):
            assert torch.equal(batch.images, expected[batch.ids])


def test_what_lies_outside_an_image_is_normalised_black():
    augment = AugmentConfig(crop_padding=16, flip=False, padding="zeros")
    white = torch.full((64, 4, 4, 3), 255, dtype=torch.uint8)
    (batch,) = resident(white, batch_size=64, augment=augment, seed=0).epoch(0)
    values = batch.images.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0).double()
    expected = [[(level - m) / s for m, s in zip(MEAN, STD, strict=True)] for level in (0, 1)]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_an_epoch_can_be_had_again_and_differs_from_the_next():
    pipeline = resident(augment=AugmentConfig(), seed=0)
    first, again, other = ([batch.images for batch in pipeline.epoch(epoch)] for epoch in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_inr_pipeline_decodes_the_ids_it_names(device):
    store = small_store(device)
    seen = []
    for batch in inr_pipeline(store, batch_size=3, seed=1).epoch(0):
        alone = decode(store, batch.ids, dtype=torch.float32, normalize=True, channels_last=True)
        assert torch.equal(batch.images, alone)
        assert torch.equal(batch.labels.cpu(), batch.ids % 3)
        seen += batch.ids.tolist()
    assert sorted(seen) != seen
    assert len(set(seen)) == 9


def test_both_pipelines_feed_the_same_network_input(device):
    store = small_store(device)
    decoded = decode(store, torch.arange(N)).permute(0, 2, 3, 1).contiguous()
    options = {"batch_size": 4, "augment": AugmentConfig(crop_padding=2, padding="zeros"), "seed": 3}
    raw = resident_pipeline(decoded, store.labels, mean=MEAN, std=STD, device=device, **options)
    for a, b in zip(raw.epoch(1), inr_pipeline(store, **options).epoch(1), strict=True):
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.labels, b.labels)
        # the same 8-bit values, normalised in another order of float32 operations
        torch.testing.assert_close(a.images, b.images, atol=2e-6, rtol=0)


def test_a_store_decodes_at_the_size_asked_for(device):
    pipeline = inr_pipeline(small_store(device, one_size=False), batch_size=4, size=(5, 7))
    assert [tuple(batch.images.shape) for batch in pipeline.epoch(0)] == [(4, 3, 5, 7), (4, 3, 5, 7), (2, 3, 5, 7)]


def test_a_store_of_mixed_sizes_needs_a_size(device):
    with pytest.raises(ValueError, match="differ in size; give the size to decode at"):
        inr_pipeline(small_store(device, one_size=False), batch_size=4)


def test_a_store_without_labels_is_refused(device):
    with pytest.raises(ValueError, match="the store has no labels; pass labels="):
        inr_pipeline(small_store(device, labels=False), batch_size=4)


def test_the_bytes_on_the_device_are_those_of_the_images(device):
    store = small_store(device)
    assert resident().nbytes == N * 16 * 20 * 3
    assert inr_pipeline(store, batch_size=4).nbytes == sum(tensor.nbytes for tensor in store.packed.values())


@pytest.mark.parametrize(("seed", "n_batches"), [(0, 2), (None, 3)])
def test_a_pipeline_knows_its_images_and_batches(seed, n_batches):
    pipeline = resident(seed=seed)
    assert len(pipeline) == N
    assert pipeline.n_batches == len(list(pipeline.epoch(0))) == n_batches


def test_a_pipeline_refuses_what_it_could_not_feed():
    with pytest.raises(ValueError, match="batch_size is 11, more than the 10 images"):
        resident(batch_size=11, seed=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        resident(batch_size=0)
    with pytest.raises(ValueError, match="augmentation needs a seed"):
        resident(augment=AugmentConfig())
    with pytest.raises(ValueError, match=r"images are torch.float32 \(10, 16, 20, 3\), expected uint8"):
        resident(every_level().float())
    with pytest.raises(ValueError, match=r"images are torch.uint8 \(10, 3, 16, 20\), expected uint8 \[N, height, width, 3\]"):
        resident(every_level().permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"labels are \(9,\), expected \(10,\)"):
        resident(labels=torch.arange(9))


def test_the_order_of_an_epoch_goes_to_the_device_once():
    asked = []

    def stream(batches, geometry):
        for ids in batches:
            asked.append(ids.device)
            yield Streamed(torch.empty((len(ids), 3, 4, 4), device=ids.device.device))

    labels, colour = torch.zeros(N, dtype=torch.int64, device="meta"), torch.ones(3, device="meta")
    pipeline = BatchPipeline(stream, labels, image_size=(4, 4), mean=colour, std=colour, batch_size=4, seed=0)
    batches = list(pipeline.epoch(0))
    assert {ids.device.type for ids in asked} == {"meta"}
    assert asked[0]._base is not None
    assert asked[0]._base is asked[1]._base  # views of one copy
    assert {batch.ids.device.type for batch in batches} == {"cpu"}


def test_images_that_do_not_fit_the_device_are_refused_before_they_are_copied(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (N * 16 * 20 * 3 - 1, 10**6))
    message = r"the raw images need 9,600 bytes, cuda has 9,599 free: 9 of the 10 images would fit"
    with pytest.raises(DeviceTooSmall, match=message):
        resident(device="cuda")
    device = torch.device("cuda")
    batches_module.require_fits(9_599, n_images=N, device=device, what="the images")
    batches_module.require_fits(10**12, n_images=N, device=torch.device("cpu"), what="the images")


def test_labels_of_any_type_pass_through(device):
    boxes = torch.rand(N, 4, generator=torch.Generator().manual_seed(0))
    for pipeline in (resident(labels=boxes, seed=0), inr_pipeline(small_store(device, labels=False), labels=boxes, batch_size=4)):
        for batch in pipeline.epoch(0):
            assert torch.equal(batch.labels.cpu(), boxes[batch.ids])
    with pytest.raises(ValueError, match=r"labels are \(9, 4\), expected one for each of the 10 images"):
        inr_pipeline(small_store(device), labels=boxes[:9], batch_size=4)


def test_a_moved_image_is_its_inr_evaluated_where_the_raw_one_is_sampled(device):
    store = small_store(device)
    store = replace(store, header=replace(store.header, size=(48, 64)))
    decoded = decode(store, torch.arange(N)).permute(0, 2, 3, 1).contiguous()
    for augment in (AugmentConfig(crop_padding=0, scale=(0.3, 1.0)), AugmentConfig(rotation_degrees=30, padding="zeros")):
        options = {"batch_size": 5, "augment": augment, "seed": 3}
        raw = resident_pipeline(decoded, store.labels, mean=MEAN, std=STD, device=device, **options)
        for a, b in zip(raw.epoch(1), inr_pipeline(store, **options).epoch(1), strict=True):
            assert torch.equal(a.ids, b.ids)
            difference = (a.images - b.images).abs() * torch.tensor(STD, device=device)[:, None, None] * 255
            assert difference.mean() < 0.5  # what is left is the bilinear sampling; measured: 0.27
            assert difference.max() < 8  # measured: 4.6


@pytest.mark.parametrize("asked", ["the loader", "an epoch"])
@pytest.mark.parametrize("one_size", [True, False])
def test_an_image_smaller_than_it_is_stored_is_averaged_over_its_pixels(device, asked, one_size):
    store = small_store(device, one_size=one_size)
    if one_size:
        store = replace(store, header=replace(store.header, size=(12, 16)))
    else:
        store = replace(store, sizes=torch.tensor([[12, 15 + i % 3] for i in range(N)], dtype=torch.int32, device=device))
    (whole,) = inr_pipeline(store, batch_size=N, size=(12, 16)).epoch(0)
    pipeline = inr_pipeline(store, batch_size=N, size=(6, 8) if asked == "the loader" else (12, 16))
    (part,) = (pipeline if asked == "the loader" else replace(pipeline, size=(6, 8))).epoch(0)
    expected = torch.nn.functional.avg_pool2d(whole.images, 2)
    assert part.images.shape == (N, 3, 6, 8)
    assert ((part.images - expected).abs() * torch.tensor(STD, device=device)[:, None, None] * 255).max() < 1.1  # two roundings


def test_what_is_compiled_for_a_size_is_compiled_before_an_epoch(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "rapid_inr.pipelines.inr.decode", lambda *args, **options: sizes.append(options["size"]) or decode(*args, **options)
    )
    replace(inr_pipeline(small_store("cpu"), batch_size=4), size=(9, 8)).warm_up()
    assert sizes == [(9, 8)]
    resident().warm_up()
    assert sizes == [(9, 8)]
