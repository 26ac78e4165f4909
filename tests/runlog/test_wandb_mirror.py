import json
import os
import sys
import types
import warnings
from pathlib import Path

import pytest

from rapid_inr.runlog.run import Run
from rapid_inr.runlog.wandb_mirror import columns, tags

CONFIG = {"seed": 7, "dataset": {"name": "cifar10"}, "inr": {"depth": 3, "hidden": 16, "omega": None}}


def open_run(folder: Path, *, track: str = "offline", verb: str = "encode", config: dict = CONFIG, **options) -> Run:
    texts = {"config_yaml": "seed: 7\n", "command": "python -m experiments.encode seed=7"}
    return Run(folder, verb=verb, config=config, track=track, **texts, **options)


def read_record(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


class FakeArtifact:
    def __init__(self, name: str, *, type: str, metadata: dict) -> None:
        self.name, self.type, self.metadata, self.references = name, type, metadata, []

    def add_reference(self, uri: str) -> None:
        self.references.append(uri)


class FakeWandb(types.ModuleType):
    """A wandb that notes what it is told, and raises in the call named `breaks`."""

    def __init__(self, breaks: str | None = None) -> None:
        super().__init__("wandb")
        self.breaks, self.calls, self.summary = breaks, [], {}
        told = {name: self._noting(name) for name in ("log", "finish", "define_metric", "log_artifact")}
        self.run = types.SimpleNamespace(summary=self.summary, **told)
        self.Settings, self.Image = dict, lambda path: f"image {Path(path).name}"
        self.Histogram, self.Artifact = lambda values: f"histogram of {values}", FakeArtifact

    def _noting(self, name: str):
        def call(*args, **kwargs) -> None:
            self.calls.append((name, args, kwargs))
            if name == self.breaks:
                raise RuntimeError(f"{name} is out of order")

        return call

    def init(self, **kwargs):
        self._noting("init")(**kwargs)
        return self.run

    def of(self, name: str) -> list:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


@pytest.fixture
def fake_wandb(monkeypatch):
    def install(breaks: str | None = None) -> FakeWandb:
        fake = FakeWandb(breaks)
        monkeypatch.setitem(sys.modules, "wandb", fake)
        return fake

    return install


def test_wandb_is_told_what_the_folder_holds(tmp_path, fake_wandb):
    fake = fake_wandb()
    with open_run(tmp_path / "folder") as run:
        run.log(epoch=0, loss=1.5)
        run.picture("sheet.png").write_bytes(b"png")
        run.picture("never_drawn.png")
        (run.folder / "images.csv").write_text("image,psnr_db,fit_psnr_db,prune_ratio\na.png,30.5,31,0\nb.png,28.0,31,0\n")
        run.metrics |= {"images": 4, "psnr_db": 29.25}
    (_, begun), *_ = fake.of("init")
    assert (begun["mode"], begun["name"], begun["job_type"], begun["group"]) == ("offline", "folder", "encode", None)
    assert begun["tags"] == ["encode", "cifar10", "inr:3x16"]
    assert Path(begun["dir"]) == tmp_path / "folder"
    assert begun["config"].items() >= CONFIG.items()
    line, media = fake.of("log")
    assert line == (({"epoch": 0, "loss": 1.5},), {})
    assert media == (({"sheet": "image sheet.png", "images/psnr_db": "histogram of [30.5, 28.0]"},), {})
    assert fake.summary == {"images": 4, "psnr_db": 29.25, "units": {"psnr_db": "dB"}}
    assert fake.of("finish") == [((), {"exit_code": 0})]


def test_what_came_before_a_kill_is_in_the_file_of_wandb(tmp_path, fake_wandb):
    fake = fake_wandb()
    with open_run(tmp_path / "folder"):
        pass
    ((_, values),) = fake.of("init")
    assert 0 < values["settings"]["x_transaction_log_flush_interval"] <= 5  # seconds; the library knows this setting, see below


def test_wandb_knows_where_a_run_comes_from_as_its_record_does(tmp_path, fake_wandb):
    fake = fake_wandb()
    with open_run(tmp_path):
        pass
    origin, record = fake.of("init")[0][1]["config"]["origin"], read_record(tmp_path)
    assert origin == {key: record[key] for key in origin}
    assert {"verb", "command", "commit", "dirty", "code", "versions", "machine", "started"} <= set(origin)


def test_metrics_with_epochs_are_drawn_over_these_and_others_are_not(tmp_path, fake_wandb):
    fake = fake_wandb()
    with open_run(tmp_path / "a") as run:
        run.log(size="3x16", images_per_s=5.0)
    assert fake.of("define_metric") == []
    with open_run(tmp_path / "b") as run:
        run.log(epoch=0, loss=1.5)
        run.log(epoch=1, loss=1.0)
    assert fake.of("define_metric") == [(("*",), {"step_metric": "epoch"})]


def test_a_job_of_a_multirun_is_grouped_with_the_others(tmp_path, fake_wandb):
    fake = fake_wandb()
    with open_run(tmp_path, group="20260101-120000"):
        pass
    assert fake.of("init")[0][1]["group"] == "20260101-120000"


def test_tags_name_what_a_run_is_of_and_fit_into_wandb():
    config = {"dataset": {"name": "x" * 80}, "pipeline": {"name": "inr"}, "codec": None, "inr": None}
    assert tags("train", config) == ["train", "x" * 64, "pipeline:inr"]


def test_a_store_that_was_written_is_an_artifact_by_reference(tmp_path, fake_wandb):
    fake, out = fake_wandb(), tmp_path / "photos.inr"
    with open_run(tmp_path / "run", config=CONFIG | {"out": str(out)}) as run:
        out.write_bytes(b"store")
        run.metrics |= {"psnr_db": 30.0, "points": [1, 2]}
    (((artifact,), _),) = fake.of("log_artifact")
    assert (artifact.name, artifact.type, artifact.references) == ("photos", "store", [out.as_uri()])
    assert artifact.metadata == {"psnr_db": 30.0}


@pytest.mark.parametrize("case", ["of a run before", "not written", "failed", "not a store"])
def test_nothing_else_is_an_artifact(tmp_path, fake_wandb, case):
    fake, out = fake_wandb(), tmp_path / "photos.inr"
    if case == "of a run before":
        out.write_bytes(b"store")
        os.utime(out, (0, 0))
    verb = "decode" if case == "not a store" else "encode"
    try:
        with open_run(tmp_path / "run", verb=verb, config=CONFIG | {"out": str(out)}):
            if case in ("failed", "not a store"):
                out.write_bytes(b"store")
            if case == "failed":
                raise ValueError("no luck")
    except ValueError:
        pass
    assert fake.of("log_artifact") == []
    assert fake.calls[-1][0] == "finish"


def test_a_column_of_equal_values_is_no_histogram(tmp_path):
    path = tmp_path / "images.csv"
    assert columns(path) == {}
    path.write_text("image,psnr_db,prune_ratio\na,30,0.1\nb,30,0.2\n")
    assert columns(path) == {"prune_ratio": [0.1, 0.2]}


def test_wandb_hears_of_a_failure(tmp_path, fake_wandb):
    fake = fake_wandb()
    with pytest.raises(ValueError, match="no luck"), open_run(tmp_path, track="online"):
        raise ValueError("no luck")
    assert fake.calls[-1] == ("finish", (), {"exit_code": 1})


@pytest.mark.parametrize("breaks", ["init", "define_metric", "log", "finish"])
def test_a_broken_wandb_never_fails_a_run(tmp_path, fake_wandb, capsys, breaks):
    fake = fake_wandb(breaks)
    with open_run(tmp_path) as run:
        run.log(epoch=0)
        run.log(epoch=1)
    record = read_record(tmp_path)
    assert record["status"] == "finished"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    said = capsys.readouterr().err
    assert said.count(f"warning [wandb]: RuntimeError: {breaks} is out of order; the run continues without W&B") == 1
    assert len(fake.of(breaks)) == 1  # after which nobody asks again


def test_a_wandb_that_is_not_installed_never_fails_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with open_run(tmp_path, track="online") as run:
        run.log(epoch=0)
    assert read_record(tmp_path)["status"] == "finished"
    assert "warning [wandb]" in capsys.readouterr().err


def test_warnings_of_wandb_are_not_ours(tmp_path, fake_wandb):
    fake = fake_wandb()
    fake.run.log = lambda values: warnings.warn("old", DeprecationWarning, stacklevel=1)
    with open_run(tmp_path) as run, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.log(epoch=0)
    assert caught == []


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_wandb_offline_writes_its_file_into_the_folder(tmp_path, wandb_at_home, capsys):
    out = tmp_path / "photos.inr"
    with open_run(tmp_path / "run", config=CONFIG | {"out": str(out)}) as run:
        run.log(epoch=0, loss=1.5)
        run.metrics["images"] = 4
        (run.folder / "images.csv").write_text("image,psnr_db\na.png,30.5\nb.png,28.0\n")
        out.write_bytes(b"store")
    wandb_at_home.teardown()
    assert "warning [wandb]" not in capsys.readouterr().err
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert out.as_uri().encode() in file.read_bytes()  # by reference
