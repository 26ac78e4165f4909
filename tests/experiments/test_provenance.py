"""A store is trained with the dataset it was made from, image for image."""

import json

import pytest
import torch

from experiments.setup.build import build_source
from experiments.training import inputs
from experiments.training.provenance import how_made, rows_of
from rapid_inr.store.format import read_store
from tests.experiments.commands import SHAPES, SMOKE, TINY, composed

TRAIN = ("train", *SMOKE, "pipeline=inr", "store=a.inr", "optimizer.batch_size=4", "run_dir=run")


def images_of_run(tmp_path):
    return json.loads((tmp_path / "run" / "record.json").read_text())["metrics"]["images"]


@pytest.mark.parametrize(
    ("key", "made", "asked"),
    [("seed", 0, 1), ("classes", 5, 4), ("count", 9, 8), ("size", 12, 16), ("resize", "stretch", "crop")],
)
def test_a_store_of_another_dataset_is_refused(command, tmp_path, store, key, made, asked):
    code, _, err = command(*TRAIN, *SHAPES, f"dataset.{key}={asked}")
    assert code == 2
    assert f"the store was made with dataset.{key}={made}, this is dataset.{key}={asked}" in err
    assert not (tmp_path / "run").exists()


def test_a_store_of_another_folder_is_refused(command, photos):
    photos("a")
    photos("more", count=6)
    encode = ("encode", "dataset=image_folder", *SMOKE, "inr=2x8", "out=a.inr")
    assert command(*encode, "dataset.root=a")[0] == 0
    _, _, err = command(*TRAIN, "dataset=image_folder", "dataset.root=more")
    assert "made from 10 training images, dataset=image_folder has 12" in err
    _, _, err = command(*TRAIN, *SHAPES)
    assert "made with dataset.name=image_folder, this is dataset.name=shapes" in err


def test_a_store_is_trained_without_the_files_it_was_made_from(command, tmp_path, photos):
    photos()
    of_photos = ("dataset=image_folder", "dataset.root=photos")
    assert command("encode", *of_photos, *SMOKE, "inr=2x8", "out=a.inr")[0] == 0
    (tmp_path / "photos" / "train").rename(tmp_path / "gone")
    assert command(*TRAIN, *of_photos)[0] == 0
    assert images_of_run(tmp_path) == 10
    code, _, err = command(*TRAIN, *of_photos, "dataset.limit=4", "overwrite=true")
    assert (code, "image folder not found: looked for photos/train" in err) == (2, True)
    assert "made with dataset.name=image_folder, this is dataset.name=shapes" in command(*TRAIN, *SHAPES)[2]


def test_pipeline_inr_takes_the_images_that_are_asked_for(command, tmp_path):
    both = ("dataset.count=6", "dataset.test_count=5", "dataset.classes=2")
    command("encode", *TINY, *both, "dataset.split=all", "dataset.limit=11", "out=a.inr")
    asked = ("dataset.limit=4", "dataset.exclude=[1,8]")  # 8 is a test image
    assert command(*TRAIN, *SHAPES[:2], *both, *asked)[0] == 0
    assert images_of_run(tmp_path) == 4
    cfg = composed("train", *SHAPES[:2], *both, *asked)
    rows = rows_of(read_store(tmp_path / "a.inr"), build_source(cfg, split="train"), on_corrupt="fail")
    assert len(rows) == 4
    assert set(rows.source_ids.tolist()) < {0, 2, 3, 4, 5}


def test_images_that_the_store_lacks_are_counted(command):
    command("encode", *SHAPES[:2], "inr=2x8", *SMOKE, "dataset.limit=9", "out=a.inr")
    code, _, err = command(*TRAIN, *SHAPES[:2], "dataset.limit=12")
    assert code == 2
    assert "the store lacks 3 of the 12 training images, the first train_" in err


def test_a_store_of_mixed_sizes_is_decoded_at_the_size_asked_for(command, photos, tmp_path):
    options = ("dataset=image_folder", f"dataset.root={photos(sizes=((12, 12), (10, 14)))}")
    command("encode", *options, *SMOKE, "inr=2x8", "out=a.inr")
    assert command(*TRAIN, *options, "dataset.size=16")[0] == 0
    code, _, err = command(*TRAIN, *options, "dataset.size=16", "dataset.resize=crop", "overwrite=true")
    assert (code, "dataset.resize" in err) == (2, True)
    code, _, err = command(*TRAIN, *options, "overwrite=true")
    assert (code, "dataset.size=S" in err) == (2, True)
    with pytest.raises(ValueError, match=r"differ in size; set dataset\.size=S"):
        inputs.inr_input(composed("train", *options), read_store(tmp_path / "a.inr"))


def test_a_header_holds_no_path_and_nothing_that_changes_no_byte(tmp_path):
    cfg = composed("encode", *SHAPES)
    made = how_made(cfg)
    assert not {"root", "download", "on_corrupt", "exclude"} & set(made["dataset"])
    assert made["dataset"]["seed"] == 0
    assert "max_batch" not in made["fit"]
    digests = set()
    for name, value in (("a", [3, 1]), ("b", [1, 3]), ("c", {"index": [1, 3]})):
        (tmp_path / name).write_text(json.dumps(value))
        cfg.dataset.exclude = str(tmp_path / name)
        digests.add(how_made(cfg)["dataset"]["exclude"])
    cfg.dataset.exclude = [1, 3]
    assert digests == {how_made(cfg)["dataset"]["exclude"]}
    (digest,) = digests
    cfg.dataset.exclude = [1, 2]
    assert len(digest) == 16
    assert how_made(cfg)["dataset"]["exclude"] != digest


@pytest.mark.parametrize(("autocast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_raw_images_and_inrs_feed_what_the_network_computes_in(encoded, autocast, dtype):
    cfg = composed("train", *SHAPES, f"autocast={autocast}", "optimizer.batch_size=4")
    for data in (inputs.resident_input(cfg), inputs.inr_input(cfg, read_store(encoded))):
        assert next(iter(data.pipeline.epoch(0))).images.dtype == dtype
