"""The curves of rows: a metric over epochs, the mean over a row's runs within the range of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.comparing.groups import HEADLINES, Row
from experiments.reporting.comparing.logged import LoggedRun
from experiments.reporting.comparing.render import Comparison
from experiments.reporting.comparing.where import shortest
from rapid_inr.errors import UserError
from rapid_inr.plots.overlay import Band, overlaid_curves

STEPS = ("epoch", "step")  # what a line may be counted by; otherwise its number counts
MOST_PANELS = 6
Line = Mapping[str, Any]
Runs = Sequence[Sequence[Line]]  # the lines of each run of a row


def draw_curves(path: Path, comparison: Comparison, metrics: Sequence[str] | None) -> None:
    """Draw the curves of all rows over each other, a panel a metric.

    Args:
        metrics: which; None draws what runs log line by line, the headlines first.

    Raises:
        ValueError: if no run has logged lines, or none has one of the metrics in them.
        ImportError: if matplotlib is not installed; the message says how to get it.
    """
    lines = [(row, [run.lines() for run in _shown(row)]) for row in comparison.rows]
    logged = dict.fromkeys(name for _, runs in lines for some in runs for line in some for name in _numbers(line))
    if not logged:
        raise UserError("none of these runs has logged lines that curves could be drawn of")
    if metrics is None or metrics == ["all"]:
        chosen = sorted(logged, key=lambda name: name not in HEADLINES)[:MOST_PANELS]
    else:
        chosen = [name for name in metrics if name in logged]
    if not chosen:
        raise UserError(f"no run has logged {metrics[0]} line by line; there are {', '.join(logged)}")
    panels: dict[str, list[Band]] = {name: [] for name in chosen}
    for row, runs in lines:
        for name in chosen:
            panels[name] += _bands(name, runs, label=_label(row, comparison))
    overlaid_curves(
        path, panels, x_label=_step_of(lines), title=f"{comparison.verb}, {len(lines)} rows: means over runs, within their range"
    )


def _shown(row: Row) -> Sequence[LoggedRun]:
    """Return the runs that a curve is of: the finished ones, or all where none is, so that a run can be watched."""
    return row.finished or row.runs


def _numbers(line: Line) -> Iterator[str]:
    for name, value in line.items():
        if name not in STEPS and isinstance(value, int | float) and not isinstance(value, bool):
            yield name


def _step_of(lines: Sequence[tuple[Row, Runs]]) -> str:
    first = next(line for _, runs in lines for some in runs for line in some)
    return next((step for step in STEPS if step in first), "line")


def _label(row: Row, comparison: Comparison) -> str:
    told = ", ".join(f"{shortest(key, comparison.known)}={value}" for key, value in row.keys.items() if value is not None)
    state = "" if row.status == "finished" else f" ({row.status})"
    return (told or row.runs[0].run) + state


def _bands(metric: str, runs: Runs, *, label: str) -> Iterator[Band]:
    """Yield the curve of a row, or one for each arm where its runs have trained several."""
    arms = dict.fromkeys(line.get("arm") for some in runs for line in some if metric in line)
    for arm in arms:
        values: dict[float, list[float]] = {}
        for some in runs:
            own = [line for line in some if line.get("arm") == arm and line.get(metric) is not None]
            for number, line in enumerate(own, start=1):
                step = line["epoch"] + 1 if "epoch" in line else line.get("step", number)  # epochs are logged from 0
                values.setdefault(step, []).append(line[metric])
        steps = sorted(values)
        if steps:
            means = [sum(values[step]) / len(values[step]) for step in steps]
            low, high = ([edge(values[step]) for step in steps] for edge in (min, max))
            yield Band(f"{label}, {arm}" if len(arms) > 1 else label, steps, means, low, high)
