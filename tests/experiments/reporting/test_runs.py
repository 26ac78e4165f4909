import json
import os
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from experiments.reporting.runs import parse_config, read_runs, write_records
from rapid_inr.errors import UserError
from rapid_inr.runlog.liveness import SILENT_S, this_process
from rapid_inr.runlog.run import Run
from tests.experiments.reporting.written import write_run

ROOT = Path(__file__).parents[3]


def test_a_run_is_read_as_it_was_written(tmp_path):
    config = {
        "seed": 3, "experiment_name": "accuracy", "preset": "cpu", "labels": {"codec": "SIREN", "workers": 2, "run": "x"},
        "inr": {"depth": 3, "hidden": 16}, "fit": {"betas": [0.9, 0.95]}, "pipeline": {"name": "inr"},
    }  # fmt: skip
    text = yaml.safe_dump(config)
    with Run(tmp_path / "train" / "one", verb="train", config=config, config_yaml=text, command="c", track="off") as run:
        run.metrics |= {"top1_pct": 50.0, "codec": 7}
    (row,) = read_runs(tmp_path).to_dict("records")
    assert (row["run"], row["verb"], row["status"], row["seed"]) == ("train/one", "train", "finished", 3)
    assert (row["experiment"], row["preset"], row["codec"], row["workers"]) == ("accuracy", "cpu", "SIREN", "2")
    assert (row["top1_pct"], row["metric.codec"], row["label.run"]) == (50.0, 7, "x")  # a name that is taken
    settings = {key.removeprefix("cfg."): value for key, value in row.items() if key.startswith("cfg.") and "labels" not in key}
    assert settings == {"inr.depth": 3, "inr.hidden": 16, "inr": "3x16", "fit.betas": "[0.9, 0.95]", "pipeline.name": "inr"}
    assert Path(row["path"]).is_file()
    assert {"commit", "code", "machine", "version.torch", "started", "seconds", "warnings"} <= set(row)


def test_committed_runs_may_be_lines_of_one_file(tmp_path):
    record = {"verb": "encode", "status": "finished", "metrics": {"psnr_db": 30.0}}
    lines = [
        json.dumps({"run": f"a{i}", "config": {"experiment_name": "memory", "preset": "cpu"}, "record": record}) for i in range(2)
    ]
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "records.jsonl").write_text("\n".join([lines[0], '{"torn', lines[1]]))
    with pytest.warns(UserWarning, match=r"records.jsonl cannot be read and is left out: JSONDecodeError"):
        runs = read_runs(tmp_path)
    assert list(runs.run) == ["memory/a0", "memory/a1"]
    assert list(runs.psnr_db) == [30.0, 30.0]
    assert [path.rpartition("/")[2] for path in runs.path] == ["records.jsonl#L1", "records.jsonl#L3"]


def test_the_finished_runs_of_a_folder_become_lines_of_one_file_and_are_read_as_before(tmp_path):
    for name, metrics in (("cpu/a", {"top1_pct": 50.0}), ("cpu/b", {"top1_pct": 60.0}), ("smoke/a", {"top1_pct": 5.0})):
        write_run(tmp_path / "runs" / name, config={"fit": {"betas": [0.9, 0.95]}, "out": "grün"}, metrics=metrics, lines=[{}])
    before, file = read_runs(tmp_path / "runs"), tmp_path / "results" / "records.jsonl"
    write_run(tmp_path / "runs" / "cpu" / "c", status="failed")
    assert write_records(tmp_path / "runs", file) == 3
    after = read_runs(tmp_path / "results").drop(columns="path")
    assert after.to_dict("records") == before.drop(columns="path").to_dict("records")
    text = file.read_text()
    write_run(tmp_path / "more" / "cpu" / "b", metrics={"top1_pct": 61.0})
    assert write_records(tmp_path / "more", file) == 1  # in place of the earlier b; the others stay
    assert [new for new in file.read_text().splitlines() if new not in text.splitlines()] == [file.read_text().splitlines()[1]]
    with pytest.raises(UserError, match="no finished run in the folders below"):
        write_records(tmp_path / "results", file)


