import json
import math
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from rapid_inr.runlog import liveness
from rapid_inr.runlog import run as tracking
from rapid_inr.runlog.liveness import lives
from rapid_inr.runlog.run import Run, code_digest, code_state, machine, versions, write_json

PROMISED = {
    "verb", "command", "seed", "commit", "dirty", "code", "versions", "machine", "started", "seconds", "status", "metrics",
    "warnings",
}  # fmt: skip


def open_run(folder: Path, *, track: str = "off", **options) -> Run:
    config = {"seed": 7, "fit": {"steps": 3}}
    texts = {"config_yaml": "seed: 7\nname: Grüße\n", "command": "python -m experiments.encode seed=7"}
    return Run(folder, verb="encode", config=config, track=track, **texts, **options)


def read_record(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def read_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_finished_run_leaves_three_files_and_a_whole_record(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    with open_run(tmp_path / "a" / "run") as run:
        run.log(epoch=0, loss=1.5)
        run.metrics |= {"psnr_db": 30.5, "images": 4}
        run.warn("not_converged", "2 images")
    visible = {path.name for path in run.folder.iterdir() if path.name != ".lock"}
    assert visible == {"config.yaml", "metrics.jsonl", "record.json"}
    assert (run.folder / "config.yaml").read_text(encoding="utf-8") == "seed: 7\nname: Grüße\n"
    record = read_record(run.folder)
    assert set(record) == PROMISED
    assert (record["verb"], record["command"], record["seed"]) == ("encode", "python -m experiments.encode seed=7", 7)
    assert (record["status"], record["metrics"]) == ("finished", {"psnr_db": 30.5, "images": 4})
    assert record["warnings"] == [{"name": "not_converged", "message": "2 images"}]
    assert before <= datetime.fromisoformat(record["started"]) <= datetime.now(UTC)
    assert record["seconds"] >= 0
    assert record["versions"] == versions()
    assert record["machine"] == machine()


def test_what_a_run_that_was_killed_has_left_half_written_is_removed(tmp_path):
    (tmp_path / ".resident.safetensors.0123abcd").touch()
    (tmp_path / ".notes").touch()
    with open_run(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} <= {".notes", ".lock"}


def test_a_record_tells_what_can_change_the_last_bits(tmp_path):
    with open_run(tmp_path) as run:
        pass
    found = read_record(run.folder)["machine"]
    assert found["threads"] == torch.get_num_threads()
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


def test_the_record_is_there_from_the_start(tmp_path):
    with open_run(tmp_path) as run:
        record = read_record(run.folder)
        assert set(record) == PROMISED | {"process"}
        assert (record["status"], record["metrics"]) == ("running", {})
        assert lives(record["process"], touched=0)
    assert "process" not in read_record(tmp_path)  # nobody needs it, and it names a machine


def test_a_run_touches_its_record_while_it_goes_on(tmp_path, monkeypatch):
    touched, beaten = [], threading.Event()
    monkeypatch.setattr(liveness, "BEAT_S", 0.001)
    monkeypatch.setattr(liveness.os, "utime", lambda path: (touched.append(path), beaten.set()))
    with open_run(tmp_path):
        assert beaten.wait(10)
    assert set(touched) == {tmp_path / "record.json"}
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_metrics_can_be_read_while_the_run_goes_on(tmp_path):
    with open_run(tmp_path) as run:
        for epoch in range(3):
            run.log(epoch=epoch, loss=math.nan if epoch == 1 else 0.5, arm="inr")
            assert len(read_lines(tmp_path)) == epoch + 1
    assert [line["loss"] for line in read_lines(tmp_path)] == [0.5, None, 0.5]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("no luck"), "failed", "ValueError: no luck"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
)
def test_a_run_that_breaks_off_says_how_and_keeps_its_metrics(tmp_path, error, status, said):
    with pytest.raises(type(error)), open_run(tmp_path) as run:  # noqa: PT012 (the run must have begun)
        run.metrics["images"] = 4
        run.log(epoch=0)
        raise error
    record = read_record(tmp_path)
    assert (record["status"], record["error"], record["metrics"]) == (status, said, {"images": 4})
    assert read_lines(tmp_path) == [{"epoch": 0}]


def test_an_existing_run_is_refused_and_left_as_it_was(tmp_path):
    with open_run(tmp_path) as run:
        run.log(epoch=0)
    before = (tmp_path / "record.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"holds a run already; choose another run_dir, or overwrite=true"):
        open_run(tmp_path)
    assert (tmp_path / "record.json").read_bytes() == before
    assert read_lines(tmp_path) == [{"epoch": 0}]


def test_overwriting_starts_from_nothing(tmp_path):
    with pytest.raises(RuntimeError), open_run(tmp_path) as run:  # noqa: PT012 (the run must have begun)
        run.log(epoch=0)
        raise RuntimeError("first try")
    with open_run(tmp_path, overwrite=True) as run:
        assert read_lines(tmp_path) == []
        run.log(epoch=1)
    assert read_lines(tmp_path) == [{"epoch": 1}]
    assert set(read_record(tmp_path)) == PROMISED


def test_an_unknown_mode_of_tracking_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"track is 'maybe', expected one of offline, online, off"):
        open_run(tmp_path, track="maybe")


def test_a_warning_is_said_on_stderr(tmp_path, capsys):
    with open_run(tmp_path) as run:
        run.warn("image_skipped", "cat.png is cut short")
    assert "warning [image_skipped]: cat.png is cut short" in capsys.readouterr().err


def test_json_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_what_is_not_finite_becomes_null_at_any_depth(tmp_path):
    write_json(tmp_path / "value.json", {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf}, "d": [True, None, "x", 3]})
    expected = {"a": [None, [None, 1.5]], "b": {"c": None}, "d": [True, None, "x", 3]}
    assert json.loads((tmp_path / "value.json").read_text()) == expected


