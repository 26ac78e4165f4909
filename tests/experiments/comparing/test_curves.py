import re

import pytest
from PIL import Image

from experiments.reporting.comparing import curves
from experiments.reporting.comparing.curves import draw_curves
from experiments.reporting.comparing.groups import rows_of
from experiments.reporting.comparing.render import Comparison
from experiments.reporting.comparing.where import known_keys
from rapid_inr.plots.overlay import Band
from tests.logged import made


def trained(run: str, pipeline: str, losses: list[float], *, status: str = "finished", **more):
    lines = [{"epoch": epoch, "loss": loss, "arm": pipeline, **more} for epoch, loss in enumerate(losses)]
    return made(run, config={"pipeline": {"name": pipeline}}, lines=lambda: lines, status=status)


def comparison(*runs) -> Comparison:
    return Comparison("train", rows_of(runs, ["pipeline"]), [], frozenset(known_keys(runs)))


@pytest.fixture
def drawn(monkeypatch):
    """What would be drawn, by metric."""
    found = {}
    monkeypatch.setattr(curves, "overlaid_curves", lambda path, panels, **told: found.update(panels=panels, **told))
    return found


def test_a_rows_curve_is_the_mean_of_its_runs_within_their_range(tmp_path, drawn):
    draw_curves(tmp_path / "c.png", comparison(trained("a", "inr", [3.0, 2.0]), trained("b", "inr", [1.0, 1.0, 0.5])), None)
    assert drawn["panels"] == {"loss": [Band("pipeline=inr", [1, 2, 3], [2.0, 1.5, 0.5], [1.0, 1.0, 0.5], [3.0, 2.0, 0.5])]}
    assert drawn["x_label"] == "epoch"


def test_runs_that_failed_are_left_out_unless_there_is_nothing_else(tmp_path, drawn):
    runs = [trained("a", "inr", [3.0]), trained("b", "inr", [9.0], status="failed"), trained("c", "ram", [5.0], status="running")]
    draw_curves(tmp_path / "c.png", comparison(*runs), ["loss"])
    bands = drawn["panels"]["loss"]
    assert [(band.label, list(band.means)) for band in bands] == [
        ("pipeline=inr (1 finished, 1 failed)", [3.0]),
        ("pipeline=ram (running)", [5.0]),
    ]


def test_the_arms_of_one_run_are_curves_of_their_own(tmp_path, drawn):
    lines = [{"epoch": 0, "arm": "raw", "loss": 1.0}, {"epoch": 0, "arm": "inr", "loss": 2.0}]
    draw_curves(tmp_path / "c.png", Comparison("demo", rows_of([made("d", lines=lambda: lines)], []), [], frozenset()), None)
    assert [(band.label, list(band.means)) for band in drawn["panels"]["loss"]] == [("d, raw", [1.0]), ("d, inr", [2.0])]


def test_headlines_are_drawn_first_and_lines_without_epochs_by_their_number(tmp_path, drawn):
    lines = [{"zeta": 1.0, "top1_pct": 2.0, "name": "x"}, {"zeta": 3.0, "top1_pct": None}]
    draw_curves(tmp_path / "c.png", Comparison("x", rows_of([made("d", lines=lambda: lines)], []), [], frozenset()), None)
    assert list(drawn["panels"]) == ["top1_pct", "zeta"]
    assert drawn["panels"]["zeta"] == [Band("d", [1, 2], [1.0, 3.0], [1.0, 3.0], [1.0, 3.0])]
    assert drawn["x_label"] == "line"


def test_of_chosen_metrics_those_are_drawn_that_were_logged(tmp_path, drawn):
    draw_curves(tmp_path / "c.png", comparison(trained("a", "inr", [3.0], top1_pct=5.0)), ["bpp", "loss"])
    assert list(drawn["panels"]) == ["loss"]


def test_runs_of_one_name_are_all_of_the_mean(tmp_path, drawn):
    draw_curves(tmp_path / "c.png", comparison(trained("a", "inr", [3.0]), trained("a", "inr", [1.0])), None)
    assert list(drawn["panels"]["loss"][0].means) == [2.0]


def test_what_was_not_logged_line_by_line_is_refused(tmp_path):
    with pytest.raises(ValueError, match=re.escape("none of these runs has logged lines")):
        draw_curves(tmp_path / "c.png", comparison(made("a", config={"pipeline": {"name": "inr"}})), None)
    with pytest.raises(ValueError, match="no run has logged psnr_db line by line; there are loss"):
        draw_curves(tmp_path / "c.png", comparison(trained("a", "inr", [3.0])), ["psnr_db"])


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    runs = [trained(f"{p}{i}", p, [2 + i, 1 + i, 0.5], top1_pct=5.0) for p in ("inr", "ram") for i in range(2)]
    draw_curves(tmp_path / "curves" / "c.png", comparison(*runs), None)
    with Image.open(tmp_path / "curves" / "c.png") as picture:
        width, height = picture.size
    assert height < width
