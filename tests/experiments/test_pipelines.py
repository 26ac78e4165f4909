"""Training through every pipeline, exporting and timing, as a user runs them."""

import csv
import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from experiments import training
from tests.experiments.commands import SMOKE

SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=20", "dataset.test_count=6", "dataset.limit=20")
TRAIN = ("train", *SMOKE, *SHAPES, "optimize.batch_size=4")
has_dali = find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None
DALI = pytest.mark.skipif(not has_dali, reason="nvidia-dali-cuda130 is not installed")


def metrics_of(folder):
    return json.loads((folder / "record.json").read_text())["metrics"]


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_arm_learns_the_same_from_the_same_images(command, tmp_path):
    assert command("export", "debug=smoke", *SHAPES, "format=png", "out=files")[0] == 0
    arms = {"resident": (), "ram": ("pipeline.workers=0",), "dataloader": ("files=files", "pipeline.workers=0")}
    for name, options in arms.items():
        code, out, err = command(*TRAIN, f"pipeline={name}", *options, f"run_dir={name}", "optimize.epochs=2")
        assert (code, err.count("error")) == (0, 0)
        assert out.startswith(f"{name}: top-1")
    assert losses(tmp_path / "resident") == losses(tmp_path / "ram") == losses(tmp_path / "dataloader")
    assert metrics_of(tmp_path / "ram")["host_bytes"] == metrics_of(tmp_path / "resident")["device_bytes"] == 20 * 12 * 12 * 3
    assert metrics_of(tmp_path / "dataloader")["file_bytes"] > 0


@DALI
@pytest.mark.parametrize("name", ["dali", "dali_published"])
def test_dali_trains_from_an_export(command, tmp_path, name):
    command("export", "debug=smoke", *SHAPES, "out=files")
    assert command(*TRAIN, f"pipeline={name}", "files=files", "augment=resized_crop", "run_dir=a")[0] == 0
    assert metrics_of(tmp_path / "a")["images"] == 20


def test_a_training_goes_on_bit_for_bit(command, tmp_path, monkeypatch):
    recipe = ("optimize.epochs=3", "optimize.held_out=0.2", "optimize.ema=0.5", "augment=strong")
    assert command(*TRAIN, *recipe, "run_dir=whole")[0] == 0
    kept = training.keep
    stopped = tmp_path / "stopped.safetensors"

    def keep(run, name, reports, learner, **options):
        kept(run, name, reports, learner, **options)
        if len(reports) == 1:
            (run.folder / f"{name}_last.safetensors").rename(stopped)

    with monkeypatch.context() as patch:
        patch.setattr(training, "keep", keep)
        command(*TRAIN, *recipe, "run_dir=first")
    assert command(*TRAIN, *recipe, f"resume={stopped}", "run_dir=second")[0] == 0
    assert losses(tmp_path / "second") == losses(tmp_path / "whole")[1:]
    for file in ("resident.safetensors", "resident_last.safetensors"):
        whole, second = (load_file(tmp_path / run / file) for run in ("whole", "second"))
        assert all(torch.equal(whole[key], second[key]) for key in whole)
    assert (tmp_path / "whole" / "resident_best.safetensors").is_file()
    code, _, err = command(*TRAIN, *recipe, f"resume={stopped}", "backbone.width=8", "run_dir=third")
    assert code == 2
    assert "backbone.width=4, this one has backbone.width=8" in err


def test_decoded_test_images_are_judged_where_a_store_holds_them(command, tmp_path):
    encode = ("encode", "dataset=shapes", *SHAPES[1:4], *SMOKE, "dataset.limit=26", "inr=2x8")
    command(*encode, "dataset.split=all", "out=all.inr")
    command(*encode, "dataset.split=test", "out=test.inr")
    assert command(*TRAIN, "pipeline=inr", "store=all.inr", "run_dir=a")[0] == 0
    assert command(*TRAIN, "test_store=test.inr", "run_dir=b")[0] == 0
    assert command(*TRAIN, "run_dir=c")[0] == 0
    assert ["decoded_top1_pct" in metrics_of(tmp_path / run) for run in "abc"] == [True, True, False]


def test_the_benchmark_times_what_can_run_and_says_why_the_rest_cannot(command, tmp_path):
    code, out, err = command(
        "benchmark",
        "suite=pipelines",
        *SMOKE,
        *SHAPES,
        "inr=2x8",
        "arms=[nvjpeg,inr,resident]",
        "run_dir=a",
        "optimize.batch_size=4",
    )
    assert code == 0
    if not torch.cuda.is_available():
        assert "warning [arm_left_out]: nvjpeg: pipeline=nvjpeg decodes on a CUDA GPU" in err
    with (tmp_path / "a" / "pipelines.csv").open() as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows)[:2] == ["resident", "inr"]
    for row in rows.values():
        assert float(row["headspace"]) == pytest.approx(float(row["loader_images_per_s"]) / float(row["step_images_per_s"]))
        assert float(row["cpu_s"]) > 0
    assert float(rows["resident"]["of_resident"]) == 1
    assert "| inr |" in out
    metrics = metrics_of(tmp_path / "a")
    assert metrics["inr_device_bytes"] == int(rows["inr"]["device_bytes"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train", "pipeline=dataloader"), "pipeline=dataloader needs files=FOLDER"),
        (("train", "pipeline=dataloader", "files=nowhere"), "nowhere holds no export"),
        (("train", "files=nowhere"), "pipeline=resident reads no files"),
        (("train", "resume=nowhere"), "no checkpoint at nowhere"),
        (("train", "augment.scale=[0.5]"), "augment.scale is [0.5], expected [a number, a number] or null"),
        (("train", "augment.scale=[0.5,1.0]"), "both crop"),
        (("train", "optimize.held_out=0.9", "optimize.batch_size=4"), "batch_size is 4, more than the 2 images"),
        (("export", "out=a", "format=gif"), "format is 'gif', expected one of jpeg, png"),
        (("export", "out=a", "format=png", "quality=3"), "format=png is exact and has no quality"),
        (("export", "out=a", "quality=96"), "quality is 96, expected 1 to 95"),
        (("export", "out=a", "quality=9", "bytes=900"), "quality and bytes all choose the quality"),
        (("export", "out=a", "bytes=100"), "even at quality 1"),
        (("benchmark", "suite=pipelines", "arms=[tape]"), "arms holds tape, expected some of resident"),
    ],
)
def test_an_error_of_use_is_told_in_one_line(command, overrides, message):
    verb, *rest = overrides
    code, out, err = command(verb, *(SMOKE[:1] if verb == "export" else SMOKE), *SHAPES, *rest)
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out, len(told)) == (2, "", 1)
    assert message in told[0]


def test_files_of_another_dataset_or_too_few_are_refused(command):
    command("export", "debug=smoke", *SHAPES, "out=files")
    _, _, err = command(*TRAIN, "pipeline=dataloader", "files=files", "dataset.seed=1")
    assert "the files in files were made with dataset.seed=0, this is dataset.seed=1" in err
    command("export", "debug=smoke", *SHAPES, "dataset.limit=8", "out=few")
    _, _, err = command(*TRAIN, "pipeline=dataloader", "files=few")
    assert "few lacks 12 of the 20 training images, the first train_00008" in err
