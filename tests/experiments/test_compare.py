"""Comparing logged runs from the command line."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from experiments.compare import as_text
from experiments.reporting.runs import read_runs
from experiments.setup.build import plain
from experiments.setup.groups import OF_INRS, OF_SIRENS, unread_groups
from rapid_inr.runlog.liveness import this_process
from tests.experiments.commands import composed
from tests.experiments.reporting.written import write_run

ROOT = Path(__file__).parents[2]
TOPS = {"inr": [50.0, 51.0, 53.0], "resident": [54.0, 55.0]}


@pytest.fixture
def study(tmp_path):
    """Two pipelines of three and two seeds, and a run that failed, below ``runs``."""
    for pipeline, tops in TOPS.items():
        for seed, top1 in enumerate(tops):
            config = {"seed": seed, "run_dir": f"r{seed}", "pipeline": {"name": pipeline}, "optimizer": {"epochs": 6}}
            lines = [{"epoch": epoch, "loss": 2.0 - epoch, "top1_pct": top1 - 1 + epoch} for epoch in range(2)]
            write_run(tmp_path / "runs" / f"{pipeline}-{seed}", config=config, seed=seed, metrics={"top1_pct": top1}, lines=lines)
    config = {"seed": 9, "pipeline": {"name": "inr"}, "optimizer": {"epochs": 200}}
    write_run(tmp_path / "runs" / "lost", config=config, status="failed", error="OSError: no space")
    return tmp_path / "runs"


@pytest.fixture
def compare(command):
    """Run the command with arguments as they are typed."""
    return lambda *typed: command("compare", *map(as_text, typed))


def rows(out):
    return [line.split() for line in out.splitlines()]


def test_seeds_are_averaged_and_only_what_differs_is_shown(compare, study):
    code, out, err = compare()
    assert code == 0
    assert rows(out) == [
        ["pipeline", "optimizer.epochs", "n", "status", "top1_pct"],
        ["inr", "6", "3", "finished", "51.33", "±", "1.53"],
        ["inr", "200", "0", "failed", "—"],
        ["resident", "6", "2", "finished", "54.50", "±", "0.71"],
    ]
    assert err == "warning [not_finished]: lost: failed, OSError: no space\n"


@pytest.mark.parametrize(("epochs", "told"), [(200, 0), (300, 1)])
def test_a_run_that_failed_is_named_unless_it_was_repeated(compare, command, tmp_path, epochs, told):
    config = {"experiment_name": "mine", "preset": "cpu", "optimizer": {"epochs": 200}}
    write_run(tmp_path / "runs" / "lost", config=config, status="failed")
    again = config | {"run_dir": "again", "optimizer": {"epochs": epochs}}
    write_run(tmp_path / "runs" / "again", config=again, metrics={"top1_pct": 50.0})
    assert compare()[2].count("lost: failed") == command("tables", "root=runs", "name=mine")[1].count("lost: failed") == told


def test_what_a_training_does_not_read_is_no_difference(compare, command, tmp_path):
    images = ("dataset=shapes", "dataset.size=12", "dataset.count=8", "dataset.test_count=8")
    train = ("train", *images, "test_on_decoded=true", "debug=smoke", "track=off")
    assert command(*train, "pipeline=inr", "inr=2x8", "fit.steps=9", "run_dir=runs/inr")[0] == 0
    assert command(*train, "export.quality=10", "run_dir=runs/raw")[0] == 0
    assert rows(compare("metric=loss")[1])[0] == ["pipeline", "loss"]
    raw = read_runs(tmp_path / "runs").set_index("run").loc["raw"]
    assert raw[[name for name in raw.index if name.split(".")[1:2] in (["inr"], ["fit"], ["export"])]].isna().all()


@pytest.mark.parametrize(
    ("pipelines", "unread"), [("[resident]", (*OF_INRS, "export")), ("[inr,ram]", ("export",)), ("[inr,dataloader]", ())]
)
def test_a_benchmark_reads_what_its_pipelines_read(pipelines, unread):
    asked = ("run_dir=run", "folder=runs", f"pipelines={pipelines}")
    assert unread_groups(plain(composed("benchmark", *asked, "suite=pipelines"))) == unread
    assert unread_groups(plain(composed("benchmark", *asked))) == ()


def test_a_cosine_series_reads_no_setting_of_sirens():
    encode = ("encode", "dataset=shapes", "run_dir=run", "folder=runs", "out=store.inr")
    assert unread_groups(plain(composed(*encode, "inr=cosine", "inr.bytes=154"))) == OF_SIRENS
    assert unread_groups(plain(composed(*encode, "inr=3x16"))) == ()


def test_values_that_differ_in_their_last_digits_alone_are_compared_without_a_warning(compare, tmp_path):
    for pipeline, top in {"resident": 50.0, "inr": 51.0}.items():
        for seed in range(3):
            config, metrics = {"seed": seed, "pipeline": {"name": pipeline}}, {"top1_pct": top + 1e-14 * (seed == 0)}
            write_run(tmp_path / "runs" / f"{pipeline}-{seed}", config=config, seed=seed, metrics=metrics)
    assert "+1.00 x1.02 p<0.001" in compare("baseline=resident")[1]


def test_a_row_for_each_run_names_the_run_however_many_keys_differ(compare, tmp_path):
    for at in range(2):
        config = {"seed": 0, "fit": {f"key{key}": at for key in range(9)}}
        write_run(tmp_path / "runs" / f"r{at}", config=config, metrics={"top1_pct": 50.0})
    assert "| r1 |" in compare("group_by=run", "format=md")[1]


def test_differences_from_a_baseline_are_those_of_scipy(compare, study):
    stats = pytest.importorskip("scipy.stats")
    _, out, _ = compare("where=epochs <= 6", "baseline=resident", "format=json")
    inr, resident = json.loads(out)
    expected = stats.ttest_ind(TOPS["inr"], TOPS["resident"], equal_var=False).pvalue
    assert inr["Δ top1_pct"] == pytest.approx(154 / 3 - 54.5)
    assert inr["Δ top1_pct (ratio)"] == pytest.approx(154 / 3 / 54.5)
    assert inr["Δ top1_pct (p)"] == pytest.approx(expected)
    assert resident["Δ top1_pct"] == "baseline"
    _, out, _ = compare("where=epochs <= 6", "baseline=resident", "sort=-top1_pct")
    assert [row[0] for row in rows(out)[1:3]] == ["resident", "inr"]
    assert out.splitlines()[2].endswith("-3.17 x0.942 p=0.055")
    assert out.splitlines()[4].startswith("Δ: difference from the baseline, ratio to it (x), and p")
    assert compare("where=epochs <= 6", "baseline=pipeline == 'resident'", "sort=-top1_pct")[1] == out
    assert compare("where=epochs <= 6", "baseline=resident-0", "sort=-top1_pct")[1] == out


def test_of_several_baselines_each_row_has_the_one_that_it_agrees_with(compare, tmp_path):
    for i, (bits, shape) in enumerate((b, s) for b in (8, 5) for s in (12, 16)):
        config = {"quantize": {"bits": bits}, "inr": {"depth": 3, "hidden": shape}}
        write_run(tmp_path / "runs" / str(i), verb="encode", config=config, metrics={"psnr_db": 10.0 * bits + shape})
    _, out, _ = compare("baseline=8", "format=csv")
    table = {(row["inr"], row["quantize.bits"]): row["Δ psnr_db"] for row in csv.DictReader(io.StringIO(out))}
    assert table == {("3x12", "5"): "-30.0", ("3x12", "8"): "baseline", ("3x16", "5"): "-30.0", ("3x16", "8"): "baseline"}


def test_of_several_baselines_that_no_other_row_agrees_with_one_is_to_be_named(compare, tmp_path):
    for net in ("raw", "3x12", "3x16"):
        labels = {"labels": {"codec": "raw"}} if net == "raw" else {"labels": {"codec": "SIREN", "variant": net}}
        write_run(tmp_path / "runs" / net, config=labels, metrics={"top1_pct": 50.0})
    code, _, err = compare("group_by=codec,variant", "baseline=SIREN")
    told = "error: baseline=SIREN fits 2 rows (variant=3x12; variant=3x16), and no other row agrees with any; name one"
    assert (code, err.splitlines()[-1]) == (2, told)
    assert rows(compare("group_by=codec,variant", "baseline=3x12")[1])[1][-2:] == ["50.00", "baseline"]


def test_a_baseline_may_be_a_label(compare, tmp_path):
    for net, bits in {"mine": 6, "3x12-5bit": 5}.items():
        config = {"labels": {"codec": "SIREN", "variant": net}, "quantize": {"bits": bits}}
        write_run(tmp_path / "runs" / str(bits), config=config, metrics={"top1_pct": 10.0 * bits})
    _, out, _ = compare("baseline=mine", "format=csv")
    assert [row["Δ top1_pct"] for row in csv.DictReader(io.StringIO(out))] == ["-10.0", "baseline"]


def test_every_run_has_a_row_if_asked(compare, study):
    _, out, _ = compare("where=pipeline == 'inr' and status == 'finished'", "group_by=run")
    assert rows(out)[0] == ["run", "seed", "top1_pct"]
    assert [row[:2] for row in rows(out)[1:]] == [["inr-0", "0"], ["inr-1", "1"], ["inr-2", "2"]]


def test_rows_may_be_told_by_chosen_keys_and_what_they_mix_is_said(compare, study):
    write_run(study / "longer", config={"pipeline": {"name": "inr"}, "optimizer": {"epochs": 9}}, metrics={"top1_pct": 60.0})
    _, out, err = compare("where=status == 'finished'", "group_by=pipeline", "metric=all")
    assert [row[:2] for row in rows(out)] == [["pipeline", "n"], ["inr", "4"], ["resident", "2"]]
    assert err == "warning [averaged_over]: rows of train average runs that differ in optimizer.epochs\n"
    assert compare("where=status == 'finished'", "group_by=pipeline,epochs")[2] == ""


@pytest.mark.parametrize(("style", "start"), [("md", "| pipeline |"), ("latex", r"\begin{tabular}"), ("csv", "pipeline,n,")])
def test_a_table_is_written_in_other_forms(compare, study, style, start):
    code, out, _ = compare("where=epochs == 6", f"format={style}", "baseline=resident")
    assert code == 0
    assert out.startswith(start)


def test_each_command_has_its_own_table(compare, study):
    write_run(study / "enc", verb="encode", metrics={"psnr_db": 30.0})
    _, out, _ = compare("format=md")
    assert [line for line in out.splitlines() if line.startswith("## ")] == ["## encode", "## train"]
    for override in ("format=csv", "plot=c.png", "baseline=a"):
        code, _, err = compare(override)
        assert code == 2
        assert "these runs are of encode, train; where=\"verb == 'encode'\" takes those of one command" in err


def test_curves_are_drawn_over_each_other(compare, study):
    pytest.importorskip("matplotlib")
    with (study / "inr-0" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')  # cut short by a kill
    code, _, err = compare("where=epochs == 6", "plot=c.png", "metric=top1_pct")
    assert code == 0
    assert "curves in c.png" in err
    with Image.open(study.parent / "c.png") as picture:
        assert picture.size[0] > 600


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["root=nowhere"], "no folder of runs at nowhere"),
        (["where=pipeline == 'dali'"], "no run fulfils where=pipeline == 'dali'"),
        (["where=pipelin == 'inr'"], "no run has pipelin; did you mean pipeline"),
        (["where=pipeline ="], "pipeline = is no query of the runs"),
        (["where=status"], "status is no query of the runs"),
        (["metric=psnr_db"], "no finished run of train has metric=psnr_db; there are top1_pct"),
        (["group_by=nothing"], "no run has nothing"),
        (["sort=nothing"], "no run has nothing"),
        (["baseline=dali"], "baseline=dali is no row of this table"),
        (["format=html"], "format is 'html', expected one of table, md, csv, latex, json"),
        (["root=wandb:me"], "expected wandb:ENTITY/PROJECT"),
    ],
)
def test_a_user_error_is_one_line(compare, study, overrides, message):
    code, out, err = compare(*overrides)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_runs_of_different_code_are_never_averaged_in_silence(compare, study):
    config = {"seed": 7, "pipeline": {"name": "inr"}, "optimizer": {"epochs": 6}}
    write_run(study / "newer", config=config, metrics={"top1_pct": 1.0}, code="ne3")
    _, out, err = compare("where=epochs == 6")
    assert [row[:3] for row in rows(out)[1:]] == [["inr", "c0de", "3"], ["inr", "ne3", "1"], ["resident", "c0de", "2"]]
    assert err == "warning [different_code]: train runs of different code have rows of their own; any_code=true averages them\n"
    _, out, err = compare("where=epochs == 6", "any_code=true")
    assert rows(out)[1][:2] == ["inr", "4"]
    assert err == "warning [different_code]: rows of train average runs of different code\n"


def test_what_makes_runs_hard_to_compare_is_said(compare, study):
    write_run(
        study / "old", config={"pipeline": {"name": "old"}}, metrics={"top1_pct": 1.0}, machine={"cpu": "Old", "cpu_cores": 1}
    )
    write_run(study / "killed", status="running", process=this_process() | {"pid": 0, "start": 1})
    (study / "torn").mkdir()
    (study / "torn" / "record.json").write_text("{")
    code, _, err = compare()
    assert code == 0
    assert "warning [unreadable]: runs/torn/record.json cannot be read" in err
    assert "warning [not_finished]: killed: crashed, no error on record" in err
    assert "warning [different_machines]: the train runs are of 2 machines" in err


def test_very_many_keys_are_cut_with_a_note_and_rows_stay_apart(compare, tmp_path):
    for i in range(3):
        config = {f"k{key:02}": i if key else min(i, 1) for key in range(12)}
        write_run(tmp_path / "runs" / str(i), config=config, metrics={"loss": 1.0})
    code, out, err = compare()
    assert code == 0
    assert rows(out)[0] == [*(f"k{key:02}" for key in range(8)), "loss"]
    assert len(rows(out)) == 4
    assert err == "warning [more_keys]: 4 more keys differ: k08, k09, k10, k11; group_by=... chooses\n"


def test_the_command_takes_queries_as_they_are_typed(program, study):
    where = "where=optimizer.epochs >= 6 and pipeline != 'resident' and status in ['finished']"
    out, err = program("experiments.compare", where, "metric=top1_pct", "format=csv").communicate()
    (row,) = csv.DictReader(io.StringIO(out))
    assert float(row["top1_pct"]) == 154 / 3, err


def test_the_commands_on_the_page_compare_the_committed_records(compare):
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    python -m experiments\.compare (.*root=results.*)$", page, re.MULTILINE)
    assert commands
    for typed in commands:
        code, out, err = compare(*shlex.split(typed, comments=True), f"root={ROOT / 'results'}")
        assert code == 0, err
        assert "psnr_db" in out
