"""Every command as a user runs it, on small generated data."""

import json
import os
import shutil
import sys

import pytest
import torch
from PIL import Image

from experiments.reporting.run_tables import RUN_TABLES
from experiments.setup import cli
from experiments.setup.errors import errors_in_one_line
from rapid_inr.errors import UserError
from tests.experiments.commands import SHAPES, SMOKE, TINY

TO_A = (*TINY, "out=a.inr")


def record_of(folder):
    return json.loads((folder / "record.json").read_text())


def test_encode_writes_a_store_and_a_record_with_the_promised_metrics(command, tmp_path):
    code, out, _ = command("encode", *TINY, "out=a.inr", "run_dir=run")
    assert code == 0
    assert "a.inr: 9 images" in out
    record = record_of(tmp_path / "run")
    assert record["status"] == "finished"
    assert record["command"] == f"python -m experiments.encode {' '.join(TINY)} out=a.inr run_dir=run"
    metrics = record["metrics"]
    assert metrics["images"] == 9
    assert metrics["store_bytes"] == os.path.getsize(tmp_path / "a.inr")
    assert metrics["bpp"] == pytest.approx(8 * metrics["store_bytes"] / (9 * 144))
    assert metrics["rgb_pct"] == pytest.approx(100 * metrics["store_bytes"] / (9 * 432))
    assert 10 < metrics["psnr_db"] <= metrics["fit_psnr_db"] + 0.1
    assert metrics["fit_ms_per_image"] == pytest.approx(1e3 * metrics["fit_s"] / 9)
    with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
        assert sheet.size[0] > 300
    assert len((tmp_path / "run" / "images.csv").read_text().splitlines()) == 10
    assert "depth: 2" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_rule_that_lets_nothing_be_pruned_is_named_and_distributions_are_kept(command, tmp_path):
    code, _, err = command(
        "encode", *TINY, "prune=floor", "prune.floor_db=99", "prune.finetune_steps=1", "out=a.inr", "run_dir=run"
    )
    assert code == 0
    assert "warning [nothing_pruned]: no image meets prune.rule=floor at 10% pruned" in err
    metrics = record_of(tmp_path / "run")["metrics"]
    assert metrics["prune_ratio_p95"] == 0
    assert metrics["psnr_db_p05"] <= metrics["psnr_db_p50"] <= metrics["psnr_db_p95"]
    assert (tmp_path / "run" / "distributions.png").is_file()


def test_equal_commands_give_equal_bytes(command, tmp_path, encoded):
    command("encode", *TINY, "out=b.inr", "fit.max_batch=2")
    assert encoded.read_bytes() == (tmp_path / "b.inr").read_bytes()
    command("encode", *TINY, "out=c.inr", "seed=1")
    assert encoded.read_bytes() != (tmp_path / "c.inr").read_bytes()


def test_info_prints_json_whose_parts_add_up(command, tmp_path, store):
    code, out, _ = command("info", "store=a.inr")
    facts = json.loads(out)
    assert code == 0
    assert (facts["images"], facts["depth"], facts["hidden"], facts["omega"], facts["sizes"]) == (9, 2, 8, 15.0, [[12, 12]])
    assert facts["store_bytes"] == os.path.getsize(tmp_path / "a.inr") == sum(facts["parts_bytes"].values())


