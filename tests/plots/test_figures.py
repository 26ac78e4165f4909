import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rapid_inr.evaluation.rate_distortion import Curve, CurvePoint
from rapid_inr.plots.figures import (
    ERROR_GAIN,
    GAP,
    LONGEST,
    MARGIN,
    RULE,
    SHORTEST,
    TITLE_HEIGHT,
    comparison_sheet,
    contact_sheet,
    distributions,
    error_image,
    save_png,
    training_curves,
)
from rapid_inr.plots.rate_distortion import rate_distortion_figure

TOP = MARGIN + TITLE_HEIGHT  # where the first cell begins


def random_image(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (height, width, 3), dtype=np.uint8)  # nowhere paper-white


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, 0).repeat(factor, 1)


def curves(n_epochs: int) -> list[dict[str, float]]:
    return [{"epoch": i, "top1_pct": 50.0 + i, "loss": 2.0 - 0.1 * i} for i in range(n_epochs)]


def test_the_error_is_absolute_enlarged_and_clipped():
    decoded = np.array([[[10, 200, 0], [0, 0, 255]]], dtype=np.uint8)
    original = np.array([[[13, 100, 0], [255, 1, 0]]], dtype=np.uint8)
    assert error_image(decoded, original).tolist() == [[[3 * ERROR_GAIN, 255, 0], [255, ERROR_GAIN, 255]]]
    assert np.array_equal(error_image(decoded, original), error_image(original, decoded))
    assert error_image(decoded, original).dtype == np.uint8


def test_images_of_different_shape_have_no_error_image():
    with pytest.raises(ValueError, match=r"differ in shape: \(4, 4, 3\) and \(1, 1, 3\)"):
        error_image(random_image(4, 4), random_image(1, 1))


def test_a_small_image_is_enlarged_by_whole_pixels(tmp_path):
    image = random_image(32, 40)
    contact_sheet(tmp_path / "sheet.png", [image], ["a"], title="t")
    factor = SHORTEST // 32
    assert factor == 3
    cell = read(tmp_path / "sheet.png")[TOP : TOP + factor * 32, MARGIN : MARGIN + factor * 40]
    assert np.array_equal(cell, enlarged(image, factor))


@pytest.mark.parametrize(
    ("size", "shown"), [((600, 800), (240, 320)), ((200, 300), (200, 300)), ((2, 300), (2, 300)), ((10, 100), (30, 300))]
)
def test_no_picture_is_longer_than_the_limit(tmp_path, size, shown):
    contact_sheet(tmp_path / "sheet.png", [np.full((*size, 3), 7, dtype=np.uint8)], ["a"], title="t")
    rows, columns = (read(tmp_path / "sheet.png") == 7).all(2).nonzero()
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == shown
    assert max(shown) <= LONGEST


def test_every_image_has_its_own_place(tmp_path):
    colours = [(10 * i + 1, 255 - 10 * i, 7) for i in range(17)]
    images = [np.full((96, 96, 3), colour, dtype=np.uint8) for colour in colours]
    contact_sheet(tmp_path / "sheet.png", images, [f"train_{i:05d}" for i in range(17)], title="t")
    sheet = read(tmp_path / "sheet.png")
    places = []
    for colour in colours:
        rows, columns = (sheet == colour).all(2).nonzero()
        assert len(rows) == 96 * 96
        places.append((rows.min(), columns.min()))
    assert places == sorted(places)  # in reading order
    height, width = sheet.shape[:2]
    assert 1 < width / height < 2
    border = [sheet[:4], sheet[-MARGIN:], sheet[:, : MARGIN - 1], sheet[:, -MARGIN:]]  # a glyph overhangs by a pixel
    assert all((edge == 255).all() for edge in border)


@pytest.mark.parametrize("together", [2, 3, 7])
def test_images_that_belong_together_are_in_one_row(tmp_path, together):
    images = [np.full((96, 96, 3), (10 * i + 1, 100, 7), dtype=np.uint8) for i in range(3 * together)]
    contact_sheet(tmp_path / "sheet.png", images, ["a"] * len(images), title="t", together=together)
    sheet = read(tmp_path / "sheet.png")
    tops = [int((sheet == image[0, 0]).all(2).nonzero()[0].min()) for image in images]
    assert all(len(set(tops[first : first + together])) == 1 for first in range(0, len(tops), together))


def test_a_comparison_shows_original_decoded_and_error_side_by_side(tmp_path):
    original, decoded = random_image(48, 64, seed=1), random_image(48, 64, seed=2)
    comparison_sheet(tmp_path / "sheet.png", [original], [decoded], ["train_00000  30.0 dB"], title="shapes, 3x16")
    row = read(tmp_path / "sheet.png")[TOP : TOP + 96]
    step = 128 + RULE
    for i, expected in enumerate((original, decoded, error_image(decoded, original))):
        assert np.array_equal(row[:, MARGIN + i * step : MARGIN + i * step + 128], enlarged(expected, 2)), i


def test_a_comparison_of_mixed_sizes_overlaps_nowhere(tmp_path):
    sizes = [(768, 512), (512, 768), (32, 32), (20, 300)]
    originals = [np.full((*size, 3), 20 + i, dtype=np.uint8) for i, size in enumerate(sizes)]
    decoded = [np.full((*size, 3), 120 + i, dtype=np.uint8) for i, size in enumerate(sizes)]
    comparison_sheet(tmp_path / "sheet.png", originals, decoded, ["a", "b", "c", "d"], title="mixed")
    sheet = read(tmp_path / "sheet.png")
    shown = [(320, 213), (213, 320), (96, 96), (20, 300)]
    for i, (height, width) in enumerate(shown):
        for level in (20 + i, 120 + i):
            assert (sheet == level).all(2).sum() == height * width


