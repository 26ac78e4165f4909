"""Contact sheets, training curves and histograms as PNG, and the helpers that all figures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rapid_inr.errors import UserError
from rapid_inr.files import atomic

COLOURS = (  # of lines
    "#0b4f9e", "#d9480f", "#12908e", "#a83232", "#6db33f", "#7a4fb5", "#b8860b", "#2f86d6", "#c0559b", "#4a4a4a",
)  # fmt: skip
INK, PAPER, FAINT = (28, 32, 38), (255, 255, 255), (90, 98, 108)
MARGIN, GAP, RULE = 16, 10, 2  # pixels around the sheet, between its cells, and between the images of a cell
TITLE_HEIGHT, CAPTION_HEIGHT = 28, 18
SHORTEST, LONGEST = 96, 320  # pixels: small images are enlarged to the first on their short side, at most to the second
ASPECT = 1.4  # target width over height of a sheet
TOP1 = ("top1_pct", "top-1 on clean test images (%)")
LEGEND_INSIDE = 4  # with more curves, the legend goes beside the axes, where it hides none
ERROR_GAIN = 4  # the error is multiplied by this, so that a good decode is not a black square


def error_image(decoded: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Return the absolute error, multiplied by `ERROR_GAIN` and clipped, uint8 [height, width, 3].

    Raises:
        ValueError: if the images differ in shape.
    """
    if decoded.shape != original.shape:
        raise UserError(f"images differ in shape: {decoded.shape} and {original.shape}")
    error = np.abs(decoded.astype(np.int16) - original.astype(np.int16))
    return np.minimum(error * ERROR_GAIN, 255).astype(np.uint8)


def comparison_sheet(
    path: Path, originals: Sequence[np.ndarray], decoded: Sequence[np.ndarray], captions: Sequence[str], *, title: str
) -> None:
    """Write a sheet with the original, the decode and the error of each image, and a caption under each triple.

    Args:
        originals, decoded: uint8 [height, width, 3] each, of any sizes.

    Raises:
        ValueError: if there is no image, or the sequences do not match.
    """
    triples = []
    for original, decode in zip(originals, decoded, strict=True):
        cells = [_enlarge(image) for image in (original, decode, error_image(decode, original))]
        rule = np.full((len(cells[0]), RULE, 3), PAPER, dtype=np.uint8)
        triples.append(np.concatenate([cells[0], rule, cells[1], rule, cells[2]], 1))
    _write_sheet(path, triples, captions, title=f"{title}   (original | decoded | error x{ERROR_GAIN})")


def contact_sheet(path: Path, images: Sequence[np.ndarray], captions: Sequence[str], *, title: str, together: int = 1) -> None:
    """Write a grid of captioned images; small ones are enlarged by a whole factor, large ones reduced.

    Args:
        images: uint8 [height, width, 3] each, of any sizes.
        together: how many images in sequence stand in one row.

    Raises:
        ValueError: if there is no image, or not one caption for each.
    """
    _write_sheet(path, [_enlarge(image) for image in images], captions, title=title, together=together)


