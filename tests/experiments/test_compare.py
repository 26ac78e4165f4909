"""Comparing logged runs from the command line."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from experiments.compare import as_texts
from rapid_inr.runlog.liveness import this_process
from tests.logged import write_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path):
    """Two pipelines of three and two seeds, and a run that failed, below ``runs``."""
    for pipeline, tops in {"inr": [50.0, 51.0, 53.0], "resident": [54.0, 55.0]}.items():
        for seed, top1 in enumerate(tops):
            config = {
                "seed": seed,
                "run_dir": f"runs/{pipeline}-{seed}",
                "pipeline": {"name": pipeline},
                "optimizer": {"epochs": 6},
            }
            lines = [{"arm": pipeline, "epoch": epoch, "loss": 2.0 - epoch, "top1_pct": top1 - 1 + epoch} for epoch in range(2)]
            write_run(tmp_path / "runs" / f"{pipeline}-{seed}", config=config, metrics={"top1_pct": top1}, lines=lines)
    config = {"seed": 9, "pipeline": {"name": "inr"}, "optimizer": {"epochs": 200}}
    write_run(tmp_path / "runs" / "lost", config=config, metrics={}, status="failed", error="OSError: no space")
    return tmp_path / "runs"


@pytest.fixture
def compare(command):
    """Run the command with arguments as they are typed."""
    return lambda *typed: command("compare", *as_texts(typed))


def test_seeds_are_averaged_and_only_what_differs_is_shown(compare, study):
    code, out, err = compare()
    assert code == 0
    assert out.splitlines() == [
        "pipeline  epochs  n  status        top1_pct",
        "────────  ──────  ─  ────────  ────────────",
        "inr            6  3  finished  51.33 ± 1.53",
        "inr          200  0  failed               —",
        "resident       6  2  finished  54.50 ± 0.71",
    ]
    assert "warning [not_finished]: lost: failed, OSError: no space" in err


def test_rows_are_filtered_sorted_and_held_against_a_baseline(compare, study):
    code, out, _ = compare("where=status=finished,epochs<=6", "baseline=resident", "sort=-top1_pct")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["resident", "inr"]
    assert out.splitlines()[3].endswith("-3.17 x0.942 p=0.055")


def test_every_run_has_a_row_if_asked(compare, study):
    _, out, _ = compare("where=pipeline=inr,status=finished", "group_by=run")
    assert out.splitlines()[0].split() == ["seed", "run", "status", "top1_pct"]
    assert [line.split()[:2] for line in out.splitlines()[2:]] == [["0", "inr-0"], ["1", "inr-1"], ["2", "inr-2"]]


def test_rows_may_be_told_by_chosen_keys_and_what_they_mix_is_said(compare, study):
    config = {"seed": 0, "pipeline": {"name": "inr"}, "optimizer": {"epochs": 9}}
    write_run(study / "longer", config=config, metrics={"top1_pct": 60.0})
    _, out, err = compare("where=status=finished", "group_by=pipeline", "metric=all")
    assert out.splitlines()[0].split() == ["pipeline", "n", "status", "top1_pct"]
    assert [line.split()[:2] for line in out.splitlines()[2:]] == [["inr", "4"], ["resident", "2"]]
    assert "warning [averaged_over]: rows of train average runs that differ in optimizer.epochs" in err
    _, _, err = compare("where=status=finished", "group_by=pipeline,epochs")
    assert err == ""


@pytest.mark.parametrize(("style", "start"), [("md", "| pipeline |"), ("latex", r"\begin{tabular}"), ("csv", "pipeline,runs,")])
def test_a_table_is_written_in_other_forms(compare, study, style, start):
    code, out, _ = compare("where=epochs=6", f"format={style}", "baseline=resident")
    assert code == 0
    assert out.startswith(start)


def test_json_is_a_list_with_an_entry_a_command(compare, study):
    write_run(study / "enc", verb="encode", config={"seed": 0}, metrics={"psnr_db": 30.0})
    _, out, _ = compare("format=json")
    assert [table["verb"] for table in json.loads(out)] == ["encode", "train"]
    _, out, _ = compare("format=md")
    assert [line for line in out.splitlines() if line.startswith("## ")] == ["## encode", "## train"]


def test_curves_are_drawn_over_each_other(compare, study):
    pytest.importorskip("matplotlib")
    code, _, err = compare("where=epochs=6", "plot=c.png", "metric=top1_pct")
    assert code == 0
    assert "curves in c.png" in err
    with Image.open(study.parent / "c.png") as picture:
        assert picture.size[0] > 600


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["root=nowhere"], "no folder of runs at nowhere"),
        (["where=pipeline=dali"], "none of 6 runs fulfils where=pipeline=dali"),
        (["where=pipelin=inr"], "no run has pipelin; did you mean pipeline"),
        (["metric=psnr_db"], "no finished run of verb=train has metric=psnr_db; there are top1_pct"),
        (["group_by=nothing"], "no run has nothing"),
        (["sort=nothing"], "no run has nothing"),
        (["baseline=dali"], "baseline=dali is no row of this table"),
        (["format=html"], "format is 'html', expected one of table, md, csv, latex, json"),
        (["any_code=maybe"], "any_code is 'maybe', expected true or false"),
        (["metric=a,,b"], "metric is 'a,,b', expected names with commas between them"),
        (["plot=c.png", "metric=top1_pct", "where=status=failed"], "no finished run of verb=train has metric=top1_pct"),
        (["root=wandb:me"], "expected wandb:ENTITY/PROJECT or wandb:FOLDER"),
    ],
)
def test_an_error_of_use_is_one_line(compare, study, overrides, message):
    code, out, err = compare(*overrides)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_an_empty_folder_has_no_runs(compare, tmp_path):
    (tmp_path / "runs").mkdir()
    code, _, err = compare()
    assert (code, err) == (2, "error: no run to read in root=runs\n")


@pytest.mark.parametrize("overrides", [["format=csv"], ["plot=c.png"], ["baseline=a"]])
def test_what_is_of_one_command_asks_which(compare, study, overrides):
    write_run(study / "enc", verb="encode", config={"seed": 0}, metrics={"psnr_db": 30.0})
    code, _, err = compare(*overrides)
    assert code == 2
    assert "these runs are of encode, train; where=verb=encode takes those of one command" in err


def test_runs_of_different_code_are_averaged_only_if_told(compare, study):
    write_run(
        study / "newer",
        config={"seed": 7, "pipeline": {"name": "inr"}, "optimizer": {"epochs": 6}},
        metrics={"top1_pct": 1.0},
        code="ne3",
    )
    code, _, err = compare("where=epochs=6")
    assert code == 2
    assert "4 runs (pipeline=inr) are of 2 versions of the code, c0de, ne3: where=code=... takes one" in err
    code, out, err = compare("where=epochs=6", "any_code=true")
    assert code == 0
    assert "inr       4" in out
    assert "warning [different_code]: the train runs are of 2 versions of the code" in err


def test_what_cannot_be_held_against_each_other_is_said(compare, study):
    for name in ("old", "older"):
        folder = write_run(study / name, config={"seed": 5, "pipeline": {"name": name}}, metrics={"top1_pct": 1.0}, code=None)
        record = json.loads((folder / "record.json").read_text()) | {"machine": {"cpu": name}, "commit": "abc", "dirty": True}
        (folder / "record.json").write_text(json.dumps(record))
    (study / "torn").mkdir()
    (study / "torn" / "record.json").write_text("{")
    code, _, err = compare()
    assert code == 0
    assert "warning [unreadable]: torn: " in err
    assert "warning [unknown_code]: 2 of 7 train runs do not say of which code they are" in err
    assert "warning [different_machines]: the train runs are of 2 machines" in err


def test_a_run_that_was_killed_is_dead(compare, study):
    write_run(study / "killed", config={"seed": 0}, metrics={}, status="running", process=this_process() | {"pid": 0, "start": 1})
    _, out, err = compare("where=run=killed")
    assert out.splitlines()[-1].split() == ["killed", "dead"]
    assert "warning [not_finished]: killed: dead, its process is gone" in err


def test_warnings_do_not_flood(compare, study):
    for i in range(9):
        write_run(study / f"lost{i}", config={"seed": i}, metrics={}, status="failed")
    _, _, err = compare()
    assert err.count("warning [not_finished]") == 6
    assert "warning [not_finished]: and 5 more" in err


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("where=inr.depth=3,optimizer.epochs>=10", "where='inr.depth=3,optimizer.epochs>=10'"),
        ("metric=psnr_db,bpp", "metric='psnr_db,bpp'"),
        ("metric=[psnr_db,bpp]", "metric=[psnr_db,bpp]"),
        ("where='a=b'", "where='a=b'"),
        ("baseline=8", "baseline='8'"),
        ("where=run=it's", r"where='run=it\'s'"),
        ("where=null", "where=null"),
        ("root=wandb:me/project", "root='wandb:me/project'"),
        ("any_code=true", "any_code=true"),
        ("hydra.verbose=true", "hydra.verbose=true"),
        ("--help", "--help"),
    ],
)
def test_texts_are_given_to_hydra_in_quotes(typed, given):
    assert as_texts([typed]) == [given]


def test_the_command_takes_conditions_as_they_are_typed(study):
    arguments = ["where=optimizer.epochs>=6,pipeline!=resident,status=finished", "metric=top1_pct,top1_pct", "format=csv"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.compare", *arguments],
        cwd=study.parent, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["top1_pct"]) == 154 / 3


def test_the_page_shows_what_the_command_prints(compare, monkeypatch):
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    command, table = re.search(
        r"    python -m experiments.compare (root=results .*)\n\n```\n(.*?)\n```", page, re.DOTALL
    ).groups()
    monkeypatch.chdir(ROOT)
    code, out, _ = compare(*shlex.split(command))
    assert code == 0
    assert out.rstrip("\n") == table
