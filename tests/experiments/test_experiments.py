"""Every experiment from end to end at the smallest scale: its sweep, then the tables that its file asks for."""

import csv
import json

import pytest

from experiments.setup.cli import CONFIGS

NAMES = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
PICTURES = {"single_image": ("sheet/sheet.png", "sheet/curve.png")}  # for a person to look at
# columns of what needs a library or a GPU that need not be here
NOT_HERE = {"speedup": ("dali", "published", "nvjpeg", "over_dali")}
NOT_OF_A_TABLE = ("_claims.csv", "_figure.csv")


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_at_the_smoke_scale_and_fills_every_column_of_its_tables(command, tmp_path, name):
    code, out, err = command("sweep", f"experiment={name}", "scale=smoke", "track=off")
    assert code == 0, err
    points = json.loads((tmp_path / "runs" / name / "smoke" / "sweep.json").read_text())["points"]
    assert set(points.values()) == {"finished"}
    assert f"{len(points)} points run now, {len(points)} of {len(points)} finished" in out
    for picture in PICTURES.get(name, ()):
        assert (tmp_path / "runs" / name / "smoke" / picture).is_file()
    code, _, err = command("tables", f"experiment={name}", "root=runs", "scale=smoke", "out=tables")
    assert (code, "error" in err) == (0, False)
    files = sorted((tmp_path / "tables" / name / "smoke").glob("*.csv"))
    tables = [path for path in files if not path.name.endswith(NOT_OF_A_TABLE)]
    assert tables
    for table in tables:
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert rows, table.name
        values = [column for column in rows[0] if column.endswith("_mean")]
        assert values, table.name
        empty = [column.removesuffix("_mean") for column in values if not any(row[column] for row in rows)]
        assert set(empty) <= set(NOT_HERE.get(name, ())), table.name
