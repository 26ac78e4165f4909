"""From the file of a search to its trials: what may be chosen, what is sought, and the points that a choice stands for.

A search (``configs/search/NAME.yaml``) is an experiment (see `experiments.points`) with a space besides its axes, of which not
every combination is run, but those that promise most by what the ones before have come to:

space      AXIS -> {low, high, step, log}   a number between two, whole if all are; ``step`` and ``log`` are optional
                   a list, or LABEL -> overrides, of which it is one, as of an axis
           Points go ``over`` it as over an axis, and ``<AXIS>`` stands for what was chosen.
judge      KEY of the points whose records have the metrics; of several in a trial, such as of seeds, their mean counts
goals      METRIC -> maximize or minimize; of two or more, what no other trial beats in all of them is the result
limits     METRIC -> {at_most} or {at_least}, kept by what counts as a result
trials     how many choices to try
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.points import Point, expand
from rapid_inr.errors import UserError

DIRECTIONS = ("maximize", "minimize")
RANGE_KEYS = {"low", "high", "step", "log"}
EXACT = 12  # figures of a number that is chosen in steps
FIGURES = 4  # of a number that is chosen, so that it is short in names and the same in them as in the command

Choices = Mapping[str, str]  # AXIS -> the number as text, or the label


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole if all three are; `log` draws small and large ones alike."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def labels(self) -> list[str]:
        """Return those of both ends."""
        return [self.text(self.low), self.text(self.high)]

    def text(self, value: float) -> str:
        """Return a number of the range as its label, which is also what commands get."""
        figures = FIGURES if self.step is None else EXACT
        return str(value) if self.whole else f"{value:.{figures}g}".replace("e+", "e")

    def number(self, text: str) -> float:
        """Return the number of the range that a label stands for, the nearest where it was rounded."""
        if self.whole:
            return int(text)
        value = float(text)
        if self.step is not None:
            value = self.low + round((value - self.low) / self.step) * self.step
        return min(max(value, self.low), self.high)

    def holds(self, text: str) -> bool:
        """Return whether a label is that of a number of the range."""
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            return False
        low, high = map(float, self.labels)
        return low <= value <= high and (self.step is None or is_whole((value - self.low) / self.step))


def is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


@dataclass(frozen=True)
class Options:
    """Labels, and the overrides of each."""

    overrides: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        return list(self.overrides)

    def holds(self, text: str) -> bool:
        return text in self.overrides


@dataclass(frozen=True)
class Limit:
    """A bound that a result keeps."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        return f"{self.metric} at " + (f"most {self.at_most:g}" if self.at_most is not None else f"least {self.at_least:g}")

    def excess(self, value: float) -> float:
        """Return by how much a value breaks the bound; at most 0 where it keeps it."""
        return value - self.at_most if self.at_most is not None else self.at_least - value


@dataclass(frozen=True)
class Search:
    """A search at a scale, as described above.

    Args:
        whole: what its file says.
    """

    whole: Mapping[str, Any]
    space: Mapping[str, Range | Options]
    judge: str
    goals: Mapping[str, str]
    limits: Sequence[Limit] = field(default=())
    trials: int = 20

    @property
    def name(self) -> str:
        return self.whole["name"]

    @property
    def metrics(self) -> list[str]:
        """Return the metrics that a trial is judged by."""
        return list(dict.fromkeys([*self.goals, *(limit.metric for limit in self.limits)]))

    def points(self, choices: Choices, *, number: int | None = None) -> list[Point]:
        """Return the points of a trial.

        Args:
            number: of the trial, by which a job finds its choices again.
        """
        axes = dict(self.whole.get("axes") or {})
        for axis, chosen in choices.items():
            kind = self.space[axis]
            axes[axis] = {chosen: kind.overrides[chosen] if isinstance(kind, Options) else [f"{axis}={chosen}"]}
        return [replace(point, found_by=(f"trial={number}",)) for point in expand({**self.whole, "axes": axes})]

    def require(self, choices: Choices) -> None:
        """Refuse choices of another space.

        Raises:
            ValueError: if they are not one of each axis.
        """
        if choices.keys() != self.space.keys():
            raise UserError(f"a trial chooses {', '.join(choices) or 'nothing'}, expected {', '.join(self.space)}")
        for axis, chosen in choices.items():
            if not self.space[axis].holds(chosen):
                raise UserError(f"a trial chooses {axis} {chosen}, which is not in the space")


