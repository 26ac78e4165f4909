"""The sweep as a user runs it, on an experiment of three commands that takes no time."""

import json
from types import SimpleNamespace

import pytest

from experiments.launching import open_launcher
from rapid_inr.encoding import shard as shards
from rapid_inr.runlog.liveness import this_process

TRIAL = """
name: trial
root: nowhere
axes: {seed: [0, 1]}
points:
  encode:
    verb: encode
    over: [seed]
    set: [dataset=shapes, dataset.size=12, dataset.limit=4, debug=smoke, inr=2x8, out=@/store.inr]
    labels: {curve: INR, kind: inr, dataset: shapes}
  decode:
    verb: decode
    over: [seed]
    set: [store=@encode-<seed>/store.inr, out=@/pictures]
  photos:
    verb: encode
    set: [dataset=flat, "dataset.root=${experiment.root}", debug=smoke, inr=2x8, out=@/store.inr]
  after:
    verb: decode
    set: [store=@photos/store.inr, out=@/pictures]
scales:
  smoke: {}
  small: {axes: {seed: [0]}, points: {photos: null, after: null}}
"""


@pytest.fixture
def sweep(command, tmp_path):
    (tmp_path / "extra" / "experiment").mkdir(parents=True)
    (tmp_path / "extra" / "experiment" / "trial.yaml").write_text(TRIAL)

    def run(*overrides, scale="small"):
        where = f"hydra.searchpath=[file://{tmp_path}/extra]"
        return command("sweep", where, "experiment=trial", f"scale={scale}", "track=off", *overrides)

    return run


def records(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("record.json")}


def statuses(folder):
    return {name: record["status"] for name, record in records(folder).items()}


def test_each_point_is_the_ordinary_run_of_its_command_in_a_folder_of_its_name(sweep, command, tmp_path):
    code, out, _ = sweep()
    assert code == 0
    assert "2 points run now, 2 of 2 finished, in runs/trial/small" in out
    folder = tmp_path / "runs" / "trial" / "small"
    assert statuses(folder) == {"encode-0": "finished", "decode-0": "finished"}
    assert len(list((folder / "decode-0" / "pictures").glob("train_*.png"))) == 4
    record = records(folder)["encode-0"]
    point = json.loads((folder / "encode-0" / "point.json").read_text())
    assert point["labels"] == {"seed": "0", "curve": "INR", "kind": "inr", "dataset": "shapes"}
    begun, *overrides = record["command"].removeprefix("python -m experiments.").split()
    assert {"run_dir=runs/trial/small/encode-0", "inr=2x8"} <= set(overrides)
    before = (folder / "encode-0" / "store.inr").read_bytes()
    assert command(begun, *overrides)[0] == 0
    assert (folder / "encode-0" / "store.inr").read_bytes() == before


@pytest.mark.parametrize("launcher", [("joblib", "n_jobs=2"), ("submitit_local", "timeout_min=5")], ids=lambda pair: pair[0])
def test_a_parallel_launcher_runs_the_points_level_by_level(program, sweep, tmp_path, launcher):
    name, setting = launcher
    options = (
        "scale=small",
        "track=off",
        "experiment.scales.small.axes.seed=[0,1]",
        f"hydra/launcher={name}",
        f"hydra.launcher.{setting}",
    )
    where = f"hydra.searchpath=[file://{tmp_path}/extra]"
    process = program("experiments.sweep", where, "experiment=trial", *options)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "4 points run now, 4 of 4 finished" in out
    assert statuses(tmp_path / "runs" / "trial" / "small") == dict.fromkeys(
        ("encode-0", "encode-1", "decode-0", "decode-1"), "finished"
    )


def test_a_failed_point_is_recorded_what_reads_from_it_waits_and_the_others_go_on(sweep, tmp_path):
    code, _, err = sweep(scale="smoke")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: 2 of 6 points are not finished, their records say why: ")
    assert err.splitlines()[-1].endswith(": photos (failed), after (blocked)")
    folder = tmp_path / "runs" / "trial" / "smoke"
    assert statuses(folder) == {f"{verb}-{i}": "finished" for verb in ("encode", "decode") for i in (0, 1)} | {"photos": "failed"}
    assert records(folder)["photos"]["error"].startswith("DatasetMissing: folder of images not found: looked for nowhere")
    assert json.loads((folder / "sweep.json").read_text())["points"]["after"] == "blocked"


def test_started_again_a_sweep_runs_only_what_is_missing_or_changed(sweep, tmp_path):
    sweep()
    folder = tmp_path / "runs" / "trial" / "small"
    before = records(folder)
    assert "0 points run now, 2 of 2 finished" in sweep("track=off")[1]
    assert records(folder) == before
    (folder / "decode-0" / "record.json").unlink()
    assert "1 points run now, 2 of 2 finished" in sweep()[1]
    assert records(folder)["encode-0"] == before["encode-0"]
    changed = "experiment.points.encode.set=[dataset=shapes,dataset.size=12,dataset.limit=3,debug=smoke,inr=2x8,out=@/store.inr]"
    assert "changed    encode-0" in sweep(changed.replace("=[", "=['").replace(",", "','").replace("]", "']"), "list=true")[1]
    assert records(folder)["encode-0"] == before["encode-0"]


