import sys
import types

import pytest

from experiments.reporting.wandb_runs import read_wandb
from rapid_inr.errors import UserError

ORIGIN = {"verb": "train", "commit": "abc", "dirty": False, "code": "c0de", "machine": {"cpu": "a CPU", "cpu_cores": 2}}


def online(**more):
    summary = {"top1_pct": 50.0, "units": {"top1_pct": "%"}, "sheet": {"_type": "image-file"}, "_runtime": 12}
    facts = {"name": "a", "state": "finished", "job_type": "train", "created_at": "2026-01-01", "commit": None}
    config = {"seed": 3, "inr": {"depth": 3, "hidden": 16}, "labels": {"codec": "SIREN"}, "origin": ORIGIN, "_wandb": {}}
    return types.SimpleNamespace(**(facts | {"summary": summary, "config": config} | more))


@pytest.fixture
def server(monkeypatch):
    """A stand-in for the server, with runs in its projects; an unknown project is an error."""

    def serve(**projects):
        class Error(Exception):
            pass

        class Api:
            def __init__(self, timeout):
                pass

            def runs(self, path, per_page):
                if path not in projects:
                    raise Error("Could not find project.")
                return projects[path]

        fake = types.ModuleType("wandb")
        fake.Api, fake.Error = Api, Error
        monkeypatch.setitem(sys.modules, "wandb", fake)

    return serve


def test_runs_of_a_project_are_those_that_were_mirrored(server):
    server(**{"me/rapid-inr": [online(), online(name="b", state="crashed"), online(name="c", state="killed")]})
    runs = read_wandb("wandb:me/rapid-inr").set_index("run")
    assert runs.status.to_dict() == {"a": "finished", "b": "crashed", "c": "interrupted"}
    row = runs.loc["a"]
    assert (row.verb, row.top1_pct, row.code, row.machine, row.codec) == ("train", 50.0, "c0de", "2 cores, a CPU", "SIREN")
    assert (row["cfg.inr"], row["cfg.inr.depth"]) == ("3x16", 3)
    assert not {"units", "sheet", "_runtime"} & set(runs)


def test_runs_of_others_are_read_too_and_say_nothing_of_their_code(server):
    server(**{"me/p": [online(config={"lr": 0.1}, job_type=None)]})
    (row,) = read_wandb("wandb:me/p").to_dict("records")
    assert (row["verb"], row["cfg.lr"], row["code"]) == ("run", 0.1, None)


def test_what_cannot_be_read_is_told_in_one_line(server, monkeypatch):
    server(**{"me/empty": []})
    for root, message in (
        ("wandb:me/p", r"W&B has not given the runs of me/p: Could not find project$"), ("wandb:me/empty", "has no runs"),
        ("wandb:", "expected wandb:ENTITY/PROJECT"), ("wandb:a/b/c", "expected wandb:ENTITY/PROJECT"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            read_wandb(root)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="needs W&B: pip install wandb"):
        read_wandb("wandb:me/p")