def test_a_run_in_progress_is_running_and_one_that_was_killed_has_crashed(tmp_path):
    def status(name, **record):
        write_run(tmp_path / name, status="running", **record)
        return read_runs(tmp_path).set_index("run").status[name]

    assert status("a", process=this_process()) == "running"
    assert status("b") == "running?"
    if sys.platform == "linux":
        assert status("c", process=this_process() | {"start": 1}) == "crashed"
    assert status("d", process=this_process() | {"where": "another machine"}) == "running"
    long_ago = (tmp_path / "d").stat().st_mtime - SILENT_S - 60
    os.utime(tmp_path / "d" / "record.json", (long_ago, long_ago))
    assert read_runs(tmp_path).set_index("run").status["d"] == "running"  # by the lines of its metrics
    os.utime(tmp_path / "d" / "metrics.jsonl", (long_ago, long_ago))
    assert read_runs(tmp_path).set_index("run").status["d"] == "crashed"


def test_a_record_without_a_machine_is_a_run_all_the_same(tmp_path):
    write_run(tmp_path / "a", machine=None, metrics=None, versions=None)
    write_run(tmp_path / "b", machine={"cpu": "Intel(R) Fast", "cpu_cores": 2, "gpu": "H200"}, metrics={"device": "cuda"})
    runs = read_runs(tmp_path)
    assert runs.machine.isna().tolist() == [True, False]
    assert runs.machine[1] == "H200"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("record.json", b'{"verb": "tr'), ("record.json", b"null"), ("record.json", b"[]"), ("record.json", b"{}"),
        ("record.json", b"\xff\xfe\x00"), ("record.json", b"[" * 100_000), ("record.json", b'{"verb": [], "status": "finished"}'),
        ("config.yaml", b"seed: [1"), ("config.yaml", None), ("config.yaml", b"\xff\xfe"),
        ("config.yaml", b"- a list"), ("config.yaml", b"a: &a [x, x]\nb: [*a, *a]\n"), ("config.yaml", b"a: " + b"[" * 10_000),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_read_is_named_and_hides_no_other(tmp_path, file, content):
    write_run(tmp_path / "good")
    path = write_run(tmp_path / "torn") / file
    path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"torn/record.json cannot be read and is left out: \w+: ."):
        assert list(read_runs(tmp_path).run) == ["good"]


def test_folders_of_wandb_and_hidden_ones_are_not_searched(tmp_path):
    for name in ("a", "a/wandb/x", ".trash/b", "sweep/cpu/c"):
        write_run(tmp_path / name)
    assert list(read_runs(tmp_path).run) == ["a", "sweep/cpu/c"]


def test_an_empty_folder_has_no_runs_and_a_missing_one_is_an_error(tmp_path):
    assert read_runs(tmp_path).empty
    assert {"run", "verb", "status", "experiment", "machine"} <= set(read_runs(tmp_path))
    with pytest.raises(UserError, match="no folder of runs at"):
        read_runs(tmp_path / "missing")


@pytest.mark.parametrize(
    "text",
    [
        "seed: 0\nfit:\n  steps: 3\n  betas:\n  - 0.9\n  - 0.95\nsizes:\n- a\n- b\nname: 'x\n  y'\n",
        "# a comment\nseed: 0\n\nfit: {}\n", "text: |\n  one\n\n  two\nlast: -1\n", "seed: 0\r\nfit:\r\n  steps: 3\r\n",
        "pattern: '*.png'\n", "",
    ],
)  # fmt: skip
def test_a_configuration_read_in_blocks_is_what_it_is_as_a_whole(text):
    assert parse_config(text) == (yaml.safe_load(text) or {})


def test_the_committed_runs_are_whole_and_say_where_they_come_from():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = read_runs(ROOT / "results")
    assert set(runs.status) == {"finished"}
    assert {"encode", "train", "benchmark", "demo"} <= set(runs.verb)
    assert runs[["commit", "machine", "version.torch", "command", "started"]].notna().all(axis=None)
    assert not runs.dirty.any()
