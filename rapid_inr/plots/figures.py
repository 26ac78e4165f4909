"""Pictures of results: contact sheets and training curves, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rapid_inr.errors import UserError
from rapid_inr.evaluation.rate_distortion import Curve, envelope
from rapid_inr.files import atomic

INK, PAPER, FAINT = (28, 32, 38), (255, 255, 255), (90, 98, 108)
MARGIN, GAP, RULE = 16, 10, 2  # pixels around the sheet, between its cells, and between the pictures of one cell
TITLE_HEIGHT, CAPTION_HEIGHT = 28, 18
SHORTEST, LONGEST = 96, 320  # a picture is enlarged until its short side has the one, and never beyond the other
ASPECT = 1.4  # width over height that a sheet aims at
CODEC_COLOURS = {  # the same whoever measured it
    "JPEG": "#4a4a4a", "JPEG, shared tables": "#a83232", "JPEG2000": "#b8860b", "WebP": "#c0559b", "AVIF": "#8a8a8a",
    "BPG": "#8c6d46", "BPG 4:4:4": "#8c6d46", "COIN": "#d9480f",
}  # fmt: skip
INR_COLOURS = ("#0b4f9e", "#2f86d6", "#12908e", "#6db33f", "#7a4fb5", "#b04fb5", "#111111", "#8a5a2b")
PUBLISHED_COLOURS = ("#5aa9a0", "#7fa650", "#9a86c4", "#6c8ebf")
TOP1 = ("top1_pct", "top-1 on clean test images (%)")
LEGEND_INSIDE = 4  # lines of a figure of training that are named among them, where more would hide them
ERROR_GAIN = 4  # an error is shown as 4 times its size, so that a good decode does not look like a black square


def error_image(decoded: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Return the absolute error, `ERROR_GAIN` times enlarged and clipped, uint8 [height, width, 3].

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
    """Write a sheet of original, decoded, error for each image, with a caption under each triple.

    Args:
        originals: uint8 [height, width, 3] each, of any sizes.
        decoded: likewise, of the same sizes.

    Raises:
        ValueError: if there is no image, or the sequences do not match.
    """
    triples = []
    for original, there in zip(originals, decoded, strict=True):
        cells = [_enlarge(image) for image in (original, there, error_image(there, original))]
        rule = np.full((len(cells[0]), RULE, 3), PAPER, dtype=np.uint8)
        triples.append(np.concatenate([cells[0], rule, cells[1], rule, cells[2]], 1))
    _write_sheet(path, triples, captions, title=f"{title}   (original | decoded | error x{ERROR_GAIN})")


def contact_sheet(path: Path, images: Sequence[np.ndarray], captions: Sequence[str], *, title: str) -> None:
    """Write a grid of captioned images; small ones are enlarged by whole pixels, large ones reduced.

    Args:
        images: uint8 [height, width, 3] each, of any sizes.

    Raises:
        ValueError: if there is no image, or not one caption for each.
    """
    _write_sheet(path, [_enlarge(image) for image in images], captions, title=title)


def _write_sheet(path: Path, cells: Sequence[np.ndarray], captions: Sequence[str], *, title: str) -> None:
    if not cells or len(cells) != len(captions):
        raise UserError(f"a sheet has {len(cells)} images and {len(captions)} captions, expected as many of each, at least 1")
    font, title_font = ImageFont.load_default(12), ImageFont.load_default(15)
    width = max(cell.shape[1] for cell in cells)
    column, row = width + GAP, max(cell.shape[0] for cell in cells) + CAPTION_HEIGHT + GAP
    n_columns = max(1, min(len(cells), round((len(cells) * row * ASPECT / column) ** 0.5)))
    rows = [cells[first : first + n_columns] for first in range(0, len(cells), n_columns)]
    heights = [max(cell.shape[0] for cell in some) + CAPTION_HEIGHT + GAP for some in rows]
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
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


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
    path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]], *, title: str, judged: tuple[str, str] = TOP1
) -> None:
    """Draw test accuracy and training loss over epochs, a line a run.

    Args:
        curves: by label, rows with ``epoch`` (from 0), ``loss``, and what is judged.
        judged: its metric, and what the axis calls it.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    figure, canvas = empty_figure(9, 3.6)
    accuracy, loss = figure.subplots(1, 2)
    for label, rows in curves.items():
        epochs = [row["epoch"] + 1 for row in rows]
        accuracy.plot(epochs, [row[judged[0]] for row in rows], marker="o", markersize=3, label=label)
        loss.plot(epochs, [row["loss"] for row in rows], marker="o", markersize=3, label=label)
    accuracy.set(xlabel="epoch", ylabel=judged[1])
    loss.set(xlabel="epoch", ylabel="training loss (nats)")
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if len(curves) > LEGEND_INSIDE:
        figure.legend(*accuracy.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    else:
        accuracy.legend(frameon=False)
    figure.suptitle(title)
    save_figure(path, canvas)


def distributions(path: Path, values: Mapping[str, Sequence[float]], *, title: str) -> None:
    """Draw how values are distributed over images, a panel each, with median and the middle nine tenths.

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
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    save_figure(path, canvas)


def empty_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure of a size in inches, and what draws it."""
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


def rate_distortion_figure(path: Path, curves: Sequence[Curve], *, title: str, one_image: bool = False) -> None:
    """Draw PSNR over bits per pixel: INRs solid, classical codecs dashed, what others published thin, around where the INRs are.

    Args:
        curves: of one dataset, at least one of them measured.
        one_image: whether they are of a single image, whose INRs are counted without the header of their store.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    figure, canvas = empty_figure(10, 6)
    axes = figure.subplots()
    groups: dict[str, list[Any]] = {}
    for curve in sorted(curves, key=lambda curve: (curve.published, curve.kind == "classical", curve.kind == "coin")):
        style = _line_style(curve, curves)
        marks = {name: style.pop(name) for name in ("marker", "markersize") if name in style}
        (line,) = axes.plot(*zip(*envelope(curve.points), strict=True), label=curve.label, **style)
        if marks:  # where something was measured, also below the line
            measured = [(p.bpp, p.psnr_db) for p in curve.points]
            axes.plot(*zip(*measured, strict=True), color=style["color"], linestyle="", **marks)
        images = f"published ({curve.note})" if curve.published else "measured here"
        groups.setdefault(images, []).append(line)
    axes.set_xscale("log")
    _frame_inrs(axes, curves)
    counted, mean = ("a store's header not counted", "") if one_image else ("all bytes counted", ", mean over images")
    axes.set(xlabel=f"bits per pixel, {counted}", ylabel=f"PSNR (dB){mean}", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    for (heading, lines), corner in zip(groups.items(), ("outside right upper", "outside right lower"), strict=False):
        figure.legend(handles=lines, title=heading, loc=corner, fontsize=8, title_fontsize=8, frameon=False, alignment="left")
    save_figure(path, canvas)


def _line_style(curve: Curve, curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the look of a curve: that of its codec, or a colour of its own among those of its kind and origin."""
    palette = PUBLISHED_COLOURS if curve.published else INR_COLOURS
    others = [c for c in curves if (c.kind, c.published) == (curve.kind, curve.published) and _codec_colour(c) is None]
    colour = _codec_colour(curve) or palette[others.index(curve) % len(palette)]
    if curve.published:
        dots = ":" if curve.kind == "classical" else "-"
        return {"color": colour, "linestyle": dots, "linewidth": 0.9, "marker": "x", "markersize": 4}
    if curve.kind == "classical":
        return {"color": colour, "linestyle": "--", "linewidth": 1.6}
    return {"color": colour, "linestyle": "-", "linewidth": 2.2, "marker": "o", "markersize": 5}


def _codec_colour(curve: Curve) -> str | None:
    return CODEC_COLOURS.get("COIN" if curve.kind == "coin" else curve.label)


def _frame_inrs(axes: Any, curves: Sequence[Curve]) -> None:
    """Show the rates of the INRs and half as much on either side, and the PSNR that any curve has there."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    inrs = [p for curve in curves if curve.kind != "classical" and not curve.published for p in curve.points]
    shown = inrs or [p for curve in curves for p in curve.points]
    left, right = min(p.bpp for p in shown) / 1.6, max(p.bpp for p in shown) * 1.6
    levels = [psnr for curve in curves for bpp, psnr in envelope(curve.points) if left <= bpp <= right]
    axes.set(xlim=(left, right), ylim=(max(15, min(levels) - 1), min(50, max(levels) + 1)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=()))
