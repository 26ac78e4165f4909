"""Write a table as Markdown, CSV, LaTeX or JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.reporting.cells import Difference, Gap, Link, Measured
from experiments.reporting.markdown import ABSENT, markdown_table


def cell_text(cell: Any) -> str:
    """Return a cell as plain text."""
    if isinstance(cell, tuple):
        return " ".join(link.text for link in cell) or ABSENT
    return ABSENT if cell is None or cell != cell or cell == "" else str(cell)


def to_markdown(table: pd.DataFrame, *, linked_from: Path) -> str:
    """Return a Markdown table. Links are relative to the folder `linked_from`; all other markup is escaped."""

    def cell(value: Any) -> str:
        if isinstance(value, tuple) and value and isinstance(value[0], Link):
            return " ".join(f"[{link.text}]({Path(os.path.relpath(link.path, linked_from)).as_posix()})" for link in value)
        return re.sub(r"([\\\[<])", r"\\\1", cell_text(value))

    return markdown_table([dict(zip(table.columns, map(cell, row), strict=True)) for row in table.to_numpy()], table.columns)


def to_latex(table: pd.DataFrame) -> str:
    """Return a LaTeX tabular with the rules of booktabs, without links."""
    shown = table.drop(columns=["records", "record"], errors="ignore").map(cell_text)
    text = shown.to_latex(index=False, escape=True)
    return text.replace("±", r"$\pm$").replace("—", "---").replace("Δ", r"$\Delta$")


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as numbers and texts. A mean or a difference becomes several cells."""
    return [_plain_row(row) for row in table.to_dict("records")]


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for heading, cell in row.items():
        if isinstance(cell, Measured):
            spread = "standard error" if isinstance(cell, Gap) else "std"
            values |= {heading: cell.mean, f"{heading} ({spread})": cell.std, f"{heading} (n)": cell.n}
        elif isinstance(cell, Difference):
            values |= {heading: cell.delta, f"{heading} (ratio)": cell.ratio, f"{heading} (p)": cell.p}
        elif isinstance(cell, tuple):
            values[heading] = " ".join(link.path for link in cell)
        else:
            values[heading] = None if cell != cell else cell
    return values


def to_csv(table: pd.DataFrame) -> str:
    return pd.DataFrame(plain(table)).to_csv(index=False)


def to_json(table: pd.DataFrame) -> str:
    return json.dumps(plain(table), indent=1, ensure_ascii=False, default=str) + "\n"