def test_a_run_that_was_killed_runs_again(sweep, tmp_path):
    sweep()
    path = tmp_path / "runs" / "trial" / "small" / "encode-0" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running"}))
    assert "running?   encode-0" in sweep("list=true")[1]
    assert "2 points run now, 2 of 2 finished" in sweep()[1]  # with the one that reads from it


def test_a_run_whose_process_is_gone_is_dead_and_runs_again(sweep, tmp_path):
    sweep()
    path = tmp_path / "runs" / "trial" / "small" / "encode-0" / "record.json"
    gone = this_process() | {"start": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running", "process": gone}))
    assert "dead       encode-0" in sweep("list=true")[1]
    assert "2 points run now, 2 of 2 finished" in sweep()[1]


def test_a_point_that_another_sweep_runs_is_left_to_it(sweep, tmp_path):
    sweep()
    path = tmp_path / "runs" / "trial" / "small" / "encode-0" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "running", "process": this_process()}))
    before = path.read_bytes()
    code, out, err = sweep()
    assert code == 2
    assert "0 points run now, 1 of 2 finished" in out
    assert err.splitlines()[-1].endswith(": encode-0 (running)")
    assert path.read_bytes() == before
    assert "2 points run now, 2 of 2 finished" in sweep("overwrite=true")[1]


def test_a_sweep_that_was_moved_is_still_finished(sweep, tmp_path):
    sweep()
    (tmp_path / "runs" / "trial" / "small").rename(tmp_path / "moved")
    out = sweep("list=true", "run_dir=moved")[1]
    assert out.splitlines()[0].startswith("finished   encode-0")
    assert out.splitlines()[1].startswith("finished   decode-0")  # whose store= names the folder


def test_what_cannot_be_read_of_a_point_runs_again(sweep, tmp_path):
    sweep()
    folder = tmp_path / "runs" / "trial" / "small"
    (folder / "encode-0" / "record.json").write_text('{"status":')
    (folder / "decode-0" / "config.yaml").unlink()
    assert [line.split()[0] for line in sweep("list=true")[1].splitlines()] == ["unreadable"] * 2
    assert "2 points run now, 2 of 2 finished" in sweep()[1]


def test_points_that_a_killed_worker_took_along_are_launched_again(sweep, tmp_path, monkeypatch):
    launched = []

    def open_fragile(cfg):
        launcher = open_launcher(cfg)

        def launch(jobs, initial_job_idx):
            launched.append(len(jobs))
            launcher.launch(jobs[:1], initial_job_idx=initial_job_idx)
            if len(jobs) > 1:
                raise RuntimeError("a worker was killed")

        return SimpleNamespace(launch=launch)

    monkeypatch.setattr("experiments.sweep.open_launcher", open_fragile)
    code, out, err = sweep(scale="smoke")
    assert (code, "5 points run now, 4 of 6 finished" in out) == (2, True)
    assert err.count("warning [launcher]: RuntimeError: a worker was killed") == 3
    assert launched == [3, 2, 1, 2, 1]


def test_what_no_launch_brings_to_an_end_is_left(sweep, monkeypatch):
    def launch(jobs, initial_job_idx):
        raise RuntimeError("a worker was killed")

    monkeypatch.setattr("experiments.sweep.open_launcher", lambda cfg: SimpleNamespace(launch=launch))
    code, _, err = sweep()
    assert (code, err.count("warning [launcher]")) == (2, 1)
    assert err.splitlines()[-1].endswith(": encode-0 (missing), decode-0 (blocked)")


def test_a_bug_in_a_point_leaves_its_traceback_and_stops_no_other(sweep, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "fit", broken)
        assert sweep(scale="small")[0] == 2
    folder = tmp_path / "runs" / "trial" / "small"
    assert statuses(folder) == {"encode-0": "failed"}
    assert "in broken" in (folder / "encode-0" / "traceback.txt").read_text()
    assert sweep()[0] == 0
    assert not (folder / "encode-0" / "traceback.txt").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scale=huge"], "scale is 'huge', expected one of smoke, small"),
        (["only=[nothing]"], "only=nothing matches no point"),
        (["only=5"], "only is 5, expected a list of texts or null"),
        (["experiment.points.encode.verb=fry"], "verb is 'fry', expected a command"),
        (["+experiment.points.more={verb: encode, set: ['colour=red']}"], "Could not override 'colour'"),
        (["+experiment.points.more={verb: encode, set: ['seed=x', 'out=y']}"], "seed is 'x', expected an integer"),
    ],
)
def test_an_error_of_use_in_any_point_is_one_line_before_any_work(sweep, tmp_path, overrides, message):
    code, _, err = sweep(*overrides)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_an_experiment_must_be_named(command):
    code, _, err = command("sweep")
    assert code == 2
    assert "experiment=... is required, one of: accuracy, " in err
