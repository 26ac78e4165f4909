"""A multirun as a user starts it, on an experiment whose jobs take no time."""

import json

import pytest

from experiments.setup.choices import command_of
from rapid_inr.encoding import siren
from rapid_inr.runlog.liveness import this_process
from tests.experiments.test_configs import EXPERIMENTS

MEMORY = ("experiment=memory/smoke", "track=off")
ONE = "runs/memory/smoke/2x8-8bit"


def record_of(folder):
    return json.loads((folder / "record.json").read_text())


def alter(folder, **values):
    (folder / "record.json").write_text(json.dumps(record_of(folder) | values))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs_at_its_smoke_preset(command, tmp_path, name):
    code, _, err = command(command_of(name), "-m", f"experiment={name}/smoke", "track=off")
    assert code == 0, err
    folder = tmp_path / "runs" / name / "smoke"
    records = [json.loads(path.read_text()) for path in folder.glob("*/record.json")]
    assert records
    assert {record["status"] for record in records} == {"finished"}
    assert sorted(path.name for path in folder.iterdir() if not path.is_dir()) == ["multirun.yaml"]
    code, _, err = command("tables", f"root={folder}")
    assert code == 0, err
    assert "averaged_over" not in err  # its labels tell its jobs apart


def test_a_sweep_can_be_narrowed_and_a_job_run_by_itself_has_the_same_folder(command, tmp_path):
    code, out, _ = command("encode", "-m", *MEMORY, "variant=8bit,5bit", "dataset.limit=3")
    assert code == 0
    names = {path.parent.name for path in tmp_path.rglob("record.json")}
    assert names == {"2x8-8bit-dataset.limit=3", "2x8-5bit-dataset.limit=3"}
    assert record_of(tmp_path / "runs/memory/smoke/2x8-5bit-dataset.limit=3")["metrics"]["images"] == 3
    config = (tmp_path / "runs/memory/smoke/2x8-5bit-dataset.limit=3/config.yaml").read_text()
    assert "experiment_name: memory\npreset: smoke\n" in config
    assert "variant: 5bit" in config
    code, out, _ = command("encode", *MEMORY, "variant=5bit", "inr=2x8", "dataset.limit=3")
    assert (code, out) == (0, "runs/memory/smoke/2x8-5bit-dataset.limit=3: finished before\n")


def test_a_run_that_finished_is_skipped_until_its_configuration_changes(command, tmp_path):
    one = ("encode", "-m", *MEMORY, "variant=8bit")
    assert command(*one)[0] == 0
    before = record_of(tmp_path / ONE)
    config = tmp_path / ONE / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("keep_shards: false\n", ""))  # a key that did not exist then, at its default
    assert f"{ONE}: finished before" in command(*one)[1]
    assert record_of(tmp_path / ONE) == before
    config.write_text(text.replace("steps: 20\n", "steps: 21\n", 1))
    code, out, _ = command(*one)
    assert (code, out.splitlines()[0]) == (0, f"{ONE}: replacing the run: fit.steps 21 -> 20")
    assert "steps: 20\n" in config.read_text()


def test_a_finished_training_is_skipped_where_only_what_it_does_not_read_has_changed(command, tmp_path):
    train = ("train", "-m", "experiment=end_to_end/smoke", "track=off")
    assert command(*train, "variant=raw,inr")[0] == 0
    for config in (tmp_path / "runs" / "end_to_end" / "smoke").glob("*/config.yaml"):
        text = config.read_text()
        assert "fit:\n  steps: 20\n" in text
        config.write_text(text.replace("fit:\n  steps: 20\n", "fit:\n  steps: 21\n"))
    finished = [line for line in command(*train, "variant=raw,inr")[1].splitlines() if "finished before" in line]
    assert finished == ["runs/end_to_end/smoke/raw: finished before"]


