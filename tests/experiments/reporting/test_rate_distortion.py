"""PSNR at equal bytes: the curves of an experiment, and tables and pictures of them beside published ones."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from experiments.reporting.rate_distortion import PUBLISHED, own_bytes_table, published_curves
from experiments.reporting.runs import read_runs
from experiments.reporting.tables import made_tables
from rapid_inr.evaluation.rate_distortion import Curve, CurvePoint
from tests.experiments.reporting.written import write_run

ROOT = Path(__file__).parents[3]


def test_a_table_at_the_bytes_of_each_inr_sets_others_beside_it_and_never_extrapolates():
    curves = [
        Curve("d", "INR 8 bit", "inr", (CurvePoint(1, 20.0, setting="2x16"), CurvePoint(4, 30.0, setting="3x16"))),
        Curve("d", "JPEG", "classical", (CurvePoint(2, 24.0), CurvePoint(8, 36.0))),
    ]
    table = own_bytes_table(curves).drop(columns="records")
    assert list(table) == ["codec", "INR", "bpp", "% of RGB", "PSNR, dB", "INR 8 bit", "JPEG"]
    assert table.to_numpy().tolist() == [
        ["INR 8 bit", "2x16", "1.00", "4.2", "20.00", "—", "—"], ["INR 8 bit", "3x16", "4.00", "16.7", "30.00", "—", "30.00"],
    ]  # fmt: skip


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
    assert published_curves("photos") == []


def test_encodes_and_a_codec_become_tables_and_a_picture(tmp_path):
    def config(curve, kind, **more):
        labels = {"dataset": "shapes", "curve": curve, "kind": kind, "shape": "3x16"}
        return {"experiment_name": "rate_distortion", "preset": "smoke", "labels": labels, **more}

    steps = {"fit": {"steps": 60}, "prune": {"rule": "max_drop", "max_ratio": 0.3, "step": 0.1, "finetune_steps": 10}}
    inr = config("INR 8 bit", "inr", quantize={"bits": 8}, refine={"steps": 20}, **steps)
    write_run(tmp_path / "inr", verb="encode", config=inr, metrics={"images": 6, "bpp": 1.0, "psnr_db": 20.0, "ssim": 0.5})
    points = [{"bpp": rate, "psnr_db": 20 + rate, "ssim": 0.5, "quality": 10, "subsampling": "4:2:0"} for rate in (0.5, 2.0)]
    write_run(tmp_path / "webp", verb="codec", config=config("webp", "classical"), metrics={"images": 6, "points": points})
    blocks = [p | {"subsampling": block} for p, block in zip(points, ("12x12", "4x4"), strict=True)]
    write_run(tmp_path / "astc", verb="codec", config=config("astc", "classical"), metrics={"images": 6, "points": blocks})
    equal, own = made_tables(read_runs(tmp_path), "rate_distortion")
    assert (equal.name, equal.title) == ("at_equal_bytes_shapes", "shapes: PSNR in dB at equal bytes")
    assert equal.rows[["codec", "1 bpp (4.2%)", "2 bpp (8.3%)", "images"]].to_numpy().tolist() == [
        ["INR 8 bit", "20.00", "—", "6 images, 60 + 30 + 20 steps"], ["ASTC", "21.25", "22.00", "6 images"],
        ["WebP", "21.25", "22.00", "6 images"],
    ]  # fmt: skip
    assert own.rows["WebP"].tolist() == own.rows["ASTC"].tolist() == ["21.25"]
    pytest.importorskip("matplotlib")
    assert equal.draws()
    assert not own.draws()
    equal.draw(tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1200, 720)


def cells_of(text):
    """Return the rows of all Markdown tables as sets of cells, without links, dashes and emphasis."""
    rows = [re.sub(r"\*\*|\[\w+\]\([^)]*\)", "", line).split("|") for line in text.splitlines() if line.startswith("|")]
    return [
        {cell.strip() for cell in row} - {"", "—", "records"} for row in rows if "---" not in "".join(row).replace(" ", "")[:3]
    ]


def test_the_recorded_pages_are_those_of_the_committed_records():
    made = made_tables(read_runs(ROOT / "results"), "rate_distortion")
    for page in sorted((ROOT / "docs" / "rate_distortion").glob("*.md")):
        text = "\n".join(table.markdown(linked_from=ROOT) for table in made if table.name.endswith(f"_{page.stem}"))
        now = cells_of(text)
        assert all(row in now for row in cells_of(page.read_text(encoding="utf-8"))), page.name
