"""Figures of tables: means and standard deviations, as lines over numbers, or as bars or dots over words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rapid_inr.plots.figures import COLOURS, empty_figure, legend_beside, save_figure, tidy, whole_numbers

GROUP_WIDTH = 0.8  # of a group of bars, as a fraction of the distance between groups
ALIKE = 0.5  # bars become dots if the smallest mean is above this fraction of the largest
TITLE = 58  # letters a line of the title, about the width of the axes beside a legend
LONG = 70  # the words on the axis are rotated if (longest word) x (number of words) exceeds this
Line = Sequence[tuple[str | float, float, float]]  # x, and mean and standard deviation (0 of a single run) of y


def table_figure(
    path: Path,
    lines: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    title: str,
    reference: tuple[str, float] | None = None,
    log: bool = False,
    legend: str = "",
) -> None:
    """Draw means over `x`, with their standard deviations.

    If all of `x` are numbers, draw lines. Over words draw bars from 0, or dots if the bars would be nearly alike.

    Args:
        lines: by label.
        reference: name and value of a dashed line.
        log: whether numbers on x have a logarithmic scale.
        legend: title of the legend.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    figure, canvas = empty_figure(8, 4.2)
    axes = figure.subplots()
    finite = {label: [point for point in line if math.isfinite(point[1])] for label, line in lines.items()}
    if all(isinstance(x, int | float) for line in finite.values() for x, _, _ in line):
        _draw_lines(axes, finite, log=log)
    else:
        _draw_over_words(axes, finite)
    if reference is not None:
        axes.axhline(reference[1], color="#222222", linewidth=1.1, linestyle="--", label=reference[0])
    axes.set(xlabel=x_label, ylabel=y_label, title=textwrap.fill(title, TITLE))
    tidy(axes)
    axes.xaxis.grid(False)
    if len(lines) > 1 or reference is not None:
        legend_beside(figure, title=legend)
    save_figure(path, canvas)


def _draw_lines(axes: Any, lines: Mapping[str, Line], *, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    for i, (label, line) in enumerate(lines.items()):
        x, means, stds = zip(*sorted(line), strict=True)
        look = {"color": COLOURS[i % len(COLOURS)], "marker": "o", "markersize": 4, "linewidth": 1.8}
        axes.errorbar(x, means, yerr=stds if any(stds) else None, label=label, capsize=3, **look)
    if log:
        axes.set_xscale("log")
        lowest, highest = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 1000 * lowest else (1,)))  # labels need room
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.xaxis.set_minor_locator(LogLocator(subs=()))
    elif all(float(x).is_integer() for line in lines.values() for x, _, _ in line):
        whole_numbers(axes.xaxis)


def _draw_over_words(axes: Any, lines: Mapping[str, Line]) -> None:
    words = list(dict.fromkeys(str(x) for line in lines.values() for x, _, _ in line))
    means = [mean for line in lines.values() for _, mean, _ in line]
    alike = bool(means) and min(means) > ALIKE * max(means)
    width = GROUP_WIDTH / max(1, len(lines))
    for i, (label, line) in enumerate(lines.items()):
        at = [words.index(str(x)) + (i - (len(lines) - 1) / 2) * width for x, _, _ in line]
        values, spread = [mean for _, mean, _ in line], [std for _, _, std in line]
        look = {"label": label, "color": COLOURS[i % len(COLOURS)]}
        if alike:
            axes.errorbar(at, values, yerr=spread, linestyle="", marker="o", markersize=7, capsize=4, **look)
        else:
            errors = {"yerr": spread, "capsize": 3, "error_kw": {"linewidth": 1}} if any(spread) else {}
            axes.bar(at, values, width=0.92 * width, **errors, **look)
    rotated = max(map(len, words), default=0) * len(words) > LONG
    axes.set_xticks(range(len(words)), words, rotation=30 if rotated else 0, ha="right" if rotated else "center")
    axes.set_xlim(-0.6, len(words) - 0.4)
