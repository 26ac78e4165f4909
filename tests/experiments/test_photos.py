"""Encoding a folder of photographs: their names, files that change meanwhile, and files that are left out."""

import csv
import json

import torch
from PIL import Image

from rapid_inr.store.decode import decode_each
from rapid_inr.store.format import read_store
from rapid_inr.store.shards import ShardFolder
from tests.experiments.commands import SMOKE

FOLDER = ("dataset=image_folder", "dataset.root=photos", *SMOKE)
PHOTOS = (*FOLDER, "inr=2x8", "shard_images=2", "out=a.inr")


def test_an_image_that_was_replaced_since_is_never_stored_from_its_old_shard(command, tmp_path, photos):
    photos()
    assert command("encode", *PHOTOS, "shard=1/2")[0] == 0
    Image.new("RGB", (12, 12), "red").save(tmp_path / "photos" / "train" / "light" / "4.png")  # the last
    code, _, err = command("encode", *PHOTOS)
    assert (code, "have changed since); choose another out=, or overwrite=true" in err) == (2, True)
    assert command("encode", *PHOTOS, "overwrite=true")[0] == 0
    image = list(decode_each(read_store(tmp_path / "a.inr")))[9]
    assert (image.double().mean((0, 1)) - torch.tensor([255.0, 0, 0])).abs().max() < 40


def test_an_image_that_changes_its_size_meanwhile_is_named(command, tmp_path, photos, monkeypatch):
    photos()
    path, write = tmp_path / "photos" / "train" / "dark" / "1.png", ShardFolder.write

    def change_and_write(folder, shard):
        Image.new("RGB", (7, 9)).save(path)
        write(folder, shard)

    monkeypatch.setattr(ShardFolder, "write", change_and_write)
    code, _, err = command("encode", *PHOTOS)
    assert code == 2
    assert "1 files have changed since this encoding began, the first: photos/train/dark/1.png" in err


def test_files_that_are_left_out_are_counted_in_one_warning(command, tmp_path, photos):
    photos()
    (tmp_path / "photos" / "train" / "dark" / "0.png").write_text("no picture")
    (tmp_path / "photos" / "train" / "dark" / "more").mkdir()
    (tmp_path / "photos" / "train" / "dark" / "1.png").rename(tmp_path / "photos" / "train" / "dark" / "more" / "1.png")
    for name in ("notes.txt", "more.txt"):
        (tmp_path / "photos" / "train" / name).touch()
    code, _, err = command("encode", *PHOTOS, "dataset.on_corrupt=skip", "run_dir=r")
    assert code == 0
    assert "[files_left_out]: 4 of 12 files left out: 1 unreadable (photos/train/dark/0.png" in err
    assert "1 in sub-folders (photos/train/dark/more/1.png), 2 of another type (the first: photos/train/more.txt)" in err
    assert err.count("warning [") == 1
    with (tmp_path / "r" / "left_out.csv").open() as file:
        rows = [(row["why"], row["file"].partition(":")[0].removeprefix("photos/train/")) for row in csv.DictReader(file)]
    assert json.loads(command("info", "store=a.inr")[1])["skipped"] == [0]
    deeper = ("in sub-folders", "dark/more/1.png")
    other = "of another type"
    assert rows == [("unreadable", "dark/0.png"), deeper, (other, "more.txt"), (other, "notes.txt")]


def test_the_table_of_images_names_their_files(command, photos, tmp_path):
    photos()
    assert command("encode", *PHOTOS, "dataset.exclude=[train/dark/1.png]", "run_dir=r")[0] == 0
    with (tmp_path / "r" / "images.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)][:3] == [f"train/dark/{i}.png" for i in (0, 2, 3)]
    assert read_store(tmp_path / "a.inr").names[-1] == "light/4.png"


def test_shards_that_another_job_merges_keep_the_names(command, photos, tmp_path):
    photos()
    for job in ("1/2", "2/2"):
        assert command("encode", *PHOTOS, f"shard={job}")[0] == 0
    assert command("merge", "out=a.inr", "track=off")[0] == 0
    assert read_store(tmp_path / "a.inr").names == tuple(f"{label}/{i}.png" for label in ("dark", "light") for i in range(5))


def test_images_that_an_encoding_or_an_export_skipped_are_left_out_by_the_training(command, tmp_path, photos):
    photos()
    (tmp_path / "photos" / "train" / "light" / "1.png").write_text("no picture")
    assert command("encode", *PHOTOS, "dataset.on_corrupt=skip")[0] == 0
    assert command("export", *FOLDER, "dataset.on_corrupt=skip", "format=png", "out=E")[0] == 0
    for name, options in {"inr": ("store=a.inr",), "dataloader": ("pipeline.workers=0", "files=E")}.items():
        code, _, err = command("train", *FOLDER, "optimizer.batch_size=4", f"pipeline={name}", *options, f"run_dir={name}")
        assert code == 0, err
        assert json.loads((tmp_path / name / "record.json").read_text())["metrics"]["images"] == 9
