"""The page of all results, from records alone."""

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from experiments.reporting import tables
from tests.experiments.reporting.written import SAMPLE, write_run, write_sample
from tests.pages import read_page

pytest.importorskip("jinja2")


@pytest.fixture
def sample(tmp_path, monkeypatch):
    monkeypatch.setitem(tables.TABLES, "sample", SAMPLE)
    return write_sample(tmp_path / "runs")


@pytest.fixture
def page(command, sample):
    """Write the page of the sample with overrides; returns its text."""

    def write(*overrides):
        pytest.importorskip("matplotlib")
        code, _, err = command("report", "root=runs", "out=page/report.html", *overrides)
        assert code == 0, err
        return Path("page/report.html").read_text(encoding="utf-8")

    return write


def section(text, title):
    return re.search(rf"<section id=[^>]*>\s*<h2>{title}</h2>.*?</section>", text, re.DOTALL)[0]


def test_the_page_shows_claims_tables_curves_machines_and_warnings(page, sample):
    write_run(sample / "own", metrics={"top1_pct": 1.0}, warnings=[{"name": "small_inr", "message": "images lose detail"}] * 2)
    text = page()
    attributes = read_page(text)
    links = {value for tag, name, value in attributes if (tag, name) == ("a", "href")}
    assert "../runs/sample/cpu/inr-a-s-0/record.json" in links
    assert all((Path("page") / link).is_file() for link in links if not link.startswith("#"))
    assert all(f' id="{link[1:]}"' in text for link in links if link.startswith("#"))
    assert sum(name == "src" for _, name, _ in attributes) == 2  # the figure of a table, the curves of training
    claims = section(text, "What the paper claims")
    assert '<div class="card yes"><p class="what">Stored dataset, of its raw RGB bytes</p><p class="figure">4.96%</p>' in claims
    assert (
        "The paper: about 2 points. Within it: 1 of 1 rows. The best: dataset a, codec SIREN, variant s, at preset cpu." in claims
    )
    assert claims.count("Not measured yet.") == 2
    experiment = section(text, "Sample")
    assert '<td class="number">1.50 ± 2.50 (2)</td>' in experiment
    assert '<span class="yes">yes</span>' in experiment
    assert "not measured: sample/cpu/encode-b: failed, ValueError: it | broke" in experiment
    assert "<code>python -m experiments.train run_dir=raw-a-0</code>" in experiment
    assert "<td" in section(text, "Other runs")
    machines = section(text, "Machines, versions and warnings")
    assert re.search(r"2 cores, Fast</td>.*3.11.7</td>.*2.13.0</td>", machines)
    assert re.search(r"small_inr</td>.*images lose detail</td>.*2</td>", machines)
    assert "up to 1.2x" in section(text, "The paper's numbers")


def test_runs_in_a_folder_that_was_moved_are_shown_as_before(page, sample, command):
    before = section(page(), "Sample")
    sample.rename("elsewhere")
    code, out, _ = command("report", "root=elsewhere", "out=page/report.html")
    assert (code, "6 finished runs" in out) == (0, True)
    after = section(Path("page/report.html").read_text(encoding="utf-8"), "Sample")
    assert after.replace("elsewhere", "runs") == before


def test_a_card_shows_the_best_row_and_whether_all_are_within_the_claim(page, sample):
    for name, share in (("c", 7.0), ("d", 4.97)):
        config = {"experiment_name": "sample", "preset": "cpu", "labels": {"dataset": name}}
        write_run(sample / "sample" / "cpu" / f"encode-{name}", verb="encode", config=config, metrics={"rgb_pct": share})
    claims = section(page(), "What the paper claims")
    assert '<div class="card some"><p class="what">Stored dataset, of its raw RGB bytes</p><p class="figure">4.96%</p>' in claims
    assert "Within it: 2 of 3 rows. The best: dataset a, at preset cpu." in claims


EVIL = '[x](javascript:alert(1))<script>alert(2)</script>"onload="alert(3)'


def test_nothing_from_records_is_markup(page, sample):
    for name in ("javascript:alert(4)", "encode-<b>"):
        config = {"experiment_name": "sample", "preset": "cpu", "labels": {"dataset": EVIL + name}}
        warned = [{"name": EVIL, "message": EVIL}]
        write_run(
            sample / "sample" / "cpu" / name, verb="encode", config=config, metrics={"rgb_pct": 1.0}, command=EVIL,
            warnings=warned, machine={"cpu": EVIL, "cpu_cores": 1},
        )  # fmt: skip
    write_run(
        sample / "sample" / "cpu" / "failed", status="failed", error=EVIL, config={"experiment_name": "sample", "preset": "cpu"}
    )
    text = page()
    attributes = read_page(text)
    assert {tag for tag, _, _ in attributes} >= {"a", "img"}
    assert "<script" not in text
    assert not [name for _, name, _ in attributes if name.startswith("on")]
    links = [value for tag, name, value in attributes if name in ("href", "src")]
    assert not [link for link in links if re.match(r"[a-z]+:", link) and not link.startswith("data:image/png;base64,")]
    assert "[x](javascript:alert(1))&lt;script&gt;" in text


def test_pictures_that_runs_have_left_are_shown_up_to_a_number(page, sample, tmp_path):
    for name in ("raw-a-0", "raw-a-1", "inr-a-s-0"):
        for picture in ("masks.png", "curves.png"):  # curves are drawn again from the epochs
            Image.new("RGB", (3, 3)).save(sample / "sample" / "cpu" / name / picture)
    write_run(sample / "own")
    Image.new("RGB", (3, 3)).save(tmp_path / "own.png")
    text = page("sheets=2", "pictures=[own.png]")
    assert text.count(": masks</figcaption>") == 2
    assert ": curves</figcaption>" not in text
    assert "own.png</figcaption>" in text


def test_without_matplotlib_the_page_has_no_figures(command, sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = command("report", "root=runs")
    assert code == 0
    assert "warning [no_picture]: curves need matplotlib" in err
    assert "<figure>" not in Path("runs/report.html").read_text(encoding="utf-8")


def test_a_run_that_cannot_be_read_is_named_and_the_page_is_written(command, sample):
    (write_run(sample / "torn") / "record.json").write_text(json.dumps([1]))
    code, _, err = command("report", "root=runs")
    assert code == 0
    assert "warning [unreadable]: runs/torn/record.json cannot be read and is left out" in err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["root=nowhere"], "no folder of runs at nowhere"), (["root=empty"], "no run to read below empty"),
        (["root=runs", "pictures=[none.png]"], "none.png"), (["root=runs", "out=runs"], "runs is a folder"),
    ],
)  # fmt: skip
def test_an_error_in_a_report_is_one_line(command, sample, tmp_path, overrides, message):
    (tmp_path / "empty").mkdir()
    code, _, err = command("report", *overrides)
    assert code == 2
    assert message in err.splitlines()[-1]
