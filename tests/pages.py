"""Reading of HTML pages, for tests."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Tags(HTMLParser):
    """Reads a page as strictly as a browser does not: every tag is closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes = [], []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read_page(text):
    """Return the attributes of all tags, as (tag, name, value)."""
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    return tags.attributes
