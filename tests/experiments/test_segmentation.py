"""Segmentation as a user trains it: from raw images and from INRs, beside a baseline, and refused where there are no masks."""

import json

import pytest
from PIL import Image

from tests.experiments.commands import SMOKE

SHAPES = ("dataset=shapes", "dataset.size=16", "dataset.count=20", "dataset.test_count=10", "dataset.limit=20")
SMALL = ("augment=crop_flip", "unet.width=4", "unet.levels=2", "optimizer.batch_size=4", "optimizer.epochs=2")
SEGMENT = ("train", "task=segmentation", *SMOKE, *SHAPES, *SMALL)


def record_of(folder):
    return json.loads((folder / "record.json").read_text())


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_network_is_trained_from_raw_and_from_inrs_and_compared_with_its_baseline(command, tmp_path):
    segment = (*SEGMENT, "inr=3x16", "fit.steps=150", "fit.min_psnr_db=1", "test_on_decoded=true", "optimizer.ema=0.5")
    code, out, err = command(*segment, "run_dir=raw")
    assert code == 0, err
    assert out.startswith("resident: mIoU ")
    record = record_of(tmp_path / "raw")
    record["metrics"]["miou_pct"] = 99.0  # far above what the other will reach
    (tmp_path / "raw" / "record.json").write_text(json.dumps(record))
    code, out, err = command(*segment, "pipeline=inr", "run_dir=inr", "baseline=raw")
    assert code == 0, err
    assert "warning [accuracy_below_baseline]: mIoU is " in err
    assert [warning["name"] for warning in record_of(tmp_path / "inr")["warnings"]] == ["accuracy_below_baseline"]
    raw, inr = (record_of(tmp_path / name)["metrics"] for name in ("raw", "inr"))
    assert raw["classes"] == inr["classes"] == 6
    assert raw["device_bytes"] == 20 * 16 * 16 * 3 != inr["device_bytes"]
    for value in (raw["miou_pct"], inr["miou_pct"], inr["decoded_miou_pct"]):
        assert 0 < value < 100
    assert (inr["baseline_pct"], inr["lost_points"]) == (raw["miou_pct"], raw["miou_pct"] - inr["miou_pct"])
    assert losses(tmp_path / "raw") != losses(tmp_path / "inr")
    with Image.open(tmp_path / "inr" / "curves.png") as curves:
        assert curves.width > 900
    with Image.open(tmp_path / "inr" / "masks.png") as sheet:
        assert sheet.width > 3 * 96


def test_files_feed_the_network_what_raw_images_do(command, tmp_path):
    assert command("export", "debug=smoke", *SHAPES, "format=png", "out=files")[0] == 0
    for name, options in {"resident": (), "dataloader": ("files=files", "pipeline.workers=0")}.items():
        code, _, err = command(*SEGMENT, "augment=strong", "augment.mix=none", f"pipeline={name}", *options, f"run_dir={name}")
        assert code == 0, err
    assert losses(tmp_path / "resident") == losses(tmp_path / "dataloader")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("augment.mix=mixup",), "augment.mix is mixup, expected none: a mixture of images has no mask"),
        (("unet.levels=0",), "unet.levels is 0, expected at least 1"),
        (("unet.levels=5",), "unet.levels is 5, but images of 16x16 can be halved 4 times"),
        (("unet.width=wide",), "unet.width is 'wide', expected an integer"),
        (("baseline=nowhere",), "no run in nowhere; baseline=RUN is the folder of an earlier experiments.train"),
    ],
)
def test_what_cannot_be_segmented_is_refused_before_any_run(command, tmp_path, options, message):
    code, _, err = command(*SEGMENT, *options, "run_dir=run")
    assert (code, err.startswith(f"error: {message}")) == (2, True), err
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_masks_is_refused(command, photos):
    code, _, err = command(
        "train", "task=segmentation", *SMOKE, "dataset=image_folder", f"dataset.root={photos()}", "dataset.size=12"
    )
    assert (code, err) == (2, "error: dataset=image_folder has no masks to learn from; dataset=shapes has\n")
