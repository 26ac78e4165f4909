import json
import math
import subprocess
import sys
import types
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rapid_inr import tracking
from rapid_inr.tracking import Run, code_state, machine, versions, write_json

PROMISED = {
    "verb", "command", "seed", "commit", "dirty", "versions", "machine", "started", "seconds", "status", "metrics", "warnings",
}  # fmt: skip


def open_run(folder: Path, *, track: str = "off", **options) -> Run:
    config = {"seed": 7, "fit": {"steps": 3}}
    texts = {"config_yaml": "seed: 7\nname: Grüße\n", "command": "python -m experiments.encode seed=7"}
    return Run(folder, verb="encode", config=config, track=track, **texts, **options)


def read_record(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def read_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


class FakeWandb(types.ModuleType):
    """A wandb that notes what it is told, and raises in the call named `breaks`."""

    def __init__(self, breaks: str | None = None) -> None:
        super().__init__("wandb")
        self.breaks, self.calls, self.summary = breaks, [], {}
        self.run = types.SimpleNamespace(log=self._noting("log"), finish=self._noting("finish"), summary=self.summary)
        self.Settings, self.Image = dict, lambda path: f"image {Path(path).name}"

    def _noting(self, name: str):
        def call(*args, **kwargs) -> None:
            self.calls.append((name, args, kwargs))
            if name == self.breaks:
                raise RuntimeError(f"{name} is out of order")

        return call

    def init(self, **kwargs):
        self._noting("init")(**kwargs)
        return self.run


@pytest.fixture
def fake_wandb(monkeypatch):
    def install(breaks: str | None = None) -> FakeWandb:
        fake = FakeWandb(breaks)
        monkeypatch.setitem(sys.modules, "wandb", fake)
        return fake

    return install


def test_a_finished_run_leaves_three_files_and_a_whole_record(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    with open_run(tmp_path / "a" / "run") as run:
        run.log(epoch=0, loss=1.5)
        run.metrics |= {"psnr_db": 30.5, "images": 4}
        run.warn("not_converged", "2 images")
    assert {path.name for path in run.folder.iterdir()} == {"config.yaml", "metrics.jsonl", "record.json"}
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


def test_the_record_is_there_from_the_start(tmp_path):
    with open_run(tmp_path) as run:
        record = read_record(run.folder)
        assert set(record) == PROMISED
        assert (record["status"], record["metrics"]) == ("running", {})


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
        "import sys; from rapid_inr.tracking import Run\n"
        f"with Run({str(tmp_path)!r}, verb='x', config={{}}, config_yaml='', command='', track='off') as run: run.log(a=1)\n"
        "sys.exit('wandb' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])


def test_wandb_is_told_what_the_folder_holds(tmp_path, fake_wandb):
    fake = fake_wandb()
    with open_run(tmp_path / "folder", track="offline") as run:
        run.log(epoch=0, loss=1.5)
        run.picture("sheet.png").write_bytes(b"png")
        run.picture("never_drawn.png")
        run.metrics["images"] = 4
    init, log, pictures, finish = fake.calls
    assert (init[2]["mode"], init[2]["name"], init[2]["job_type"]) == ("offline", "folder", "encode")
    assert init[2]["config"] == {"seed": 7, "fit": {"steps": 3}}
    assert Path(init[2]["dir"]) == tmp_path / "folder"
    assert log[1] == ({"epoch": 0, "loss": 1.5},)
    assert pictures[1] == ({"sheet": "image sheet.png"},)
    assert fake.summary == {"images": 4}
    assert finish[2] == {"exit_code": 0}


def test_wandb_hears_of_a_failure(tmp_path, fake_wandb):
    fake = fake_wandb()
    with pytest.raises(ValueError, match="no luck"), open_run(tmp_path, track="online"):
        raise ValueError("no luck")
    assert fake.calls[-1] == ("finish", (), {"exit_code": 1})


@pytest.mark.parametrize("breaks", ["init", "log", "finish"])
def test_a_broken_wandb_never_fails_a_run(tmp_path, fake_wandb, capsys, breaks):
    fake = fake_wandb(breaks)
    with open_run(tmp_path, track="offline") as run:
        run.log(epoch=0)
        run.log(epoch=1)
    assert read_record(tmp_path)["status"] == "finished"
    assert read_lines(tmp_path) == [{"epoch": 0}, {"epoch": 1}]
    said = capsys.readouterr().err
    assert said.count(f"warning [wandb]: RuntimeError: {breaks} is out of order; the run goes on without it") == 1
    assert [name for name, _, _ in fake.calls].count(breaks) == 1  # after which nobody asks again


def test_a_wandb_that_is_not_installed_never_fails_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with open_run(tmp_path, track="online") as run:
        run.log(epoch=0)
    assert read_record(tmp_path)["status"] == "finished"
    assert "warning [wandb]" in capsys.readouterr().err


def test_warnings_of_wandb_are_not_ours(tmp_path, fake_wandb):
    fake = fake_wandb()
    fake.run.log = lambda values: warnings.warn("old", DeprecationWarning, stacklevel=1)
    with open_run(tmp_path, track="offline") as run, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.log(epoch=0)
    assert caught == []


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_wandb_offline_writes_its_file_into_the_folder(tmp_path, monkeypatch, capsys):
    for variable in ("WANDB_MODE", "WANDB_DIR", "WANDB_API_KEY", "WANDB_DISABLED"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    with open_run(tmp_path / "run", track="offline") as run:
        run.log(epoch=0, loss=1.5)
        run.metrics["images"] = 4
    assert "warning [wandb]" not in capsys.readouterr().err
    files = list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 0


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout whose ``rapid_inr/tracking.py`` is the module under test."""
    module = tmp_path / "rapid_inr" / "tracking.py"
    module.parent.mkdir()
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


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state() == {"commit": None, "dirty": None}


def test_versions_and_machine_are_known():
    assert {"python", "torch", "numpy", "pillow"} <= set(versions())
    assert machine()["cpu"]
    assert machine()["cpu_cores"] >= 1
