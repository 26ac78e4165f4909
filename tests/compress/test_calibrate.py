import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.spec import SirenSpec, end_sections
from kernels.unpack.torch import gather_hidden
from rapid_inr.compress.calibrate import HEADER_BYTES, _hidden_budget, _to_ratio, calibrate
from rapid_inr.compress.prune import PruneConfig, keep_largest, pruned_bytes
from rapid_inr.compress.qat import Calibration, RefineConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import CorruptImage, ImageSource
from rapid_inr.encoding.encode import encode
from rapid_inr.evaluation.metrics import psnr_db
from rapid_inr.inr.fit import FitConfig
from rapid_inr.store.decode import decode_each
from rapid_inr.store.format import write_store
from tests.images import smooth_images

SPEC = SirenSpec(depth=3, hidden=16, omega=10.0)
FIT = FitConfig(steps=40, pixels_per_step=64)
SHARED = PruneConfig(rule="fixed", mask="shared", step=0.25, max_ratio=0.5, sample_images=3, finetune_steps=5)
INT8 = QuantizeConfig(8, 16, "tensor")


def source_of(images, labels=None) -> ImageSource:
    arrays = [image.numpy() for image in images]
    return ImageSource(
        "test", (("train", len(arrays)),), np.arange(len(arrays)), labels, ("a", "b") if labels is not None else (),
        read=lambda i: arrays[i],
    )  # fmt: skip


def test_where_nothing_is_shared_no_image_is_read():
    def refuse(image_id):
        raise AssertionError(f"image {image_id} was read")

    source = replace(source_of(smooth_images(2, 8, 8)), read=refuse)
    own = PruneConfig(rule="max_drop")
    assert calibrate(source, SPEC, FIT, prune_config=own, quantize_config=INT8) == Calibration()


def test_what_is_shared_follows_from_the_sample_alone():
    images = smooth_images(5, 8, 8)
    configs = {"prune_config": SHARED, "quantize_config": QuantizeConfig(6, 8, "dataset", "mse")}
    whole = calibrate(source_of(images), SPEC, FIT, **configs)
    first = calibrate(source_of(images[:3]), SPEC, FIT, **configs)
    assert torch.equal(whole.mask, first.mask)
    assert torch.equal(whole.scales, first.scales)
    assert whole.mask.shape == (1, SPEC.n_hidden_weights)
    assert (~whole.mask).sum() == SPEC.n_hidden_weights // 2
    assert whole.scales.shape == (1, SPEC.depth - 1, 1)