def test_captions_and_titles_are_not_cut_off(tmp_path):
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    contact_sheet(tmp_path / "short.png", [image] * 2, ["a", "b"], title="t")
    contact_sheet(
        tmp_path / "long.png", [image] * 2, ["a caption much too long for its cell, " * 3, ""], title="a long title " * 8
    )
    narrow, wide = read(tmp_path / "short.png"), read(tmp_path / "long.png")
    assert wide.shape[1] > narrow.shape[1]
    assert (wide[:, -MARGIN:] == 255).all()  # the title ends before the edge
    assert (wide[: MARGIN + TITLE_HEIGHT - 2, -MARGIN - 60 : -MARGIN] < 255).any()  # and goes on nearly up to it
    caption = wide[TOP + 96 : -MARGIN]
    assert (caption[:, MARGIN : MARGIN + 96] < 255).any()
    assert (caption[:, MARGIN + 96 + GAP :] == 255).all()  # the neighbour has none, and none runs into its place


def test_a_sheet_needs_images_and_a_caption_for_each(tmp_path):
    with pytest.raises(ValueError, match="0 images and 0 captions"):
        contact_sheet(tmp_path / "sheet.png", [], [], title="t")
    with pytest.raises(ValueError, match="2 images and 1 captions"):
        contact_sheet(tmp_path / "sheet.png", [random_image(8, 8)] * 2, ["a"], title="t")
    with pytest.raises(ValueError, match="shorter"):
        comparison_sheet(tmp_path / "sheet.png", [random_image(8, 8)] * 2, [random_image(8, 8)], ["a", "b"], title="t")
    assert not (tmp_path / "sheet.png").exists()


def test_a_png_holds_the_pixels_and_leaves_nothing_beside_it(tmp_path):
    image = random_image(5, 9)
    save_png(tmp_path / "new" / "folder" / "image.png", Image.fromarray(image))
    save_png(tmp_path / "new" / "folder" / "image.png", Image.fromarray(image[::-1].copy()))
    assert np.array_equal(read(tmp_path / "new" / "folder" / "image.png"), image[::-1])
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["image.png"]


def test_curves_have_a_line_a_run_in_both_panels(tmp_path):
    pytest.importorskip("matplotlib")
    training_curves(tmp_path / "one.png", {"resident": curves(5)}, title="t")
    training_curves(tmp_path / "two.png", {"resident": curves(5), "inr": [row | {"loss": 1.0} for row in curves(5)]}, title="t")
    one, two = read(tmp_path / "one.png"), read(tmp_path / "two.png")
    assert one.shape == two.shape == (432, 1080, 3)
    blue, orange = (31, 119, 180), (255, 127, 14)  # the first two colours of the cycle
    for panel in (slice(0, 540), slice(540, 1080)):
        assert (one[:, panel] == blue).all(2).any()
        assert not (one[:, panel] == orange).all(2).any()
        assert (two[:, panel] == orange).all(2).any()


@pytest.mark.parametrize("rows", [curves(1), [{"epoch": 0, "top1_pct": 10.0, "loss": float("nan")}]])
def test_one_epoch_or_a_lost_loss_still_makes_a_picture(tmp_path, rows):
    pytest.importorskip("matplotlib")
    training_curves(tmp_path / "curves.png", {"resident": rows}, title="t")
    assert read(tmp_path / "curves.png").shape == (432, 1080, 3)


def test_distributions_have_a_panel_each_and_mark_where_the_middle_lies(tmp_path):
    pytest.importorskip("matplotlib")
    psnr = np.random.default_rng(0).normal(30, 2, 200).tolist()
    distributions(tmp_path / "one.png", {"PSNR (dB)": psnr}, title="t")
    distributions(tmp_path / "two.png", {"PSNR (dB)": psnr, "pruned (%)": [30.0] * 200}, title="t")
    one, two = read(tmp_path / "one.png"), read(tmp_path / "two.png")
    assert (one.shape, two.shape) == ((408, 540, 3), (408, 1080, 3))
    bars = (0x48, 0x78, 0xA8)
    assert (one == bars).all(2).sum() > 5000
    assert (two[:, 540:] == bars).all(2).any()


def test_curves_without_matplotlib_say_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="curves need matplotlib: pip install matplotlib"):
        training_curves(tmp_path / "curves.png", {"resident": curves(2)}, title="t")


def test_curves_of_rate_and_distortion_are_drawn_each_in_its_own_colour(tmp_path):
    points = tuple(CurvePoint(bpp, 20.0 + 3 * bpp) for bpp in (0.5, 1.0, 2.0))
    inr = Curve("d", "INR", "inr", points)
    theirs = Curve("d", "COIN", "inr", points[:2], published=True, note="24 images")
    rate_distortion_figure(tmp_path / "alone.png", [inr], title="t")
    rate_distortion_figure(tmp_path / "both.png", [inr, Curve("d", "JPEG", "classical", points), theirs], title="t")
    alone, both = read(tmp_path / "alone.png"), read(tmp_path / "both.png")
    assert alone.shape == both.shape == (720, 1200, 3)
    inr_colour = (alone == (0x0B, 0x4F, 0x9E)).all(2)
    assert inr_colour.sum() > 500
    assert ((both == (0x4A, 0x4A, 0x4A)).all(2)).sum() > 100
