"""The page of all results, from records alone."""

import re
from pathlib import Path

import pytest
from PIL import Image

from experiments.reporting import measured
from experiments.reporting.report_pictures import _mean_epochs
from tests.experiments.sample_runs import EXPERIMENT, write_point, write_sample
from tests.pages import read_page

pytest.importorskip("matplotlib")


@pytest.fixture
def sample(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "experiment_at", lambda name, scale: EXPERIMENT)
    monkeypatch.setattr(measured, "experiment_names", lambda: ["sample"])
    return write_sample(tmp_path / "runs")


def section(text, key):
    return re.search(rf'<section id="{key}">.*?</section>', text, re.DOTALL)[0]


def test_the_page_shows_claims_tables_curves_machines_and_warnings(command, sample):
    code, out, err = command("report", "root=runs", "out=page/report.html")
    assert (code, err) == (0, "")
    assert "page/report.html: 6 records" in out
    text = Path("page/report.html").read_text(encoding="utf-8")
    attributes = read_page(text)
    links = {value for tag, name, value in attributes if (tag, name) == ("a", "href")}
    assert "../runs/sample/inr-a-s-0/record.json" in links
    assert all((Path("page") / link).is_file() for link in links if not link.startswith("#"))
    assert sum(name == "src" for _, name, _ in attributes) == 2  # the figure of a table, the curves of training
    claims = section(text, "claims")
    assert '<div class="card yes"><p class="what">Stored dataset, of its raw RGB bytes</p><p class="figure">4.96%</p>' in claims
    assert "The paper: about 2 points. Within it: 1 of 1 rows. The best: dataset a, arm INR, net s, at scale cpu." in claims
    assert claims.count("Not measured yet.") == 2
    experiment = section(text, "experiment-sample")
    assert '<td class="number">1.50 ± 0.71 (2)</td>' in experiment
    assert '<span class="yes">yes</span>' in experiment
    assert "encode-b: failed, ValueError: it | broke" in experiment
    assert "<code>python -m experiments.train run_dir=raw-a-0</code>" in experiment
    machines = section(text, "machines")
    assert "<td>2 cores, Fast</td><td>3.11.7</td><td>2.13.0</td>" in machines
    assert "<code>0123456789ab</code>" in machines
    assert '<td><code>small_inr</code></td><td>images lose detail</td><td class="number">6</td>' in machines
    assert "up to 1.2x" in section(text, "paper")


def test_a_card_shows_the_best_row_and_whether_all_are_within_the_claim(command, sample):
    for name, share in (("c", 7.0), ("d", 4.97)):
        write_point(sample / "sample" / f"encode-{name}", "encode", {"dataset": name}, rgb_pct=share)
    assert command("report", "root=runs")[0] == 0
    claims = section(Path("runs/report.html").read_text(encoding="utf-8"), "claims")
    assert '<div class="card some"><p class="what">Stored dataset, of its raw RGB bytes</p><p class="figure">4.96%</p>' in claims
    assert "Within it: 2 of 3 rows. The best: dataset a, at scale cpu." in claims


def test_the_smoke_scale_proves_no_claim(command, sample):
    for path in sample.rglob("point.json"):
        path.write_text(path.read_text().replace('"cpu"', '"smoke"'))
    assert command("report", "root=runs")[0] == 0
    text = Path("runs/report.html").read_text(encoding="utf-8")
    assert section(text, "claims").count("Not measured yet.") == 4
    assert "Scale smoke" in section(text, "experiment-sample")


def test_pictures_that_runs_have_left_are_shown_up_to_a_number(command, sample, tmp_path):
    for name in ("raw-a-0", "raw-a-1", "inr-a-s-0"):
        Image.new("RGB", (3, 3)).save(sample / "sample" / name / "masks.png")
        Image.new("RGB", (3, 3)).save(sample / "sample" / name / "curves.png")  # drawn anew from the epochs
    Image.new("RGB", (3, 3)).save(tmp_path / "own.png")
    assert command("report", "root=runs", "sheets=2", "pictures=[own.png]")[0] == 0
    text = Path("runs/report.html").read_text(encoding="utf-8")
    assert "<summary>Pictures of 1 more of 3 runs</summary>" in text
    assert text.count(": masks</figcaption>") == 2
    assert ": curves</figcaption>" not in text
    assert "own.png" in section(text, "pictures")


def test_an_encode_beside_experiments_is_among_the_other_runs(command):
    command(
        "encode",
        "dataset=shapes",
        "dataset.size=12",
        "dataset.limit=9",
        "inr=2x8",
        "debug=smoke",
        "track=off",
        "out=a.inr",
        "run_dir=r/a",
    )
    assert command("report", "root=r")[0] == 0
    text = Path("runs/report.html").read_text(encoding="utf-8")
    assert '<td>shapes</td><td class="number">9</td><td>2x8</td>' in section(text, "runs")
    assert ": contact sheet</figcaption>" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["root=nowhere"], "no folder of runs at nowhere"),
        (["root=."], "no record of a finished run below ."),
        (["root=runs", "pictures=[none.png]"], "none.png"),
        (["root=runs", "out=runs"], "runs is a folder"),
    ],
)
def test_an_error_in_a_report_is_one_line(command, sample, overrides, message):
    if overrides == ["root=."]:
        sample.rename(sample.parent.parent / "elsewhere")
    code, _, err = command("report", *overrides)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_epochs_of_a_run_that_went_on_with_another_are_averaged_with_their_own():
    whole, resumed = (
        [{"epoch": epoch, "top1_pct": 10.0 * epoch, "loss": 1.0} for epoch in epochs] for epochs in ((0, 1, 2), (1, 2))
    )
    assert [(row["epoch"], row["top1_pct"]) for row in _mean_epochs([whole, resumed])] == [(1, 10.0), (2, 20.0)]
