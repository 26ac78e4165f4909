"""What a table says of an experiment's runs: quantities, computed point by point and then averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from rapid_inr.errors import UserError

UNNAMED = ("seed",)  # labels over which rows are means, unless a table names them


@dataclass(frozen=True)
class PointRun:
    """A point of an experiment, and what has become of it.

    Args:
        run: its folder, relative to that of all runs.
        status: that of its record, or ``missing``.
    """

    name: str
    verb: str
    labels: Mapping[str, str]
    run: str = ""
    status: str = "missing"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """A metric of a point: of its own, or of the one that has the same labels but some.

    Args:
        labels: those that are other than the point's own.
        verb: the command of that other point, by default that of the point itself.
    """

    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    verb: str | None = None


@dataclass(frozen=True)
class Quantity:
    """What a column is of: an operation, one of `OPERATIONS`, on the metrics of points."""

    operation: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Summary:
    """Mean of `n` values and their sample standard deviation, None for a single one."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """A row of a table: labels, the points that are averaged in it, and a summary a column, None where nothing was measured."""

    labels: Mapping[str, str]
    points: Sequence[PointRun]
    values: Mapping[str, Summary | None]


def break_even_epochs(encode_ms_per_image: float, rival_images_per_s: float, own_images_per_s: float) -> float:
    """Return after how many epochs the time that encoding took is won back, infinite where an epoch is no faster."""
    saved_s = 1 / rival_images_per_s - 1 / own_images_per_s  # an image and epoch
    return encode_ms_per_image / 1e3 / saved_s if saved_s > 0 else math.inf


OPERATIONS: dict[str, tuple[int, Callable[..., float]]] = {  # how many terms each takes
    "metric": (1, lambda value: value),
    "difference": (2, lambda first, second: first - second),
    "ratio": (2, lambda first, second: first / second),
    "break_even": (3, break_even_epochs),
}


def summarise(values: Sequence[float]) -> Summary | None:
    """Return mean and standard deviation, None of no value; an infinite value makes the mean infinite and leaves no deviation."""
    if not values:
        return None
    spread = stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Summary(fmean(values), spread, len(values))


def evaluate(quantity: Quantity, point: PointRun, points: Sequence[PointRun]) -> float | None:
    """Return a quantity at a point; None where a metric is not on record, or a point would be compared with itself.

    Raises:
        ValueError: if several points fit a term.
    """
    _, operation = OPERATIONS[quantity.operation]
    found = [(_find(term, point, points), term.metric) for term in quantity.terms]
    if len(found) > 1 and len({(other.name, metric) for other, metric in found if other}) == 1:
        return None
    values = [None if other is None else other.metrics.get(metric) for other, metric in found]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return None
    try:
        return operation(*values)
    except ZeroDivisionError:
        return None


def _find(term: Term, point: PointRun, points: Sequence[PointRun]) -> PointRun | None:
    """Return the point that a term speaks of; a label that it does not have fits any."""
    if not term.labels and term.verb is None:
        return point
    wanted = {**point.labels, **term.labels}
    fitting = [
        other
        for other in points
        if other.verb == (term.verb or point.verb)
        and term.labels.keys() <= other.labels.keys()
        and all(wanted.get(label, value) == value for label, value in other.labels.items())
    ]
    if len(fitting) > 1:
        fixed = ", ".join(f"{label}={value}" for label, value in term.labels.items()) or f"verb={term.verb}"
        raise UserError(f"{term.metric} of {fixed} beside {point.name} may be that of {fitting[0].name} or {fitting[1].name}")
    return fitting[0] if fitting else None


def rows_of(
    quantities: Mapping[str, Quantity], own: Sequence[PointRun], points: Sequence[PointRun], labels: Sequence[str] | None = None
) -> list[Row]:
    """Return a row for each combination of labels among the table's own points, those of one first label together, and so on.

    Args:
        own: the points that the rows are means over; what finished without any of the quantities is left out.
        points: all of the experiment, among which terms find theirs.
        labels: by default all but `UNNAMED`.
    """
    names = labels or list(dict.fromkeys(name for point in own for name in point.labels if name not in UNNAMED))
    groups: dict[tuple[str | None, ...], list[tuple[PointRun, dict[str, float | None]]]] = {}
    for point in own:
        values = {key: evaluate(quantity, point, points) for key, quantity in quantities.items()}
        if point.status != "finished" or any(value is not None for value in values.values()):
            groups.setdefault(tuple(point.labels.get(name) for name in names), []).append((point, values))
    order = [list(dict.fromkeys(column)) for column in zip(*groups, strict=True)]  # values of a label, as they come
    return [
        Row(
            {name: value for name, value in zip(names, group, strict=True) if value is not None},
            [point for point, _ in members],
            {key: summarise([v[key] for _, v in members if v[key] is not None]) for key in quantities},
        )
        for group, members in sorted(groups.items(), key=lambda item: [o.index(v) for o, v in zip(order, item[0], strict=True)])
    ]
