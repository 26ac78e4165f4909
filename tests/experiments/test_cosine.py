"""Cosine series by the commands: one path for both families, codebooks from the training images, and errors in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from rapid_inr import AugmentConfig, INRLoader
from rapid_inr.data.shapes import shapes
from rapid_inr.encoding.cosine import CosineConfig, cosine_spec
from rapid_inr.store.format import read_store
from rapid_inr.store.shards import open_shards
from tests.experiments.commands import SHAPES, SMOKE, composed

SERIES = (*SHAPES, *SMOKE, "inr=cosine", "inr.bytes=20", "inr.profiles=2")


def shared_of(path):
    store = read_store(path)
    return {name: store.packed[name] for name in store.header.code.shared}


def test_codebooks_are_those_of_the_training_images_whatever_is_encoded(command, tmp_path):
    for split in ("train", "test", "all"):
        code, out, err = command("encode", *SERIES, f"dataset.split={split}", f"out={split}.inr")
        assert code == 0, err
        assert "% without codebooks" in out
    train, test, everything = (shared_of(f"{split}.inr") for split in ("train", "test", "all"))
    assert all(torch.equal(train[name], test[name]) and torch.equal(train[name], everything[name]) for name in train)
    assert command("encode", *SERIES, "dataset.seed=1", "out=other.inr")[0] == 0
    assert not torch.equal(shared_of("other.inr")["books"], train["books"])


def test_a_store_says_what_it_costs_with_and_without_codebooks_and_is_decoded(command, tmp_path):
    assert command("encode", *SERIES, "out=a.inr", "run_dir=run")[0] == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    metrics = record["metrics"]
    codebooks, others = metrics["codebook_bytes"], metrics["store_bytes"] - metrics["codebook_bytes"]
    message = (
        f"codebooks take {codebooks:,} of {metrics['store_bytes']:,} bytes; {round(codebooks / others * 9)} images would fill"
    )
    assert [(warning["name"], warning["message"].startswith(message)) for warning in record["warnings"]] == [
        ("codebooks_outweigh_images", True)
    ]
    facts = json.loads(command("info", "store=a.inr")[1])
    assert (facts["family"], facts["bytes"], facts["profiles"], facts["images"]) == ("cosine", 20, 2, 9)
    assert facts["parts_bytes"]["codes"] == 9 * 20
    assert facts["parts_bytes"]["codebooks"] == metrics["codebook_bytes"] == facts["codebook_bytes"]
    assert facts["bpp"] == metrics["bpp"] > metrics["own_bpp"] > 8 * 20 / 144
    assert metrics["image_bytes"] == 20
    assert ("fit_psnr_db" in metrics, metrics["shared_s"] > 0) == (False, True)  # nothing is fitted
    images, labels = next(iter(INRLoader("a.inr", 4, augment=AugmentConfig())))
    assert (images.shape, labels.shape) == ((4, 3, 12, 12), (4,))
    code, _, err = command("decode", "store=a.inr", "out=pictures", "size=20", "limit=2")
    assert (code, len(list((tmp_path / "pictures").glob("train*.png")))) == (0, 2), err


def test_a_basis_of_cosines_takes_no_bytes_and_is_another_encoding(command, tmp_path):
    options = (*SERIES, "shard_images=5", "keep_shards=true", "out=a.inr")
    assert command("encode", *options, "inr.basis=cosines")[0] == 0
    store = read_store("a.inr")
    assert "basis" not in store.packed
    assert next(iter(INRLoader("a.inr", 4, augment=AugmentConfig())))[0].isfinite().all()
    assert command("decode", "store=a.inr", "out=pictures")[0] == 0
    assert command("merge", "out=a.inr", "overwrite=true", "keep_shards=true")[0] == 0
    code, _, err = command("encode", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: a.inr"), err
    assert "basis" not in read_store("a.inr").packed
    assert command("encode", *options, "overwrite=true")[0] == 0  # no shard of the other basis is taken over
    assert "basis" in read_store("a.inr").packed


def test_larger_images_teach_the_codebooks_by_a_sample(monkeypatch):
    config = CosineConfig(cosine_spec(9, 1, image_size=(12, 12)))
    source = shapes(count=20, test_count=2, size=12, split="train", seed=0, classes=2)
    monkeypatch.setattr("rapid_inr.encoding.cosine.SAMPLE_COEFFICIENTS", 5 * 3 * 12**2)
    seen = []
    monkeypatch.setattr("rapid_inr.encoding.cosine.learn", lambda z, *_, **__: seen.append(len(z)) or {})
    config.choose_shared(source, device=torch.device("cpu"), on_corrupt="fail")
    assert seen == [5]


def test_jobs_share_the_codebooks_of_the_first_and_merge_to_the_same_bytes(command, tmp_path):
    assert command("encode", *SERIES, "out=whole.inr")[0] == 0
    for i in (1, 2):
        assert command("encode", *SERIES, "shard_images=2", f"shard={i}/2", "out=a.inr", f"run_dir=r{i}")[0] == 0
    assert command("merge", "out=a.inr", "keep_shards=true")[0] == 0
    assert (tmp_path / "a.inr").read_bytes() == (tmp_path / "whole.inr").read_bytes()
    assert command("encode", *SERIES, "dataset.seed=1", "out=b.inr", "keep_shards=true")[0] == 0
    shutil.copy(tmp_path / "b.inr.shards" / "shared.shard", tmp_path / "a.inr.shards" / "shared.shard")
    code, _, err = command("merge", "out=a.inr", "overwrite=true")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: a.inr.shards holds shards of another encoding (dataset.seed is 1 there, 0 here)")


def test_a_kill_while_shards_are_removed_leaves_nothing_that_the_same_command_does_not_remove(command, tmp_path, monkeypatch):
    assert command("encode", *SERIES, "shard_images=5", "out=kept.inr", "keep_shards=true")[0] == 0
    shards, unlink = tmp_path / "a.inr.shards", Path.unlink
    (tmp_path / "kept.inr.shards" / ".whole.inr.01234567").write_text("of a merge that was killed before")
    for kept in (1, 2, 3, 4):
        shutil.copytree(tmp_path / "kept.inr.shards", shards)
        shutil.copy(tmp_path / "kept.inr", tmp_path / "a.inr")

        def kill_before_the_last(path, missing_ok=False, kept=kept):
            if len(list(shards.iterdir())) == kept:
                raise KeyboardInterrupt
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", kill_before_the_last)
            with pytest.raises(KeyboardInterrupt):
                open_shards(shards).clear()
        assert command("merge", "out=a.inr")[0] == 0
        assert not shards.exists(), kept
        (tmp_path / "a.inr").unlink()


def test_a_network_is_trained_from_the_variant_of_a_sweep(command, tmp_path):
    options = (*SHAPES, *SMOKE, "test_on_decoded=true", "variant=cosine-154", "run_dir=run")
    code, _, err = command("train", *options)
    assert code == 0, err
    metrics = json.loads((tmp_path / "run" / "record.json").read_text())["metrics"]
    assert len(list((tmp_path / "stores").glob("shapes-*-cosine-154-*.inr"))) == 2
    assert metrics["rgb_pct"] > metrics["own_rgb_pct"]
    assert "decoded_top1_pct" in metrics


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("inr.bytes=1",), "inr.bytes is 1, expected 2 to 433 for images of 12x12"),
        (("inr.bytes=434",), "inr.bytes is 434, expected 2 to 433 for images of 12x12"),
        (("inr.bytes=13000",), "inr.bytes is 13000, expected 1 to 12289"),
        (("inr.bytes=null",), "inr.bytes is None, expected 1 to 12289"),
        (("inr.basis=dct",), "inr.basis is 'dct', expected one of learned, cosines"),
        (("inr.profiles=33",), "inr.profiles is 33, expected 1 to 32"),
        (("inr.depth=3",), "inr.depth is 3, expected null with inr.bytes, which is of inr=cosine"),
        (("fit.steps=30",), "fit.steps is 30, expected 200: it is a key of SIRENs, and inr is cosine; leave it out"),
        (("quantize=int6",), "quantize.bits is 6, expected 8: it is a key of SIRENs, and inr is cosine; leave it out"),
        (("prune=floor",), "prune.rule is floor, expected none: it is a key of SIRENs, and inr is cosine; leave it out"),
        (("refine=qat",), "refine.steps is"),
        (("inr=2x8",), "inr.depth is 2, expected null with inr.bytes, which is of inr=cosine"),
        (("inr=sine",), "inr is 'sine', expected DEPTHxWIDTH, for instance 3x16, or cosine"),
    ],
)
def test_what_cannot_be_encoded_is_refused_in_one_line(command, tmp_path, overrides, message):
    code, _, err = command("encode", *SERIES, *overrides, "out=a.inr")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["inr.basis=cosines", "inr.profiles=2", "inr.bytes=9"])
def test_a_key_of_series_is_refused_with_a_siren(command, key):
    code, _, err = command("encode", *SHAPES, *SMOKE, "inr=2x8", key, "out=a.inr")
    assert (code, err) == (2, "error: inr.depth is 2, expected null with inr.bytes, which is of inr=cosine\n")


def test_a_series_has_no_fit_to_time(command):
    code, _, err = command("benchmark", *SERIES, "suite=fit")
    assert (code, err) == (2, "error: inr is cosine, expected DEPTHxWIDTH: a cosine series is not fitted\n")


def test_an_image_of_fewer_pixels_than_there_are_frequencies_is_refused(command, photos):
    data = ("dataset=image_folder", f"dataset.root={photos(sizes=((12, 12), (8, 14)))}")
    code, _, err = command("encode", *data, *SMOKE, "inr=cosine", "inr.bytes=9", "out=a.inr")
    message = "an image has 8x14 pixels, expected at least 12 a side, as many as the first image has; set dataset.size"
    assert (code, err.splitlines()[-1]) == (2, f"error: {message}")
    assert command("encode", *data, *SMOKE, "inr=cosine", "inr.bytes=9", "dataset.size=8", "out=a.inr")[0] == 0


def test_larger_images_of_several_sizes_are_series_of_the_frequencies_of_the_first(command, photos):
    data = ("dataset=image_folder", f"dataset.root={photos(sizes=((12, 12), (12, 14)))}")
    code, _, err = command("encode", *data, *SMOKE, "inr=cosine", "inr.bytes=9", "out=a.inr")
    assert code == 0, err
    assert json.loads(command("info", "store=a.inr")[1])["frequencies"] == 12


def test_usual_values_may_be_named():
    assert composed("encode", *SERIES, "quantize=int8", "prune=none", "seed=3").inr.bytes == 20
