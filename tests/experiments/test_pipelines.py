"""Training through every input pipeline, and timing them, as a user does."""

import csv
import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from experiments.benchmarks import pipelines as benchmark_pipelines
from experiments.training import session as training
from experiments.training.eval_sets import decoded_pipeline
from experiments.training.inputs import open_input
from rapid_inr.store.format import read_store
from tests.experiments.commands import SMOKE, composed

SHAPES = ("dataset=shapes", "dataset.size=12", "dataset.count=20", "dataset.test_count=6", "dataset.limit=20")
TRAIN = ("train", *SMOKE, *SHAPES, "optimizer.batch_size=4")
has_dali = find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None
DALI = pytest.mark.skipif(not has_dali, reason="nvidia-dali-cuda130 is not installed")


def metrics_of(folder):
    return json.loads((folder / "record.json").read_text())["metrics"]


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_pipeline_teaches_the_same_from_the_same_images(command, tmp_path):
    assert command("export", "debug=smoke", *SHAPES, "format=png", "out=files")[0] == 0
    pipelines = {"resident": (), "ram": ("pipeline.workers=0",), "dataloader": ("files=files", "pipeline.workers=0")}
    for name, options in pipelines.items():
        code, out, err = command(*TRAIN, f"pipeline={name}", *options, f"run_dir={name}", "optimizer.epochs=2")
        assert (code, err.count("error")) == (0, 0)
        assert out.startswith(f"{name}: top-1")
    assert losses(tmp_path / "resident") == losses(tmp_path / "ram") == losses(tmp_path / "dataloader")
    assert metrics_of(tmp_path / "ram")["host_bytes"] == metrics_of(tmp_path / "resident")["device_bytes"] == 20 * 12 * 12 * 3
    files = metrics_of(tmp_path / "dataloader")
    assert files["rgb_pct"] == 100 * files["file_bytes"] / (20 * 12 * 12 * 3)
    assert metrics_of(tmp_path / "ram")["rgb_pct"] == 100


@DALI
@pytest.mark.parametrize("name", ["dali", "dali_published"])
def test_dali_trains_from_an_export(command, tmp_path, name):
    command("export", "debug=smoke", *SHAPES, "out=files")
    assert command(*TRAIN, f"pipeline={name}", "files=files", "augment=resized_crop", "run_dir=a")[0] == 0
    assert metrics_of(tmp_path / "a")["images"] == 20


def test_the_bar_of_a_short_training_ends_full(command):
    _, _, err = command(*TRAIN, "run_dir=a")
    assert " 20/20 " in err


RECIPE = ("optimizer.epochs=3", "optimizer.validation_split=0.2", "optimizer.ema=0.5", "augment=strong")


