"""Pictures of a search: what each trial came to, and the best until then; or two goals against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rapid_inr.plots.figures import empty_figure, save_figure

RESULT, TRIED, BEYOND = "#d9480f", "#0b4f9e", "#a9b0b8"


@dataclass(frozen=True)
class Dot:
    """A trial: its number, its value in each goal, whether it keeps the limits, and whether it is of the result."""

    number: int
    values: Sequence[float]
    within: bool
    best: bool


def search_figure(path: Path, dots: Sequence[Dot], goals: Sequence[str], *, maximize: bool, title: str) -> None:
    """Draw the trials: one goal over their numbers, with the best so far as steps; of several, the first over the second.

    Args:
        goals: what each value of a dot is of.
        maximize: whether the first goal is to be large.

    Raises:
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    figure, canvas = empty_figure(8, 4.2)
    axes = figure.subplots()
    over_trials = len(goals) == 1

    def place(dot: Dot) -> tuple[float, float]:
        return (dot.number if over_trials else dot.values[1], dot.values[0])

    groups = {
        "beyond the limits": ([dot for dot in dots if not dot.within], BEYOND, 28),
        "tried": ([dot for dot in dots if dot.within and not dot.best], TRIED, 28),
        "best": ([dot for dot in dots if dot.best], RESULT, 60),
    }
    for label, (some, colour, size) in groups.items():
        if some:
            axes.scatter(*zip(*map(place, some), strict=True), color=colour, s=size, label=label, zorder=3)
    kept = [dot for dot in dots if dot.within]
    if over_trials and kept:
        pick = max if maximize else min
        so_far = [pick(dot.values[0] for dot in kept[: i + 1]) for i in range(len(kept))]
        numbers = [*(dot.number for dot in kept), dots[-1].number]
        axes.step(numbers, [*so_far, so_far[-1]], where="post", color=RESULT, linewidth=1.4, label="best until then")
    elif front := sorted(place(dot) for dot in dots if dot.best):
        axes.plot(*zip(*front, strict=True), color=RESULT, linewidth=1.4)
    if over_trials:
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set(xlabel="trial" if over_trials else goals[1], ylabel=goals[0], title=title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    save_figure(path, canvas)
