"""What the file of an experiment asks of its tables: ``tables:`` in ``configs/experiment/NAME.yaml``, read and checked.

docs/experiments.md says what may stand there. Sweeps do not look at it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.reporting.summaries import OPERATIONS, PointRun, Quantity, Term
from rapid_inr.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
KEYS = {"title", "verb", "where", "rows", "columns", "claims", "figure"}
USUAL = {  # of an experiment that names no columns
    "psnr_db": "PSNR, dB", "ssim": "SSIM", "bpp": "bpp", "rgb_pct": "% of RGB", "store_bytes": "stored bytes",
    "encode_ms_per_image": "encoding, ms an image", "top1_pct": "top-1, %", "decoded_top1_pct": "top-1 on decoded, %",
    "images_per_s": "images/s",
}  # fmt: skip
DIGITS = {  # by the end of a metric's name, the first that fits
    "ssim": 4, "bpp": 2, "rgb_pct": 1, "_pct": 2, "_db": 2, "_bytes": 0, "images_per_s": 0, "ms_per_image": 1, "images": 0,
    "epochs": 0, "_mb": 0,
}  # fmt: skip
OPERATION_DIGITS = {"break_even": 1}
OTHER_DIGITS = 2


@dataclass(frozen=True)
class ColumnSpec:
    """A column: its heading with the unit, what it is of, and digits after the point."""

    heading: str
    quantity: Quantity
    digits: int


@dataclass(frozen=True)
class ClaimSpec:
    """A number of the paper, the column that is ours, and the labels of the rows that it is about."""

    entry: str
    column: str
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class FigureSpec:
    """What is drawn of a table: column `y` over label or column `x`, a line for each combination of the labels `line`.

    Args:
        log: whether numbers on x are spaced by their logarithm.
        title: of the figure; None for the table's.
    """

    x: str
    y: str
    line: Sequence[str] = ()
    log: bool = False
    title: str | None = None


@dataclass(frozen=True)
class TableSpec:
    """A table of an experiment.

    Args:
        verb: only points of this command; None takes all.
        where: only points with these labels.
        rows: labels whose combinations are rows; None takes all but the seed.
    """

    name: str
    title: str
    columns: Mapping[str, ColumnSpec]
    verb: str | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: Sequence[str] | None = None
    claims: Sequence[ClaimSpec] = ()
    figure: FigureSpec | None = None
    asked: bool = True  # whether the experiment names the columns, which are shown then even where they are empty

    def covers(self, point: PointRun) -> bool:
        """Return whether a point is one of the table's own."""
        return self.verb in (None, point.verb) and fits(point.labels, self.where)


def fits(labels: Mapping[str, str], where: Mapping[str, Sequence[str]]) -> bool:
    """Return whether labels are among those that are asked for."""
    return all(labels.get(label) in values for label, values in where.items())


def read_specs(experiment: Mapping[str, Any]) -> list[TableSpec]:
    """Return the tables that an experiment asks for, its scale merged in already; one of the usual columns where it names none.

    Raises:
        ValueError: if what it asks for is not in order; the message names the place.
    """
    asked = {name: table for name, table in (experiment.get("tables") or {}).items() if table is not None}
    return [_table(name, table) for name, table in (asked or {"runs": {"title": "All points"}}).items()]


def _table(name: str, table: Mapping[str, Any]) -> TableSpec:
    place = f"tables.{name}"
    if not NAME.fullmatch(name):
        raise UserError(f"a table is called {name!r}, expected letters, digits, dashes and underscores")
    _require_keys(place, table, KEYS)
    asked = {key: column for key, column in (table.get("columns") or USUAL).items() if column is not None}
    columns = {key: _column(f"{place}.columns.{key}", key, column) for key, column in asked.items()}
    claims = [_claim(f"{place}.claims.{entry}", entry, claim) for entry, claim in (table.get("claims") or {}).items() if claim]
    figure = _figure(f"{place}.figure", table["figure"]) if table.get("figure") else None
    for used, column in [*((f"claims.{c.entry}", c.column) for c in claims), *([("figure.y", figure.y)] if figure else [])]:
        if column not in columns:
            raise UserError(f"{place}.{used} is of {column}, expected one of the columns {', '.join(columns)}")
    return TableSpec(
        name, table.get("title") or name.replace("_", " "), columns, table.get("verb"), _where(table.get("where")),
        table.get("rows"), claims, figure, bool(table.get("columns")),
    )  # fmt: skip


def _column(place: str, key: str, column: str | Mapping[str, Any]) -> ColumnSpec:
    if isinstance(column, str):
        column = {"heading": column}
    _require_keys(place, column, {"heading", "digits", *OPERATIONS})
    asked = [operation for operation in OPERATIONS if operation in column] or ["metric"]
    if len(asked) > 1:
        raise UserError(f"{place} is {' and '.join(asked)}, expected one of them")
    terms = column.get(asked[0], key)
    terms = tuple(_term(place, term) for term in (terms if isinstance(terms, list) else [terms]))
    n_terms, _ = OPERATIONS[asked[0]]
    if len(terms) != n_terms:
        raise UserError(f"{place} has {len(terms)} terms, {asked[0]} takes {n_terms}")
    usual = OPERATION_DIGITS.get(asked[0], OTHER_DIGITS if asked[0] == "ratio" else digits_of(terms[0].metric))
    return ColumnSpec(column.get("heading") or key, Quantity(asked[0], terms), column.get("digits", usual))


def _term(place: str, term: str | Mapping[str, Any]) -> Term:
    if isinstance(term, str):
        return Term(term)
    if not isinstance(term, Mapping) or "metric" not in term:
        raise UserError(f"{place} is of {term!r}, expected METRIC or {{metric: METRIC, LABEL: VALUE}}")
    labels = {label: str(value) for label, value in term.items() if label not in ("metric", "verb")}
    return Term(term["metric"], labels, term.get("verb"))


def _claim(place: str, entry: str, claim: str | Mapping[str, Any]) -> ClaimSpec:
    if isinstance(claim, str):
        claim = {"column": claim}
    _require_keys(place, claim, {"column", "where"})
    return ClaimSpec(entry, claim.get("column", ""), _where(claim.get("where")))


def _figure(place: str, figure: Mapping[str, Any]) -> FigureSpec:
    _require_keys(place, figure, {"x", "y", "line", "log", "title"})
    if missing := {"x", "y"} - figure.keys():
        raise UserError(f"{place} has no {min(missing)}")
    line = figure.get("line") or []
    lines = [line] if isinstance(line, str) else line
    return FigureSpec(figure["x"], figure["y"], lines, bool(figure.get("log")), figure.get("title"))


def _where(where: Mapping[str, Any] | None) -> dict[str, list[str]]:
    return {label: [str(v) for v in (value if isinstance(value, list) else [value])] for label, value in (where or {}).items()}


def _require_keys(place: str, mapping: Mapping[str, Any], known: set[str]) -> None:
    if unknown := mapping.keys() - known:
        raise UserError(f"{place} has {', '.join(sorted(unknown))}, expected of {', '.join(sorted(known))}")


def digits_of(metric: str) -> int:
    """Return how many digits a metric is printed with, by the unit at the end of its name."""
    return next((digits for end, digits in DIGITS.items() if metric.endswith(end)), OTHER_DIGITS)
