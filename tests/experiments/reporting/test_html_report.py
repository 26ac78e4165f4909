import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from experiments.reporting.grids import Grid, Head
from experiments.reporting.html_report import (
    STYLE,
    Card,
    Section,
    cards,
    folded,
    heading,
    listing,
    page,
    paragraph,
    picture,
    table,
)
from tests.pages import read_page


@pytest.fixture
def shown(tmp_path):
    Image.fromarray(np.full((4, 6, 3), 7, np.uint8)).save(tmp_path / "a.png")
    return page(
        "Results & <more>",
        "below `runs`",
        [
            Section("first", "The <first>", [heading("a & b"), paragraph("[link](a/record.json)"), listing(["`x<y`"])]),
            Section("second", "Second", [table(Grid([Head("n", right=True)], [["yes"]])), picture(tmp_path / "a.png", 'of "a"')]),
            Section("third", "Third", [cards([Card("what", "5%", "of <10>", "some")]), folded("more & more", "<p>x</p>")]),
        ],
    )


def test_a_page_is_whole_and_its_contents_lead_to_its_sections(shown):
    attributes = read_page(shown)
    ids = [value for _, name, value in attributes if name == "id"]
    links = [value for tag, name, value in attributes if (tag, name) == ("a", "href")]
    assert ids == ["first", "second", "third"]
    assert links == ["#first", "#second", "#third", "a/record.json"]


def test_a_page_takes_nothing_from_elsewhere(shown):
    sources = [value for _, name, value in read_page(shown) if name in ("src", "srcset", "href", "data", "poster")]
    assert not [source for source in sources if re.match(r"(\w+:)?//", source)]
    assert "<script" not in shown
    assert "<link" not in shown
    assert not re.search(r"@import|url\(|https?:", STYLE.read_text())


def test_texts_are_texts_whatever_is_in_them(shown):
    assert "<title>Results &amp; &lt;more&gt;</title>" in shown
    assert "<h2>The &lt;first&gt;</h2>" in shown
    assert "<h3>a &amp; b</h3>" in shown
    assert "<code>x&lt;y</code>" in shown
    assert "of &lt;10&gt;" in shown
    assert "<summary>more &amp; more</summary>" in shown


def test_a_picture_is_in_the_page_with_its_size_and_a_text_for_those_who_do_not_see_it(shown):
    image = {name: value for tag, name, value in read_page(shown) if tag == "img"}
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as there:
        assert there.size == (6, 4)
    assert (image["width"], image["height"], image["alt"]) == ("6", "4", 'of "a"')


def test_a_page_has_a_dark_face_a_narrow_one_and_one_for_paper():
    style = STYLE.read_text()
    assert {"(prefers-color-scheme: dark)", "(max-width: 40rem)", "print"} == set(re.findall(r"@media ([^{]+?) \{", style))
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in style.split("@media", 2)[:2])
    assert light == dark  # no colour of the one is left in the other
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= light
