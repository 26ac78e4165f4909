import numpy as np
import pytest
from PIL import Image

from rapid_inr.plots.figures import COLOURS
from rapid_inr.plots.overlay import MOST_NAMED, MOST_SHADED, Band, overlaid_curves

pytest.importorskip("matplotlib")


def drawn(path, panels) -> np.ndarray:
    overlaid_curves(path, panels, x_label="epoch", title="curves")
    with Image.open(path) as picture:
        return np.asarray(picture)


def has_colour(pixels: np.ndarray, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(pixels.astype(int) - wanted).max(-1) < 8).any())


def band(label: str, *, spread: float = 0.0) -> Band:
    means = [2.0, 1.0, 0.5]
    return Band(label, [1, 2, 3], means, [mean - spread for mean in means], [mean + spread for mean in means])


def test_each_row_has_a_colour_of_its_own_in_all_panels(tmp_path):
    pixels = drawn(tmp_path / "c.png", {"loss": [band("a"), band("b")], "top1_pct": [band("b")]})
    assert has_colour(pixels, COLOURS[0])
    assert has_colour(pixels, COLOURS[1])
    assert not has_colour(pixels, COLOURS[2])


def test_the_range_of_several_runs_is_shaded(tmp_path):
    alone, several = (drawn(tmp_path / f"{spread}.png", {"loss": [band("a", spread=spread)]}) for spread in (0.0, 0.4))
    assert (several != 255).sum() > 1.2 * (alone != 255).sum()


def test_a_legend_of_many_rows_has_room_and_their_ranges_are_left_out(tmp_path):
    def of(n, spread=0.0):
        return drawn(tmp_path / f"{n}-{spread}.png", {"loss": [band(f"row {i}", spread=spread) for i in range(n)]})

    assert of(20).shape[0] > of(2).shape[0]
    assert of(2 * MOST_NAMED).shape[0] == of(MOST_NAMED).shape[0]  # the legend ends with their number
    assert np.array_equal(of(MOST_SHADED + 1), of(MOST_SHADED + 1, spread=0.4))
