"""What the trials of a search have come to: choices, metrics, and which of them are the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.reporting.grids import ABSENT, Grid, Head
from experiments.reporting.table_specs import digits_of
from experiments.search_space import Choices, Range, Search


@dataclass(frozen=True)
class Trial:
    """A choice that was tried.

    Args:
        number: from 1.
        values: its metrics; None unless all of its points are finished and the judged ones have them.
        status: ``finished`` where there are values, else what the first point that is not has come to, or what is lacking.
        runs: names of the points that it is judged by.
    """

    number: int
    choices: Choices
    values: Mapping[str, float] | None
    status: str
    runs: Sequence[str]

    @property
    def told(self) -> str:
        """Return the choices in words."""
        return ", ".join(f"{axis} {chosen}" for axis, chosen in self.choices.items())


def keeps_limits(search: Search, trial: Trial) -> bool:
    """Return whether a trial has come to something within the limits."""
    return trial.values is not None and all(limit.excess(trial.values[limit.metric]) <= 0 for limit in search.limits)


def best(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """Return the result: the trials within the limits that no other beats in all goals, the best in the first goal first."""
    kept = [trial for trial in trials if keeps_limits(search, trial)]
    front = [trial for trial in kept if not any(_beats(search, other, trial) for other in kept)]
    return sorted(front, key=lambda trial: _costs(search, trial))


def ranked(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials with the result first, then what keeps the limits, then the others, each by the first goal."""
    front = best(search, trials)
    kept = [trial for trial in trials if trial not in front and keeps_limits(search, trial)]
    broken = [trial for trial in trials if trial.values is not None and not keeps_limits(search, trial)]
    failed = [trial for trial in trials if trial.values is None]
    order = [sorted(some, key=lambda trial: _costs(search, trial)) for some in (kept, broken)]
    return [*front, *order[0], *order[1], *failed]


def _costs(search: Search, trial: Trial) -> tuple[float, ...]:
    return tuple(trial.values[metric] * (1 if sought == "minimize" else -1) for metric, sought in search.goals.items())


def _beats(search: Search, one: Trial, other: Trial) -> bool:
    """Return whether a trial is at least as good as another in every goal and better in one; of equal ones the first."""
    ours, theirs = _costs(search, one), _costs(search, other)
    return all(a <= b for a, b in zip(ours, theirs, strict=True)) and (ours != theirs or one.number < other.number)


def trials_grid(search: Search, trials: Sequence[Trial], links: Mapping[str, str] | None = None) -> Grid:
    """Return a table of trials: choices, metrics, whether the limits are kept, and links to the records where given."""
    front = {trial.number for trial in best(search, trials)}
    heads = [
        Head("trial", right=True),
        *(Head(axis, isinstance(kind, Range)) for axis, kind in search.space.items()),
        *(Head(metric, right=True) for metric in search.metrics),
    ]
    heads += [Head("result"), *([Head("records")] if links else [])]
    rows = []
    for trial in trials:
        values = trial.values or {}
        numbers = [f"{values[m]:,.{digits_of(m)}f}" if m in values else ABSENT for m in search.metrics]
        verdict = (
            trial.status if not values else "best" if trial.number in front else "" if keeps_limits(search, trial) else "beyond"
        )
        shown = [_linked([links[run] for run in trial.runs if run in links])] if links else []
        rows.append([str(trial.number), *(trial.choices[axis] for axis in search.space), *numbers, verdict, *shown])
    return Grid(heads, rows)


def _linked(targets: Sequence[str]) -> str:
    if len(targets) == 1:
        return f"[record]({targets[0]})"
    return " ".join(f"[{i}]({target})" for i, target in enumerate(targets, 1))


def trials_rows(search: Search, trials: Sequence[Trial]) -> list[dict[str, str | float | int | bool | None]]:
    """Return the trials as numbers, for a CSV."""
    return [
        {
            "trial": trial.number, **trial.choices, **{metric: (trial.values or {}).get(metric) for metric in search.metrics},
            "status": trial.status, "within_limits": keeps_limits(search, trial), "runs": " ".join(trial.runs),
        }
        for trial in trials
    ]  # fmt: skip