@pytest.fixture
def stopped(command, tmp_path, monkeypatch):
    """A training that was interrupted after its first epoch; returns its checkpoint."""
    saved = training.save_epoch

    def save(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_epoch", save)
        assert command(*TRAIN, *RECIPE, "run_dir=first")[0] == 130
    return tmp_path / "first" / "resident_last.safetensors"


def test_a_training_resumes_bit_for_bit_and_its_run_holds_all_epochs(command, tmp_path, stopped):
    assert command(*TRAIN, *RECIPE, "run_dir=whole")[0] == 0
    assert command(*TRAIN, *RECIPE, f"resume={stopped}", "run_dir=second")[0] == 0
    assert losses(tmp_path / "second") == losses(tmp_path / "whole")
    for file in ("resident.safetensors", "resident_best.safetensors", "resident_last.safetensors"):
        whole, second = (load_file(tmp_path / run / file) for run in ("whole", "second"))
        assert all(torch.equal(whole[key], second[key]) for key in whole)


def test_a_training_whose_last_epoch_is_done_resumes_to_a_whole_run(command, tmp_path):
    assert command(*TRAIN, *RECIPE, "run_dir=a")[0] == 0
    before = losses(tmp_path / "a")
    resume = "resume=a/resident_last.safetensors"
    for run in ("b", "a"):
        assert command(*TRAIN, *RECIPE, resume, f"run_dir={run}", "overwrite=true")[0] == 0
        assert losses(tmp_path / run) == before
        assert metrics_of(tmp_path / run)["epochs"] == 3
    a, b = (load_file(tmp_path / run / "resident.safetensors") for run in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_best_weights_so_far_come_along_though_no_later_epoch_is_better(command, tmp_path, stopped, monkeypatch):
    monkeypatch.setattr(training, "best_epoch", lambda reports, metric: None)
    command(*TRAIN, *RECIPE, f"resume={stopped}", "run_dir=second")
    best = "resident_best.safetensors"
    assert (tmp_path / "second" / best).read_bytes() == stopped.with_name(best).read_bytes()
    stopped.with_name(best).unlink()
    _, _, err = command(*TRAIN, *RECIPE, f"resume={stopped}", "run_dir=third")
    assert "warning [no_best]: resident_best.safetensors is not beside" in err


def test_a_checkpoint_of_another_training_is_refused(command, stopped):
    for key, before, now in (("backbone.width", 4, 8), ("autocast", False, True), ("dataset.seed", 0, 5)):
        code, _, err = command(*TRAIN, *RECIPE, f"resume={stopped}", f"{key}={now}", "run_dir=second")
        assert (code, len([line for line in err.splitlines() if line.startswith("error: ")])) == (2, 1)
        assert f"{key}={before}, this one has {key}={now}" in err


def test_a_checkpoint_knows_the_store_and_the_files_it_was_trained_from(command, tmp_path):
    encode = ("encode", "dataset=shapes", *SHAPES[1:], *SMOKE, "inr=2x8")
    command(*encode, "out=a.inr")
    command(*encode, "quantize=int6", "out=b.inr")
    command(*TRAIN, "pipeline=inr", "store=a.inr", "run_dir=inr")
    _, _, err = command(*TRAIN, "pipeline=inr", "store=b.inr", "resume=inr/inr_last.safetensors", "run_dir=other")
    assert "made.quantize.bits=8, this one has made.quantize.bits=6" in err
    for quality in (60, 90):
        command("export", "debug=smoke", *SHAPES, f"quality={quality}", f"out=files{quality}")
    reads = (*TRAIN, "pipeline=dataloader", "pipeline.workers=0")
    command(*reads, "files=files60", "run_dir=files")
    _, _, err = command(*reads, "files=files90", "resume=files/dataloader_last.safetensors", "run_dir=another")
    assert "made.quality=60, this one has made.quality=90" in err
    assert metrics_of(tmp_path / "files")["file_bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "files60/train").rglob("*.jpg")
    )


def test_files_are_not_skipped_where_several_processes_would_wait_for_each_other(command, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = command(*TRAIN, "pipeline=dataloader", "files=nowhere", "dataset.on_corrupt=skip")
    assert code == 2
    assert "dataset.on_corrupt is skip, but pipeline=dataloader finds corrupt files as it trains: of 2 processes" in err


def test_decoded_test_images_are_tested_on_where_a_store_holds_them(command, tmp_path):
    encode = ("encode", "dataset=shapes", *SHAPES[1:4], *SMOKE, "dataset.limit=26", "inr=2x8")
    command(*encode, "dataset.split=all", "out=all.inr")
    command(*encode, "dataset.split=test", "out=test.inr")
    assert command(*TRAIN, "pipeline=inr", "store=all.inr", "run_dir=a")[0] == 0
    assert command(*TRAIN, "test_store=test.inr", "run_dir=b")[0] == 0
    assert command(*TRAIN, "run_dir=c")[0] == 0
    assert ["decoded_top1_pct" in metrics_of(tmp_path / run) for run in "abc"] == [True, True, False]


def test_a_store_that_lacks_test_images_is_trained_from_all_the_same(command, tmp_path):
    command("encode", *SHAPES, *SMOKE, "dataset.test_limit=3", "inr=2x8", "dataset.split=all", "out=a.inr")
    assert command(*TRAIN, "pipeline=inr", "store=a.inr", "run_dir=a")[0] == 0
    assert "decoded_top1_pct" not in metrics_of(tmp_path / "a")


def test_decoded_test_images_are_normalised_as_the_training_images_are(command, tmp_path):
    for split in ("train", "test"):
        command("encode", *SHAPES, *SMOKE, "inr=2x8", f"dataset.split={split}", f"out={split}.inr")
    cfg = composed(*TRAIN, "pipeline=inr", "store=train.inr", "test_store=test.inr")
    data = open_input(cfg)
    decoded, _ = decoded_pipeline(cfg, data)
    assert read_store(tmp_path / "test.inr").header.mean != data.mean
    assert torch.equal(decoded.mean, torch.tensor(data.mean))
    assert torch.equal(decoded.std, torch.tensor(data.std))


def test_the_benchmark_times_what_can_run_and_says_why_the_rest_cannot(command, tmp_path):
    suite = ("benchmark", "suite=pipelines", *SMOKE, *SHAPES, "inr=2x8", "optimizer.batch_size=4")
    code, out, err = command(*suite, "pipelines=[nvjpeg,inr,resident]", "run_dir=a")
    assert code == 0
    if not torch.cuda.is_available():
        assert "warning [pipeline_left_out]: nvjpeg: pipeline=nvjpeg decodes on a CUDA GPU" in err
    with (tmp_path / "a" / "pipelines.csv").open() as file:
        rows = {row["pipeline"]: row for row in csv.DictReader(file)}
    assert list(rows)[:2] == ["resident", "inr"]
    for row in rows.values():
        assert float(row["headroom"]) == pytest.approx(float(row["loader_images_per_s"]) / float(row["step_images_per_s"]))
        assert float(row["cpu_s"]) > 0
    assert float(rows["resident"]["of_resident"]) == 1
    assert "| inr |" in out
    metrics = metrics_of(tmp_path / "a")
    assert metrics["inr_device_bytes"] == int(rows["inr"]["device_bytes"])
    assert metrics["device"] == "cpu"
    assert read_store(tmp_path / metrics["store"]).header.made["dataset"]["split"] == "train"


def test_a_pipeline_that_fails_throws_no_timing_away(command, tmp_path, monkeypatch):
    opened, lines = benchmark_pipelines.open_input, []

    def open_input(cfg):
        path = tmp_path / "a" / "pipelines.csv"
        lines.append(len(path.read_text().splitlines()) if path.exists() else 0)
        data = opened(cfg)
        if data.name != "resident":
            return data

        def stream(batches, geometry):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return replace(data, pipeline=replace(data.pipeline, stream=stream))

    monkeypatch.setattr(benchmark_pipelines, "open_input", open_input)
    small = (*SMOKE, *SHAPES, "inr=2x8", "run_dir=a", "optimizer.batch_size=4", "workers=0", "repeats=1")
    code, out, err = command("benchmark", "suite=pipelines", *small, "pipelines=[dataloader,ram,resident]")
    assert code == 0
    assert "warning [pipeline_left_out]: resident: out of memory" in err
    assert lines == [0, 0, 2]  # a head and a line for each pipeline timed before
    assert out.splitlines()[0].endswith("epochs timed |")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in out.splitlines()[2:4]]
    assert [(row[0], row[5], row[-1]) for row in rows] == [("ram", "—", "1"), ("dataloader", "—", "1")]
    assert metrics_of(tmp_path / "a")["dataloader_repeats"] == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train", "pipeline=dataloader", "files=nowhere"), "nowhere holds no export"),
        (("train", "resume=nowhere"), "no checkpoint at nowhere"),
        (("train", "augment.scale=[0.5]"), "augment.scale is (0.5,), expected [least, most]"),
        (("train", "augment.scale=[0.5,1.0]"), "both crop"),
        (
            ("train", "optimizer.validation_split=0.9", "optimizer.batch_size=4"),
            "validation_split is 0.9, which leaves 2 of 20 images, fewer than",
        ),
        (
            ("train", "pipeline=inr", "optimizer.batch_size=21"),
            "optimizer.batch_size is 21, more than the 20 training images; set it to 20 or less",
        ),
        (("export", "out=a", "format=gif"), "format is 'gif', expected one of jpeg, webp, png"),
        (("export", "out=a", "format=png", "quality=3"), "format=png is exact and has no quality"),
        (("export", "out=a", "quality=96"), "quality is 96, expected 1 to 95"),
        (("export", "out=a", "quality=9", "bytes=900"), "quality and bytes all choose the quality"),
        (("export", "out=a", "bytes=100"), "even at quality 1"),
        (("export", "out=a", "format=webp", "quality=101"), "quality is 101, expected 0 to 100"),
        (("export", "out=a", "decoded=nowhere.inr"), "nowhere.inr"),
        (("benchmark", "suite=pipelines", "pipelines=[tape]"), "pipelines is 'tape', expected one of resident"),
        (
            ("benchmark", "suite=pipelines", "optimizer.first_size=16"),
            "optimizer.first_size is 16, but timed epochs are of one size",
        ),
        (
            ("benchmark", "suite=decode", "decode.threads=0"),
            "decode.threads is 0 and decode.batches [3], expected at least 1",
        ),
        (("benchmark", "suite=decode", "decode.batches=[-4]"), "decode.batches [-4], expected at least 1 each, or null"),
        (("benchmark", "suite=decode", "decode.sizes=[]"), "decode.sizes is empty, expected sizes such as 3x16@32"),
    ],
)
def test_an_error_of_use_is_told_in_one_line(command, overrides, message):
    verb, *rest = overrides
    code, out, err = command(verb, *(SMOKE[:1] if verb == "export" else SMOKE), *SHAPES, *rest)
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out, len(told)) == (2, "", 1)
    assert message in told[0]


