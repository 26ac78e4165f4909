"""The parts of the report: what is claimed, each experiment, other runs, and what all of it ran on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.claims import PaperNumber, paper_grid
from experiments.reporting.columns import TABLES, machine
from experiments.reporting.grids import ABSENT, Grid, Head
from experiments.reporting.html_report import Card, Section, cards, folded, heading, listing, page, paragraph, picture, table
from experiments.reporting.records import grid_of
from experiments.reporting.report_pictures import (
    experiment_curves,
    other_curves,
    rate_distortion_pictures,
    sheets,
    table_pictures,
)
from experiments.reporting.table_grids import ClaimRow, MadeTable, claims_grid, finished, measures_grid, number_text
from experiments.tables import read_runs

TITLES = {
    "demo": "The demo", "encode": "Encoding", "train": "Training", "benchmark": "Speed of fitting",
    "benchmark_decode": "Speed of decoding",
}  # fmt: skip
FITTED_OR_TRAINED = ("encode", "train")  # commands whose pictures come after those of commands that are there for them
UNFOLDED = 24  # rows of a table that a page shows at once
SHOWN_VERSIONS = ("python", "torch", "triton", "numpy")


def claims_section(paper: Mapping[str, PaperNumber], made: Sequence[MadeTable]) -> Section:
    """Return what the paper claims, and in how many rows ours is within it."""
    rows = [(one.measured.scale, row) for one in made for row in one.claims]
    shown = [_card(number, [pair for pair in rows if pair[1].number == number]) for number in paper.values() if number.is_claim]
    note = (
        "A number is within a claim where it is no worse than what the paper says, without rounding in its favour. Of a maximum "
        "over settings (up to) one row that reaches it is enough. Ours is what was measured at other scales than smoke, which "
        "only shows that all of it runs."
    )
    return Section("claims", "What the paper claims", [cards(shown), paragraph(note)])


def _card(number: PaperNumber, rows: Sequence[tuple[str, ClaimRow]]) -> Card:
    """Return a card for a claim, from rows with their scales."""
    measured = [(scale, row) for scale, row in rows if row.ours is not None and math.isfinite(row.ours.mean)]
    title, paper = number.says[0].upper() + number.says[1:], f"The paper: {number.text}."
    if not measured:
        return Card(title, ABSENT, f"{paper} Not measured yet.")
    less_is_better = number.at_most is not None
    scale, best = (min if less_is_better else max)(measured, key=lambda pair: pair[1].ours.mean)
    within = sum(row.within is True for _, row in measured)
    verdict = "no" if within == 0 else "yes" if within == len(measured) or not less_is_better else "some"
    unit = number.unit if number.unit in ("%", "x") else f" {number.unit}"
    labels = ", ".join(f"{label} {value}" for label, value in best.row.labels.items())
    line = f"{paper} Within it: {within} of {len(measured)} rows. The best: {labels}, at scale {scale}."
    return Card(title, f"{number_text(best.ours.mean, 2)}{unit}", line, verdict)


def experiment_section(name: str, made: Sequence[MadeTable], *, out: Path, sheets_shown: int) -> Section:
    """Return the tables of an experiment at every scale that there is of it, with figures, curves and sheets."""
    parts = []
    for one in made:
        parts += [heading(one.spec.title), paragraph(one.note)]
        if one.claims:
            parts.append(table(claims_grid(one, linked_from=out.parent).without("command")))
        grid = measures_grid(one, linked_from=out.parent)
        parts.append(table(grid) if len(grid.rows) <= UNFOLDED else folded(f"All {len(grid.rows)} rows", table(grid)))
        parts += table_pictures(one)
    for measured in {id(one.measured): one.measured for one in made}.values():
        pictured = sorted(finished(measured.points), key=lambda point: point.verb in FITTED_OR_TRAINED)
        folders = [measured.root / point.run for point in pictured]
        if measured.name == "rate_distortion":
            parts += rate_distortion_pictures(measured)
        parts += [*experiment_curves(measured), *sheets(folders, limit=sheets_shown)]
        if measured.unfinished and folders:
            parts.append(folded("Points that were not measured", listing(measured.unfinished)))
        commands = [f"{point.name}: `{point.record['command']}`" for point in finished(measured.points)]
        if commands:
            parts.append(folded(f"{len(commands)} commands that repeat these runs, scale {measured.scale}", listing(commands)))
    return Section(f"experiment-{name}", made[0].measured.title, parts)


def other_runs_section(root: Path, *, out: Path, sheets_shown: int) -> Section | None:
    """Return the tables of the runs that are no points of an experiment; None where there are none."""
    parts = []
    for name, spec in TABLES.items():
        rows = spec.rows(read_runs(root, spec.verb, linked_from=out.parent))
        if rows:
            parts += [heading(TITLES.get(name, name)), table(grid_of(rows, spec.columns))]
            folders = dict.fromkeys(root / row["run"] for row in rows)
            parts += [*other_curves(root, rows), *sheets(list(folders), limit=sheets_shown)]
    return Section("runs", "Other runs", parts) if parts else None


def pictures_section(paths: Sequence[Path]) -> Section | None:
    """Return pictures that were asked for by name; None where none were.

    Raises:
        FileNotFoundError: if one is not there.
    """
    return Section("pictures", "Pictures", [picture(path, path.name) for path in paths]) if paths else None


def paper_section(paper: Mapping[str, PaperNumber]) -> Section:
    """Return every number that is known of the paper, and what is not known."""
    return Section(
        "paper", "The paper's numbers", [folded(f"{len(paper)} numbers, with their sources", table(paper_grid(paper)))]
    )


def machines_section(records: Sequence[Mapping[str, Any]]) -> Section:
    """Return what the runs ran on, which versions and commits, and what they warned of."""
    places = Counter((machine(r), *(r["versions"].get(name, ABSENT) for name in SHOWN_VERSIONS)) for r in records)
    heads = [Head("machine"), *map(Head, SHOWN_VERSIONS), Head("runs", right=True)]
    parts = [table(Grid(heads, [[*place, f"{count:,}"] for place, count in places.most_common()]))]
    commits = Counter((str(r["commit"] or "unknown")[:12], "changed" if r["dirty"] else "as committed") for r in records)
    rows = [[f"`{commit}`", state, f"{count:,}"] for (commit, state), count in commits.most_common()]
    parts.append(
        folded(f"{len(commits)} states of the code", table(Grid([Head("commit"), Head("code"), Head("runs", True)], rows)))
    )
    warned = Counter(warning["name"] for r in records for warning in r.get("warnings", ()))
    if warned:
        rows = [[f"`{name}`", _first_message(records, name), f"{count:,}"] for name, count in warned.most_common()]
        heads = [Head("warning"), Head("the first of them"), Head("times", right=True)]
        parts += [heading("What runs warned of"), table(Grid(heads, rows))]
    return Section("machines", "Machines and versions", parts)


def _first_message(records: Sequence[Mapping[str, Any]], name: str) -> str:
    return next(w["message"] for r in records for w in r.get("warnings", ()) if w["name"] == name)


def whole_page(sections: Sequence[Section], records: Sequence[Mapping[str, Any]], *, root: Path) -> str:
    """Return the page."""
    days = sorted(record["started"][:10] for record in records)
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    lead = (
        f"Made from {len(records):,} records of finished runs below `{root}`, {span}. {ABSENT} stands where there is no record, "
    )
    lead += "or where the paper's number is not known."
    return page("Rapid-INR: results", lead, sections)
