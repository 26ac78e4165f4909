import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from experiments.reporting.comparing.records import read_config, read_runs, run_folders, with_store_settings
from rapid_inr.runlog.liveness import SILENT_S, this_process
from rapid_inr.runlog.run import Run
from tests.logged import write_run

ROOT = Path(__file__).parents[3]


def test_runs_are_read_as_they_were_written(tmp_path):
    config = {"seed": 3, "inr": {"depth": 3, "hidden": 16}, "pipeline": {"name": "inr"}, "fit": {"betas": [0.9, 0.95]}}
    with Run(
        tmp_path / "train" / "one", verb="train", config=config, config_yaml=yaml.safe_dump(config), command="c", track="off"
    ) as run:
        run.log(epoch=0, loss=1.5)
        run.metrics["top1_pct"] = 50.0
    (found,), unread = read_runs(tmp_path)
    assert (found.run, found.verb, found.status, unread) == ("train/one", "train", "finished", [])
    assert found.settings == {
        "seed": 3, "inr.depth": 3, "inr.hidden": 16, "inr": "3x16", "pipeline.name": "inr", "pipeline": "inr",
        "fit.betas": [0.9, 0.95],
    }  # fmt: skip
    assert found.metrics == {"top1_pct": 50.0}
    assert found.lines() == [{"epoch": 0, "loss": 1.5}]
    assert found.code == found.facts["code"]
    assert {"commit", "machine", "versions.torch", "started", "seconds"} <= set(found.facts)


def test_labels_of_a_point_are_facts_of_its_run(tmp_path):
    folder = write_run(tmp_path / "a", config={}, metrics={})
    (folder / "point.json").write_text('{"scale": "cpu", "name": "a", "labels": {"net": "small"}}')
    assert read_runs(tmp_path)[0][0].value("point.net") == "small"


def test_a_run_in_progress_is_running_and_one_that_was_killed_is_dead(tmp_path):
    def state(**record):
        folder = write_run(tmp_path / str(len(os.listdir(tmp_path))), config={}, metrics={}, status="running", **record)
        return folder, lambda: next(run.status for run in read_runs(tmp_path)[0] if run.run == folder.name)

    _, status = state(process=this_process())
    assert status() == "running"
    if sys.platform == "linux":
        _, status = state(process=this_process() | {"start": 1})
        assert status() == "dead"
    folder, status = state(process=this_process() | {"where": "another machine"})
    assert status() == "running"
    long_ago = folder.stat().st_mtime - SILENT_S - 60
    os.utime(folder / "record.json", (long_ago, long_ago))
    assert status() == "running"  # by the lines of its metrics
    os.utime(folder / "metrics.jsonl", (long_ago, long_ago))
    assert status() == "dead"


def test_of_a_record_without_a_process_it_is_not_known(tmp_path):
    write_run(tmp_path / "a", config={}, metrics={}, status="running")
    assert read_runs(tmp_path)[0][0].status == "running?"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("record.json", '{"verb": "tr'),
        ("record.json", "[]"),
        ("record.json", "{}"),
        ("config.yaml", "seed: [1"),
        ("config.yaml", None),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_hides_no_other(tmp_path, file, text):
    write_run(tmp_path / "good", config={}, metrics={})
    torn = write_run(tmp_path / "torn", config={}, metrics={}) / file
    torn.unlink() if text is None else torn.write_text(text)
    runs, unread = read_runs(tmp_path)
    assert [run.run for run in runs] == ["good"]
    assert len(unread) == 1
    assert unread[0].startswith("torn: ")


def test_the_last_line_of_a_killed_run_may_be_torn(tmp_path):
    folder = write_run(tmp_path / "a", config={}, metrics={}, lines=[{"epoch": 0}])
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 1, "lo')
    assert read_runs(tmp_path)[0][0].lines() == [{"epoch": 0}]


def test_folders_of_wandb_and_hidden_ones_are_not_searched(tmp_path):
    for name in ("a", "a/wandb/x", ".trash/b", "sweep/cpu/c"):
        write_run(tmp_path / name, config={}, metrics={})
    assert {folder.relative_to(tmp_path).as_posix() for folder, _ in run_folders(tmp_path)} == {"a", "sweep/cpu/c"}


def test_no_folder_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of runs at"):
        read_runs(tmp_path / "missing")


@pytest.mark.parametrize(
    "text",
    [
        "seed: 0\nfit:\n  steps: 3\n  betas:\n  - 0.9\n  - 0.95\nsizes:\n- a\n- b\nname: 'x\n  y'\n",
        "# a comment\nseed: 0\n\nfit: {}\n",
        "{seed: 0, fit: {steps: 3}}\n",
        "a: &x [1, 2]\nb: *x\n",
        "text: |\n  one\n\n  two\nlast: -1\n",
        "seed: 0\r\nfit:\r\n  steps: 3\r\n",
        "",
    ],
)
def test_a_configuration_read_in_blocks_is_what_it_is_as_a_whole(text):
    assert read_config(text) == (yaml.safe_load(text) or {})


def test_every_committed_configuration_reads_the_same():
    paths = list((ROOT / "results").rglob("config.yaml"))
    assert paths
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert read_config(text) == yaml.safe_load(text)


def test_a_run_that_reads_a_store_knows_how_it_was_made(tmp_path):
    made = {"seed": 5, "inr": {"depth": 3, "hidden": 16}, "quantize": {"bits": 8}, "dataset": {"name": "cifar10"}, "out": "s.inr"}
    times = {"old": "2026-01-01", "new": "2026-01-03", "future": "2026-01-09"}
    for bits, (name, started) in enumerate(times.items(), start=4):
        write_run(tmp_path / name, verb="encode", config=made | {"quantize": {"bits": bits}}, metrics={}, started=started)
    write_run(tmp_path / "t", config={"seed": 0, "store": "./s.inr", "test_store": None}, metrics={}, started="2026-01-05")
    write_run(tmp_path / "u", config={"seed": 0, "store": "other.inr"}, metrics={}, started="2026-01-05")
    runs = {run.run: run for run in with_store_settings(read_runs(tmp_path)[0])}
    settings = runs["t"].settings
    assert (settings["store.quantize.bits"], settings["store.inr"], settings["store.seed"]) == (5, "3x16", 5)
    assert "store.dataset" not in settings
    assert set(runs["u"].settings) == {"seed", "store"}


def test_the_committed_records_can_be_compared():
    runs, unread = read_runs(ROOT / "results")
    assert unread == []
    assert {run.status for run in runs} == {"finished"}
    assert {"encode", "train"} <= {run.verb for run in runs}
    assert all(json.dumps(run.metrics) for run in runs)