def _write_sheet(path: Path, cells: Sequence[np.ndarray], captions: Sequence[str], *, title: str, together: int = 1) -> None:
    if not cells or len(cells) != len(captions):
        raise UserError(f"a sheet has {len(cells)} images and {len(captions)} captions, expected one caption an image")
    font, title_font = ImageFont.load_default(12), ImageFont.load_default(15)
    width = max(cell.shape[1] for cell in cells)
    column, row = width + GAP, max(cell.shape[0] for cell in cells) + CAPTION_HEIGHT + GAP
    n_columns = min(len(cells), round((len(cells) * row * ASPECT / column) ** 0.5))
    n_columns = max(1, n_columns // together) * together
    rows = [cells[first : first + n_columns] for first in range(0, len(cells), n_columns)]
    heights = [max(cell.shape[0] for cell in group) + CAPTION_HEIGHT + GAP for group in rows]
    inner_width = max(n_columns * column - GAP, int(title_font.getlength(title)) + 1)
    sheet = Image.new("RGB", (2 * MARGIN + inner_width, 2 * MARGIN + TITLE_HEIGHT + sum(heights) - GAP), PAPER)
    canvas = ImageDraw.Draw(sheet)
    canvas.text((MARGIN, MARGIN - 4), title, fill=INK, font=title_font)
    for i, (cell, caption) in enumerate(zip(cells, captions, strict=True)):
        left, top = MARGIN + (i % n_columns) * column, MARGIN + TITLE_HEIGHT + sum(heights[: i // n_columns])
        sheet.paste(Image.fromarray(cell), (left, top))
        canvas.text((left, top + cell.shape[0] + 2), _shortened(caption, font, width), fill=FAINT, font=font)
    save_png(path, sheet)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return the end of a text that is too wide: there a path has the file, and a caption the measurement."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text


def _enlarge(image: np.ndarray) -> np.ndarray:
    short, long = sorted(image.shape[:2])
    factor = max(1, min(-(-SHORTEST // short), LONGEST // long))
    image = image.repeat(factor, 0).repeat(factor, 1)
    if long > LONGEST:
        picture = Image.fromarray(image)
        picture.thumbnail((LONGEST, LONGEST))
        image = np.asarray(picture)
    return image


def save_png(path: Path, image: Image.Image) -> None:
    """Write a PNG atomically."""
    with atomic(path) as temporary:
        image.save(temporary, format="PNG")


def training_curves(
    path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]], *, title: str, score: tuple[str, str] = TOP1
) -> None:
    """Draw the score on test images and the training loss over epochs, a line a run.

    Args:
        curves: by label; rows with ``epoch`` (from 0), ``loss`` and the score.
        score: its metric, and its label on the axis.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    figure, canvas = empty_figure(9, 3.6)
    accuracy, loss = figure.subplots(1, 2)
    for label, rows in curves.items():
        epochs = [row["epoch"] + 1 for row in rows]
        accuracy.plot(epochs, [row[score[0]] for row in rows], marker="o", markersize=3, label=label)
        loss.plot(epochs, [row["loss"] for row in rows], marker="o", markersize=3, label=label)
    accuracy.set(xlabel="epoch", ylabel=score[1])
    loss.set(xlabel="epoch", ylabel="training loss (nats)")
    for axes in (accuracy, loss):
        tidy(axes)
        whole_numbers(axes.xaxis)
    if len(curves) > LEGEND_INSIDE:
        legend_beside(figure, handles=accuracy.get_lines(), loc="outside right center")
    else:
        accuracy.legend(frameon=False)
    figure.suptitle(title)
    save_figure(path, canvas)


def distributions(path: Path, values: Mapping[str, Sequence[float]], *, title: str) -> None:
    """Draw a histogram over images for each of `values`, with the median and the range from 5% to 95%.

    Args:
        values: by label with its unit, one value an image.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    figure, canvas = empty_figure(4.5 * len(values), 3.4)
    panels = figure.subplots(1, len(values), squeeze=False)[0]
    for axes, (label, numbers) in zip(panels, values.items(), strict=True):
        low, median, high = np.quantile(numbers, (0.05, 0.5, 0.95))
        axes.hist(numbers, bins=min(40, max(8, len(numbers) // 8)), color="#4878a8")
        axes.axvspan(low, high, color="#4878a8", alpha=0.12)
        axes.axvline(median, color="black", linewidth=1.2)
        axes.set(xlabel=label, ylabel="images", title=f"median {median:.2f}, 5% to 95%: {low:.2f} to {high:.2f}")
        axes.title.set_fontsize(9)
        tidy(axes, grid=False)
        whole_numbers(axes.yaxis)
    figure.suptitle(title)
    save_figure(path, canvas)


def empty_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure, its size in inches, and its canvas."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("curves need matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # inches
    return figure, FigureCanvasAgg(figure)


def save_figure(path: Path, canvas: Any) -> None:
    """Draw a figure and write it as PNG."""
    canvas.draw()
    save_png(path, Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def tidy(axes: Any, *, grid: bool = True) -> None:
    """Hide the frame at the top and on the right, and draw a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(alpha=0.3)


def whole_numbers(axis: Any) -> None:
    """Place the ticks of an axis at whole numbers."""
    axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def legend_beside(figure: Any, **options: Any) -> None:
    """Place the legend to the right of all axes."""
    figure.legend(
        **{"loc": "outside right upper", "fontsize": 8, "title_fontsize": 8, "frameon": False, "alignment": "left"} | options
    )
