"""From the records of runs to tables: reads folders, runs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.reporting.grids import ABSENT, Grid, Head, as_markdown
from rapid_inr.errors import UserError


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and how a run's record becomes a cell; None is printed as absent."""

    heading: str
    cell: Callable[[Mapping[str, Any]], str | None]
    right: bool = True


def finished_records(root: Path | str) -> list[dict[str, Any]]:
    """Read all finished runs below a folder, by folder name; each record gains ``run``, its folder relative to `root`.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a record is not JSON; the message names it.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of runs at {root}")
    records = ((path, read_record(path)) for path in sorted(root.rglob("record.json")))
    return [
        record | {"run": path.parent.relative_to(root).as_posix()} for path, record in records if record["status"] == "finished"
    ]


def read_records(root: Path | str, *, verb: str) -> list[dict[str, Any]]:
    """Read the finished runs of a verb below a folder, as `finished_records` does."""
    return [record for record in finished_records(root) if record["verb"] == verb]


def read_record(path: Path) -> dict[str, Any]:
    """Read a record, or any other JSON file of a run.

    Raises:
        ValueError: if it is not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from None


def metric(name: str, style: str = ".2f") -> Callable[[Mapping[str, Any]], str | None]:
    """Return a cell that formats a metric, absent where a record lacks it."""

    def cell(record: Mapping[str, Any]) -> str | None:
        value = record["metrics"].get(name)
        return None if value is None else format(value, style)

    return cell


def grid_of(records: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Grid:
    """Return a table with a row a record."""
    rows = [[column.cell(record) or ABSENT for column in columns] for record in records]
    return Grid([Head(column.heading, column.right) for column in columns], rows)


def markdown_table(records: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Return a Markdown table, a row a record."""
    return as_markdown(grid_of(records, columns))


def replace_block(text: str, name: str, content: str) -> str:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in a Markdown text.

    Raises:
        ValueError: if the two marks are not there, in that order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not 0 <= text.find(begin) < text.find(end):
        raise UserError(f"the text has no block {begin} ... {end}")
    head, rest = text.split(begin, 1)
    return f"{head}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
