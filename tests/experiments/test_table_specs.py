"""The section `tables:` of an experiment, and the pages of the repository that are made by it."""

import json
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from experiments.planning import experiment_names
from experiments.reporting.claims import read_paper
from experiments.reporting.measured import Measured
from experiments.reporting.summaries import PointRun
from experiments.reporting.table_files import made_tables
from experiments.reporting.table_grids import make_table
from experiments.reporting.table_specs import read_specs
from experiments.setup.cli import CONFIGS
from experiments.tables import BLOCK, filled

ROOT = CONFIGS.parent


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"a b": {}}, "a table is called 'a b', expected letters"),
        ({"t": {"colums": {}}}, "tables.t has colums, expected of claims, columns"),
        ({"t": {"columns": {"x": {"ratio": ["a"]}}}}, r"tables.t.columns.x has 1 terms, ratio takes 2"),
        ({"t": {"columns": {"x": {"ratio": ["a", "b"], "metric": "a"}}}}, "is metric and ratio, expected one of them"),
        ({"t": {"columns": {"x": {"metric": {"arm": "raw"}}}}}, "expected METRIC or {metric: METRIC, LABEL: VALUE}"),
        (
            {"t": {"columns": {"x": "x"}, "claims": {"memory_rgb_pct": "y"}}},
            "tables.t.claims.memory_rgb_pct is of y, expected one",
        ),
        ({"t": {"columns": {"x": "x"}, "figure": {"x": "x"}}}, "tables.t.figure has no y"),
        (
            {"t": {"columns": {"x": "x"}, "figure": {"x": "x", "y": "z"}}},
            "tables.t.figure.y is of z, expected one of the columns x",
        ),
    ],
)
def test_a_section_that_is_not_in_order_is_named(tables, message):
    with pytest.raises(ValueError, match=message):
        read_specs({"tables": tables})


def test_a_claim_that_no_file_of_the_paper_has_is_named():
    spec = read_specs({"tables": {"t": {"columns": {"x": "x"}, "claims": {"speed": "x"}}}})[0]
    there = Measured("sample", "cpu", "A sample", Path(), [PointRun("p", "encode", {})], [spec])
    with pytest.raises(ValueError, match=r"sample, tables.t.claims: speed is in no file of experiments/paper"):
        make_table(there, spec, read_paper())


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_makes_its_tables_at_every_scale_before_anything_is_run(name, tmp_path):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for scale in ("smoke", "cpu", "paper"):
            for made in made_tables(name, tmp_path, scale=scale):
                assert made.rows, made.spec.name
                assert set(made.spec.rows or ()) <= {label for point in made.measured.points for label in point.labels}
                assert bool(made.claims) == (bool(made.spec.claims) and scale != "smoke"), made.spec.name


PAGES = [path for path in (ROOT / "README.md", ROOT / "docs" / "results.md") if BLOCK.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_tables_of_a_page_are_those_of_the_committed_records(page):
    text = page.read_text(encoding="utf-8")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        assert filled(text, ROOT / "results", linked_from=page.parent) == text


@pytest.mark.parametrize("path", sorted((ROOT / "results").rglob("point.json")), ids=lambda path: path.parent.name)
def test_every_committed_point_says_where_it_comes_from(path):
    record = json.loads(path.with_name("record.json").read_text())
    assert record["status"] == "finished"
    assert record["commit"]
    assert record["dirty"] is False
    assert record["machine"]


def test_a_block_of_claims_has_what_was_measured_and_each_claim_once_of_which_nothing_was(tmp_path):
    text = "before\n<!-- claims:speedup -->\n<!-- /claims:speedup -->\nafter"
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        nothing = filled(text, tmp_path, linked_from=tmp_path).splitlines()
        some = filled(text, ROOT / "results", linked_from=ROOT).splitlines()
    assert nothing[2] == "| claim | measured on | paper | ours, mean ± std (n) | within the claim? | records |"
    assert nothing[4] == "| training speed over the PyTorch pipeline | — | up to 6x | — | — | — |"
    assert nothing[5] == "| training speed over the DALI pipeline, ResNet-18 | — | up to 1.2x | — | — | — |"
    assert len(nothing) == 8
    measured = [line for line in some if "scale paper, NVIDIA H200 | up to 6x | 2.75 (1) | no |" in line]
    assert len(measured) == 1
    assert "houses, 4;" in measured[0]


def test_a_figure_has_a_title_of_its_own_or_that_of_its_table():
    table = {"title": "t", "columns": {"x": "x", "y": "y"}, "figure": {"x": "x", "y": "y", "title": "y over x"}}
    own, usual = (read_specs({"tables": {"t": table | {"figure": figure}}}) for figure in (table["figure"], {"x": "x", "y": "y"}))
    assert (own[0].figure.title, usual[0].figure.title) == ("y over x", None)
