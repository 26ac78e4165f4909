"""Exporting a dataset as files, as a user does."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.experiments.commands import SMOKE
from tests.experiments.test_pipelines import SHAPES, TRAIN, losses, metrics_of


def test_an_export_is_a_run_that_says_what_its_files_cost_and_how_near_they_are(command, tmp_path):
    export = ("export", *SHAPES)
    for name, option in {"poor": "quality=20", "good": "quality=80", "webp": "format=webp", "png": "format=png"}.items():
        assert command(*export, option, f"out={name}", f"run_dir=r/{name}")[0] == 0
    poor, good, webp, png = (metrics_of(tmp_path / "r" / name) for name in ("poor", "good", "webp", "png"))
    assert poor["psnr_db"] < good["psnr_db"] < png["psnr_db"] == 100
    assert poor["ssim"] < good["ssim"] < png["ssim"] == 1
    assert (poor["quality"], webp["quality"], "quality" in png) == (20, 90, False)
    assert len(list((tmp_path / "webp" / "train").rglob("*.webp"))) == webp["images"] == 20
    assert good["file_bytes"] == sum(path.stat().st_size for path in (tmp_path / "good" / "train").rglob("*.jpg"))
    assert good["bpp"] == 8 * good["file_bytes"] / (20 * 12 * 12)


def test_images_decoded_from_a_store_are_exported_as_the_store_has_them(command, tmp_path):
    command("encode", *SMOKE, *SHAPES, "dataset.split=all", "dataset.limit=26", "inr=2x8", "out=a.inr")
    command("decode", "store=a.inr", "out=pictures", "track=off", "limit=20")
    assert command("export", *SHAPES, "decoded=a.inr", "format=png", "out=files", "run_dir=r")[0] == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "files" / "train").rglob("*.png")}
    assert len(written) == 20
    for name in written:
        with Image.open(tmp_path / "pictures" / name) as expected, Image.open(io.BytesIO(written[name])) as found:
            assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert metrics_of(tmp_path / "r")["psnr_db"] < 40
    assert command("export", *SHAPES, "format=png", "out=clean")[0] == 0
    test = sorted((tmp_path / "clean" / "test").rglob("*.png"))
    assert [path.read_bytes() for path in sorted((tmp_path / "files" / "test").rglob("*.png"))] == [p.read_bytes() for p in test]
    pipelines = {"inr": ("store=a.inr",), "dataloader": ("files=files", "pipeline.workers=0")}
    for name, options in pipelines.items():  # without augmentation they are the same images
        # so low a rate that a batch norm over four images cannot make much of the last bits, in which they differ
        assert command(*TRAIN, f"pipeline={name}", *options, "augment=none", "optimizer.lr=0.001", f"run_dir={name}")[0] == 0
    assert losses(tmp_path / "inr") == pytest.approx(losses(tmp_path / "dataloader"), rel=1e-5)


def test_overwriting_replaces_an_export_of_other_settings_and_nothing_else(command, tmp_path):
    export = ("export", *SHAPES, "out=files")
    command(*export, "quality=60")
    mine = tmp_path / "files" / "train" / "mine.txt"
    mine.write_text("precious")
    code, _, err = command(*export, "format=webp")
    assert (code, "holds an export with format=jpeg, this is format=webp" in err) == (2, True)
    code, _, err = command(*export, "format=webp", "overwrite=true")
    assert (code, "files holds files that are not an export" in err) == (2, True)
    assert mine.read_text() == "precious"
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == [mine]
    mine.unlink()
    mine.parent.rmdir()
    assert command(*export, "format=webp")[0] == 0


def test_files_left_out_of_an_export_are_named_in_its_record(command, photos, tmp_path):
    photos("photos")
    broken = next((tmp_path / "photos" / "train").rglob("*.*"))
    broken.write_bytes(b"no picture")
    options = ("dataset=image_folder", "dataset.root=photos", "dataset.size=12", "dataset.on_corrupt=skip", "track=off")
    assert command("export", *options, "out=files", "run_dir=r")[0] == 0
    warnings = json.loads((tmp_path / "r" / "record.json").read_text())["warnings"]
    assert [warning["name"] for warning in warnings] == ["files_left_out"]
    assert broken.name in warnings[0]["message"]
    assert broken.name in (tmp_path / "r" / "left_out.csv").read_text()
