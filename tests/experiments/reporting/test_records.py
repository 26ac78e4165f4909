import json

import pytest

from experiments.reporting.columns import TABLES, configured, inr_shape, machine
from experiments.reporting.records import Column, markdown_table, metric, read_records, replace_block
from experiments.setup.cli import CONFIGS
from experiments.tables import read_runs, tables

ROOT = CONFIGS.parent


def write_record(folder, **facts):
    folder.mkdir(parents=True)
    record = {"verb": "encode", "status": "finished", "metrics": {"psnr_db": 30.0}} | facts
    (folder / "record.json").write_text(json.dumps(record))


def test_records_are_the_finished_runs_of_a_verb_in_order(tmp_path):
    write_record(tmp_path / "b")
    write_record(tmp_path / "a" / "deep")
    write_record(tmp_path / "c", status="failed")
    write_record(tmp_path / "d", verb="train")
    assert [record["run"] for record in read_records(tmp_path, verb="encode")] == ["a/deep", "b"]


def test_a_table_says_what_is_absent():
    name = Column("name", lambda record: record["run"], right=False)
    columns = [name, Column("dB", metric("psnr_db")), Column("n", metric("images", ",d"))]
    records = [{"run": "a", "metrics": {"psnr_db": 30.126, "images": 1200}}, {"run": "b", "metrics": {}}]
    assert markdown_table(records, columns) == ("| name | dB | n |\n|---|--:|--:|\n| a | 30.13 | 1,200 |\n| b | — | — |")


def test_a_record_that_is_no_json_is_named(tmp_path):
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(ValueError, match=r"record\.json is not JSON"):
        read_records(tmp_path, verb="encode")


def test_a_block_is_replaced_and_nothing_else():
    text = "before\n<!-- x -->\nold\n<!-- /x -->\nafter"
    assert replace_block(text, "x", "new") == "before\n<!-- x -->\nnew\n<!-- /x -->\nafter"
    with pytest.raises(ValueError, match="no block"):
        replace_block(text, "y", "new")


def test_cells_come_from_the_configuration():
    record = {"config": {"inr": {"depth": 3, "hidden": 16}, "fit": {"steps": 200}}}
    assert inr_shape(record) == "3x16"
    assert configured("fit.steps")(record) == "200"
    assert configured("quantize.bits")(record) is None
    assert inr_shape({"config": {}}) is None


def test_the_machine_of_a_run_is_the_device_that_did_the_work():
    facts = {"cpu": "Intel(R) Fast", "cpu_cores": 2, "gpu": "H200"}
    assert machine({"machine": facts, "metrics": {"device": "cpu"}}) == "2 cores, Intel Fast"
    assert machine({"machine": facts, "metrics": {"device": "cuda"}}) == "H200"


def test_a_record_is_linked_from_where_the_table_stands(tmp_path):
    facts = {"metrics": {"device": "cpu"}, "machine": {"cpu": "Fast", "cpu_cores": 2}}
    write_record(tmp_path / "kept" / "a", **facts)
    (tmp_path / "kept" / "a" / "config.yaml").write_text("dataset:\n  name: shapes\ninr:\n  depth: 2\n  hidden: 8\n")
    table = tables(tmp_path / "kept", linked_from=tmp_path)["encode"]
    assert table.endswith("| 2 cores, Fast | [a](kept/a/record.json) |")
    assert "| shapes | — | 2x8 |" in table
    assert "[a](../kept/a/record.json)" in tables(tmp_path / "kept", linked_from=tmp_path / "docs")["encode"]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_rows_and_stands_on_a_page(name):
    """What stands there is held to the records by tests/experiments/test_table_specs.py."""
    assert TABLES[name].rows(read_runs(ROOT / "results", TABLES[name].verb, linked_from=ROOT))
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/results.md")]
    assert [f"<!-- results:{name} -->" in page for page in pages].count(True) == 1


def test_the_committed_records_say_where_they_come_from():
    for verb in {table.verb for table in TABLES.values()}:
        for record in read_records(ROOT / "results", verb=verb):
            assert record["commit"]
            assert record["dirty"] is False
            assert record["machine"]
            assert record["versions"]["torch"]
            assert (record["command"] + " ").startswith(f"python -m experiments.{verb} ")