def test_a_shared_mask_costs_an_image_nothing_and_is_obeyed():
    images = smooth_images(5, 12, 12)
    store, report = encode(source_of(images), SPEC, FIT, QuantizeConfig(5, 8, "tensor", "mse"), prune_config=SHARED)
    assert store.masks.shape == (1, SPEC.n_hidden_weights // 8)
    assert store.codes.shape == (5, SPEC.n_hidden_weights // 2 * 5 // 8)
    hidden = gather_hidden(store.rows, torch.arange(5), SPEC, torch.float32).flatten(1)
    kept = calibrate(source_of(images), SPEC, FIT, prune_config=SHARED, quantize_config=INT8).mask[0]
    assert bool((hidden[:, ~kept] == 0).all())
    assert report.prune_ratio.tolist() == [0.5] * 5
    assert torch.allclose(psnr_db(torch.stack(list(decode_each(store))), images), report.psnr_db, atol=0.05)


@pytest.mark.parametrize("mask", ["own", "shared"])
@pytest.mark.parametrize("labels", [None, np.array([0, 1, 0, 1, 0, 1])])
def test_a_budget_is_kept_and_nearly_used_up(tmp_path, mask, labels):
    images, codes = smooth_images(6, 12, 12), QuantizeConfig(8, 8, "tensor")
    source = source_of(images, labels)
    dense = 6 * (SPEC.n_hidden_weights + 2 * (SPEC.depth - 1) + end_sections(SPEC)["last_bias"].stop + 8)
    budget = 4096 + int(0.7 * dense)
    config = PruneConfig(
        rule="budget", mask=mask, budget_bytes=budget, step=0.2, max_ratio=0.8, sample_images=3, finetune_steps=5
    )
    store, report = encode(source, SPEC, FIT, codes, prune_config=config)
    n_bytes = write_store(tmp_path / "b.inr", store)
    spared = {"own": 6 * 52, "shared": 6}[mask]  # a step of one image, a fifth of 512 weights, or the part of a byte
    header = n_bytes - store.nbytes
    assert budget - 4096 - spared - 300 < n_bytes - header <= budget - header
    if mask == "own":
        assert report.prune_ratio.unique().numel() > 1


@pytest.mark.parametrize(
    "config",
    [{}, {"mask": "shared"}, {"mask": "shared", "scope": "layer"}, {"scope": "layer"}],
    ids=["own", "shared", "shared-layer", "layer"],
)
def test_a_budget_is_kept_though_images_differ_in_size_or_cannot_be_read(config):
    images = [*smooth_images(60, 8, 8), *smooth_images(60, 6, 9)]  # the sample holds one size alone
    arrays = [image.numpy() for image in images]

    def read(i):
        if i == 0:
            raise CorruptImage("torn")
        return arrays[i]

    source = replace(source_of(images), read=read)
    rounds = {"step": 0.3, "max_ratio": 0.8, "sample_images": 3, "finetune_steps": 1}
    spec = SirenSpec(5, 13, 10.0)
    budget = HEADER_BYTES + 86 + 120 * 750
    store, _ = encode(
        source, spec, FitConfig(steps=2, pixels_per_step=16), QuantizeConfig(8, 8, "tensor"), on_corrupt="skip",
        prune_config=PruneConfig(rule="budget", budget_bytes=budget, **rounds | config),
    )  # fmt: skip
    assert store.sizes is not None
    assert store.source_ids is not None
    assert sum(tensor.nbytes for tensor in store.tensors().values()) <= budget - HEADER_BYTES


def test_what_may_be_stored_beside_the_codes_is_reserved():
    def left(source, on_corrupt="fail"):
        config = PruneConfig(rule="budget", budget_bytes=20_000)
        configs = {"prune_config": config, "quantize_config": INT8, "on_corrupt": on_corrupt}
        return calibrate(source, SPEC, FIT, **configs).hidden_bytes

    source = replace(source_of(smooth_images(4, 8, 8), np.array([0, 1, 0, 1])), one_size=True)
    assert left(source) - left(source, "skip") == 4  # source_ids
    assert left(source) - left(replace(source, one_size=False)) == 8
    quoted = replace(source, class_names=('"', "b"))  # \\\" in JSON inside JSON
    assert left(source) - left(quoted) == 3 / 4


@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("mask", ["own", "shared"])
def test_a_budget_that_is_accepted_suffices_for_what_is_kept_at_max_ratio(scope, mask):
    spec, source = SirenSpec(5, 13, 10.0), source_of(smooth_images(1, 8, 8))
    n_refused = 0
    for budget in range(4600, 4900):
        config = PruneConfig(rule="budget", mask=mask, scope=scope, budget_bytes=budget)
        try:
            hidden_bytes = _hidden_budget(source, spec, INT8, config, on_corrupt="fail")
        except ValueError:
            n_refused += 1
            continue
        if mask == "shared":
            config = _to_ratio(config, spec, INT8, hidden_bytes)
            assert config.max_ratio <= 0.7
        dense = torch.ones(1, spec.n_hidden_weights, dtype=torch.bool)
        kept = int(keep_largest(torch.rand(dense.shape), dense, config.max_ratio, parts=config.parts(4)).sum())
        assert (kept if mask == "shared" else pruned_bytes(kept, spec.n_hidden_weights, 8)) <= hidden_bytes
    assert 0 < n_refused < 300


def test_a_budget_beats_one_ratio_for_all_at_the_same_bytes():
    images = torch.cat([smooth_images(4, 12, 12), torch.full((4, 12, 12, 3), 120, dtype=torch.uint8)])  # four are plain grey
    codes = QuantizeConfig(8, 8, "tensor")
    rounds = {"step": 0.2, "max_ratio": 0.8, "finetune_steps": 20}
    fixed, one_ratio = encode(
        source_of(images), SPEC, FIT, codes, prune_config=PruneConfig(rule="fixed", **rounds | {"max_ratio": 0.4})
    )
    stored = sum(tensor.nbytes for tensor in fixed.tensors().values())
    budget = PruneConfig(rule="budget", budget_bytes=stored + 4096, **rounds)
    shared_out, each_its_own = encode(source_of(images), SPEC, FIT, codes, prune_config=budget)
    assert shared_out.nbytes <= fixed.nbytes
    assert each_its_own.psnr_db.mean() > one_ratio.psnr_db.mean()


@pytest.mark.parametrize(
    ("budget_bytes", "codes", "message"),
    [
        (5000, INT8, r"prune.budget_bytes is 5,000, but 2 images take at least 5,\d{3} bytes as 3x16 in 8 bits"),
        (50_000, QuantizeConfig(16), "prune.rule is 'budget' with quantize.bits=16, expected 2 to 8"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_any_fit(monkeypatch, budget_bytes, codes, message):
    monkeypatch.setattr("rapid_inr.compress.calibrate.fit", lambda *_, **__: pytest.fail("an image was fitted"))
    config = PruneConfig(rule="budget", budget_bytes=budget_bytes)
    with pytest.raises(ValueError, match=message):
        calibrate(source_of(smooth_images(2, 8, 8)), SPEC, FIT, prune_config=config, quantize_config=codes)


def test_a_rate_that_is_not_a_number_is_refused():
    for config in (PruneConfig, RefineConfig):
        with pytest.raises(ValueError, match="lr_scale is nan, expected positive"):
            config(lr_scale=math.nan)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9)])
def test_decay_rates_out_of_range_are_refused(betas):
    with pytest.raises(ValueError, match=r"refine\.betas is"):
        RefineConfig(betas=betas)


def test_stored_biases_lie_within_a_quarter_turn():
    store, _ = encode(source_of(smooth_images(2, 8, 8)), SPEC, FIT, QuantizeConfig(32, 32))
    section = end_sections(SPEC)["biases"]
    assert store.ends[:, section.start : section.stop].abs().max() <= math.pi / (2 * SPEC.omega) + 1e-6
