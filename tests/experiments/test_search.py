"""A search as a user runs it, on networks that take no time."""

import csv
import json

import pytest
from PIL import Image

from experiments.proposals import propose
from experiments.setup.cli import CONFIGS
from rapid_inr.encoding import shard as shards
from rapid_inr.runlog.liveness import this_process

pytest.importorskip("optuna")
NAMES = sorted(path.stem for path in (CONFIGS / "search").glob("*.yaml"))
TRY = """
name: try
space: {hidden: {low: 4, high: 7}, bits: [6, 8]}
points:
  encode:
    verb: encode
    over: [<hidden>]
    name: fit-<hidden>
    set: [dataset=shapes, dataset.size=12, dataset.limit=4, fit.steps=20, inr=1x<hidden>, out=@/store.inr]
  decode:
    verb: decode
    over: [<hidden>, <bits>]
    set: [store=@fit-<hidden>/store.inr, out=@/pictures, limit=1]
judge: encode
goals: {psnr_db: maximize}
limits: {image_bytes: {at_most: 70}}
trials: 3
scales: {smoke: {}, many: {trials: 50}}
"""


@pytest.fixture
def search(command, tmp_path):
    (tmp_path / "extra" / "search").mkdir(parents=True)
    (tmp_path / "extra" / "search" / "try.yaml").write_text(TRY)

    def run(*overrides, scale="smoke"):
        where = f"hydra.searchpath=[file://{tmp_path}/extra]"
        return command("sweep", where, "search=try", f"scale={scale}", "track=off", *overrides)

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "search" / "try" / "smoke"


def width(path):
    with Image.open(path) as image:
        return image.width


def statuses(folder):
    return {path.parent.name: json.loads(path.read_text())["status"] for path in folder.glob("*/record.json")}


def tried(folder):
    return json.loads((folder / "search.json").read_text())["trials"]


