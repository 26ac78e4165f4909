"""A comparison as text: aligned for a terminal, Markdown, CSV, LaTeX (booktabs) or JSON, the last with every number in full."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.reporting.comparing.baseline import Against
from experiments.reporting.comparing.groups import Row, numbers
from experiments.reporting.comparing.where import shortest
from experiments.reporting.grids import ABSENT, Grid, Head, as_latex, as_markdown
from rapid_inr.evaluation.units import unit_of

WIDEST_CELL = 40  # in a terminal; what is longer, such as a list, is cut short there
FORMATS = ("table", "md", "csv", "latex", "json")


@dataclass(frozen=True)
class Comparison:
    """The rows of one command and what of them is shown.

    Args:
        known: all keys of the runs, among which those of the rows are told in short.
        bases: the baseline of each row, where there is one.
        against: what each row is against its baseline, by metric.
    """

    verb: str
    rows: Sequence[Row]
    metrics: Sequence[str]
    known: frozenset[str]
    bases: Sequence[Row | None] = ()
    against: Sequence[Mapping[str, Against]] = field(default=())


def render(comparison: Comparison, style: str) -> str:
    """Return a comparison in one of `FORMATS`, without a line break at its end."""
    if style == "csv":
        return _csv(comparison)
    if style == "json":
        return json.dumps(as_json(comparison), indent=1, ensure_ascii=False)
    return {"table": as_aligned, "md": as_markdown, "latex": _latex}[style](grid(comparison))


def grid(comparison: Comparison) -> Grid:
    """Return what is shown of a comparison."""
    rows = comparison.rows
    keys = list(rows[0].keys) if rows else []
    several = any(len(row.runs) > 1 for row in rows)
    heads = [
        Head(shortest(key, comparison.known), right=all(isinstance(row.keys[key], int | float | None) for row in rows))
        for key in keys
    ]
    cells = [[_cell(value) for value in row.keys.values()] for row in rows]
    if several or "run" not in keys:
        heads.append(Head("n", right=True) if several else Head("run"))
        for row, texts in zip(rows, cells, strict=True):
            texts.append(str(len(row.finished)) if several else row.runs[0].run)
    heads.append(Head("status"))
    for row, texts in zip(rows, cells, strict=True):
        texts.append(row.status)
    for metric in comparison.metrics:
        heads.append(Head(metric, right=True))
        for row, texts in zip(rows, cells, strict=True):
            texts.append(_spread(metric, row))
        if comparison.bases:
            heads.append(Head(f"Δ {metric}", right=True))
            for i, texts in enumerate(cells):
                texts.append(_against(comparison, i, metric))
    return Grid(heads, cells)


def _cell(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def figure(metric: str, value: float, *, signed: bool = False) -> str:
    """Return a number as tables show it: dB and percent to the hundredth, counts in full, others to four figures."""
    sign = "+" if signed else ""
    if unit_of(metric) in ("dB", "%"):
        return f"{value:{sign}.2f}"
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.4g}"


def _spread(metric: str, row: Row) -> str:
    spread = row.spread(metric)
    if spread is None:
        return ABSENT
    text = figure(metric, spread.mean)
    if spread.std is not None:
        text += f" ± {f'{spread.std:.2f}' if unit_of(metric) in ('dB', '%') else f'{spread.std:.2g}'}"
    return text if spread.n == len(row.finished) else f"{text} (n={spread.n})"


def _against(comparison: Comparison, i: int, metric: str) -> str:
    if comparison.bases[i] is comparison.rows[i]:
        return "baseline"
    found = comparison.against[i].get(metric)
    if found is None:
        return ABSENT
    ratio = "" if found.ratio is None or found.delta == 0 else f" x{found.ratio:.3g}"
    p = "" if found.p is None else " p<0.001" if found.p < 0.001 else f" p={found.p:.2g}"
    return figure(metric, found.delta, signed=True) + ratio + p


def as_aligned(table: Grid) -> str:
    """Return a table for a terminal, whose columns stand under each other."""
    lines = [[head.text for head in table.heads], *([*map(_cut, cells)] for cells in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        columns = zip(cells, widths, table.heads, strict=True)
        return "  ".join(cell.rjust(width) if head.right else cell.ljust(width) for cell, width, head in columns).rstrip()

    return "\n".join([line(lines[0]), "  ".join("─" * width for width in widths), *map(line, lines[1:])])


def _cut(cell: str) -> str:
    return cell if len(cell) <= WIDEST_CELL or "/" in cell else f"{cell[: WIDEST_CELL - 1]}…"  # a path or a run is needed whole


def _latex(table: Grid) -> str:
    return as_latex(table).replace("Δ", r"$\Delta$").replace("<", "$<$")


def _csv(comparison: Comparison) -> str:
    """Return a row a line: keys in full, runs, n, status, and mean, std and n of each metric, with delta, ratio and p."""
    rows = as_json(comparison)["rows"]
    measures = ["std", "n", *(["delta", "ratio", "p"] if comparison.bases else [])]
    keys = list(comparison.rows[0].keys) if comparison.rows else []
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    named = [name for metric in comparison.metrics for name in (metric, *(f"{metric}_{measure}" for measure in measures))]
    lines.writerow([*keys, "runs", "n", "status", *named])
    for row in rows:
        values = [
            row["metrics"].get(metric, {}).get(measure) for metric in comparison.metrics for measure in ("mean", *measures)
        ]  # fmt: skip
        lines.writerow([*row["keys"].values(), " ".join(row["runs"]), row["n"], row["status"], *values])
    return text.getvalue().rstrip("\n")


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything there is to say of a comparison, as JSON values."""
    rows = []
    for i, row in enumerate(comparison.rows):
        metrics = {}
        for name in comparison.metrics:
            spread = row.spread(name)
            if spread is not None:
                values = numbers(name, row.finished)
                metrics[name] = {"mean": spread.mean, "std": spread.std, "n": spread.n, "values": values}
                metrics[name] |= {"unit": unit_of(name)} | _against_json(comparison, i, name)
        runs = [run.run for run in row.runs]
        rows.append({"keys": dict(row.keys), "runs": runs, "n": len(row.finished), "status": row.status, "metrics": metrics})
    return {"verb": comparison.verb, "rows": rows}


def _against_json(comparison: Comparison, i: int, metric: str) -> dict[str, Any]:
    found = comparison.against[i].get(metric) if comparison.bases else None
    return {} if found is None else {"delta": found.delta, "ratio": found.ratio, "p": found.p}
