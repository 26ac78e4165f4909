"""Every command as a user runs it, on small generated data."""

import json
import os
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from experiments import benchmark, cli, decode, demo, encode, info, train

COMMANDS = {
    "encode": encode.run_encode, "decode": decode.run_decode, "info": info.run_info, "train": train.run_train,
    "demo": demo.run_demo, "benchmark": benchmark.run_benchmark,
}  # fmt: skip


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in this process, in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(verb, *overrides):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [f"experiments.{verb}", *overrides])
        try:
            cli.main(verb, COMMANDS[verb])
            code = 0
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


SMOKE = ("debug=smoke", "track=off")
TINY = ("dataset=shapes", "dataset.size=12", "dataset.limit=9", "inr=2x8", *SMOKE)


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


def test_equal_commands_give_equal_bytes(command, tmp_path):
    command("encode", *TINY, "out=a.inr")
    command("encode", *TINY, "out=b.inr", "fit.max_batch=2")
    assert (tmp_path / "a.inr").read_bytes() == (tmp_path / "b.inr").read_bytes()
    command("encode", *TINY, "out=c.inr", "seed=1")
    assert (tmp_path / "a.inr").read_bytes() != (tmp_path / "c.inr").read_bytes()


def test_info_prints_json_whose_parts_add_up(command, tmp_path):
    command("encode", *TINY, "out=a.inr")
    code, out, _ = command("info", "store=a.inr")
    facts = json.loads(out)
    assert code == 0
    assert (facts["images"], facts["depth"], facts["hidden"], facts["omega"], facts["sizes"]) == (9, 2, 8, 15.0, [[12, 12]])
    assert facts["store_bytes"] == os.path.getsize(tmp_path / "a.inr") == sum(facts["parts_bytes"].values())


def test_decode_writes_pictures_named_by_split_and_index(command, tmp_path):
    command("encode", *TINY, "dataset.split=all", "dataset.count=6", "dataset.test_count=5", "out=a.inr")
    code, _, _ = command("decode", "store=a.inr", "out=pictures", "size=[20,30]", "limit=7", "track=off")
    assert code == 0
    names = sorted(os.listdir(tmp_path / "pictures"))
    assert names == ["contact_sheet.png", "test_00000.png", *(f"train_{i:05d}.png" for i in range(6))]
    with Image.open(tmp_path / "pictures" / "test_00000.png") as picture:
        assert picture.size == (30, 20)


@pytest.mark.parametrize("pipeline", ["resident", "inr"])
def test_train_runs_either_arm_and_reports(command, tmp_path, pipeline):
    command("encode", *TINY, "out=a.inr")
    code, out, _ = command("train", *TINY[:3], *SMOKE, f"pipeline={pipeline}", "store=a.inr", "run_dir=run")
    assert code == 0
    assert out.startswith(f"{pipeline}: top-1 ")
    metrics = record_of(tmp_path / "run")["metrics"]
    assert metrics["images"] == 9
    assert {"top1_pct", "epoch_s", "images_per_s", "loss", "device_bytes"} <= set(metrics)
    assert ("rgb_pct" in metrics) == (pipeline == "inr")
    assert [json.loads(line)["epoch"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()] == [0]
    assert (tmp_path / "run" / "curves.png").is_file()


def test_demo_prints_a_table_of_both_arms(command, tmp_path):
    code, out, _ = command("demo", *SMOKE, "inr=2x8", "run_dir=run")
    assert code == 0
    assert "raw uint8" in out
    assert "% of RGB" in out
    for name in ("contact_sheet.png", "curves.png", "train.inr", "record.json"):
        assert (tmp_path / "run" / name).is_file()
        assert name in out or name == "train.inr"


def test_the_fit_benchmark_reports_medians(command, tmp_path):
    code, out, _ = command("benchmark", "suite=fit", "dataset=shapes", *SMOKE, "run_dir=run")
    metrics = record_of(tmp_path / "run")["metrics"]
    assert code == 0
    assert metrics["images"] == 24
    assert metrics["fit_s_fastest"] <= metrics["fit_s"] <= metrics["fit_s_slowest"]
    assert "fit_ms_per_image" in out


@pytest.mark.parametrize(
    ("verb", "overrides", "message"),
    [
        ("encode", ["out=a.inr"], "dataset=... is required"),
        ("encode", [*TINY], "out=... is required"),
        ("encode", ["dataset=none", "out=a.inr"], "Could not find 'dataset/none'"),
        ("encode", [*TINY, "out=a.inr", "no.such=1"], "no"),
        ("encode", [*TINY, "out=a.inr", "fit.steps=0"], "fit.steps is 0"),
        ("encode", [*TINY, "out=a.inr", "inr.depth=0"], "depth is 0"),
        ("encode", [*TINY, "out=a.inr", "dataset.split=val"], "split is 'val'"),
        ("encode", ["dataset=cifar10", "dataset.root=nowhere", "out=a.inr"], "nowhere"),
        ("encode", ["dataset=flat", "out=a.inr"], "dataset.root=... is required"),
        ("encode", [*TINY, "out=a.inr", "track.mode=loud"], "track is 'loud'"),
        ("info", ["store=missing.inr"], "no store at missing.inr"),
        ("info", ["store=text.inr"], "not a whole safetensors file"),
        ("decode", ["store=missing.inr", "out=b"], "no store at missing.inr"),
        ("train", ["dataset=shapes", "pipeline=inr", *SMOKE], "needs store=FILE.inr"),
        ("train", ["dataset=shapes", *SMOKE, "optimize.batch_size=1000"], "batch_size is 1000"),
        ("train", ["dataset=shapes", *SMOKE, "device=cuda"], "no CUDA device"),
        ("benchmark", ["dataset=shapes", "suite=none", *SMOKE], "suite is 'none'"),
    ],
)
def test_an_error_of_use_is_one_line_and_exit_code_2(command, tmp_path, verb, overrides, message):
    if "device=cuda" in overrides and __import__("torch").cuda.is_available():
        pytest.skip("there is a CUDA device")
    (tmp_path / "text.inr").write_text("this is no store")
    code, out, err = command(verb, *overrides)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["text.inr"]


def test_an_output_that_exists_is_refused_before_any_work(command, tmp_path):
    (tmp_path / "a.inr").write_text("precious")
    code, _, err = command("encode", *TINY, "out=a.inr")
    assert code == 2
    assert "overwrite=true" in err
    assert (tmp_path / "a.inr").read_text() == "precious"


def test_any_shape_can_be_named_on_the_command_line(command):
    command("encode", *TINY[:3], *SMOKE, "inr=1x7", "out=a.inr")
    facts = json.loads(command("info", "store=a.inr")[1])
    assert (facts["depth"], facts["hidden"]) == (1, 7)


def test_a_command_runs_as_a_program_and_a_bug_shows_its_traceback(tmp_path):
    root = cli.CONFIGS.parent
    environment = os.environ | {"PYTHONPATH": str(root)}

    def program(*arguments):
        return subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert "dataset=DATASET out=FILE.inr" in program("-m", "experiments.encode", "--help").stdout
    done = program("-m", "experiments.info", "store=missing.inr")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    bug = "from experiments.cli import main; main('info', lambda cfg: [][1])"
    assert "IndexError" in program("-c", bug).stderr
