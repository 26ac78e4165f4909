"""Curves of many runs overlaid, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapid_inr.plots.figures import COLOURS, empty_figure, legend_beside, save_figure, tidy, whole_numbers

PANEL_INCHES = (5.0, 3.6)
PANELS_ACROSS = 3
MOST_NAMED, MOST_SHADED = 40, 8  # curves in the legend; with more curves than this, ranges are not shaded
LETTERS_PER_INCH, LINES_PER_INCH = 16, 5  # of the legend


@dataclass(frozen=True)
class Band:
    """A curve with its range: the mean, the minimum and the maximum over runs at each step."""

    label: str
    steps: Sequence[float]
    means: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def overlaid_curves(path: Path, panels: Mapping[str, Sequence[Band]], *, x_label: str, title: str) -> None:
    """Draw one panel a metric with the curves of all labels, and one legend.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    across = min(PANELS_ACROSS, len(panels))
    down = -(-len(panels) // across)
    labels = list(dict.fromkeys(band.label for bands in panels.values() for band in bands))
    width = PANEL_INCHES[0] * across + 0.6 + max(map(len, labels[:MOST_NAMED])) / LETTERS_PER_INCH
    height = max(PANEL_INCHES[1] * down, 0.6 + min(len(labels), MOST_NAMED) / LINES_PER_INCH)
    figure, canvas = empty_figure(width, height)
    lines: dict[str, Any] = {}
    for axes, (metric, bands) in zip(figure.subplots(down, across, squeeze=False).flat, panels.items(), strict=False):
        for band in bands:
            style = _style(labels.index(band.label))
            (lines[band.label],) = axes.plot(band.steps, band.means, label=band.label, linewidth=1.6, **style)
            if len(labels) <= MOST_SHADED and list(band.low) != list(band.high):
                axes.fill_between(band.steps, band.low, band.high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set(xlabel=x_label, title=metric)
        tidy(axes)
        whole_numbers(axes.xaxis)
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    more = f"and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else None
    legend_beside(figure, handles=[lines[label] for label in labels[:MOST_NAMED]], title=more)
    figure.suptitle(title, x=0.02, ha="left")
    save_figure(path, canvas)


def _style(i: int) -> dict[str, Any]:
    dashes = ("-", "--", ":", "-.")
    short = {"marker": "o", "markersize": 3}
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": dashes[i // len(COLOURS) % len(dashes)], **short}
