import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import rapid_inr.encoding.siren
from kernels.spec import SirenSpec, end_sections
from kernels.unpack.torch import gather_hidden
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import RefineConfig, compress
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import CorruptImage, ImageSource
from rapid_inr.encoding.encode import encode_shards, plan_store
from rapid_inr.encoding.shard import encode_shard
from rapid_inr.encoding.siren import SirenConfig
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import psnr_db
from rapid_inr.inr.fit import FitConfig, FitResult
from rapid_inr.store.decode import decode, decode_each
from rapid_inr.store.format import read_store, write_store
from rapid_inr.store.shards import ShardFolder
from tests.images import encode, smooth_images
from tests.tolerances import DECODE_PSNR_DB

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


def require_reported(store, images, report, *, atol=DECODE_PSNR_DB):
    """Require that each image decodes to the PSNR of the report."""
    measured = [psnr_db(decoded[None], image[None]).item() for decoded, image in zip(decode_each(store), images, strict=True)]
    assert measured == pytest.approx(report.psnr_db.tolist(), abs=atol)


@pytest.mark.parametrize("config", [QuantizeConfig(), QuantizeConfig(4), QuantizeConfig(16), QuantizeConfig(32, 32)])
def test_the_psnr_reported_is_that_of_the_file_read_back_and_decoded(tmp_path, device, config):
    images = smooth_images(5, 12, 12)
    store, report = encode(source_of(images, [0, 1, 0, 1, 1]), SPEC, FIT, config, device=device)
    write_store(tmp_path / "a.inr", store)
    again = read_store(tmp_path / "a.inr")
    # sums of the CPU backend may depend on the batch, those of the kernel do not
    require_reported(again.to(device), images, report, atol=DECODE_PSNR_DB if device.type == "cpu" else 0)
    assert again.labels.tolist() == [0, 1, 0, 1, 1]
    assert report.psnr_db.min() > 22  # measured 24.5 with 4 bits, 25.0 with more


def test_int8_costs_little_and_is_measured(device):
    _, report = encode(source_of(smooth_images(6, 16, 16)), SPEC, FIT, QuantizeConfig(), device=device)
    loss = (report.fit_psnr_db - report.psnr_db).mean()
    assert abs(loss) < 0.3  # measured 0.005 better, by luck
    _, coarse = encode(source_of(smooth_images(6, 16, 16)), SPEC, FIT, QuantizeConfig(bits=3), device=device)
    assert (coarse.fit_psnr_db - coarse.psnr_db).mean() > 3


def test_images_of_mixed_sizes_keep_their_order_and_sizes(device):
    images = mixed_images()
    store, report = encode(source_of(images), SPEC, FIT, QuantizeConfig(), device=device)
    assert store.header.size is None
    assert store.sizes.tolist() == [list(image.shape[:2]) for image in images]
    require_reported(store, images, report)


def test_a_batch_of_mixed_sizes_needs_a_size_to_decode_at():
    store, _ = encode(source_of(mixed_images()), SPEC, replace(FIT, steps=2), QuantizeConfig())
    with pytest.raises(ValueError, match="differ in size"):
        decode(store, torch.tensor([0, 1]))
    assert decode(store, torch.tensor([0, 1]), size=(5, 7)).shape == (2, 3, 5, 7)
    assert decode(store, torch.tensor([1, 2])).shape == (2, 3, 8, 12)


def test_the_header_knows_the_channels_of_the_originals_and_of_the_train_split_alone():
    images, quick = smooth_images(5, 6, 7), replace(FIT, steps=1)
    source = replace(source_of(images), splits=(("test", 2), ("train", 3)))
    test_alone = replace(source, ids=source.ids[:2])
    for some, expected in ((source, images[2:]), (test_alone, images[:2]), (replace(source, splits=(("test", 5),)), images)):
        store, _ = encode(some, SPEC, quick, QuantizeConfig())
        flat = expected.reshape(-1, 3).double() / 255
        assert store.header.mean == pytest.approx(flat.mean(0).tolist(), abs=1e-9)
        assert store.header.std == pytest.approx(flat.std(0, correction=0).tolist(), abs=1e-9)


