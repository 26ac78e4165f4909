"""Turn the frame of runs into the rows of a table: means with standard deviations, and values of related runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from rapid_inr.errors import UserError

TOLD = 2  # standard errors that a difference must exceed
# By heading: the column of the frame, or two of them whose difference it is; and digits after the point.
Columns = Mapping[str, tuple[str, int] | tuple[str, str, int]]


@dataclass(frozen=True)
class Measured:
    """A mean over `n` runs, its sample standard deviation (None for a single run), and the digits to print."""

    mean: float
    std: float | None
    n: int
    digits: int

    @property
    def text(self) -> str:
        shown = self.std is not None and round(self.std, self.digits) > 0  # runs that are equal to these digits have no spread
        return number(self.mean, self.digits) + (f" ± {number(self.std, self.digits)}" if shown else "")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Gap(Measured):
    """A difference of two means over the same `n` seeds; `std` is its standard error, None of one seed.

    It is told only if it is larger than `TOLD` standard errors: this is the rule of all tables.
    """

    def beyond(self, bound: float) -> bool:
        """Return whether it is told from a number."""
        return self.std is not None and abs(self.mean - bound) > TOLD * self.std

    def __str__(self) -> str:
        return self.text + ("" if self.beyond(0) else ", no difference told")


@dataclass(frozen=True)
class Difference:
    """A mean minus that of the baseline, their ratio, and p of Welch's test; None where they have no meaning."""

    delta: float
    ratio: float | None
    p: float | None
    digits: int

    def __str__(self) -> str:
        p = "" if self.p is None else " p<0.001" if self.p < 0.001 else f" p={self.p:.2g}"
        ratio = "" if self.ratio is None or self.delta == 0 else f" x{self.ratio:.3g}"
        return number(self.delta, self.digits, sign="+") + ratio + p


@dataclass(frozen=True)
class Link:
    """A link to a file; `path` is relative to the working folder."""

    text: str
    path: str


def number(value: float, digits: int, *, sign: str = "") -> str:
    """Return a number for a table; an infinite one, such as a break-even that is not reached, is "never"."""
    return "never" if math.isinf(value) else f"{value:{sign}z,.{digits}f}"


def measured(values: Iterable[Any], digits: int) -> Measured | None:
    """Return mean and standard deviation of the values that are numbers; None without any."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and not math.isnan(v)]
    if not numbers:
        return None
    std = stdev(numbers) if len(numbers) > 1 and all(map(math.isfinite, numbers)) else None
    return Measured(fmean(numbers), std, len(numbers), digits)


def gap(runs: pd.DataFrame, more: str, less: str, digits: int) -> Gap | None:
    """Return the mean of one column minus that of another, over the runs that have both; None of none.

    The standard error takes the two sides as independent: s^2 = (s_more^2 + s_less^2) / n, with the variances of the samples.
    """
    both = runs.reindex(columns=[more, less]).dropna().astype(float)
    if both.empty:
        return None
    error = math.sqrt(both.var().sum() / len(both)) if len(both) > 1 else None
    return Gap(float(both[more].mean() - both[less].mean()), error, len(both), digits)


def summarize(runs: pd.DataFrame, by: Sequence[str], columns: Columns) -> pd.DataFrame:
    """Return a row for each combination of labels, in natural order, with means over its runs and links to their records.

    Args:
        by: labels; a label that no run has is left out.

    Returns:
        Labels as text, a `Measured` or None a column, ``n`` where a row is of several runs, and ``records``, a tuple of links.
    """
    by = [label for label in by if label in runs and runs[label].notna().any()]
    rows = []
    for labels, group in runs.groupby(by or "experiment", dropna=False):
        cells = {heading: _cell(group, *column) for heading, column in columns.items()}
        if any(cells.values()):
            own = dict(zip(by, labels, strict=True)) if by else {}
            rows.append(own | cells | {"n": len(group), "records": record_links(group)})
    rows.sort(key=lambda row: [natural(row[label]) for label in by])
    n = ["n"] if any(row["n"] > 1 for row in rows) else []
    return pd.DataFrame(rows, columns=[*by, *columns, *n, "records"], dtype=object)


def _cell(runs: pd.DataFrame, *column: Any) -> Measured | None:
    *names, digits = column
    return gap(runs, *names, digits) if len(names) == 2 else measured(runs.get(names[0], ()), digits)


def record_links(runs: pd.DataFrame) -> tuple[Link, ...]:
    """Return short links to the records of some runs."""
    paths = list(runs.sort_values("run").path)
    return tuple(Link("record" if len(paths) == 1 else str(i), path) for i, path in enumerate(paths, start=1))


def natural(text: Any) -> tuple[bool, list[str | float]]:
    """Return a sort key of a label: numbers in it count by size, and a missing label comes last."""
    parts = re.split(r"(\d+(?:\.\d+)?)", str(text))
    return pd.isna(text), [float(part) if i % 2 else part for i, part in enumerate(parts)]


def value_of(runs: pd.DataFrame, others: pd.DataFrame, metric: str, *, same: Sequence[str] = ()) -> pd.Series:
    """Return for each run the metric of the run in `others` with the same values in the columns `same`.

    Returns:
        A series with the index of `runs`, NaN where there is none.

    Raises:
        UserError: if several of `others` fit.
    """
    if metric not in others:
        return pd.Series(math.nan, runs.index)
    same = ["anywhere", *same]  # a merge needs a column
    known = others.dropna(subset=[metric]).assign(anywhere=0).reindex(columns=[*same, metric])
    if (twice := known.duplicated(same)).any():
        raise UserError(f"several runs have {known[twice][same[1:]].iloc[0].to_dict()}; name the folder of one by root=...")
    return runs.assign(anywhere=0).reindex(columns=same).merge(known, on=same, how="left")[metric].set_axis(runs.index)


def listed(runs: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Return a row for each run: its values as text, its machine, and a link to its record.

    Args:
        columns: by heading: the column of the frame, and its format.
    """
    rows = []
    for run in runs.to_dict("records"):
        cells = {heading: formatted(run.get(column), style) for heading, (column, style) in columns.items()}
        rows.append(cells | {"machine": run["machine"], "record": (Link(run["run"], run["path"]),)})
    return pd.DataFrame(rows, columns=[*columns, "machine", "record"], dtype=object)


def formatted(value: Any, style: str) -> str | None:
    """Return a value as text, or None. Integers that pandas made floats become integers again."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer() and style[-1:] in ("", "d"):
        value = int(value)
    return format(value, style)
