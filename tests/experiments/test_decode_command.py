"""`experiments.decode` as a user runs it."""

import os

from PIL import Image

from tests.experiments.commands import TINY


def test_decode_writes_pictures_named_by_split_and_index(command, tmp_path):
    command("encode", *TINY, "dataset.split=all", "dataset.count=6", "dataset.test_count=5", "out=a.inr")
    code, _, _ = command("decode", "store=a.inr", "out=pictures", "size=[20,30]", "limit=7", "track=off")
    assert code == 0
    names = sorted(os.listdir(tmp_path / "pictures"))
    assert names == ["contact_sheet.png", "test_00000.png", *(f"train_{i:05d}.png" for i in range(6))]
    with Image.open(tmp_path / "pictures" / "test_00000.png") as picture:
        assert picture.size == (30, 20)


def test_one_number_decodes_to_squares(command, tmp_path):
    command("encode", *TINY, "out=a.inr")
    assert command("decode", "store=a.inr", "out=pictures", "size=20", "limit=1", "track=off")[0] == 0
    with Image.open(tmp_path / "pictures" / "train_00000.png") as picture:
        assert picture.size == (20, 20)


def test_pictures_of_two_decodes_are_never_mixed(command, tmp_path):
    command("encode", *TINY, "out=a.inr")
    decode = ("decode", "store=a.inr", "out=pictures", "track=off")
    assert command(*decode, "limit=3")[0] == 0
    (tmp_path / "pictures" / "mine.png").write_text("precious")
    code, _, err = command(*decode, "limit=3")
    assert (code, "pictures is not empty" in err) == (2, True)
    assert command(*decode, "limit=3", "overwrite=true")[0] == 0
    code, _, err = command(*decode, "limit=2", "overwrite=true")
    assert (code, "holds 1 pictures of another decode, such as train_00002.png" in err) == (2, True)
    assert (tmp_path / "pictures" / "mine.png").read_text() == "precious"
    code, _, err = command("decode", "store=a.inr", "out=a.inr", "track=off")
    assert (code, "a.inr is a file" in err) == (2, True)
