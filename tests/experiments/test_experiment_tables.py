"""From the records of an experiment to its tables in every form, beside what the paper claims."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from experiments.reporting import measured
from experiments.reporting.table_files import made_tables, markdown_of, write_tables
from experiments.setup.cli import CONFIGS
from experiments.tables import filled
from tests.experiments.sample_runs import EXPERIMENT, write_point, write_sample

ROOT = CONFIGS.parent
GOLDEN = Path(__file__).parent / "golden" / "sample"
COMMAND = "python -m experiments.sweep experiment=sample scale=cpu 'only=[encode-a]'"


def golden(name, *, runs="runs/sample"):
    """Return a golden text, with links to the runs as from another folder."""
    return (GOLDEN / name).read_text(encoding="utf-8").replace("../../../runs/sample", runs)


def in_one():
    """Return what is printed of the sample, for a text in the working folder."""
    lines = ["encode-b: failed, ValueError: it | broke", "no record yet: raw-b-1, inr-b-s-0, inr-b-s-1"]
    return golden("memory.md") + "\n" + golden("accuracy.md") + "".join(f"\n- not measured: {line}" for line in lines)


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """Leave the sample's records in runs/ of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured, "experiment_at", lambda name, scale: EXPERIMENT)
    return write_sample(Path("runs"))


def test_the_tables_of_an_experiment_are_printed_together_with_what_came_to_nothing(sample):
    assert markdown_of(made_tables("sample", sample), linked_from=Path()) == in_one()


def test_an_experiment_that_nobody_has_run_has_a_dash_in_every_place(sample):
    Path("empty").mkdir()
    text = markdown_of(made_tables("sample", Path("empty")), linked_from=Path())
    assert "**Memory.** Scale paper; nothing measured yet." in text
    assert "| a | — | — | — |\n| b | — | — | — |" in text
    assert "not measured" not in text


@pytest.mark.parametrize("root", ["runs", "runs/sample", "moved"])
def test_the_points_are_found_from_above_in_and_beside_their_folder(sample, root):
    if root == "moved":
        (sample / "sample").rename(root)
    made = made_tables("sample", Path(root))
    assert [len(table.measured.machines) for table in made] == [1, 1]
    link = {"runs": "runs/sample", "runs/sample": "runs/sample", "moved": "moved"}[root]
    assert f"({link}/encode-a/record.json)" in markdown_of(made, linked_from=Path())


def test_scales_are_never_mixed(sample):
    write_point(sample / "sample" / "paper" / "encode-a", "encode", {"dataset": "a"}, scale="paper", rgb_pct=7.0)
    made = made_tables("sample", sample)
    assert [(table.measured.scale, table.spec.name) for table in made] == [
        ("cpu", "memory"), ("cpu", "accuracy"), ("paper", "memory"), ("paper", "accuracy"),
    ]  # fmt: skip
    assert [table.rows[0].values["rgb_pct"].mean for table in made[::2]] == [4.96, 7.0]
    assert [table.measured.scale for table in made_tables("sample", sample, scale="paper")] == ["paper", "paper"]


def test_a_point_that_is_there_twice_is_named(sample):
    write_point(sample / "sample" / "again" / "encode-a", "encode", {"dataset": "a"}, rgb_pct=7.0)
    with pytest.raises(ValueError, match="point encode-a is there twice, in sample/again/encode-a and sample/encode-a"):
        made_tables("sample", sample)


def test_a_point_beyond_those_that_the_file_asks_for_is_a_row_too(sample):
    write_point(sample / "sample" / "encode-c", "encode", {"dataset": "c"}, rgb_pct=7.0)
    assert [row.labels for row in made_tables("sample", sample)[0].rows] == [{"dataset": "a"}, {"dataset": "b"}, {"dataset": "c"}]


def test_runs_that_are_equal_have_no_deviation_to_speak_of(sample):
    write_point(sample / "sample" / "raw-b-1", "train", {"dataset": "b", "seed": "1", "arm": "raw"}, top1_pct=70.0)
    assert "| b | raw | — | 70.00 | — | [1](" in markdown_of(made_tables("sample", sample), linked_from=Path())


def test_a_table_is_written_in_every_form(sample):
    pytest.importorskip("matplotlib")
    assert write_tables(made_tables("sample", sample), Path("out")) == [Path("out/sample/cpu")]
    written = {path.name: path for path in Path("out/sample/cpu").iterdir()}
    with Image.open(written.pop("accuracy.png")) as picture:
        assert picture.format == "PNG"
    assert written.keys() == {path.name for path in GOLDEN.iterdir()}
    for name, path in written.items():
        assert path.read_bytes() == (GOLDEN / name).read_bytes(), name


def test_without_matplotlib_all_but_the_pictures_is_written(sample, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_tables(made_tables("sample", sample), Path("out"))
    assert {path.name for path in Path("out/sample/cpu").iterdir()} == {path.name for path in GOLDEN.iterdir()}
    assert "warning [no_picture]: curves need matplotlib" in capsys.readouterr().err


def test_a_block_of_an_experiment_is_filled_and_a_name_that_there_is_not_is_told(sample, monkeypatch):
    monkeypatch.setattr("experiments.tables.experiment_names", lambda: ["sample"])
    text = "before\n<!-- experiment:sample -->\nold\n<!-- /experiment:sample -->\nafter"
    made = filled(text, sample, linked_from=Path())
    assert made == f"before\n<!-- experiment:sample -->\n{in_one()}\n<!-- /experiment:sample -->\nafter"
    assert filled(made, sample, linked_from=Path()) == made
    with pytest.raises(ValueError, match="a block experiment:other, expected of sample"):
        filled(text.replace("sample", "other"), sample, linked_from=Path())


def test_a_scale_may_take_a_table_out_and_without_any_the_usual_columns_have_those_with_a_value(sample, monkeypatch):
    monkeypatch.setattr(measured, "experiment_at", lambda name, scale: EXPERIMENT | {"tables": {"memory": None}})
    (made,) = made_tables("sample", sample)
    assert made.spec.name == "runs"
    header = markdown_of([made], linked_from=Path()).splitlines()[2]
    assert header == "| dataset | arm | net | % of RGB | stored bytes | top-1, % | records |"