def test_a_run_that_did_not_come_to_its_end_is_run_again_by_the_same_command(command, tmp_path):
    gone = this_process() | {"start": 1}
    assert command("encode", "-m", *MEMORY, "variant=8bit")[0] == 0
    decode = ("decode", f"store={ONE}/train.inr", "out=pictures", "run_dir=own")
    assert command(*decode)[0] == 0
    for status in ("failed", "interrupted", "running"):
        for one, folder in ((("encode", "-m", *MEMORY, "variant=8bit"), ONE), (decode, "own")):
            for path in (tmp_path / "pictures").glob("*"):
                path.unlink()
            alter(tmp_path / folder, status=status, process=gone)
            assert command(*one)[0] == 0
            assert record_of(tmp_path / folder)["status"] == "finished"
    alter(tmp_path / "own", status="failed", process=gone)
    code, _, err = command(*decode[:2], "out=others", "run_dir=own", "limit=1")
    assert (code, "own holds a run already" in err) == (2, True)  # another command's run is not taken


def test_a_run_that_another_process_runs_is_left_to_it(command, tmp_path):
    one = ("encode", "-m", *MEMORY, "variant=8bit")
    command(*one)
    alter(tmp_path / ONE, status="running", process=this_process())
    before = (tmp_path / ONE / "record.json").read_bytes()
    code, out, _ = command(*one)
    assert (code, out.splitlines()[-1]) == (0, f"{ONE}: another process is running it")
    assert command(*one, "overwrite=true")[1] == out
    assert (tmp_path / ONE / "record.json").read_bytes() == before


def test_a_failing_job_is_recorded_and_told_and_stops_no_other(command, tmp_path, monkeypatch):
    fit = siren.fit

    def broken(images, ids, spec, *args, **kwargs):
        if spec.hidden == 8:
            raise KeyError("a bug")
        return fit(images, ids, spec, *args, **kwargs)

    monkeypatch.setattr(siren, "fit", broken)
    code, _, err = command("encode", "-m", *MEMORY, "variant=8bit", "inr=2x8,2x9,2x0")
    assert code == 1
    lines = err.splitlines()
    assert f"failed: {ONE}: KeyError: 'a bug'" in lines
    assert "failed: runs/memory/smoke/2x0-8bit: inr.hidden is 0, expected 1 to 4096" in lines
    assert lines[-1].startswith(f"2 of 3 jobs failed: {ONE} (KeyError: 'a bug'), runs/memory/smoke/2x0-8bit (inr.hidden is 0")
    record = record_of(tmp_path / ONE)
    assert (record["status"], record["error"]) == ("failed", "KeyError: 'a bug'")
    assert "in broken" in record["traceback"]
    assert record_of(tmp_path / "runs/memory/smoke/2x0-8bit")["status"] == "failed"  # before its run was opened
    assert record_of(tmp_path / "runs/memory/smoke/2x9-8bit")["status"] == "finished"


@pytest.mark.parametrize(("launcher", "options"), [("joblib", "n_jobs: 2"), ("submitit_local", "timeout_min: 5")])
def test_a_parallel_launcher_that_an_experiment_names_reports_the_failures_of_its_jobs(program, tmp_path, launcher, options):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "parallel.yaml").write_text(
        f"# @package _global_\ndefaults: [memory/smoke, {{override /hydra/launcher: {launcher}}}]\n"
        f"hydra: {{launcher: {{{options}}}, sweeper: {{params: {{variant: 8bit}}}}}}\n"
    )
    parallel = (f"hydra.searchpath=[file://{tmp_path}/own]", "experiment=parallel", "track=off", "inr=2x8,2x0")
    process = program("experiments.encode", "-m", *parallel)
    _, err = process.communicate()
    assert process.returncode == 1, err
    assert "1 of 2 jobs failed: runs/parallel/2x0-8bit (inr.hidden is 0, expected 1 to 4096)" in err
    assert f"{launcher.partition('_')[0]}_launcher" in (tmp_path / "runs" / "parallel" / "multirun.yaml").read_text()
    assert record_of(tmp_path / "runs" / "parallel" / "2x8-8bit")["status"] == "finished"


def test_a_multirun_without_an_experiment_leaves_its_runs_and_no_empty_folders(command, tmp_path):
    tiny = ("dataset=shapes", "dataset.size=12", "debug=smoke", "track=off", "inr=2x8")
    assert command("encode", "-m", *tiny, "seed=0,1", "out=a.inr,b.inr", "seed=0")[0] == 0
    folders = [path for path in (tmp_path / "runs").rglob("*") if path.is_dir()]
    assert len([path for path in folders if (path / "record.json").is_file()]) == 2
    assert all(any(path.iterdir()) for path in folders)