@pytest.mark.parametrize("name", NAMES)
def test_a_search_runs_at_the_smoke_scale(command, tmp_path, name):
    code, out, err = command("sweep", f"search={name}", "scale=smoke", "track=off")
    assert code == 0, err
    folder = tmp_path / "runs" / "search" / name / "smoke"
    n = len(tried(folder))
    assert f"{n} points run now, {n} of {n} trials finished" in out
    with (folder / "search.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == n
    assert width(folder / "search.png") > 500


def test_trials_share_the_points_that_are_the_same_and_are_judged_by_their_records(search, folder):
    code, out, _ = search("at_once=2", "trials=4")
    assert code == 0
    widths = {choices["hidden"] for choices in tried(folder)}
    n = len(widths) + 4
    assert f"{n} points run now, 4 of 4 trials finished" in out
    records = {width: json.loads((folder / f"fit-{width}" / "record.json").read_text()) for width in widths}
    within = [r["metrics"]["psnr_db"] for r in records.values() if r["metrics"]["image_bytes"] <= 70]
    best_line = next(line for line in out.splitlines() if line.endswith("best"))
    assert f"{max(within):.2f}" in best_line
    assert f"python -m experiments.decode store=runs/search/try/smoke/fit-{best_line.split()[1]}/store.inr" in " ".join(
        json.loads(path.read_text())["command"] for path in folder.glob("decode-*/record.json")
    )


def test_a_parallel_launcher_runs_trials_beside_each_other(program, search, tmp_path, folder):
    options = ("track=off", "trials=4", "at_once=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = program("experiments.sweep", f"hydra.searchpath=[file://{tmp_path}/extra]", "search=try", "scale=smoke", *options)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "4 of 4 trials finished" in out
    assert set(statuses(folder).values()) == {"finished"}


def test_started_again_a_search_goes_on_with_what_its_records_say(search, folder):
    search("trials=2")
    before = tried(folder)
    (folder / f"fit-{before[0]['hidden']}" / "record.json").unlink()
    assert search("trials=4")[0] == 0
    after = tried(folder)
    assert after[:2] == before
    assert len(after) == 4
    search("trials=4", "run_dir=at_a_stretch")
    assert tried(folder.parents[3] / "at_a_stretch") == after
    assert "0 points run now, 4 of 4 trials finished" in search("trials=4")[1]
    assert [line.split()[-1] for line in search("trials=4", "list=true")[1].splitlines()[2:]].count("best") == 1


def test_overwrite_begins_anew(search, folder):
    search("trials=2")
    before = tried(folder)
    code, out, _ = search("trials=1", "overwrite=true", "seed=5")
    assert code == 0
    assert "2 points run now, 1 of 1 trials finished" in out
    assert tried(folder) != before[:1]
    code, out, _ = search("trials=3", "seed=5")  # what the first search has left counts for nothing
    assert f"{2 + len({choices['hidden'] for choices in tried(folder)[1:]} - {tried(folder)[0]['hidden']})} points run now" in out


def test_a_small_space_is_searched_to_its_end(search):
    code, out, _ = search(scale="many")
    assert code == 0
    assert "12 points run now, 8 of 8 trials finished" in out  # four networks, of each two decodings


def test_where_nothing_works_a_search_stops_after_a_few_trials(search, folder, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no such luck")

    monkeypatch.setattr(shards, "fit", broken)
    code, _, err = search(scale="many")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: the first 3 of 50 trials came to nothing (failed), so there were no more")
    assert [line.split()[-1] for line in search("list=true", scale="many")[1].splitlines()[2:]] == ["failed"] * 3


def test_that_nothing_keeps_the_limits_is_said(search):
    code, _, err = search("search.limits.image_bytes.at_most=1")
    assert code == 0
    assert err.splitlines()[-1] == "warning [beyond_limits]: no trial has image_bytes at most 1"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["only=[x]"], "only=... picks points of an experiment"),
        (["at_once=0"], "at_once is 0, expected at least 1"),
        (["trials=0"], "trials is 0, expected an integer of at least 1"),
        (["experiment=memory"], "experiment=... and search=... are both given"),
        (["scale=huge"], "scale is 'huge', expected one of smoke, many"),
        (["search.points.encode.set=['colour=red']"], "Could not override 'colour'"),
        (["search.judge=train"], "judge is 'train', expected one of the points encode, decode"),
    ],
)
def test_an_error_of_use_is_one_line_before_any_work(search, tmp_path, overrides, message):
    code, _, err = search(*overrides)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_each_choice_follows_from_the_records_of_those_before(search, folder, monkeypatch):
    told = []

    def spy(one, history, n, *, seed):
        told.append(list(history))
        return propose(one, history, n, seed=seed)

    monkeypatch.setattr("experiments.searching.propose", spy)
    search("trials=3")
    monkeypatch.undo()
    assert len(told[-1]) == 2
    for choices, values in told[-1]:
        metrics = json.loads((folder / f"fit-{choices['hidden']}" / "record.json").read_text())["metrics"]
        assert values == {"psnr_db": metrics["psnr_db"], "image_bytes": metrics["image_bytes"]}


def test_two_choices_that_make_one_point_are_refused(search, tmp_path):
    code, _, err = search("search.points.encode.name=fit", "search.points.decode=null")
    assert code == 2
    assert "two choices make a point fit; give points.encode a name with all of its axes in it" in err
    assert not (tmp_path / "runs").exists()


def test_an_axis_that_no_point_goes_over_is_refused(search):
    code, _, err = search("+search.space.more=[1,2]")
    assert (code, err.splitlines()[-1]) == (2, "error: no point goes over more, which is in the space")


def test_axes_that_change_places_in_the_file_keep_their_choices(search, tmp_path, folder):
    search("trials=2")
    before = tried(folder)
    path = tmp_path / "extra" / "search" / "try.yaml"
    path.write_text(TRY.replace("{hidden: {low: 4, high: 7}, bits: [6, 8]}", "{bits: [6, 8], hidden: {low: 4, high: 7}}"))
    out = search("trials=3")[1]
    assert tried(folder)[:2] == before
    assert {line.split()[1] for line in out.splitlines() if line.split()[-1:] in (["best"], ["beyond"])} <= {"6", "8"}


def test_what_reads_from_a_point_that_is_made_anew_runs_again_and_counts_only_if_it_finishes(search, folder):
    search("trials=1")
    (width,) = (choices["hidden"] for choices in tried(folder))
    settings = ("dataset=shapes", "dataset.size=12", "dataset.limit={}", "fit.steps=20", "inr=1x<hidden>", "out=@/store.inr")
    changed = f"search.points.encode.set={list(settings)}"
    assert "2 points run now, 1 of 1 trials finished" in search("trials=1", changed.format(3))[1]
    code, out, err = search("trials=1", changed.format(-3))
    assert code == 2
    assert "0 of 1 trials finished" in out
    assert "came to nothing (failed)" in err
    assert statuses(folder) == {f"fit-{width}": "failed", f"decode-{width}-{tried(folder)[0]['bits']}": "finished"}


def test_a_metric_that_records_lack_is_named(search):
    code, _, err = search("+search.goals.psnr=maximize", "trials=3")
    assert code == 2
    assert "the first 3 of 3 trials came to nothing (no psnr)" in err


def test_only_one_process_searches_in_a_folder(search, folder):
    search("trials=1")
    (folder / "searching.json").write_text(json.dumps(this_process()))
    code, _, err = search("trials=2")
    assert code == 2
    assert "searches in runs/search/try/smoke; run_dir=... names another folder" in err
    (folder / "searching.json").write_text(json.dumps(this_process() | {"start": 1}))  # killed
    assert search("trials=2")[0] == 0
    assert not (folder / "searching.json").exists()


def test_what_is_sought_now_is_what_the_report_says(search, command, tmp_path):
    search()
    search("search.limits.image_bytes.at_most=100")
    command("report", "root=runs")
    assert "image_bytes at most 100" in (tmp_path / "runs" / "report.html").read_text()


def test_a_torn_search_is_left_out_of_the_report_with_a_warning(search, command, tmp_path):
    search("trials=1")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "search.json").write_text('{"a": 1}')
    code, _, err = command("report", "root=runs")
    assert code == 0
    assert "warning [no_search]: runs/other/search.json is left out: KeyError: 'search'" in err


def test_another_space_is_not_mixed_with_what_was_tried(search, folder):
    search("trials=2")
    code, _, err = search("trials=4", "search.space.hidden.low=20", "search.space.hidden.high=30")
    assert code == 2
    assert "which is not in the space; run_dir=... names another folder, overwrite=true begins anew" in err


def test_the_report_and_a_page_show_what_was_found(search, command, tmp_path, folder):
    search("at_once=3")
    assert command("report", "root=runs")[0] == 0
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "Search try: maximize psnr_db, image_bytes at most 70" in page
    assert page.count('href="search/try/smoke/fit-') == 3
