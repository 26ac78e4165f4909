"""Runs that differ in nothing but their seeds become one row with n, mean and std; other code is never averaged in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.reporting.comparing.logged import STATUSES, LoggedRun
from experiments.reporting.summaries import Summary, summarise
from rapid_inr.errors import UserError

SEEDS = ("seed", "store.seed", "test_store.seed")  # what differs between repetitions of the same
HOW_IT_RUNS = ("run_dir", "overwrite", "track.mode", "out", "resume", "keep_shards", "dataset.download")  # changes no result
STORES = ("store", "test_store")  # settings that name a file which another run has made
IN_SHORT = {
    "inr.depth": "inr",
    "inr.hidden": "inr",
    "dataset.name": "dataset",
    "pipeline.name": "pipeline",
    "codec.name": "codec",
}
HEADLINES = (  # what a table shows of metrics unless asked, the first of these that there are
    "top1_pct", "decoded_top1_pct", "psnr_db", "ssim", "bpp", "rgb_pct", "loss", "images_per_s", "encode_ms_per_image",
)  # fmt: skip
MOST_HEADLINES = 5


@dataclass(frozen=True)
class Row:
    """Runs that are shown as one.

    Args:
        keys: what they have in common and by which they differ from other rows.
    """

    keys: Mapping[str, Any]
    runs: tuple[LoggedRun, ...]

    @property
    def finished(self) -> list[LoggedRun]:
        return [run for run in self.runs if run.status == "finished"]

    def spread(self, metric: str) -> Summary | None:
        """Return mean and standard deviation of a metric over the finished runs, None where none of them has it."""
        return summarise(numbers(metric, self.finished))

    def metrics(self) -> list[str]:
        """Return the metrics of which a finished run has a number."""
        return list(dict.fromkeys(name for run in self.finished for name, value in run.metrics.items() if _is_number(value)))

    @property
    def status(self) -> str:
        """What has become of the runs: ``finished``, or counts such as ``2 finished, 1 dead``."""
        found = [run.status for run in self.runs]
        present = {status: found.count(status) for status in (*STATUSES, *found) if status in found}
        if len(present) == 1:
            return next(iter(present))
        return ", ".join(f"{count} {status}" for status, count in present.items())


def differing(runs: Sequence[LoggedRun], *, but: Iterable[str] = ()) -> list[str]:
    """Return the settings in which runs differ, in the order of their configurations; what changes no result is left out.

    A group that has a short name, such as ``inr`` for ``inr.depth`` and ``inr.hidden``, is told by that; a store by the settings
    of the run that made it, where that is known, and these are held against those of other runs that have a store.
    """
    left_out = {*HOW_IT_RUNS, *but}
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in left_out)
    return [key for key in keys if not _told_otherwise(key, runs) and len(_values(key, runs)) > 1]


def _values(key: str, runs: Sequence[LoggedRun]) -> set[Any]:
    of_store = key.partition(".")[0] in STORES and "." in key
    return {_hashable(run.settings.get(key)) for run in runs if not of_store or key in run.settings}


def _told_otherwise(key: str, runs: Sequence[LoggedRun]) -> bool:
    if key in STORES:  # the path says nothing more where the maker's settings are known
        return all(run.settings.get(key) is None or f"{key}.seed" in run.settings for run in runs)
    store, _, rest = key.partition(".")
    short = f"{store}.{IN_SHORT.get(rest)}" if store in STORES else IN_SHORT.get(key)
    return short is not None and all(short in run.settings for run in runs if key in run.settings)


def _hashable(value: Any) -> Any:
    return json.dumps(value, sort_keys=True, default=str) if isinstance(value, list | dict) else (type(value) is bool, value)


def rows_of(runs: Sequence[LoggedRun], keys: Sequence[str], *, each: bool = False, any_code: bool = False) -> list[Row]:
    """Return the rows of a table, in the order of their keys.

    Args:
        keys: by which rows differ.
        each: whether every run has a row of its own.
        any_code: whether runs of different code may be averaged.

    Raises:
        ValueError: if a row had finished runs of different code otherwise; the message names it.
    """
    groups: dict[Any, list[LoggedRun]] = {}
    for run in runs:
        groups.setdefault(run.run if each else tuple(_hashable(run.value(key)) for key in keys), []).append(run)
    rows = [Row({key: some[0].value(key) for key in keys}, tuple(some)) for some in groups.values()]
    if not any_code:
        for row in rows:
            _require_one_code(row)
    return rows if each else sorted(rows, key=lambda row: [order(value) for value in row.keys.values()])


def numbers(name: str, runs: Iterable[LoggedRun]) -> list[float]:
    """Return the values of a metric, of those runs that have a finite number for it."""
    return [value for value in (run.metrics.get(name) for run in runs) if _is_number(value)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require_one_code(row: Row) -> None:
    codes = sorted({run.code for run in row.finished if run.code is not None})
    if len(codes) > 1:
        which = ", ".join(f"{key}={value}" for key, value in row.keys.items()) or "all runs"
        named = ", ".join(code[:16] for code in codes)
        raise UserError(
            f"{len(row.finished)} runs ({which}) are of {len(codes)} versions of the code, {named}: "
            "where=code=... takes one, group_by=code,... keeps them apart, any_code=true averages them"
        )


def order(value: Any) -> tuple[int, Any]:
    """Return what a value is sorted by: numbers, then texts, then what is absent."""
    if value is None:
        return 2, ""
    if isinstance(value, int | float):
        return 0, value
    shape = str(value).split("x")
    return (1, (0, [int(part) for part in shape])) if all(map(str.isdigit, shape)) else (1, (1, [str(value)]))


def headlines(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that say most: of `HEADLINES`, or of all there are where none of these is."""
    there = metrics_of(rows)
    return [name for name in HEADLINES if name in there][:MOST_HEADLINES] or there[:MOST_HEADLINES]


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Return the metrics of which any finished run has a number."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics()))


def in_order(rows: Sequence[Row], key: str, *, falling: bool = False) -> list[Row]:
    """Return rows sorted by a key or the mean of a metric; those that lack it come last."""

    measured = key in metrics_of(rows)

    def value(row: Row) -> Any:
        if key in row.keys:
            return row.keys[key]
        if measured:
            spread = row.spread(key)
            return None if spread is None else spread.mean
        return row.runs[0].value(key)

    values = [(row, value(row)) for row in rows]
    there = sorted((pair for pair in values if pair[1] is not None), key=lambda pair: order(pair[1]), reverse=falling)
    return [row for row, _ in there] + [row for row, found in values if found is None]
