"""The figure of the speed claim: training and loading by number of workers, and the step alone as the limit of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rapid_inr.plots.figures import COLOURS, empty_figure, legend_beside, save_figure, tidy, whole_numbers


def speed_figure(path: Path, curves: Mapping[str, Sequence[tuple[float, float, float]]], *, step: float, title: str) -> None:
    """Draw images a second over workers on a logarithmic scale: training solid, the loader alone dotted with hollow points.

    Args:
        curves: by pipeline: (workers, images a second of the loader alone, images a second of training).
        step: images a second of the network's step alone, as a dashed line: training with a free decode.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    figure, canvas = empty_figure(8, 4.2)
    axes = figure.subplots()
    for i, (name, points) in enumerate(curves.items()):
        workers, alone, training = zip(*sorted(points), strict=True)
        look = {"color": COLOURS[i % len(COLOURS)], "marker": "o", "markersize": 4}
        axes.plot(workers, training, label=name, **look)
        axes.plot(workers, alone, linestyle=":", markerfacecolor="none", **look)
    axes.axhline(step, color="#222222", linewidth=1.1, linestyle="--", label="free decode: the step alone")
    axes.plot(
        [], [], color="#222222", linestyle=":", marker="o", markersize=4, markerfacecolor="none", label="hollow: the loader alone"
    )
    axes.set(xlabel="workers", ylabel="images a second", title=title, yscale="log")
    whole_numbers(axes.xaxis)
    tidy(axes)
    legend_beside(figure, title="")
    save_figure(path, canvas)
