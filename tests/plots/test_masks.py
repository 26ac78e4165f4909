import numpy as np
from PIL import Image

from rapid_inr.plots.masks import BACKGROUND, colours, mask_sheet


def test_classes_have_colours_of_their_own_on_a_dark_background():
    found = colours(21)
    assert tuple(found[0]) == BACKGROUND
    assert len({tuple(colour) for colour in found.tolist()}) == 21
    np.testing.assert_array_equal(colours(6), found[:6])  # a class keeps its colour whatever the others


def test_a_sheet_shows_image_mask_and_prediction_side_by_side(tmp_path):
    images = np.full((1, 96, 96, 3), 200, dtype=np.uint8)
    true, predicted = np.zeros((1, 96, 96), dtype=np.int64), np.full((1, 96, 96), 2)
    mask_sheet(tmp_path / "sheet.png", images, true, predicted, ["a disc"], title="shapes")
    with Image.open(tmp_path / "sheet.png") as sheet:
        row = np.asarray(sheet)[100]
    shown = [tuple(colour) for colour in row.tolist() if colour != [255, 255, 255]]
    assert list(dict.fromkeys(shown)) == [(200, 200, 200), BACKGROUND, tuple(colours(3)[2].tolist())]
