import math
import sys

import numpy as np
import pytest
from PIL import Image

from rapid_inr.plots.figures import COLOURS
from rapid_inr.plots.tables import table_figure


def drawn(path, lines, **options):
    pytest.importorskip("matplotlib")
    table_figure(path, lines, **{"x_label": "x", "y_label": "y", "title": "t"} | options)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def coloured(pixels, i):
    """Return where the i-th colour is, as rows and columns."""
    return (pixels == [int(COLOURS[i][at : at + 2], 16) for at in (1, 3, 5)]).all(2).nonzero()


def test_numbers_on_x_are_a_line_whatever_their_order(tmp_path):
    line = [(4.0, 3.0, 0.0), (1.0, 1.0, 0.0), (2.0, 2.0, 0.0)]
    pixels = drawn(tmp_path / "a.png", {"a": line})
    assert np.array_equal(pixels, drawn(tmp_path / "b.png", {"a": sorted(line)}))
    rows, columns = coloured(pixels, 0)
    left, right = rows[columns < columns.min() + 8].mean(), rows[columns > columns.max() - 8].mean()
    assert np.ptp(columns) > 400
    assert left > right + 200  # it rises


def test_a_logarithm_spaces_numbers_by_their_ratio(tmp_path):
    pixels = drawn(tmp_path / "a.png", {"a": [(10.0, 1.0, 0.0), (100.0, 2.0, 0.0), (1000.0, 2.0, 0.0)]}, log=True)
    rows, columns = coloured(pixels, 0)
    flat = columns[rows == rows[columns > columns.max() - 20].min() + 3]  # where the line has reached its height
    assert np.ptp(flat) / np.ptp(columns) == pytest.approx(0.5, abs=0.05)


def test_numbers_below_a_logarithmic_axis_do_not_touch(tmp_path):
    pixels = drawn(tmp_path / "a.png", {"a": [(2.0, 1.0, 0.0), (70_000.0, 2.0, 0.0)]}, log=True)
    dark = (pixels < 120).all(2)
    axis = dark[-100:].sum(1).argmax() + len(dark) - 100
    inked = dark[axis + 8 : axis + 28].any(0).nonzero()[0]
    words = np.split(inked, (np.diff(inked) > 8).nonzero()[0] + 1)
    assert len(words) == 5  # 10 to 100,000


def test_words_on_x_are_bars_from_zero_or_dots_where_bars_would_be_alike(tmp_path):
    bars = drawn(tmp_path / "bars.png", {"a": [("raw", 10.0, 0.0), ("INR", 3.0, 0.0)]})
    dots = drawn(tmp_path / "dots.png", {"a": [("raw", 93.0, 0.0), ("INR", 92.0, 0.0)]})
    assert len(coloured(bars, 0)[0]) > 30_000
    assert 50 < len(coloured(dots, 0)[0]) < 1000
    rows, columns = coloured(bars, 0)
    heights = [np.ptp(rows[side]) for side in (columns < columns.mean(), columns > np.median(columns) + 200)]
    assert heights[0] / heights[1] == pytest.approx(10 / 3, rel=0.05)


def test_each_line_has_a_colour_and_the_papers_number_a_line_of_its_own(tmp_path):
    lines = {"a": [(1.0, 1.0, 0.0), (2.0, 2.0, 0.2)], "b": [(1.0, 1.5, 0.0), (2.0, 2.5, 0.0)]}
    plain, held = drawn(tmp_path / "a.png", lines), drawn(tmp_path / "b.png", lines, reference=("the paper: up to 6x", 6.0))
    assert all(len(coloured(plain, i)[0]) > 100 for i in (0, 1))
    dark = [(pixels < 120).all(2)[:200].sum(1).max() for pixels in (plain, held)]  # in the row that has most of it
    assert dark[0] < 60
    assert dark[1] > 200


def test_what_is_infinite_has_no_place(tmp_path):
    pixels = drawn(tmp_path / "a.png", {"a": [(1.0, 1.0, 0.0), (2.0, math.inf, 0.0), (3.0, 2.0, 0.0)]})
    assert len(coloured(pixels, 0)[0]) > 100


def test_a_figure_without_matplotlib_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        table_figure(tmp_path / "a.png", {"a": [(1.0, 1.0, 0.0)]}, x_label="x", y_label="y", title="t")


def test_a_long_title_stays_within_the_picture_and_clear_of_the_legend(tmp_path):
    lines = {"a": [(1.0, 1.0, 0.0)], "b": [(1.0, 2.0, 0.0)]}
    pixels = drawn(tmp_path / "a.png", lines, title="moved coordinates against moved pixels " * 3, legend="moved")
    dark = (pixels.max(2) < 100).any(0)
    assert not dark[:4].any()
    title = (pixels[:60].max(2) < 100).any(0).nonzero()[0]
    assert np.diff(title).max() > 20  # between title and legend there is a gap
