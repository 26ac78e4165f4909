import pytest
from PIL import Image

from rapid_inr.plots.search import Dot, search_figure

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("goals", [["PSNR, dB"], ["PSNR, dB", "% of RGB"]])
def test_a_search_is_drawn_whatever_came_of_it(tmp_path, goals):
    dots = [Dot(i, [float(30 + i), float(i)][: len(goals)], within=i != 2, best=i == 3) for i in range(1, 4)]
    for some in (dots, dots[1:2]):
        search_figure(tmp_path / "search.png", some, goals, maximize=True, title="sample")
        with Image.open(tmp_path / "search.png") as image:
            assert image.width > 500
