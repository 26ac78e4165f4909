"""The tables of an experiment: what was measured, beside what the paper claims, as texts and as numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.reporting.claims import PaperNumber
from experiments.reporting.columns import machine
from experiments.reporting.grids import ABSENT, Grid, Head
from experiments.reporting.measured import Measured
from experiments.reporting.summaries import PointRun, Row, Summary, rows_of
from experiments.reporting.table_specs import TableSpec, fits
from rapid_inr.errors import UserError

VERDICTS = {True: "yes", False: "no", None: ABSENT}

PROVES_NOTHING = "smoke"  # the scale that shows that an experiment runs: nothing is held against a claim by it


@dataclass(frozen=True)
class ClaimRow:
    """A number of the paper beside ours in one row of a table."""

    number: PaperNumber
    row: Row
    column: str

    @property
    def ours(self) -> Summary | None:
        return self.row.values[self.column]

    @property
    def delta(self) -> float | None:
        return None if self.ours is None else self.number.delta(self.ours.mean)

    @property
    def within(self) -> bool | None:
        return None if self.ours is None else self.number.holds(self.ours.mean)


@dataclass(frozen=True)
class MadeTable:
    """A table with its rows."""

    measured: Measured
    spec: TableSpec
    rows: Sequence[Row]
    claims: Sequence[ClaimRow]

    @property
    def labels(self) -> list[str]:
        """Return the labels that rows have."""
        return list(dict.fromkeys(label for row in self.rows for label in row.labels))

    @property
    def note(self) -> str:
        """Return what holds for the whole table."""
        machines = "; ".join(self.measured.machines) or "nothing measured yet"
        averaged = any(value and value.n > 1 for row in self.rows for value in row.values.values())
        return (
            f"Scale {self.measured.scale}; {machines}"
            + ("; mean ± standard deviation over the runs of a row" if averaged else "")
            + "."
        )


def make_table(measured: Measured, spec: TableSpec, paper: Mapping[str, PaperNumber]) -> MadeTable:
    """Compute a table.

    Raises:
        ValueError: if it holds ours against a number that the paper's files do not have, or a term fits several points.
    """
    own = [point for point in measured.points if spec.covers(point)]
    quantities = {key: column.quantity for key, column in spec.columns.items()}
    try:
        rows = rows_of(quantities, own, measured.points, spec.rows)
    except ValueError as error:
        raise UserError(f"{measured.name}, tables.{spec.name}: {error}") from None
    claims = []
    for claim in spec.claims:
        if claim.entry not in paper:
            raise UserError(f"{measured.name}, tables.{spec.name}.claims: {claim.entry} is in no file of experiments/paper")
        if measured.scale == PROVES_NOTHING:
            continue
        # a row that is measured but not in this column is not what the claim is about
        about = [row for row in rows if fits(row.labels, claim.where) and (row.values[claim.column] or not finished(row.points))]
        claims += [ClaimRow(paper[claim.entry], row, claim.column) for row in about]
    return MadeTable(measured, spec, rows, claims)


def measures_grid(made: MadeTable, *, linked_from: Path) -> Grid:
    """Return what was measured: a row for each combination of labels."""
    columns = {key: column for key, column in made.spec.columns.items() if _is_shown(made, key)}
    heads = [
        *map(Head, made.labels), *(Head(column.heading, right=True) for column in columns.values()), Head("records"),
    ]  # fmt: skip
    rows = [
        [
            *(row.labels.get(label, ABSENT) for label in made.labels),
            *(_summary(row.values[key], column.digits) for key, column in columns.items()),
            _numbered(made.measured, row.points, linked_from),
        ]
        for row in made.rows
    ]
    return Grid(heads, rows)


def _is_shown(made: MadeTable, key: str) -> bool:
    """Return whether a column has a place: one that the experiment asked for always, one of the usual where it has a value."""
    return made.spec.asked or any(row.values[key] for row in made.rows)


def claims_grid(made: MadeTable, *, linked_from: Path) -> Grid:
    """Return the paper's numbers beside ours, with the command that measures them and the runs that did."""
    heads = [
        Head("claim"), *map(Head, made.labels), Head("paper", right=True), Head("ours, mean ± std (n)", right=True),
        Head("delta", right=True), Head("within the claim?"), Head("command"), Head("runs"),
    ]  # fmt: skip
    rows = []
    for claim in made.claims:
        digits = made.spec.columns[claim.column].digits
        rows.append(
            [
                claim.number.says,
                *(claim.row.labels.get(label, ABSENT) for label in made.labels),
                claim.number.text,
                _summary(claim.ours, digits, count=True),
                ABSENT if claim.delta is None else number_text(claim.delta, digits, sign="+"),
                VERDICTS[claim.within],
                f"`{command_of(made.measured, claim.row.points)}`",
                _links(made.measured, claim.row.points, linked_from),
            ]
        )
    return Grid(heads, rows)


