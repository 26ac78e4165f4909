"""New photographs enter a store of those that were encoded before, which are not fitted again."""

import csv
import json

import pytest
import torch
from PIL import Image

from rapid_inr.store.decode import decode_each
from rapid_inr.store.format import read_store
from tests.experiments.commands import SMOKE

OPTIONS = ("dataset=image_folder", "dataset.root=photos", *SMOKE, "inr=2x8", "shard_images=2", "fit.steps=10")
FIRST, SECOND = ("out=a.inr", "run_dir=first"), ("out=b.inr", "run_dir=second", "reuse=first")


def add(path, color):
    Image.new("RGB", (12, 12), color).save(path)


def images_of(path, run):
    """Return the decoded images and the lines of the table, by their names."""
    with (run / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {row["image"]: (image, row) for image, row in zip(decode_each(read_store(path)), rows, strict=True)}


@pytest.mark.parametrize("more", [(), ("prune=fixed", "prune.step=0.5", "prune.finetune_steps=2"), ("quantize=int4",)])
def test_images_that_were_encoded_before_keep_their_weights_wherever_they_lie(command, tmp_path, photos, more):
    photos()
    dark, light = (tmp_path / "photos" / "train" / label for label in ("dark", "light"))
    assert command("encode", *OPTIONS, *more, *FIRST)[0] == 0
    add(dark / "00.png", "red")  # between those that were there
    add(light / "9.png", "blue")
    (dark / "4.png").rename(light / "moved.png")
    code, out, err = command("encode", *OPTIONS, *more, *SECOND)
    assert (code, "b.inr: 12 images (10 reused)" in out, "2/2" in err) == (0, True, True), err
    before, after = images_of(tmp_path / "a.inr", tmp_path / "first"), images_of(tmp_path / "b.inr", tmp_path / "second")
    assert set(after) - set(before) == {f"train/{name}" for name in ("dark/00.png", "light/9.png", "light/moved.png")}
    before["train/light/moved.png"] = before.pop("train/dark/4.png")
    for name, (image, row) in before.items():
        assert torch.equal(after[name][0], image)
        assert all(after[name][1][key] == row[key] for key in ("psnr_db", "fit_psnr_db", "attempts", "prune_ratio", "content"))
    store, record = read_store(tmp_path / "b.inr"), json.loads((tmp_path / "second" / "record.json").read_text())
    assert store.labels.tolist() == [0] * 5 + [1] * 7
    assert (store.header.made["reused"], record["metrics"]["reused"], record["metrics"]["images"]) == (10, 10, 12)
    assert not (tmp_path / "b.inr.shards").exists()


def test_images_that_come_last_make_the_store_of_a_fresh_encode(command, tmp_path, photos):
    photos()
    assert command("encode", *OPTIONS, *FIRST)[0] == 0
    for i in (5, 6, 7):
        add(tmp_path / "photos" / "train" / "light" / f"{i}.png", "green")  # one picture under three names is found by each
    assert command("encode", *OPTIONS, *SECOND)[0] == 0
    assert command("encode", *OPTIONS, "out=c.inr")[0] == 0
    added, fresh = read_store(tmp_path / "b.inr"), read_store(tmp_path / "c.inr")
    assert all(torch.equal(tensor, fresh.tensors()[name]) for name, tensor in added.tensors().items())
    assert (added.header.mean, added.header.std, added.header.splits) == (
        fresh.header.mean,
        fresh.header.std,
        fresh.header.splits,
    )
    train = ("train", "dataset=image_folder", "dataset.root=photos", *SMOKE, "optimizer.batch_size=4", "pipeline=inr")
    assert command(*train, "store=b.inr")[0] == 0
    add(tmp_path / "photos" / "train" / "light" / "8.png", "pink")
    code, out, _ = command("encode", *OPTIONS, "out=d.inr", "reuse=second")  # and so on
    assert (code, "14 images (13 reused)" in out) == (0, True)


def test_what_is_reused_is_refused_where_it_would_not_fit(command, tmp_path, photos):
    photos()
    assert command("encode", *OPTIONS, *FIRST)[0] == 0
    refused = ("encode", *OPTIONS, *SECOND)
    assert "every image of this dataset" in command(*refused)[2]
    add(tmp_path / "photos" / "train" / "light" / "9.png", "blue")
    assert "reuse=first was encoded with fit.steps=10, this is fit.steps=11" in command(*refused, "fit.steps=11")[2]
    assert "with inr.hidden=8, this is inr.hidden=9" in command(*refused, "inr=2x9")[2]
    assert "out is a.inr, the store to reuse" in command(*refused, "out=a.inr", "overwrite=true")[2]
    assert "and these share scales" in command(*refused, "quantize.granularity=dataset")[2]
    assert "shard is 1/2 with reuse" in command(*refused, "shard=1/2")[2]
    assert "reuse=nothing holds no run" in command(*refused, "reuse=nothing")[2]
    assert command(*refused, "keep_shards=true")[0] == 0
    (tmp_path / "b.inr").unlink()
    assert "are the shards of an encode with reuse" in command("merge", "out=b.inr")[2]
    (tmp_path / "a.inr").write_bytes((tmp_path / "a.inr").read_bytes() + b"\0")
    assert command(*refused, "out=c.inr")[0] == 2
