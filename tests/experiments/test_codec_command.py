"""Codecs as a user runs them."""

import csv
import json

import pytest


def test_a_codecs_run_records_its_curve(command, tmp_path):
    code, out, _ = command(
        "codec", "dataset=shapes", "dataset.limit=3", "codec=webp", "codec.qualities=[20,80]", "track=off", "run_dir=r"
    )
    assert code == 0
    assert "webp: 2 points from" in out
    points = json.loads((tmp_path / "r" / "record.json").read_text())["metrics"]["points"]
    assert [point["quality"] for point in points] == [20, 80]
    measured = {"bpp", "rgb_pct", "psnr_db", "ssim", "encode_ms", "decode_ms"}
    assert measured | {"n_bytes", "subsampling", "images", "quality"} == set(points[0])
    assert all(point["encode_ms"] > 0 and point["decode_ms"] > 0 for point in points)
    with open(tmp_path / "r" / "curve.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["psnr_db"]) for row in rows] == [point["psnr_db"] for point in points]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("codec.qualities=[200]", "codec.qualities is [200.0], expected one or more from 0 to 100"),
        ("codec.qualities=[high]", "codec.qualities"),
        ("dataset.size=8", "images are (1, 8, 8, 3), expected"),
    ],
)
def test_an_error_in_a_codecs_run_is_one_line(command, override, message):
    code, _, err = command("codec", "dataset=shapes", "dataset.limit=3", "codec=webp", "track=off", override)
    assert code == 2
    assert message in err.splitlines()[-1]
