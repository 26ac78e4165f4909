"""`experiments.decode` as a user runs it."""

import json
import os

from PIL import Image
from safetensors.torch import load_file, save_file

from experiments.decode import picture_names
from rapid_inr.store.format import METADATA_KEY, write_store
from rapid_inr.store.sealed import seal
from tests.experiments.commands import SMOKE, TINY
from tests.store.stores import header_in, small_store


def test_decode_writes_pictures_named_by_split_and_index(command, tmp_path):
    command("encode", *TINY, "dataset.split=all", "dataset.count=6", "dataset.test_count=5", "out=a.inr")
    code, _, _ = command("decode", "store=a.inr", "out=pictures", "size=[20,30]", "limit=7", "track=off")
    assert code == 0
    names = sorted(os.listdir(tmp_path / "pictures"))
    assert names == ["contact_sheet.png", "test_00000.png", *(f"train_{i:05d}.png" for i in range(6))]
    with Image.open(tmp_path / "pictures" / "test_00000.png") as picture:
        assert picture.size == (30, 20)


def test_pictures_are_called_after_the_files(command, tmp_path, photos):
    photos()
    dark = tmp_path / "photos" / "train" / "dark"
    (dark / "4.png").rename(dark / "new\nline.png")
    long = "n" * 251
    (dark / "3.png").rename(dark / f"{long}.png")
    encode = ("encode", "dataset=image_folder", "dataset.root=photos", *SMOKE, "inr=2x8")
    decode = ("decode", "store=a.inr", "out=pictures", "track=off")
    assert command(*encode, "out=a.inr")[0] == 0
    assert command(*decode)[0] == 0
    found = {path.relative_to(tmp_path / "pictures").as_posix() for path in (tmp_path / "pictures").rglob("*.png")}
    files = {f"train/{label}/{i}.png" for label in ("dark", "light") for i in range(5)}
    files = files - {"train/dark/3.png", "train/dark/4.png"} | {f"train/dark/{long}.png", "train_00003.png"}
    assert found == files | {"contact_sheet.png"}
    code, _, err = command(*decode, "limit=9", "overwrite=true")
    assert (code, "holds 1 pictures of another decode, such as train/light/4.png" in err) == (2, True)
    code, out, _ = command("info", "store=a.inr", "image=0")
    assert json.loads(out) == {"image": 0, "name": "train/dark/0.png", "size": [12, 12], "class": "dark"}
    assert json.loads(command("info", "store=a.inr")[1])["files_named"] == 9
    assert "image is 10, expected 0 to 9" in command("info", "store=a.inr", "image=10")[2]


def test_pictures_of_files_that_differ_in_their_suffix_alone_do_not_replace_each_other():
    assert picture_names(["train/a.jpg", "train_00001"]) == ["train/a.png", "train_00001.png"]
    assert picture_names(["train/a.jpg", "train/a.jpg.jpg", "train/a.png"]) == [
        "train/a.jpg.png", "train/a.jpg.jpg.png", "train/a.png.png"
    ]  # fmt: skip


def test_one_number_decodes_to_squares(command, tmp_path, store):
    assert command("decode", "store=a.inr", "out=pictures", "size=20", "limit=1", "track=off")[0] == 0
    with Image.open(tmp_path / "pictures" / "train_00000.png") as picture:
        assert picture.size == (20, 20)


def test_pictures_of_two_decodes_are_never_mixed(command, tmp_path, store):
    decode = ("decode", "store=a.inr", "out=pictures", "track=off")
    assert command(*decode, "limit=3")[0] == 0
    (tmp_path / "pictures" / "mine.png").write_text("precious")
    code, _, err = command(*decode, "limit=3")
    assert (code, "pictures is not empty; overwrite=true adds to it; or choose another out=" in err) == (2, True)
    assert command(*decode, "limit=3", "overwrite=true")[0] == 0
    code, _, err = command(*decode, "limit=2", "overwrite=true")
    assert (code, "holds 1 pictures of another decode, such as train_00002.png" in err) == (2, True)
    assert (tmp_path / "pictures" / "mine.png").read_text() == "precious"
    code, _, err = command("decode", "store=a.inr", "out=a.inr", "track=off")
    assert (code, "a.inr is a file" in err) == (2, True)


def test_several_stores_are_compared_on_one_sheet(command, tmp_path, store):
    command("encode", *TINY, "quantize.bits=4", "out=b.inr")
    code, out, _ = command("decode", "store=[a.inr,b.inr]", "out=pictures", "limit=3", "track=off")
    assert (code, "3 images of 2 stores" in out) == (0, True)
    assert os.listdir(tmp_path / "pictures") == ["comparison.png"]
    command("encode", *TINY, "dataset.split=test", "out=c.inr")
    code, _, err = command("decode", "store=[a.inr,c.inr]", "out=others", "track=off")
    assert (code, "no image is in all of a.inr, c.inr" in err) == (2, True)


def test_a_store_never_writes_outside_of_the_folder(command, tmp_path):
    write_store(tmp_path / "a.inr", small_store(3))
    raw = header_in(tmp_path / "a.inr") | {"splits": [["../escaped", 6]]}
    save_file(load_file(tmp_path / "a.inr"), tmp_path / "a.inr", {METADATA_KEY: seal(raw)})
    code, _, err = command("decode", "store=a.inr", "out=pictures", "track=off")
    assert (code, "a split is called '../escaped', which is not a plain name" in err, err.count("\n")) == (2, True, 1)
    assert os.listdir(tmp_path) == ["a.inr"]
