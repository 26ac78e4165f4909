"""A table of texts, and how it is written as Markdown, LaTeX and HTML.

Cells are Markdown of which every form knows two things: links, ``[text](target)``, and code in backticks.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ABSENT = "—"
INLINE = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)]*)\)|`(?P<code>[^`]*)`")
LONG = 40  # letters that a cell has on one line
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "—": "---",
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """The heading of a column, and whether its cells are numbers, which stand on the right."""

    text: str
    right: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: a cell of each row for each heading, ``ABSENT`` where there is nothing to say."""

    heads: Sequence[Head]
    rows: Sequence[Sequence[str]]

    def without(self, *headings: str) -> Grid:
        """Return the table without some columns."""
        kept = [i for i, head in enumerate(self.heads) if head.text not in headings]
        return Grid([self.heads[i] for i in kept], [[row[i] for i in kept] for row in self.rows])


def as_markdown(grid: Grid) -> str:
    """Return a Markdown table."""
    head = [[head.text for head in grid.heads]]
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in [*head, *grid.rows]]
    rule = "|" + "|".join("--:" if head.right else "---" for head in grid.heads) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def as_latex(grid: Grid) -> str:
    """Return a LaTeX tabular with the rules of booktabs; of a link its text remains."""
    lines = [" & ".join(map(_latex, cells)) + r" \\" for cells in [[head.text for head in grid.heads], *grid.rows]]
    columns = "".join("r" if head.right else "l" for head in grid.heads)
    body = ["\\toprule", lines[0], "\\midrule", *lines[1:], "\\bottomrule"]
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", *body, "\\end{tabular}"])


def _latex(cell: str) -> str:
    def escaped(text: str) -> str:
        return "".join(LATEX.get(letter, letter) for letter in text)

    return _inline(cell, escaped, link=lambda text, _target: escaped(text), code=lambda text: rf"\texttt{{{escaped(text)}}}")


def as_html(grid: Grid, *, marks: Mapping[str, str] | None = None) -> str:
    """Return an HTML table, its numbers of class ``number``, and what may be broken into lines of class ``long``.

    Args:
        marks: texts of cells, and the class that such a cell's text gets.
    """

    def marked(cell: str) -> str:
        mark = (marks or {}).get(cell)
        return inline_html(cell) if mark is None else f'<span class="{mark}">{inline_html(cell)}</span>'

    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = [
            "number" if head.right else "long" if len(_inline(cell, str, link=_words, code=str)) > LONG else ""
            for head, cell in zip(grid.heads, cells, strict=True)
        ]
        starts = [f'<{tag} class="{kind}">' if kind else f"<{tag}>" for kind in kinds]
        return "<tr>" + "".join(f"{start}{marked(cell)}</{tag}>" for start, cell in zip(starts, cells, strict=True)) + "</tr>"

    head = row("th", [head.text for head in grid.heads])
    body = "\n".join(row("td", cells) for cells in grid.rows)
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def inline_html(text: str) -> str:
    """Return the HTML of a line with links and code."""
    return _inline(
        text,
        html.escape,
        link=lambda words, target: f'<a href="{html.escape(target)}">{html.escape(words)}</a>',
        code=lambda words: f"<code>{html.escape(words)}</code>",
    )


def _words(text: str, _target: str) -> str:
    return text


def _inline(text: str, plain: Callable[[str], str], *, link: Callable[[str, str], str], code: Callable[[str], str]) -> str:
    """Return a line with each of its parts written by the function for it."""
    parts, end = [], 0
    for match in INLINE.finditer(text):
        parts.append(plain(text[end : match.start()]))
        parts.append(link(match["text"], match["target"]) if match["code"] is None else code(match["code"]))
        end = match.end()
    return "".join([*parts, plain(text[end:])])