def test_numpy_scalars_are_numbers(tmp_path):
    write_json(tmp_path / "value.json", [np.float32(0.5), np.int64(3), np.float32(math.nan), np.bool_(True)])
    assert json.loads((tmp_path / "value.json").read_text()) == [0.5, 3, None, True]


def test_without_tracking_wandb_is_not_imported(tmp_path):
    script = (
        "import sys; from rapid_inr.runlog.run import Run\n"
        f"with Run({str(tmp_path)!r}, verb='x', config={{}}, config_yaml='', command='', track='off') as run: run.log(a=1)\n"
        "sys.exit('wandb' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout whose ``rapid_inr/runlog/run.py`` is the module under test."""
    module = tmp_path / "rapid_inr" / "runlog" / "run.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(tracking, "__file__", str(module))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "--quiet")
    return tmp_path


def test_code_that_git_does_not_track_has_no_commit(checkout):
    assert code_state() == {"commit": None, "dirty": None}
    (checkout / "notes.md").write_text("of somebody whose environment holds this package")
    git(checkout, "add", "notes.md")
    git(checkout, "commit", "--quiet", "-m", "notes")
    assert code_state() == {"commit": None, "dirty": None}


def test_the_commit_and_changes_of_the_code_are_noted(checkout):
    git(checkout, "add", ".")
    assert code_state() == {"commit": None, "dirty": None}
    git(checkout, "commit", "--quiet", "-m", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "photograph.png").write_text("")
    assert code_state() == {"commit": commit, "dirty": False}
    (checkout / "rapid_inr" / "new.py").write_text("")
    assert code_state() == {"commit": commit, "dirty": True}
    (checkout / "rapid_inr" / "new.py").unlink()
    (checkout / "rapid_inr" / "tracking.py").write_text("changed")
    assert code_state() == {"commit": commit, "dirty": True}


def test_the_same_code_has_the_same_digest_committed_or_not(checkout):
    before = code_digest()
    (checkout / "configs").mkdir()
    (checkout / "configs" / "train.yaml").write_text("seed: 1")
    assert code_digest() == before  # a run keeps its own configuration
    (checkout / "kernels").mkdir()
    (checkout / "kernels" / "new.py").write_text("a")
    changed = code_digest()
    (checkout / "kernels" / "new.py").rename(checkout / "kernels" / "other.py")
    assert len({before, changed, code_digest()}) == 3
    (checkout / "kernels" / "other.py").unlink()
    assert code_digest() == before


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state() == {"commit": None, "dirty": None}


def test_versions_and_machine_are_known():
    assert {"python", "torch", "numpy", "pillow"} <= set(versions())
    assert machine()["cpu"]
    assert machine()["cpu_cores"] >= 1


def test_a_configuration_that_could_not_be_written_leaves_the_one_before(tmp_path):
    with open_run(tmp_path):
        pass
    before = (tmp_path / "config.yaml").read_text()
    broken = Run(tmp_path, verb="encode", config={}, config_yaml="a: \udc80", command="", track="off", overwrite=True)
    with pytest.raises(UnicodeEncodeError), broken:  # as a full disk or a kill would end it
        pass
    assert (tmp_path / "config.yaml").read_text() == before
    assert read_record(tmp_path)["status"] == "running"  # the run before is finished no more
