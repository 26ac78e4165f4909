"""A page of HTML that holds everything it shows: its style, its pictures, and nothing from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from experiments.reporting.grids import Grid, as_html, inline_html

STYLE = Path(__file__).with_name("html_report.css")
MARKS = {"yes": "yes", "no": "no"}


@dataclass(frozen=True)
class Section:
    """A part of a page, with a place of its own in the list of contents.

    Args:
        key: unique on the page; links to the section end in it.
        parts: HTML.
    """

    key: str
    title: str
    parts: Sequence[str]


@dataclass(frozen=True)
class Card:
    """A number that stands out: what it is of, the number, a line below, and as verdict ``yes``, ``some``, ``no`` or nothing."""

    title: str
    number: str
    line: str
    verdict: str = ""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return the page, with a list of contents."""
    style = STYLE.read_text(encoding="utf-8")
    contents = "".join(f'<a href="#{s.key}">{html.escape(s.title)}</a>' for s in sections)
    body = "\n".join(
        f'<section id="{s.key}">\n<h2>{html.escape(s.title)}</h2>\n' + "\n".join(s.parts) + "\n</section>" for s in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1>
<p>{inline_html(lead)}</p></header>
<nav aria-label="Contents">{contents}</nav>
<main>
{body}
</main>
</body>
</html>
"""


def heading(text: str) -> str:
    return f"<h3>{html.escape(text)}</h3>"


def paragraph(text: str) -> str:
    """Return a paragraph; links and code in it are those of Markdown."""
    return f"<p>{inline_html(text)}</p>"


def table(grid: Grid) -> str:
    """Return a table that scrolls by itself where it is wider than the page."""
    return f'<div class="scroll" tabindex="0">{as_html(grid, marks=MARKS)}</div>'


def listing(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{inline_html(line)}</li>" for line in lines) + "</ul>"


def folded(summary: str, *parts: str) -> str:
    """Return parts that a reader unfolds."""
    return f"<details><summary>{html.escape(summary)}</summary>\n" + "\n".join(parts) + "\n</details>"


def cards(all_cards: Sequence[Card]) -> str:
    """Return cards in a row, or as many rows as they need."""
    made = "".join(
        f'<div class="card {card.verdict}"><p class="what">{html.escape(card.title)}</p>'
        f'<p class="figure">{html.escape(card.number)}</p><p>{html.escape(card.line)}</p></div>'
        for card in all_cards
    )
    return f'<div class="cards">{made}</div>'


def picture(path: Path, caption: str) -> str:
    """Return a PNG as part of the page, with a caption below it."""
    with Image.open(path) as image:
        width, height = image.size
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    source = f'src="data:image/png;base64,{data}" width="{width}" height="{height}"'
    shown = f'<img {source} alt="{html.escape(caption)}" loading="lazy">'
    return f"<figure>{shown}<figcaption>{inline_html(caption)}</figcaption></figure>"
