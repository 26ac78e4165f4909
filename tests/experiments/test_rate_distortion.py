"""Codecs, the curves of a sweep, and the tables and pictures made of them."""

import csv
import json
from pathlib import Path

import pytest
from experiments.rate_distortion import equal_bytes_table, own_bytes_table
from omegaconf import OmegaConf
from PIL import Image

from experiments.reporting.curves import PUBLISHED, measured_curves, published_curves
from rapid_inr.data.codecs import CodecUnavailable
from rapid_inr.evaluation.rate_distortion import Curve, CurvePoint

ROOT = Path(__file__).parents[2]
CURVES = [
    Curve("d", "INR 8 bit", "inr", (CurvePoint(1, 20.0, setting="2x16"), CurvePoint(4, 30.0, setting="3x16")), note="9 images"),
    Curve("d", "JPEG", "classical", (CurvePoint(2, 24.0), CurvePoint(8, 36.0))),
    Curve("d", "COIN", "inr", (CurvePoint(2, 22.0),), published=True, origin="recomputed: theirs"),
]


def test_a_table_at_equal_bytes_interpolates_and_never_extrapolates():
    table = equal_bytes_table(CURVES, [1, 2, 5]).splitlines()
    assert table[0] == "| codec | from | 1 bpp (4.2%) | 2 bpp (8.3%) | 5 bpp (20.8%) | images |"
    assert table[2:] == [
        "| INR 8 bit | measured | 20.00 | 25.00 | — | 9 images |",
        "| JPEG | measured | — | 24.00 | 31.93 |  |",
        "| COIN | recomputed: theirs | — | 22.0 | — |  |",
    ]


def test_a_table_at_the_bytes_of_each_inr_sets_others_beside_it():
    table = own_bytes_table(CURVES).splitlines()
    assert table[0] == "| codec | INR | bpp | % of RGB | PSNR, dB | INR 8 bit | JPEG |"
    assert table[2:] == [
        "| INR 8 bit | 2x16 | 1.00 | 4.2 | **20.00** | — | — |",
        "| INR 8 bit | 3x16 | 4.00 | 16.7 | **30.00** | — | 30.00 |",
    ]


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_curve_has_a_source_and_a_mark_and_rises(path):
    file = OmegaConf.to_container(OmegaConf.load(path))
    assert file["dataset"] == path.stem in file["shown_with"]
    for curve in file["curves"]:
        assert curve["mark"] in ("recomputed", "secondary")
        assert curve["source"] in file["sources"]
        assert curve["kind"] in ("inr", "classical")
        assert curve["points"] == sorted(curve["points"])
        assert [psnr for _, psnr in curve["points"]] == sorted(psnr for _, psnr in curve["points"])


def test_published_curves_are_marked_as_such_and_shown_only_where_they_belong():
    curves = published_curves("kodak-224")
    assert {curve.label for curve in curves} >= {"JPEG", "COIN", "RECOMBINER"}
    assert all(curve.published and curve.origin.startswith("recomputed: ") for curve in curves)
    assert {curve.note for curve in curves} == {"24 of 768x512"}
    assert published_curves("photos") == []


def test_a_codecs_run_records_its_curve(command, tmp_path):
    code, out, _ = command(
        "codec", "dataset=shapes", "dataset.limit=3", "codec=webp", "codec.qualities=[20,80]", "track=off", "run_dir=r"
    )
    assert code == 0
    assert "webp: 2 points from" in out
    points = json.loads((tmp_path / "r" / "record.json").read_text())["metrics"]["points"]
    assert [point["quality"] for point in points] == [20, 80]
    assert {"bpp", "rgb_pct", "psnr_db", "ssim", "n_bytes", "subsampling", "images", "quality"} == set(points[0])
    with open(tmp_path / "r" / "curve.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["psnr_db"]) for row in rows] == [point["psnr_db"] for point in points]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("codec.qualities=[200]", "codec.qualities is [200], expected one or more from 0 to 100"),
        ("codec.qualities=[high]", "codec.qualities is ['high'], expected a list of numbers"),
        ("dataset.size=8", "images are (1, 8, 8, 3), expected"),
    ],
)
def test_an_error_in_a_codecs_run_is_one_line(command, override, message):
    code, _, err = command("codec", "dataset=shapes", "dataset.limit=3", "codec=webp", "track=off", override)
    assert code == 2
    assert message in err.splitlines()[-1]


def test_a_sweep_of_two_codecs_and_an_inr_becomes_tables_pictures_and_numbers(command, tmp_path, monkeypatch):
    only = "only=[shapes-32-webp,shapes-32-avif,shapes-32-?x??-8bit]"

    def unavailable(name):
        if name == "avif":
            raise CodecUnavailable("codec=avif needs avif, which this Pillow was built without")

    monkeypatch.setattr("experiments.codec.require_available", unavailable)
    assert command("sweep", "experiment=rate_distortion", "scale=smoke", "track=off", only)[0] == 2
    code, out, _ = command("rate_distortion", "root=runs/rate_distortion/smoke", "out=made")
    assert code == 0
    text = (tmp_path / "made" / "shapes-32.md").read_text()
    assert text in out
    assert "| WebP | measured |" in text
    assert "Not measured: shapes-32-avif: failed, CodecUnavailable: codec=avif needs avif" in text
    with open(tmp_path / "made" / "shapes-32.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["codec"] for row in rows} == {"WebP", "INR 8 bit"}
    assert [row["setting"] for row in rows if row["kind"] == "inr"] == ["3x16", "4x12"]
    with Image.open(tmp_path / "made" / "shapes-32.png") as picture:
        assert picture.size == (1200, 720)
    curves, missing = measured_curves(tmp_path / "runs")
    assert [curve.note for curve in curves if curve.kind == "inr"] == ["6 images, 60 steps"]
    assert len(missing) == 1


def test_a_folder_without_curves_is_said_to_be_so(command, tmp_path):
    code, _, err = command("rate_distortion", f"root={tmp_path}")
    assert code == 2
    assert "no finished point of a curve" in err


def test_the_committed_pages_are_those_of_the_committed_records(command, tmp_path):
    code, _, err = command("rate_distortion", f"root={ROOT / 'results' / 'rate_distortion'}", "out=pages")
    assert (code, err) == (0, "")
    made = sorted(path.name for path in (tmp_path / "pages").glob("*.md"))
    assert made == ["cifar10.md", "kodak-224.md", "photos.md"]
    for name in [*made, *(path.name for path in (tmp_path / "pages").glob("*.csv"))]:
        assert (tmp_path / "pages" / name).read_bytes() == (ROOT / "docs" / "rate_distortion" / name).read_bytes()
        assert (ROOT / "docs" / "rate_distortion" / name).with_suffix(".png").is_file()
