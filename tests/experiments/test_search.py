"""A search as a user runs it, on networks that take no time."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from experiments import search as module
from experiments.setup.choices import choices_of
from rapid_inr.encoding import siren
from rapid_inr.errors import UserError
from rapid_inr.runlog.liveness import this_process

optuna = pytest.importorskip("optuna")
SMOKE = [name for name in choices_of("search", "search") if name.endswith("/smoke")]


@pytest.fixture
def search(command):
    """Search `shape` at its smoke preset, in run_dir=s."""

    def run(*overrides):
        return command("search", "search=shape/smoke", "run_dir=s", "track=off", *overrides)

    return run


def trials(folder, name="shape"):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.log")))
    return optuna.load_study(study_name=name, storage=storage).get_trials()


@pytest.mark.parametrize("preset", SMOKE)
def test_a_search_runs_at_its_smoke_preset(command, tmp_path, preset):
    code, out, err = command("search", f"search={preset}", "track=off")
    assert code == 0, err
    folder = tmp_path / "runs" / "search" / preset
    with Image.open(folder / "search.png") as image:
        assert image.width > 500
    assert sum(line.endswith(" best") for line in out.splitlines()) == 1
    for path in folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "finished"
        assert f"run_dir=runs/search/{preset}/{path.parent.name}" in record["command"]


def test_a_trial_is_told_as_its_record_says(search, tmp_path):
    search("trials=2")
    for trial in trials(tmp_path / "s"):
        metrics = json.loads((tmp_path / "s" / f"{trial.number:03d}" / "record.json").read_text())["metrics"]
        assert trial.values == [metrics["psnr_db"]]
        assert trial.constraints == {"rgb_pct": metrics["rgb_pct"] - 120}


def test_started_again_a_search_continues_as_at_a_stretch(search, tmp_path, formula):
    search("trials=2")
    assert search("trials=4")[0] == 0
    search("trials=4", "run_dir=t")
    first, second = (trials(tmp_path / name) for name in "st")
    assert [trial.params for trial in first] == [trial.params for trial in second]
    search("trials=4")
    assert len(trials(tmp_path / "s")) == len(first)


def test_two_processes_share_the_trials(program, tmp_path):
    options = ("search=shape/smoke", "run_dir=s", "track=off", "trials=4")
    processes = [program("experiments.search", *options) for _ in range(2)]
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    done = [trial for trial in trials(tmp_path / "s") if trial.state.name == "COMPLETE"]
    assert len(done) == len({tuple(trial.params.values()) for trial in done}) == 4
    assert len({trial.user_attrs["process"]["pid"] for trial in done}) == 2


def test_what_was_under_way_in_a_killed_process_is_tried_again(search, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(siren, "fit", killed)
    search("trials=1")
    monkeypatch.undo()
    (cut,) = trials(tmp_path / "s")
    assert cut.state.name == "RUNNING"
    monkeypatch.setattr(module, "lives", lambda process, *, touched: process != this_process())
    monkeypatch.chdir(tmp_path)
    assert search("trials=1")[0] == 0
    first, second = trials(tmp_path / "s")
    assert (first.state.name, second.state.name) == ("PRUNED", "COMPLETE")
    assert first.params == second.params


@pytest.fixture
def formula(monkeypatch):
    """Let a formula of the choices stand for the encode of a trial."""

    def encode(command, overrides):
        values = dict(override.split("=", 1) for override in overrides)
        depth, hidden, bits = (int(values[key]) for key in ("inr.depth", "inr.hidden", "quantize.bits"))
        if bits == 4:
            raise UserError("four bits are too few")
        folder = Path(values["run_dir"])
        folder.mkdir()
        metrics = {"psnr_db": hidden + bits, "rgb_pct": 100 + depth * hidden / 10}
        record = {"verb": "encode", "status": "finished", "metrics": metrics, "machine": {"cpu": "a CPU", "cpu_cores": 2}}
        (folder / "record.json").write_text(json.dumps(record))
        (folder / "config.yaml").write_text(f"labels: {values['++labels']}")

    monkeypatch.setattr(module, "run_command", encode)


def test_a_small_space_is_searched_to_its_end_and_failures_are_skipped(search, tmp_path, formula):
    code, out, err = search("trials=100", "space={inr.hidden:{low:4,high:5},quantize.bits:{low:4,high:5}}")
    assert code == 0
    tried = [trial for trial in trials(tmp_path / "s") if trial.state.name != "PRUNED"]
    assert len(tried) == len({tuple(trial.params.values()) for trial in tried}) == 2 * 2 * 2 * 2
    failed = [trial for trial in tried if trial.state.name == "FAIL"]
    assert {trial.params["quantize.bits"] for trial in failed} == {4}
    assert f"warning [trials_failed]: {failed[0].number} (UserError: four bits are too few)" in err
    (best,) = (line.split() for line in out.splitlines() if line.endswith(" best"))
    assert best[1:4] == ["1", "5", "5"]


def test_what_was_learnt_is_used_within_the_limits(search, tmp_path, formula):
    search("trials=20", "space={inr.depth:{low:1,high:9},inr.hidden:{low:4,high:40},quantize.bits:{low:5,high:8}}")
    done = [trial for trial in trials(tmp_path / "s") if trial.state.name == "COMPLETE"]
    kept = [(trial.number, trial.values[0]) for trial in done if trial.constraints["rgb_pct"] <= 0]
    drawn, learnt = ([value for number, value in kept if (number >= 10) == late] for late in (False, True))
    assert len(learnt) > 5
    assert max(learnt) > max(drawn, default=0)


def test_where_nothing_works_a_search_stops_after_a_few_trials(search, formula):
    code, _, err = search("space={quantize.bits:{low:4,high:4}}", "trials=50")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: all 3 trials failed: 0 (UserError: four bits are too few)")


def test_a_bug_in_a_trial_shows_where(search, monkeypatch):
    monkeypatch.setattr(siren, "fit", None)
    _, _, err = search("trials=1")
    assert "Traceback" in err
    assert "TypeError" in err


def test_that_nothing_keeps_the_limits_is_said(search, formula):
    assert search("limits.rgb_pct.at_most=1")[2].splitlines()[-1] == "warning [beyond_limits]: no trial keeps the limits"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("goals.psnr_db=higher", "expected METRIC: maximize or METRIC: minimize"),
        ("space=null", "search=NAME/PRESET is required, one of: recipe/cpu, recipe/paper, recipe/smoke, shape/cpu,"),
        ("trials=0", "trials is 0, expected at least 1"),
        ("limits.rgb_pct=20", "limits.rgb_pct is 20, expected {at_most: NUMBER} or {at_least: NUMBER}"),
        ("space={inr.depth:{low:9}}", "space.inr.depth is {'low': 9, 'high': 2}, expected {low, high, step, log} or a list"),
        ("space={quantize.granularity:[]}", "space.quantize.granularity is []"),
        ("+space.colour=[1,2]", "colour is unknown"),
        ("command=paint", "paint"),
    ],
)
def test_a_user_error_is_one_line_before_any_work(search, tmp_path, override, message):
    code, _, err = search(override)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err
    assert not (tmp_path / "s").exists()


def test_a_folder_keeps_to_one_search(search, formula):
    search("trials=1")
    code, _, err = search("limits.rgb_pct.at_most=15", "trials=2")
    assert code == 2
    assert "s holds a search with other limits; folder=... names another" in err


def test_a_metric_that_records_lack_is_named(search, formula):
    assert "the record has no psnr; it has psnr_db, rgb_pct" in search("+goals.psnr=maximize", "trials=3")[2]


@pytest.mark.parametrize("there", [None, SimpleNamespace(__version__="4.2.0")])
def test_an_optuna_that_is_missing_or_too_old_is_named(search, monkeypatch, there):
    monkeypatch.setitem(sys.modules, "optuna", there)
    code, _, err = search()
    assert code == 2
    assert "pip install 'optuna>=5'" in err