@pytest.mark.parametrize("pipeline", ["resident", "inr"])
def test_train_runs_either_arm_and_reports(command, tmp_path, store, pipeline):
    store = ["store=a.inr"] if pipeline == "inr" else []
    code, out, _ = command("train", *SHAPES, *SMOKE, f"pipeline={pipeline}", *store, "run_dir=run")
    assert code == 0
    assert out.startswith(f"{pipeline}: top-1 ")
    metrics = record_of(tmp_path / "run")["metrics"]
    assert metrics["images"] == 9
    assert {"top1_pct", "epoch_s", "images_per_s", "loss", "device_bytes"} <= set(metrics)
    assert (metrics["rgb_pct"] == 100) == (pipeline == "resident")
    assert [json.loads(line)["epoch"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()] == [0]
    assert (tmp_path / "run" / "curves.png").is_file()


def test_demo_prints_a_table_of_both_arms(command, tmp_path):
    code, out, _ = command("demo", *SMOKE, "inr=2x8", "run_dir=run")
    assert (code, "raw uint8" in out, "% of RGB" in out) == (0, True, True)
    for name in ("contact_sheet.png", "curves.png", "train.inr", "record.json"):
        assert (tmp_path / "run" / name).is_file()
        assert name in out or name == "train.inr"


@pytest.mark.parametrize("broken", ["resident", "inr"])
def test_the_demo_ends_with_the_error_of_either_training(command, tmp_path, monkeypatch, broken):
    def run(cfg, run, training):
        assert torch.get_num_threads() == 1
        if training.name == broken:
            raise UserError("no such luck")
        return []

    monkeypatch.setattr("experiments.demo.run_training", run)
    n_threads = torch.get_num_threads()
    code, _, err = command("demo", *SMOKE, "inr=2x8", "run_dir=run")
    assert (code, err.splitlines()[-1]) == (2, "error: no such luck")
    assert torch.get_num_threads() == n_threads
    assert record_of(tmp_path / "run")["status"] == "failed"


def test_the_demo_works_on_a_folder_of_ones_own(command, photos, tmp_path):
    options = ("inr=2x8", f"dataset.root={photos()}", "optimizer.batch_size=4", "run_dir=run")
    assert command("demo", "dataset=image_folder", *SMOKE, *options)[0] == 0
    assert record_of(tmp_path / "run")["metrics"]["images"] == 10


@pytest.mark.parametrize("verb", ["demo", "train"])
def test_a_missing_test_split_is_found_before_any_work(command, photos, tmp_path, verb):
    shutil.rmtree(tmp_path / photos() / "val")
    code, _, err = command(verb, "dataset=image_folder", "dataset.root=photos", *SMOKE, "run_dir=run")
    assert code == 2
    assert "image folder not found" in err
    assert not (tmp_path / "run").exists()


def test_test_images_of_another_size_are_found_before_any_work(command, photos, tmp_path):
    photos("small")
    photos("large", sizes=((16, 12),))
    shutil.rmtree(tmp_path / "small" / "val")
    (tmp_path / "large" / "val").rename(tmp_path / "small" / "val")
    for verb in ("demo", "train"):
        code, _, err = command(
            verb, "dataset=image_folder", "dataset.root=small", *SMOKE, "optimizer.batch_size=4", "run_dir=run"
        )
        assert code == 2
        assert "training images are 12x12, test images 16x12; set dataset.size=S" in err
        assert not (tmp_path / "run").exists()


def test_a_demo_of_mixed_sizes_fails_before_it_encodes(command, photos, tmp_path):
    options = ("dataset=image_folder", f"dataset.root={photos(sizes=((12, 12), (10, 14)))}", "optimizer.batch_size=4")
    code, _, err = command("demo", *options, *SMOKE, "run_dir=run")
    assert (code, "dataset.size=S" in err) == (2, True)
    assert not (tmp_path / "run").exists()


def test_an_unreadable_first_image_can_be_skipped(command, photos, tmp_path):
    (tmp_path / photos() / "train" / "dark" / "0.png").write_text("no picture")
    options = ("dataset=image_folder", "dataset.root=photos", *SMOKE)
    code, _, err = command("encode", *options, "inr=2x8", "out=a.inr")
    assert (code, "0.png" in err) == (2, True)
    skip = "dataset.on_corrupt=skip"
    code, _, err = command("encode", *options, "inr=2x8", "out=a.inr", skip)
    assert code == 0
    for number, arm in enumerate((["pipeline=inr", "store=a.inr"], ["pipeline=resident"])):
        run_dir = f"run{number}"
        code, _, err = command("train", *options, skip, *arm, "optimizer.batch_size=4", f"run_dir={run_dir}")
        assert code == 0
        assert record_of(tmp_path / run_dir)["metrics"]["images"] == 9
    (warning,) = record_of(tmp_path / run_dir)["warnings"]
    assert warning["name"] == "files_left_out"
    assert "0.png" in warning["message"]


@pytest.mark.parametrize("verb", ["encode", "export"])
def test_files_that_are_no_images_are_named_together_before_any_work(command, photos, tmp_path, verb):
    folder = tmp_path / photos() / "train" / "light"
    for i in (1, 3):
        (folder / f"{i}.png").write_text("no picture")
    code, _, err = command(
        verb, "dataset=image_folder", "dataset.root=photos", "debug=smoke", "track=off", "dataset.limit=null", "out=a"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "2 of 10 files cannot be read as an image: photos/train/light/1.png, photos/train/light/3.png; dataset.on_corr" in err
    assert sorted(os.listdir(tmp_path)) == ["photos"]


def test_an_inr_too_small_for_its_images_is_hinted_at(command):
    options = ("dataset=shapes", "dataset.limit=1", *SMOKE, "fit.steps=1")
    assert "small_inr" not in command("encode", *options, "dataset.size=64", "inr=3x16", "out=a.inr")[2]
    assert "small_inr" not in command("encode", *options, "dataset.size=128", "inr=6x16", "out=b.inr")[2]
    assert "inr=6x44 fit=photo" in command("encode", *options, "dataset.size=128", "inr=3x16", "out=c.inr")[2]


@pytest.mark.parametrize(
    ("error", "message"),
    [(torch.OutOfMemoryError("tried to\nallocate"), "out of memory"), (OSError(28, "No space left on device"), "No space left")],
)
def test_a_machine_that_is_full_is_said_in_one_line(capsys, error, message):
    with pytest.raises(SystemExit) as stop, errors_in_one_line():
        raise error
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert (err.startswith("error: "), err.count("\n"), message in err) == (True, 1, True)


def test_the_fit_benchmark_reports_medians(command, tmp_path):
    code, out, _ = command("benchmark", "suite=fit", "dataset=shapes", *SMOKE, "run_dir=run")
    metrics = record_of(tmp_path / "run")["metrics"]
    assert code == 0
    assert (metrics["images"], metrics["device"]) == (24, "cuda" if torch.cuda.is_available() else "cpu")
    assert metrics["fit_s_fastest"] <= metrics["fit_s"] <= metrics["fit_s_slowest"]
    assert "fit_ms_per_image" in out


def test_the_tables_of_a_folder_of_runs_come_from_what_each_run_wrote(command, tmp_path):
    command("encode", *TINY, "out=a.inr", "run_dir=kept/a")
    code, out, _ = command("tables", "root=kept")
    assert code == 0
    assert "| shapes | 9 | 2x8 | 20 | 0% | 8 | 16 | 0 |" in out
    assert "[a](kept/a/record.json)" in out
    blocks = "".join(f"<!-- results:{verb} -->\n<!-- /results:{verb} -->\n" for verb in RUN_TABLES)
    (tmp_path / "notes.md").write_text(blocks)
    assert command("tables", "root=kept", "update=notes.md")[0] == 0
    assert "| shapes | 9 | 2x8 | 20 | 0% | 8 | 16 | 0 |" in (tmp_path / "notes.md").read_text()
    assert sorted(os.listdir(tmp_path)) == ["a.inr", "kept", "notes.md"]


@pytest.mark.parametrize(
    ("verb", "overrides", "message"),
    [
        ("encode", ["out=a.inr"], "dataset=... is required"),
        ("encode", [*TINY], "out=... is required"),
        ("encode", ["dataset=none", "out=a.inr"], "dataset is 'none', expected cifar10, cifar100, "),
        ("encode", [*TO_A, "no.such=1"], "no"),
        ("encode", [*TO_A, "dataset.split=val"], "split is 'val'"),
        ("encode", ["dataset=cifar10", "dataset.root=nowhere", "out=a.inr"], "nowhere"),
        ("encode", [*TO_A, "track.mode=loud"], "track is 'loud'"),
        ("tables", ["root=nowhere"], "no folder of runs at nowhere"),
        ("tables", ["root=.", "update=text.inr"], "the text has no block"),
        ("info", ["store=missing.inr"], "no store at missing.inr"),
        ("info", ["store=text.inr"], "not a whole safetensors file"),
        ("decode", ["store=missing.inr", "out=b"], "no store at missing.inr"),
        ("train", ["dataset=shapes", *SMOKE, "optimizer.batch_size=1000"], "batch_size is 1000"),
        ("train", ["dataset=shapes", *SMOKE, "device=cuda"], "no CUDA device"),
        ("benchmark", ["dataset=shapes", "suite=none", *SMOKE], "suite is 'none'"),
        ("benchmark", ["dataset=shapes", *SMOKE, "repeats=2.5"], "repeats is '2.5', expected an integer"),
        ("encode", [*TO_A, "dataset.exclude=[1,x]"], "'x' is not an id, expected an integer of at least 0, or a name such as"),
        (
            "encode",
            [*TO_A, "dataset.exclude=[train/a (1).jpg]"],
            "dataset.exclude=[train/a (1).jpg] cannot be read; text with spaces or brackets goes in quotes",
        ),
        ("encode", [*TO_A, 'dataset.exclude=["train/a (1).jpg"]'], "'train/a (1).jpg' is no image of shapes"),
        ("encode", [*TO_A, "device=gpu"], "device is 'gpu', expected auto, cpu or cuda"),
        ("encode", [*TO_A, "inr=3X16"], "inr is '3X16', expected DEPTHxWIDTH, for instance 3x16"),
        ("encode", [*TO_A, "inr=16"], "inr is '16', expected DEPTHxWIDTH"),
        ("encode", [*TINY, "out=../../"], "is a folder, expected the name of a file"),
        ("encode", [*TINY, "out=text.inr/a.inr"], "text.inr is not a folder"),
        ("decode", ["store=missing.inr", "out=b", "size=[a,b]"], "size is ['a', 'b'], expected an integer"),
        ("decode", ["store=missing.inr", "out=b", "size=[12.5,3]"], "size is [12.5, 3]"),
        ("decode", ["store=missing.inr", "out=b", "size=0"], "size is 0, expected an integer of at least 1"),
        ("encode", [*TO_A, "dataset.max_pixels=0"], "dataset.max_pixels is 0, expected at least 1, or null"),
        ("decode", ["store=missing.inr", "out=b", "max_pixels=0"], "max_pixels is 0, expected at least 1"),
        ("decode", ["store=missing.inr", "out=b", "limit=all"], "limit is 'all', expected an integer"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(command, tmp_path, verb, overrides, message):
    if "device=cuda" in overrides and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    (tmp_path / "text.inr").write_text("this is no store")
    code, out, err = command(verb, *overrides)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
    assert os.listdir(tmp_path) == ["text.inr"]


def test_an_output_that_exists_is_refused_before_any_work(command, tmp_path):
    (tmp_path / "a.inr").write_text("precious")
    code, _, err = command("encode", *TINY, "out=a.inr")
    assert (code, "overwrite=true" in err) == (2, True)
    assert (tmp_path / "a.inr").read_text() == "precious"


def test_any_shape_can_be_named_on_the_command_line(command):
    command("encode", *SHAPES, *SMOKE, "inr=1x7", "out=a.inr")
    facts = json.loads(command("info", "store=a.inr")[1])
    assert (facts["depth"], facts["hidden"]) == (1, 7)


def test_a_command_has_help(command):
    code, out, _ = command("encode", "--help")
    assert (code, "dataset=DATASET out=FILE.inr" in out) == (0, True)


def test_a_bug_shows_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments.info"])
    with pytest.raises(IndexError):
        cli.main("info", lambda cfg: [][1])


def test_a_reader_of_a_program_that_has_had_enough_is_no_error(program, store, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with program("experiments.info", "store=a.inr") as info:
        info.stdout.close()
        assert info.stderr.read() == ""
    assert info.returncode == 0