def short_claims_grid(tables: Sequence[MadeTable], *, linked_from: Path) -> Grid:
    """Return the paper's numbers beside ours in few columns: what and where, how it came out, and the records.

    What was not measured has no row, but a claim of which nothing was has one.
    """
    heads = [
        Head("claim"), Head("measured on"), Head("paper", right=True), Head("ours, mean ± std (n)", right=True),
        Head("within the claim?"), Head("records"),
    ]  # fmt: skip
    rows: list[list[str]] = []
    for made in tables:
        for claim in made.claims:
            if claim.ours is None:
                continue
            machines = dict.fromkeys(machine(point.record) for point in finished(claim.row.points))
            place = [claim.row.labels[label] for label in made.labels if label in claim.row.labels]
            where = f"{', '.join(place)}; scale {made.measured.scale}, {', '.join(machines)}"
            ours = _summary(claim.ours, made.spec.columns[claim.column].digits, count=True)
            links = _numbered(made.measured, claim.row.points, linked_from)
            rows.append([claim.number.says, where, claim.number.text, ours, VERDICTS[claim.within], links])
    told = {row[0] for row in rows}
    numbers = {claim.number.says: claim.number for made in tables for claim in made.claims}
    rows += [[says, ABSENT, number.text, *[ABSENT] * 3] for says, number in numbers.items() if says not in told]
    return Grid(heads, rows)


def number_text(value: float, digits: int, *, sign: str = "") -> str:
    """Return a number as tables print it."""
    return "never" if math.isinf(value) else f"{value:{sign}z,.{digits}f}"


def _summary(summary: Summary | None, digits: int, *, count: bool = False) -> str:
    if summary is None:
        return ABSENT
    told = summary.std is not None and (count or summary.std > 0)  # that all runs of a row are equal is no news in every cell
    spread = "" if not told else f" ± {number_text(summary.std, digits)}"
    return number_text(summary.mean, digits) + spread + (f" ({summary.n})" if count else "")


def command_of(measured: Measured, points: Sequence[PointRun]) -> str:
    """Return the command that runs some points of an experiment."""
    names = ",".join(point.name for point in points)
    return f"python -m experiments.sweep experiment={measured.name} scale={measured.scale} 'only=[{names}]'"


def _links(measured: Measured, points: Sequence[PointRun], linked_from: Path) -> str:
    links = (f"[{point.name}]({measured.link(point, linked_from=linked_from)})" for point in finished(points))
    return " ".join(links) or ABSENT


def _numbered(measured: Measured, points: Sequence[PointRun], linked_from: Path) -> str:
    """Return links to the records of a row, in few letters."""
    links = [measured.link(point, linked_from=linked_from) for point in finished(points)]
    if len(links) == 1:
        return f"[record]({links[0]})"
    return " ".join(f"[{i}]({link})" for i, link in enumerate(links, 1)) or ABSENT


def finished(points: Sequence[PointRun]) -> list[PointRun]:
    """Return the points that have a result."""
    return [point for point in points if point.status == "finished"]


def plain_rows(made: MadeTable) -> Iterator[dict[str, Any]]:
    """Yield the rows as numbers: labels, mean, standard deviation and count of each column, and the runs."""
    for row in made.rows:
        values = {key: vars(value) if value else None for key, value in row.values.items() if _is_shown(made, key)}
        yield {"labels": _all_labels(made, row), "values": values, **_provenance(made, row)}


def plain_claims(made: MadeTable) -> Iterator[dict[str, Any]]:
    """Yield the claims as numbers."""
    for claim in made.claims:
        number = claim.number
        yield {
            "claim": number.key, "says": number.says, "labels": _all_labels(made, claim.row), "paper": number.value,
            "unit": number.unit, "reading": number.reading, "where": number.where, "known": list(number.known),
            "column": claim.column,
            "ours": vars(claim.ours) if claim.ours else None, "delta": claim.delta, "within": claim.within,
            **_provenance(made, claim.row),
        }  # fmt: skip


def _all_labels(made: MadeTable, row: Row) -> dict[str, str | None]:
    return {label: row.labels.get(label) for label in made.labels}


def _provenance(made: MadeTable, row: Row) -> dict[str, Any]:
    return {
        "command": command_of(made.measured, row.points),
        "runs": [point.run for point in finished(row.points)],
        "commands": [point.record["command"] for point in finished(row.points)],
    }