def test_the_seconds_of_the_fit_are_those_inside_it(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("rapid_inr.encoding.siren.clock_of", lambda device: lambda: float(next(clock)))
    real = rapid_inr.encoding.siren.compress
    monkeypatch.setattr("rapid_inr.encoding.siren.compress", lambda *args, **kwargs: next(clock) and real(*args, **kwargs))
    _, report = encode(source_of(mixed_images()), SPEC, replace(FIT, steps=1), QuantizeConfig())
    assert report.fit_s == 2  # one tick for each of two sizes
    assert report.compress_s == 4  # and one more for each within


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
    assert store.header.skipped == (1,)
    assert [store.name_of(i) for i in range(3)] == ["train_00000", "train_00002", "train_00003"]


def test_an_image_that_did_not_converge_is_named():
    noise = torch.randint(0, 256, (2, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = torch.cat([smooth_images(1, 12, 12), noise])
    _, report = encode(source_of(images), SPEC, replace(FIT, min_psnr_db=25.0), QuantizeConfig())
    assert report.unconverged == ("train_00001", "train_00002")


def test_the_rows_of_an_image_do_not_depend_on_what_is_encoded_beside_it():
    """On the CPU, where a fit promises it."""
    source = source_of(smooth_images(5, 8, 8))
    whole, _ = encode(source, SPEC, FIT, QuantizeConfig())
    part, _ = encode(replace(source, ids=source.ids[3:]), SPEC, FIT, QuantizeConfig())
    assert torch.equal(whole.rows.codes[3:], part.rows.codes)
    assert torch.equal(whole.rows.ends[3:], part.rows.ends)
    assert torch.equal(whole.rows.scales[3:], part.rows.scales)
    assert part.source_ids.tolist() == [3, 4]


def test_training_through_four_bits_wins_back_most_of_what_they_cost():
    images, bits = smooth_images(6, 16, 16), QuantizeConfig(bits=4, granularity="tensor", range="mse")
    source = source_of(images)
    _, rounded = encode(source, SPEC, FIT, bits)
    store, refined = encode(source, SPEC, FIT, bits, refine_config=RefineConfig(steps=150))
    cost = [(report.fit_psnr_db - report.psnr_db).mean() for report in (rounded, refined)]
    assert cost[1] < 0.5 * cost[0]
    assert torch.equal(rounded.fit_psnr_db, refined.fit_psnr_db)
    require_reported(store, images, refined, atol=0.05)


@pytest.mark.parametrize("granularity", ["tensor", "dataset"])
def test_weights_that_make_up_for_each_other_win_back_most_of_what_rounding_costs(device, granularity):
    images = [*smooth_images(4, 16, 16), *smooth_images(2, 12, 14)]
    nearest = QuantizeConfig(5, 8, granularity, "mse")
    pruning = PruneConfig(rule="fixed", max_ratio=0.1, step=0.1, finetune_steps=20)
    options = {"prune_config": pruning, "shard_images": 4, "device": device}
    before, rounded = encode(source_of(images), SPEC, FIT, nearest, **options)
    store, report = encode(source_of(images), SPEC, FIT, replace(nearest, rounding="gptq"), **options)
    assert (report.psnr_db - rounded.psnr_db).mean() > 1
    assert {name: tensor.shape for name, tensor in store.tensors().items()} == {
        name: tensor.shape for name, tensor in before.tensors().items()
    }
    assert store.header.code.quantize.rounding == "gptq"
    require_reported(store, images, report)


@pytest.mark.parametrize(
    ("spec", "refine_config", "message"),
    [
        (SPEC, RefineConfig(steps=3), "refine.steps is 3 with quantize.rounding=gptq, expected 0: choose refine=none"),
        (SirenSpec(6, 44, 30.0), RefineConfig(), "10,167 weights a network, expected at most 2,500: choose .* with refine=qat"),
    ],
)
def test_what_cannot_be_rounded_so_is_refused_before_an_image_is_read(spec, refine_config, message):
    def refuse(image_id):
        raise AssertionError(f"image {image_id} was read")

    source, config = replace(source_of(smooth_images(2, 8, 8)), read=refuse), QuantizeConfig(6, 8, rounding="gptq")
    with pytest.raises(ValueError, match=message):
        encode(source, spec, FIT, config, refine_config=refine_config)
    result = FitResult(torch.zeros(2, spec.n_weights), torch.zeros(2), torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match=message):
        compress(
            result, smooth_images(2, 8, 8), spec, FIT, prune_config=PruneConfig(), quantize_config=config,
            refine_config=refine_config, device=torch.device("cpu"),
        )  # fmt: skip


@pytest.mark.parametrize("refine", [RefineConfig(), RefineConfig(steps=120), RefineConfig(steps=120, method="freeze")])
def test_scales_of_a_dataset_are_one_set_for_all_shards_and_sizes(refine):
    images = [*smooth_images(4, 12, 12), *smooth_images(1, 10, 14)]
    config = QuantizeConfig(8, 8, "dataset")
    store, report = encode(source_of(images), SPEC, FIT, config, refine_config=refine, shard_images=3)
    assert store.rows.scales.shape == (1, SPEC.depth - 1)
    assert store.rows.end_scales.shape == (5, 4)
    require_reported(store, images, report, atol=0.05)
    assert (report.fit_psnr_db - report.psnr_db).mean() < 1.0


def test_training_wins_back_what_eight_bit_ends_cost():
    source, config = source_of(smooth_images(6, 16, 16)), QuantizeConfig(8, 8)
    _, rounded = encode(source, SPEC, FIT, config)
    _, refined = encode(source, SPEC, FIT, config, refine_config=RefineConfig(steps=300))
    assert (refined.psnr_db - rounded.psnr_db).mean() > 1


def test_pruned_images_are_stored_with_their_masks_and_keep_their_rule():
    images = smooth_images(6, 16, 16)
    config = PruneConfig(rule="max_drop", max_drop_db=2.0, max_ratio=0.8, step=0.2, finetune_steps=30)
    spec = SirenSpec(depth=3, hidden=16, omega=10.0)
    store, report = encode(source_of(images), spec, FIT, QuantizeConfig(), prune_config=config)
    dense, _ = encode(source_of(images), spec, FIT, QuantizeConfig())
    assert report.prune_ratio.unique().numel() > 1
    assert (report.psnr_db >= report.fit_psnr_db - 2.0 - 0.5).all()  # and a little for the rounding
    assert store.rows.masks is not None
    assert store.nbytes < dense.nbytes
    hidden = gather_hidden(store.rows, torch.arange(6), store.header.code.spec, torch.float32)
    zeros = (hidden == 0).flatten(1).double().mean(1)
    assert (zeros >= report.prune_ratio - 1e-9).all()
    require_reported(store, images, report, atol=0.05)


def test_masks_are_left_out_where_they_would_cost_more_than_they_save():
    config = PruneConfig(rule="fixed", max_ratio=0.1, step=0.1, finetune_steps=1)
    spec = SirenSpec(depth=3, hidden=16, omega=10.0)
    store, report = encode(source_of(smooth_images(3, 12, 12)), spec, FIT, QuantizeConfig(), prune_config=config)
    assert store.rows.masks is None
    assert report.prune_ratio.tolist() == pytest.approx([0.1] * 3, abs=0.01)


def test_a_single_sine_layer_has_nothing_to_prune_or_to_round():
    config = PruneConfig(rule="fixed", scope="layer", finetune_steps=1)
    spec = SirenSpec(depth=1, hidden=8, omega=10.0)
    images = source_of(smooth_images(2, 8, 8))
    quick, refine = replace(FIT, steps=3), RefineConfig(steps=2)
    store, report = encode(images, spec, quick, QuantizeConfig(4), prune_config=config, refine_config=refine)
    assert report.prune_ratio.tolist() == [0, 0]
    assert store.rows.codes.numel() == 0
    assert decode(store, torch.tensor([1])).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("prune_config", "largest"),
    [
        (PruneConfig(rule="fixed", max_ratio=0.8, step=0.2, finetune_steps=10), 0.05),
        (PruneConfig(rule="max_drop", max_drop_db=0.0, max_ratio=0.8, step=0.2, finetune_steps=10), 0.5),  # ends early
    ],
)
def test_progress_moves_through_every_stage_and_comes_to_the_number_of_images(tmp_path, prune_config, largest):
    source, told = source_of(mixed_images()), []
    config = SirenConfig(SPEC, replace(FIT, steps=20), QuantizeConfig(4), prune_config, RefineConfig(steps=20))
    cpu = torch.device("cpu")
    folder = ShardFolder(tmp_path, plan_store(source, config, shard_images=3, made={}, device=cpu))
    folder.write(encode_shard(source, config, {}, folder.plan, 1, device=cpu))
    encode_shards(source, config, {}, folder, [0, 1], device=cpu, on_progress=told.append)
    assert sum(told) == pytest.approx(5)
    assert min(told) > -1e-9
    assert sum(told[: 2 * 20]) == pytest.approx(3 * 0.25, rel=0.5)  # of 20 steps of fitting among 80
    assert max(told[:-1]) <= 3 * largest
    assert told[-1] == pytest.approx(2)  # the shard that was there


@pytest.mark.parametrize(
    ("side", "steps", "rule", "device", "images"),
    [
        (32, 200, "none", "cpu", 1024), (32, 200, "none", "cuda", 8192), (256, 2000, "none", "cpu", 1),
        (256, 2000, "none", "cuda", 178), (256, 2000, "ceiling_first", "cpu", 1024),  # which ranks the images of a shard
    ],
)  # fmt: skip
def test_a_shard_takes_about_a_minute_unless_its_images_are_ranked(side, steps, rule, device, images):
    spec = SirenSpec(6, 44, 30.0) if side > 32 else SirenSpec(3, 16, 15.0)
    config = SirenConfig(spec, FitConfig(steps=steps), QuantizeConfig(), PruneConfig(rule=rule))
    assert config.default_shard_images(n_pixels=side * side, device=torch.device(device)) == images


def test_a_class_whose_name_no_store_holds_is_refused_before_any_image_is_fitted():
    source = source_of(smooth_images(2, 8, 8), [0, 1], classes=("a", "b\x1b[31m"))
    with pytest.raises(UserError, match=r"a class is called 'b.x1b.31m', which is not a plain name"):
        encode(source, SPEC, FIT, QuantizeConfig())


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9)])
def test_decay_rates_out_of_range_are_refused(betas):
    with pytest.raises(UserError, match=r"refine\.betas is"):
        RefineConfig(betas=betas)


def test_stored_biases_lie_within_a_quarter_turn():
    store, _ = encode(source_of(smooth_images(2, 8, 8)), SPEC, FIT, QuantizeConfig(32, 32))
    section = end_sections(SPEC)["biases"]
    assert store.rows.ends[:, section.start : section.stop].abs().max() <= math.pi / (2 * SPEC.omega) + 1e-6
