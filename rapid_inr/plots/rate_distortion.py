"""Rate-distortion curves as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rapid_inr.evaluation.rate_distortion import Curve, envelope
from rapid_inr.plots.figures import empty_figure, legend_beside, save_figure, tidy

CODEC_COLOURS = {  # the same for measured and published curves
    "JPEG": "#4a4a4a", "JPEG, shared tables": "#a83232", "JPEG2000": "#b8860b", "WebP": "#c0559b", "AVIF": "#8a8a8a",
    "ASTC": "#3d7a3d", "BPG": "#8c6d46", "BPG 4:4:4": "#8c6d46", "COIN": "#d9480f", "cosine series": "#e0a100",
}  # fmt: skip
INR_COLOURS = ("#0b4f9e", "#2f86d6", "#12908e", "#6db33f", "#7a4fb5", "#b04fb5", "#111111", "#8a5a2b")
PUBLISHED_COLOURS = ("#5aa9a0", "#7fa650", "#9a86c4", "#6c8ebf")


def rate_distortion_figure(path: Path, curves: Sequence[Curve], *, title: str) -> None:
    """Draw PSNR over bits per pixel around the INRs' rates: INRs solid, classical codecs dashed, published curves thin.

    Args:
        curves: of one dataset, at least one of them measured.

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
        if marks:  # every measured point, also those below the envelope
            measured = [(p.bpp, p.psnr_db) for p in curve.points]
            axes.plot(*zip(*measured, strict=True), color=style["color"], linestyle="", **marks)
        images = f"published ({curve.note})" if curve.published else "measured here"
        groups.setdefault(images, []).append(line)
    axes.set_xscale("log")
    _frame_inrs(axes, curves)
    axes.set(xlabel="bits per pixel, all bytes of an image counted", ylabel="PSNR (dB), mean over images", title=title)
    tidy(axes)
    for (heading, lines), corner in zip(groups.items(), ("outside right upper", "outside right lower"), strict=False):
        legend_beside(figure, handles=lines, title=heading, loc=corner)
    save_figure(path, canvas)


def _line_style(curve: Curve, curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the style of a curve: its codec's colour, or a different one for each curve of its kind and origin."""
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
    """Set the axes to the INRs' rates with a factor of 1.6 on either side, and to the PSNR of all curves there."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    inrs = [p for curve in curves if curve.kind != "classical" and not curve.published for p in curve.points]
    shown = inrs or [p for curve in curves for p in curve.points]
    left, right = min(p.bpp for p in shown) / 1.6, max(p.bpp for p in shown) * 1.6
    levels = [psnr for curve in curves for bpp, psnr in envelope(curve.points) if left <= bpp <= right]
    axes.set(xlim=(left, right), ylim=(max(15, min(levels) - 1), min(50, max(levels) + 1)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=()))
