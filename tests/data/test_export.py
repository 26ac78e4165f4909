import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image

from rapid_inr.data import CorruptImage, open_source
from rapid_inr.data import export as exporting
from rapid_inr.data.codecs import decode_file
from rapid_inr.data.export import ASTC_BLOCKS, ExportError, encode_image, export_images, quality_for_bytes, read_export
from rapid_inr.data.moments import ChannelMoments
from rapid_inr.data.pixels import image_size, read_image
from rapid_inr.evaluation.metrics import psnr_db

PNG = {"format": "png", "quality": None, "dataset": {"name": "shapes", "size": 16}}


def sources(count: int = 12):
    return {
        split: open_source("shapes", split=split, size=16, count=count, test_count=4, classes=3) for split in ("train", "test")
    }


def test_every_image_lies_below_its_class_and_is_in_the_index(tmp_path):
    both = sources()
    export_images(both, tmp_path / "a", settings=PNG)
    export, moments = read_export(tmp_path / "a"), ChannelMoments()
    for split, source in both.items():
        assert export.splits[split].ids == tuple(source.ids.tolist())
        assert export.splits[split].labels == tuple(source.labels.tolist())
        for path, image_id, label in zip(export.paths(split), source.ids, source.labels, strict=True):
            assert path.parts[-3:-1] == (split, source.class_names[label])
            assert np.array_equal(np.asarray(Image.open(path)), source.read(int(image_id)))
            if split == "train":
                moments.add(source.read(int(image_id)))
    assert (export.class_names, export.size) == (both["train"].class_names, (16, 16))
    assert (export.mean, export.std) == moments.mean_std()
    assert export.n_bytes == sum(path.stat().st_size for split in both for path in export.paths(split))
    again = open_source("image_folder", root=tmp_path / "a", split="train")
    assert again.class_names == tuple(sorted(export.class_names))


def test_an_export_goes_on_where_it_ended(tmp_path, monkeypatch):
    written = []

    def encode(pixels, **options):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(pixels)
        return encode_image(pixels, **options)

    monkeypatch.setattr(exporting, "encode_image", encode)
    with pytest.raises(KeyboardInterrupt):
        export_images(sources(), tmp_path / "a", settings=PNG)
    assert len(list((tmp_path / "a").rglob("*.png"))) == 7
    assert not list((tmp_path / "a").rglob(".*"))
    with pytest.raises(ExportError, match="holds an unfinished export"):
        read_export(tmp_path / "a")
    counted = []
    monkeypatch.setattr(exporting, "encode_image", lambda pixels, **options: counted.append(1) or encode_image(pixels, **options))
    export = export_images(sources(), tmp_path / "a", settings=PNG)
    assert len(counted) == 12 + 4 - 7
    whole = export_images(sources(), tmp_path / "b", settings=PNG)
    assert [path.read_bytes() for path in export.paths("train")] == [path.read_bytes() for path in whole.paths("train")]


def test_other_settings_and_other_folders_are_left_alone(tmp_path):
    export_images(sources(), tmp_path / "a", settings=PNG)
    with pytest.raises(ExportError, match="a holds an export with format=png, this is format=jpeg"):
        export_images(sources(), tmp_path / "a", settings=PNG | {"format": "jpeg"})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("mine")
    with pytest.raises(ExportError, match="b holds files that are not an export"):
        export_images(sources(), tmp_path / "b", settings=PNG)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["letter.txt"]


def test_a_quality_is_the_highest_that_keeps_to_the_bytes():
    source = sources(40)["train"]

    def mean_bytes(quality: int) -> float:
        return np.mean([len(encode_image(source.read(i), format="jpeg", quality=quality)) for i in range(40)])

    quality = quality_for_bytes(source, mean_bytes(60))
    assert 60 <= quality < 95
    assert mean_bytes(quality) <= mean_bytes(60) < mean_bytes(quality + 1)
    assert quality_for_bytes(source, 10**6) == 95
    with pytest.raises(ValueError, match=r"bytes is 100 an image, but jpeg takes [\d,]+ even at quality 1"):
        quality_for_bytes(source, 100)


@pytest.mark.skipif(importlib.util.find_spec("astc_encoder") is None, reason="astc-encoder-py is not installed")
def test_astc_files_take_the_largest_block_within_the_bytes_and_are_read_like_others(tmp_path):
    source = sources()["train"]
    settings = {"format": "astc", "quality": quality_for_bytes(source, 16 + 9 * 16, format="astc")}
    assert ASTC_BLOCKS[settings["quality"]] == "6x6"  # 3x3 blocks, and the header
    export = export_images(sources(), tmp_path / "files", settings=settings)
    path = export.paths("train")[0]
    assert (path.suffix, path.stat().st_size, image_size(path)) == (".astc", 160, (16, 16))
    assert 20 < psnr_db(*(torch.from_numpy(image)[None] for image in (read_image(path), source.read(0)))) < 60
    assert np.array_equal(read_image(path), decode_file(path.read_bytes()))
    with pytest.raises(ValueError, match="bytes is 40 an image, but astc takes 80 even at quality 0"):
        quality_for_bytes(source, 40, format="astc")
    with pytest.raises(CorruptImage, match="16x16 pixels, expected at most 255"):
        read_image(path, max_pixels=255)
    path.write_bytes(b"no blocks")
    with pytest.raises(CorruptImage, match=f"{path}: cannot be read"):
        read_image(path)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"settings": {}}), json.dumps({"splits": {"train": {}}})])
def test_what_is_no_index_is_refused(tmp_path, content):
    with pytest.raises(ExportError, match="holds no export; write it with"):
        read_export(tmp_path)
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ExportError, match="is not the index of an export"):
        read_export(tmp_path)


def test_an_unreadable_image_is_left_out_where_that_is_asked_for(tmp_path):
    folder = tmp_path / "photos"
    for split in ("train", "val"):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (4, 4), (i * 90, 0, 0)).save(folder / split / name / f"{i}.png")
    (folder / "train" / "b" / "0.png").write_bytes(b"no picture")
    both = {split: open_source("image_folder", root=folder, split=split) for split in ("train", "test")}
    with pytest.raises(CorruptImage):
        export_images(both, tmp_path / "out", settings=PNG)
    export = export_images(both, tmp_path / "out", settings=PNG, on_corrupt="skip")
    assert export.splits["train"].ids == (0, 1, 3)


def test_what_a_writer_that_was_killed_has_left_is_removed(tmp_path):
    export_images(sources(2), tmp_path / "a", settings=PNG)
    folder = tmp_path / "a" / "train" / "disc"
    torn, precious = (tmp_path / "a" / ".index.json.0123abcd", folder / ".x.png.0123abcd"), folder / ".notes"
    for path in (*torn, precious):
        path.touch()
    export_images(sources(2), tmp_path / "a", settings=PNG)
    assert [path.exists() for path in (*torn, precious)] == [False, False, True]
