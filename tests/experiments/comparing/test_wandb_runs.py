import subprocess
import sys
import types

import pytest

from experiments.reporting.comparing import wandb_runs
from experiments.reporting.comparing.wandb_runs import has_leet, is_wandb, read_wandb
from rapid_inr.runlog.run import Run

ORIGIN = {
    "verb": "train",
    "commit": "abc",
    "dirty": False,
    "code": "c0de",
    "machine": {"cpu": "a CPU"},
    "versions": {"torch": "2.11"},
}


class FakeRun(types.SimpleNamespace):
    def scan_history(self):
        return iter([{"epoch": 0, "loss": 1.5, "_step": 0, "_runtime": 3.0}])


def online(**more) -> FakeRun:
    summary = {"top1_pct": 50.0, "units": {"top1_pct": "%"}, "sheet": {"_type": "image-file"}, "_runtime": 12}
    facts = {"name": "a", "state": "finished", "job_type": "train", "created_at": "2026-01-01", "commit": None}
    config = {"seed": 3, "inr": {"depth": 3, "hidden": 16}, "origin": ORIGIN, "_wandb": {}}
    return FakeRun(**(facts | {"summary": summary, "config": config} | more))


@pytest.fixture
def server(monkeypatch):
    """A server with runs in its projects; an unknown project is an error."""

    def serve(**projects):
        class Error(Exception):
            pass

        class Api:
            def __init__(self, timeout):
                pass

            def runs(self, path, per_page):
                if path not in projects:
                    raise Error("Could not find project")
                return projects[path]

        fake = types.ModuleType("wandb")
        fake.Api, fake.Error = Api, Error
        monkeypatch.setitem(sys.modules, "wandb", fake)

    return serve


def test_runs_of_a_project_are_those_that_were_mirrored(server):
    server(**{"me/rapid-inr": [online(), online(name="b", state="crashed")]})
    (a, b), unread = read_wandb("wandb:me/rapid-inr")
    assert (a.run, a.verb, a.status, b.status, unread) == ("a", "train", "finished", "dead", [])
    assert a.settings == {"seed": 3, "inr.depth": 3, "inr.hidden": 16, "inr": "3x16"}
    assert a.metrics == {"top1_pct": 50.0}
    assert (a.code, a.facts["machine"], a.facts["versions.torch"]) == ("c0de", "a CPU", "2.11")
    assert a.lines() == [{"epoch": 0, "loss": 1.5}]


def test_runs_of_others_are_read_too_and_say_nothing_of_their_code(server):
    server(**{"me/p": [online(config={"lr": 0.1}, job_type=None)]})
    ((run,), _) = read_wandb("wandb:me/p")
    assert (run.verb, run.settings, run.code) == ("run", {"lr": 0.1}, None)


def test_a_server_that_says_no_is_told_in_one_line(server):
    server()
    with pytest.raises(OSError, match=r"W&B has not given the runs of me/p: Could not find project$"):
        read_wandb("wandb:me/p")


@pytest.mark.parametrize("root", ["wandb:", "wandb:project", "wandb:a/b/c", "wandb:/b"])
def test_what_is_neither_a_project_nor_a_folder_is_refused(root):
    assert is_wandb(root)
    with pytest.raises(ValueError, match="expected wandb:ENTITY/PROJECT or wandb:FOLDER"):
        read_wandb(root)


def test_a_folder_of_runs_is_not_wandbs():
    assert not is_wandb("runs")


def test_without_leet_offline_runs_are_refused_with_a_way_out(tmp_path, monkeypatch):
    assert read_wandb(f"wandb:{tmp_path}") == ([], [])
    (tmp_path / "run-x.wandb").write_bytes(b"")
    monkeypatch.setattr(wandb_runs, "_wandb", lambda *arguments: subprocess.CompletedProcess(arguments, 2, "", "No such command"))
    with pytest.raises(OSError, match=r"need `wandb leet inspect`: pip install --upgrade wandb"):
        read_wandb(f"wandb:{tmp_path}")


@pytest.mark.skipif(not has_leet(), reason="this wandb cannot inspect offline runs")
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_an_offline_run_is_read_back_as_it_was_mirrored(tmp_path, wandb_at_home):
    config = {"seed": 3, "inr": {"depth": 3, "hidden": 16}, "store": None}
    with Run(tmp_path / "r" / "one", verb="train", config=config, config_yaml="", command="c", track="offline") as run:
        run.log(epoch=0, loss=1.5)
        run.log(epoch=1, loss=0.5)
        run.metrics |= {"top1_pct": 50.0, "points": [1, 2]}
    wandb_at_home.teardown()
    (tmp_path / "r" / "torn.wandb").write_bytes(b"nothing")
    runs, unread = read_wandb(f"wandb:{tmp_path / 'r'}")
    (found,) = [run for run in runs if run.run == "one"]
    assert (found.verb, found.status) == ("train", "finished")
    assert found.settings == {"seed": 3, "inr.depth": 3, "inr.hidden": 16, "inr": "3x16", "store": None}
    assert (found.metrics["top1_pct"], found.metrics["points"]) == (50.0, [1, 2])
    assert found.code is not None
    assert found.lines() == [{"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": 0.5}]
    assert len(runs) + len(unread) == 2