def test_classes_that_are_not_tested_are_named(command, photos, tmp_path):
    folder = tmp_path / photos(count=12) / "train"
    (folder / "rare").mkdir()
    (folder / "dark" / "0.png").rename(folder / "rare" / "1.png")  # by its name, to train with
    options = ("dataset=image_folder", "dataset.root=photos/train", "dataset.val_fraction=0.2")
    code, _, err = command("train", *options, *SMOKE, "run_dir=a")
    assert code == 0
    assert "warning [untested_classes]: 1 of 3 classes have no test image: rare; the accuracy says nothing about" in err


def test_a_refused_checkpoint_leaves_the_run_that_was_to_be_replaced(command, tmp_path):
    assert command(*TRAIN, "run_dir=a")[0] == 0
    for resume, message in (("a/resident_lst.safetensors", "no checkpoint"), ("a/resident_last.safetensors", "optimizer.lr")):
        code, _, err = command(*TRAIN, "run_dir=a", "overwrite=true", "optimizer.lr=0.3", f"resume={resume}")
        assert (code, message in err) == (2, True)
        assert len(losses(tmp_path / "a")) == metrics_of(tmp_path / "a")["epochs"] == 1


def test_the_benchmark_refuses_what_nothing_could_be_trained_from_before_it_is_encoded(command, photos, tmp_path):
    photos("photos", sizes=((12, 12), (12, 16)))
    suite = ("benchmark", "suite=pipelines", *SMOKE, "inr=2x8")
    code, _, err = command(*suite, "dataset=flat", "dataset.root=photos/train/dark", "run_dir=a")
    assert (code, "dataset=flat has no labels, so nothing can be trained from it" in err) == (2, True)
    code, _, err = command(*suite, "dataset=image_folder", "dataset.root=photos", "run_dir=b")
    assert (code, "differ in size; set dataset.size=S" in err) == (2, True)
    assert not list(tmp_path.rglob("*.inr*"))


def test_files_of_another_dataset_or_too_few_are_refused(command):
    command("export", "debug=smoke", *SHAPES, "out=files")
    _, _, err = command(*TRAIN, "pipeline=dataloader", "files=files", "dataset.seed=1")
    assert "the files in files were made with dataset.seed=0, this is dataset.seed=1" in err
    command("export", "debug=smoke", *SHAPES, "dataset.limit=8", "out=few")
    _, _, err = command(*TRAIN, "pipeline=dataloader", "files=few")
    assert "few lacks 12 of the 20 training images, the first train_" in err
