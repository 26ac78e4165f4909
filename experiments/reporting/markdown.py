"""Markdown tables and the marked blocks of a text, without pandas, since benchmarks print tables too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rapid_inr.errors import UserError

ABSENT = "—"  # not measured, or does not apply
NUMBER = re.compile(r"[-+]?[\d,.]+%?( ± [\d,.]+)?( \(\d+\))?|never|—|\*\*[\d.]+\*\*")
Columns = Mapping[str, tuple[str, str]]  # by heading: the key of a value, and how Python formats it
DECODE_COLUMNS: Columns = {
    "size": ("size", ""), "batch": ("batch", ",d"), "backend": ("backend", ""), "images/s": ("images_per_s", ",.0f"),
    "ms a batch": ("ms", ",.2f"), "fastest": ("fastest_ms", ",.2f"), "slowest": ("slowest_ms", ",.2f"),
    "over `bmm`": ("speedup", ".2f"), "of the sine bound": ("of_sine", ".0%"), "of the matrix bound": ("of_matrix", ".0%"),
    "of the bandwidth": ("of_bandwidth", ".1%"), "one image at 32 px, us": ("call_us", ",.0f"),
    "PSNR to float64, dB": ("psnr_db", ".1f"), "lost at 35 dB, dB": ("loss_db", "z.4f"),
}  # fmt: skip


def markdown_table(rows: Sequence[Mapping[str, str]], headings: Iterable[str]) -> str:
    """Return a Markdown table; columns of numbers are aligned right."""
    headings = list(headings)
    cells = [[" ".join(row[heading].split()).replace("|", r"\|") for heading in headings] for row in rows]
    right = [all(NUMBER.fullmatch(cell) for cell in column) for column in zip(*cells, strict=True)] or [False] * len(headings)
    lines = ["| " + " | ".join(line) + " |" for line in [headings, *cells]]
    return "\n".join([lines[0], "|" + "|".join("--:" if r else "---" for r in right) + "|", *lines[1:]])


def replace_block(text: str, name: str, content: str) -> str:
    """Replace the text between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        UserError: if a mark is missing, or they are in the wrong order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not 0 <= text.find(begin) < text.find(end):
        raise UserError(f"the text has no block {begin} ... {end}")
    head, rest = text.split(begin, 1)
    return f"{head}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"


def formatted_table(values: Sequence[Mapping[str, Any]], columns: Columns) -> str:
    """Return a Markdown table with a row for each mapping; a missing value is a dash."""

    def text(value: Any, style: str) -> str:
        return ABSENT if value is None else format(value, style)

    return markdown_table(
        [{heading: text(row.get(key), style) for heading, (key, style) in columns.items()} for row in values], columns
    )
