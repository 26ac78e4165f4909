"""Markdown tables and the marked blocks of a text, without pandas: benchmarks print tables too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rapid_inr.errors import UserError

NUMBER = re.compile(r"[-+]?[\d,.]+%?( ± [\d,.]+)?( \(\d+\))?|never|—|\*\*[\d.]+\*\*")


def markdown_table(rows: Sequence[Mapping[str, str]], headings: Iterable[str]) -> str:
    """Return a Markdown table; columns in which all cells are numbers stand on the right."""
    headings = list(headings)
    cells = [[" ".join(row[heading].split()).replace("|", r"\|") for heading in headings] for row in rows]
    right = [all(NUMBER.fullmatch(cell) for cell in column) for column in zip(*cells, strict=True)] or [False] * len(headings)
    lines = ["| " + " | ".join(line) + " |" for line in [headings, *cells]]
    return "\n".join([lines[0], "|" + "|".join("--:" if r else "---" for r in right) + "|", *lines[1:]])


def replace_block(text: str, name: str, content: str) -> str:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in a Markdown text.

    Raises:
        UserError: if the two marks are not there, in that order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not 0 <= text.find(begin) < text.find(end):
        raise UserError(f"the text has no block {begin} ... {end}")
    head, rest = text.split(begin, 1)
    return f"{head}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
