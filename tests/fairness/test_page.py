"""What strangers wrote stays text, whatever it is."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.fairness.page import Figure, Html, Row, audio, clean, document, element, figure, table

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='x()'>",
    "</title></style><b>",
    "a\x00b\u202ec\ud800d\ne",
    "&amp;",
]


class _Seen(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str):
    name = clean(text)
    page = document(
        name,
        [
            element("p", name, title=name, aria_label=name),
            table(name, [name, name], [Row(name, [name])], above=[("", 1), (name, 1)]),
            figure(Figure(b"<svg/>", name, name)),
            audio(b"sound", name),
        ],
    )
    seen = _Seen(page)
    assert {tag for tag, _ in seen.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "p", "div", "table"),
        *("caption", "span", "thead", "tbody", "tr", "th", "td", "figure", "img", "figcaption"),
        "audio",
    }
    assert seen.text.count(name) >= 7
    assert ("p", {"title": name, "aria-label": name}) in seen.tags
    assert not any(key.startswith("on") for _, attributes in seen.tags for key in attributes)
    page.encode()  # nothing is left that UTF-8 has no bytes for


@settings(deadline=None)
@given(st.text(alphabet=st.characters()))
def test_a_cleaned_name_is_a_line_that_can_be_printed(text: str):
    found = clean(text)
    assert found.isprintable()
    assert 0 < len(found) <= 80
    assert clean(found) == found


def test_names_are_cut_and_the_empty_named():
    assert clean("x" * 100) == "x" * 79 + "…"
    assert clean(" \t ") == "(empty)"
    assert clean("Ŝĉ 汉") == "Ŝĉ 汉"
    assert clean(3) == "3"


def test_markup_is_kept_and_text_is_not_taken_for_it():
    inner = element("b", "x")
    assert element("p", inner, " < ", str(inner)) == "<p><b>x</b> &lt; &lt;b&gt;x&lt;/b&gt;</p>"
    assert isinstance(inner, Html)


def test_a_page_forbids_every_request_and_says_what_it_is():
    page = document("t", [])
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in _Seen(page).tags[3][1]["content"].__str__()
    assert 'lang="en-GB"' in page
    assert "width=device-width" in page


def test_tables_have_headers_of_rows_and_columns():
    made = table("c", ["a", "b"], [Row("r", ["1"], few=True)], above=[("", 1), ("s", 1)])
    seen = _Seen(made)
    scopes = [attributes["scope"] for tag, attributes in seen.tags if tag == "th"]
    assert scopes == ["colgroup", "col", "col", "row"]
    assert ("tr", {"class": "few"}) in seen.tags
    assert seen.tags[0][1]["tabindex"] == "0"  # who has no mouse can scroll it
