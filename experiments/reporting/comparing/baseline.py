"""Every row against a baseline: difference, ratio, and how surprising the difference would be by chance (Welch 1947)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.reporting.comparing.groups import Row
from experiments.reporting.comparing.logged import LoggedRun
from experiments.reporting.comparing.where import known_keys, parse
from experiments.reporting.summaries import Summary
from rapid_inr.errors import UserError


@dataclass(frozen=True)
class Against:
    """A metric of a row against that of its baseline.

    Args:
        delta: row minus baseline.
        ratio: row over baseline; None where that is 0.
        p: of Welch's t-test, two-sided; None with fewer than two runs on either side, or where none of them differ.
    """

    delta: float
    ratio: float | None
    p: float | None


def baselines(rows: Sequence[Row], asked: str, runs: Sequence[LoggedRun]) -> list[Row | None]:
    """Return the baseline of each row, None where it has none.

    Args:
        asked: conditions as `where` has them, the name of a run, or what stands in a cell of the baseline's row.

    Where several rows are meant, each row has the one that agrees with it in all keys by which these differ from each other.

    Raises:
        ValueError: if no row is meant.
    """
    meant = _meant(rows, asked, runs)
    if not meant:
        raise UserError(f"baseline={asked} is no row of this table")
    between = [key for key in rows[0].keys if len({str(row.keys[key]) for row in meant}) > 1]
    found = {tuple(str(row.keys[key]) for key in between): row for row in meant}
    if len(found) < len(meant):
        raise UserError(f"baseline={asked} means {len(meant)} rows that differ in no key, expected one; name its run")
    return [found.get(tuple(str(row.keys[key]) for key in between)) for row in rows]


def _meant(rows: Sequence[Row], asked: str, runs: Sequence[LoggedRun]) -> list[Row]:
    if any(sign in asked for sign in "=<>"):
        conditions = parse(asked, known_keys(runs))
        return [row for row in rows if all(condition.holds(run) for run in row.runs for condition in conditions)]
    by_name = [row for row in rows if any(run.run == asked for run in row.runs)]
    return by_name or [row for row in rows if any(str(value) == asked for value in row.keys.values())]


def against(rows: Sequence[Row], bases: Sequence[Row | None], metrics: Sequence[str]) -> list[Mapping[str, Against]]:
    """Return what each row is against its baseline, by metric; nothing of a baseline itself, or where either lacks the metric."""
    found: list[dict[str, Against]] = [{} for _ in rows]
    for metric in metrics:
        pairs = {}
        for i, (row, base) in enumerate(zip(rows, bases, strict=True)):
            if base is not None and base is not row:
                sides = row.spread(metric), base.spread(metric)
                if None not in sides:
                    pairs[i] = sides
        for (i, (own, base)), p in zip(pairs.items(), welch_p(list(pairs.values())), strict=True):
            found[i][metric] = Against(own.mean - base.mean, own.mean / base.mean if base.mean else None, p)
    return found


def welch_p(pairs: Sequence[tuple[Summary, Summary]]) -> list[float | None]:
    """Return the two-sided p of Welch's t-test for each pair, None where it says nothing."""
    testable = [i for i, (a, b) in enumerate(pairs) if a.n > 1 and b.n > 1 and (a.std or b.std)]
    found: list[float | None] = [None] * len(pairs)
    if testable:
        from scipy.special import stdtr  # scipy.stats has the whole test, and takes half a second to import

        own, base = zip(*(pairs[i] for i in testable), strict=True)
        mean, square, n = (
            np.array([[value(spread) for spread in side] for side in (own, base)])
            for value in (lambda s: s.mean, lambda s: s.std**2 / s.n, lambda s: s.n)
        )
        t = np.abs(mean[0] - mean[1]) / np.sqrt(square.sum(0))
        freedom = square.sum(0) ** 2 / (square**2 / (n - 1)).sum(0)  # Welch-Satterthwaite
        for i, p in zip(testable, 2 * stdtr(freedom, -t), strict=True):
            found[i] = float(p)
    return found