def read_search(whole: Mapping[str, Any]) -> Search:
    """Return a search, its scale merged in already.

    Raises:
        ValueError: if it is not in order; the message names the place.
    """
    space = {axis: _kind(axis, kind) for axis, kind in (whole.get("space") or {}).items() if kind is not None}
    goals, limits = dict(whole.get("goals") or {}), whole.get("limits") or {}
    if not isinstance(whole.get("name"), str):
        raise UserError("the search has no name")
    if not space:
        raise UserError("the search has no space")
    if shared := set(space) & set(whole.get("axes") or {}):
        raise UserError(f"{min(shared)} is an axis and in the space, expected one of them")
    if not goals or not set(goals.values()) <= set(DIRECTIONS):
        raise UserError(f"goals is {goals}, expected METRIC: maximize or METRIC: minimize")
    points = [key for key, group in (whole.get("points") or {}).items() if group is not None]
    if whole.get("judge") not in points:
        raise UserError(f"judge is {whole.get('judge')!r}, expected one of the points {', '.join(points)}")
    trials = whole.get("trials", 20)
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise UserError(f"trials is {trials!r}, expected an integer of at least 1")
    bounds = [found for metric, limit in limits.items() if (found := _limit(metric, limit)) is not None]
    return Search(whole, space, whole["judge"], goals, bounds, trials)


def _kind(axis: str, kind: Any) -> Range | Options:
    if isinstance(kind, list) and kind:
        return Options({str(value): [f"{axis}={value}"] for value in kind})
    if not isinstance(kind, Mapping) or not any(value is not None for value in kind.values()):
        raise UserError(f"space.{axis} is {kind!r}, expected {{low: ..., high: ...}}, a list, or LABEL: overrides")
    if not set(kind) & RANGE_KEYS or any(isinstance(value, str | list) and "=" in str(value) for value in kind.values()):
        return Options({str(label): overrides for label, overrides in kind.items() if overrides is not None})
    if unknown := set(kind) - RANGE_KEYS:
        raise UserError(f"space.{axis} has {', '.join(sorted(unknown))}, expected of {', '.join(sorted(RANGE_KEYS))}")
    return _range(f"space.{axis}", **kind)


def _range(place: str, *, low: Any = None, high: Any = None, step: Any = None, log: Any = False) -> Range:
    if not _is_number(low) or not _is_number(high) or low > high:
        raise UserError(f"{place} goes from {low!r} to {high!r}, expected two numbers, the larger one last")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise UserError(f"{place} has log {log!r}, expected true or false, and with true a low above 0 and no step")
    if step is not None and (not _is_number(step) or step <= 0 or not is_whole((high - low) / step)):
        raise UserError(f"{place} goes from {low} to {high} in steps of {step!r}, expected a number of whole steps")
    found = Range(low, high, step, log)
    if low < high and found.text(low) == found.text(high):
        raise UserError(f"{place} goes from {low} to {high}, which differ by less than {FIGURES} figures; step=... draws finer")
    return found


def _limit(metric: str, limit: Any) -> Limit | None:
    if limit is None or (isinstance(limit, Mapping) and set(limit.values()) == {None}):
        return None
    kept = {side: bound for side, bound in limit.items() if bound is not None} if isinstance(limit, Mapping) else {}
    if len(kept) != 1 or not set(kept) <= {"at_most", "at_least"} or not all(map(_is_number, kept.values())):
        raise UserError(f"limits.{metric} is {limit!r}, expected {{at_most: NUMBER}} or {{at_least: NUMBER}}")
    return Limit(metric, **kept)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
