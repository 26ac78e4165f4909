"""PSNR at equal bytes: the curves of an experiment, and tables and pictures of them beside published ones."""

import pytest
from omegaconf import OmegaConf
from PIL import Image

from experiments.reporting.formats import cell_text
from experiments.reporting.rate_distortion import PUBLISHED, own_bytes_table, published_curves
from experiments.reporting.runs import read_runs
from experiments.reporting.tables import made_tables
from rapid_inr.evaluation.rate_distortion import Curve, CurvePoint
from tests.experiments.reporting.written import write_run


def test_a_table_at_the_bytes_of_each_inr_sets_others_beside_it_and_never_extrapolates():
    curves = [
        Curve("d", "INR 8 bit", "inr", (CurvePoint(1, 20.0, setting="2x16"), CurvePoint(4, 30.0, setting="3x16"))),
        Curve("d", "JPEG", "classical", (CurvePoint(2, 24.0, ssim=0.8), CurvePoint(8, 36.0, ssim=0.9))),
    ]
    table = own_bytes_table(curves).drop(columns="records")
    assert list(table) == ["codec", "INR", "bpp", "% of RGB", "its own", "INR 8 bit", "JPEG"]
    assert table.to_numpy().tolist() == [
        ["INR 8 bit", "2x16", "1.00", "4.2", "20.00", "—", "—"],
        ["INR 8 bit", "3x16", "4.00", "16.7", "30.00", "—", "30.00 / 0.850"],
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
    measured = {"images": 6, "bpp": 1.0, "psnr_db": 20.0, "ssim": 0.5, "decode_cpu_ms": 7.0, "encode_ms_per_image": 12e3}
    write_run(tmp_path / "inr", verb="encode", config=inr, metrics=measured)
    point = {"ssim": 0.6, "encode_ms": 3.0, "decode_ms": 0.5, "quality": 10, "subsampling": "4:2:0"}
    points = [{"bpp": rate, "psnr_db": 20 + rate, **point} for rate in (0.5, 2.0)]
    write_run(tmp_path / "webp", verb="codec", config=config("webp", "classical"), metrics={"images": 6, "points": points})
    blocks = [p | {"subsampling": block} for p, block in zip(points, ("12x12", "4x4"), strict=True)]
    write_run(tmp_path / "astc", verb="codec", config=config("astc", "classical"), metrics={"images": 6, "points": blocks})
    equal, five_percent, own, costs = made_tables(read_runs(tmp_path), "rate_distortion")
    assert five_percent.rows["shapes, 5%"].tolist() == ["20.00", "21.45", "21.45"]  # the first ends below 5%
    assert (equal.name, equal.title) == ("at_equal_bytes_shapes", "shapes: PSNR in dB at equal bytes")
    assert equal.rows[["codec", "1 bpp (4.2%)", "2 bpp (8.3%)", "images"]].to_numpy().tolist() == [
        ["INR 8 bit", "20.00", "—", "6 images, 60 + 30 + 20 steps"], ["ASTC", "21.25", "22.00", "6 images"],
        ["WebP", "21.25", "22.00", "6 images"],
    ]  # fmt: skip
    assert own.rows["WebP"].tolist() == own.rows["ASTC"].tolist() == ["21.25 / 0.600"]
    assert costs.rows.drop(columns="records").to_numpy().tolist() == [
        ["ASTC", "1.00", "21.25", "0.600", "3.0", "0.5"], ["WebP", "1.00", "21.25", "0.600", "3.0", "0.5"],
        ["INR 8 bit", "1.00", "20.00", "0.500", "12,000.0", "7.0"],
    ]  # fmt: skip
    pytest.importorskip("matplotlib")
    assert equal.draws()
    assert not own.draws()
    equal.draw(tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1200, 720)


def test_the_time_to_encode_is_shown_beside_codecs_in_the_same_bytes(tmp_path):
    for steps, psnr_db in ((400, 28.0), (1600, 30.0)):
        config = {"experiment_name": "encode_time", "preset": "cpu", "labels": {"curve": "6x42"}, "fit": {"steps": steps}}
        metrics = {"images": 2, "bpp": 1.0, "psnr_db": psnr_db, "ssim": 0.8, "device": "cpu", "decode_cpu_ms": 30.0}
        metrics |= {"encode_ms_per_image": 5.0 * steps}
        config |= {"refine": {"steps": 2 * steps}}
        write_run(tmp_path / str(steps), verb="encode", config=config, metrics=metrics)
    config = {"experiment_name": "encode_time", "preset": "cpu", "labels": {"curve": "jpeg"}}
    point = {"ssim": 0.7, "encode_ms": 2.0, "decode_ms": 0.5, "quality": 10, "subsampling": "4:2:0"}
    points = [{"bpp": rate, "psnr_db": 29 + rate, **point} for rate in (0.5, 2.0)]
    write_run(tmp_path / "jpeg", verb="codec", config=config, metrics={"images": 2, "points": points})
    (table,) = made_tables(read_runs(tmp_path), "encode_time")
    assert table.rows.drop(columns="records").map(cell_text).to_numpy().tolist() == [
        ["6x42", "400", "800", "1.00", "28.00", "0.800", "2,000", "30.0"],
        ["6x42", "1600", "3200", "1.00", "30.00", "0.800", "8,000", "30.0"],
        ["JPEG", "—", "—", "1.00", "30.25", "0.700", "2", "0.5"],
    ]
    assert table.draws()
