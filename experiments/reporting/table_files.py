"""A table as files: Markdown, CSV, LaTeX, JSON, and a figure with the numbers behind it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.claims import PaperNumber, read_paper
from experiments.reporting.grids import Grid, as_latex, as_markdown
from experiments.reporting.measured import Measured, read_experiment
from experiments.reporting.summaries import Row, Summary
from experiments.reporting.table_grids import MadeTable, claims_grid, make_table, measures_grid, plain_claims, plain_rows
from rapid_inr.files import atomic
from rapid_inr.plots.tables import Line, table_figure
from rapid_inr.runlog.run import write_csv, write_json

NOT_IN_PRINT = ("command", "runs", "records")  # columns that a page has no room for; they stand in the comments of its source

NO_LABEL = "—"  # of what has none of the labels that lines are named by, such as raw images among codecs at a rate


def made_tables(name: str, root: Path, *, scale: str | None = None) -> list[MadeTable]:
    """Return the tables of an experiment, at every scale that a folder of runs holds it at, or at one."""
    paper = read_paper()
    found = read_experiment(name, root, scale=scale)
    return [make_table(measured, spec, paper) for measured in found for spec in measured.tables]


def markdown_of(tables: Sequence[MadeTable], *, linked_from: Path) -> str:
    """Return the tables of an experiment as Markdown, and behind them a line for each point without a result."""
    parts = [_markdown(made, linked_from=linked_from) for made in tables]
    for measured in _experiments(tables):
        if any(point.status != "missing" for point in measured.points):  # else nobody has begun, which the tables say
            parts += ["\n".join(f"- not measured: {line}" for line in measured.unfinished)] * bool(measured.unfinished)
    return "\n\n".join(parts)


def _experiments(tables: Sequence[MadeTable]) -> list[Measured]:
    return list({(made.measured.name, made.measured.scale): made.measured for made in tables}.values())


def _markdown(made: MadeTable, *, linked_from: Path) -> str:
    grids = [measures_grid(made, linked_from=linked_from)]
    if made.claims:
        grids.append(claims_grid(made, linked_from=linked_from))
    return "\n\n".join([f"**{made.spec.title}.** {made.note}", *map(as_markdown, grids)])


def write_tables(tables: Sequence[MadeTable], out: Path) -> list[Path]:
    """Write each table below a folder, as ``EXPERIMENT/SCALE/TABLE.*``; return the folders.

    Without matplotlib the figures are left out, and a line on stderr says so.
    """
    folders = {out / made.measured.name / made.measured.scale: None for made in tables}
    for made in tables:
        folder, name = out / made.measured.name / made.measured.scale, made.spec.name
        _write(folder / f"{name}.md", _markdown(made, linked_from=folder) + "\n")
        _write(folder / f"{name}.tex", _latex(made, measures_grid(made, linked_from=folder)))
        write_csv(folder / f"{name}.csv", [_flat(row) for row in plain_rows(made)])
        if made.claims:
            _write(folder / f"{name}_claims.tex", _latex(made, claims_grid(made, linked_from=folder)))
            write_csv(folder / f"{name}_claims.csv", [_flat(claim) for claim in plain_claims(made)])
        write_json(
            folder / f"{name}.json",
            {
                "experiment": made.measured.name, "scale": made.measured.scale, "table": name, "title": made.spec.title,
                "rows": list(plain_rows(made)), "claims": list(plain_claims(made)), "not_measured": made.measured.unfinished,
            },
        )  # fmt: skip
        if lines := figure_lines(made):
            write_csv(folder / f"{name}_figure.csv", _figure_rows(made, lines))
            try:
                draw(folder / f"{name}.png", made, lines)
            except ImportError as error:
                print(f"warning [no_picture]: {error}", file=sys.stderr)
    return list(folders)


def _latex(made: MadeTable, grid: Grid) -> str:
    commands = [f"% {command}" for row in plain_rows(made) for command in (row["command"], *row["runs"])]
    return "\n".join([f"% {made.spec.title}. {made.note}", *commands, as_latex(grid.without(*NOT_IN_PRINT)), ""])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of numbers as the cells of a CSV."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "labels":
            flat |= value
        elif key == "values":
            for column, summary in value.items():
                flat |= _summary_cells(column, summary)
        elif key == "ours":
            flat |= _summary_cells("ours", value)
        else:
            flat[key] = "; ".join(value) if isinstance(value, list) else value
    return flat


def _summary_cells(name: str, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    return {f"{name}_{part}": summary[part] if summary else None for part in ("mean", "std", "n")}


def figure_lines(made: MadeTable) -> dict[str, Line]:
    """Return what a table's figure draws, by the labels of each line; nothing where it has none or nothing was measured."""
    figure = made.spec.figure
    lines: dict[str, list[tuple[str | float, Summary]]] = {}
    for row in made.rows if figure else ():
        x, y = _x_of(row, figure.x), row.values[figure.y]
        if x is not None and y is not None:
            label = " ".join(row.labels[label] for label in figure.line if label in row.labels)
            lines.setdefault(label or NO_LABEL, []).append((x, y))
    return lines


def _x_of(row: Row, name: str) -> str | float | None:
    if name in row.values:
        return None if row.values[name] is None else row.values[name].mean
    label = row.labels.get(name)
    try:
        return label if label is None else float(label)
    except ValueError:
        return label


def _figure_rows(made: MadeTable, lines: Mapping[str, Line]) -> list[dict[str, Any]]:
    figure = made.spec.figure
    return [{"line": label, figure.x: x, **_summary_cells(figure.y, vars(y))} for label, line in lines.items() for x, y in line]


def draw(path: Path, made: MadeTable, lines: Mapping[str, Line]) -> None:
    """Draw a table's figure, with the paper's number as a line where one is claimed of what is drawn.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure = made.spec.figure
    columns = {key: column.heading for key, column in made.spec.columns.items()}
    claimed: PaperNumber | None = next((claim.number for claim in made.claims if claim.column == figure.y), None)
    known = claimed is not None and isinstance(claimed.value, int | float)
    table_figure(
        path, lines, x_label=columns.get(figure.x, figure.x), y_label=columns[figure.y], log=figure.log,
        title=figure.title or made.spec.title,
        legend=", ".join(figure.line),
        reference=(f"the paper: {claimed.text}", claimed.value) if known else None,
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
