"""HTML that holds what strangers wrote: everything is escaped that is not made here.

    document("Title", [element("p", "a < b")])

A page is one file, sends no request (its content security policy forbids them all) and runs no
script. `Html` is text that is markup already; any other text becomes text on the page.
"""

import base64
import html
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_MOST_CHARACTERS = 80
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
# Grey on white with a contrast of 5.7, above the 4.5 that small text needs.
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid #bbb; padding-top: 1rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.4rem; color: #444; }
caption span { display: inline-block; max-width: min(62rem, 92vw); position: sticky; left: 0; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top; white-space: nowrap; }
th[scope=colgroup] { text-align: center; }
thead tr:last-child th:first-child { text-align: left; }
th[scope=row], td.text { text-align: left; white-space: normal; min-width: 7rem; max-width: 22rem; }
thead th { border-bottom: 1px solid #777; vertical-align: bottom; }
tr.few th, tr.few td { color: #666; font-style: italic; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; }
figcaption, .note { color: #444; font-size: 0.9rem; }
audio { width: 100%; max-width: 24rem; } a:focus, .scroll:focus { outline: 2px solid #0072B2; }
"""


class Html(str):
    """Markup; every other str is text."""

    __slots__ = ()


class Row(NamedTuple):
    """A row of a table: its name, and its other cells."""

    name: str
    cells: Sequence[str]
    few: bool = False
    """Whether it is shown in grey."""


class Figure(NamedTuple):
    """A picture as an SVG, and in words for who cannot see it."""

    svg: bytes
    alt: str
    caption: str


def clean(text: object, most: int = _MOST_CHARACTERS) -> str:
    """A name from outside, fit for a line: no control characters or directions of writing, no
    lone surrogates, and not longer than `most`."""
    plain = str(text).encode("utf-8", "replace").decode("utf-8")
    # Other (control, format, surrogate, private) and separators of lines become a space.
    spaced = "".join(
        " " if unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") else c
        for c in plain
    )
    line = " ".join(spaced.split()) or "(empty)"
    return line if len(line) <= most else f"{line[: most - 1]}…"


def element(tag: str, *children: str, **attributes: str) -> Html:
    """`<tag attributes>children</tag>`; a trailing underscore of an attribute's name is left off
    and others are hyphens."""
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for name, value in attributes.items()
    )
    return Html(f"<{tag}{named}>{join(children)}</{tag}>")


def join(children: Iterable[str], between: str = "") -> Html:
    return Html(between.join(c if isinstance(c, Html) else html.escape(c) for c in children))


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Row],
    *,
    above: Sequence[tuple[str, int]] = (),
    text: Sequence[int] = (),
) -> Html:
    """A table that scrolls sideways where it does not fit.

    Args:
      head: names of the columns, the rows' names first.
      above: (name, columns) of a row over it; '' spans without a name.
      text: which cells of a row are text, set flush left.
    """
    lines = [element("tr", *(element("th", h, scope="col") for h in head))]
    if above:
        spans = [
            element("th", name, scope="colgroup", colspan=str(n))
            if name
            else element("td", colspan=str(n))
            for name, n in above
        ]
        lines.insert(0, element("tr", *spans))
    body = [
        element(
            "tr",
            element("th", row.name, scope="row"),
            *(
                element("td", cell, class_="text") if i in text else element("td", cell)
                for i, cell in enumerate(row.cells)
            ),
            **({"class_": "few"} if row.few else {}),
        )
        for row in rows
    ]
    inner = [
        element("caption", element("span", caption)),
        element("thead", *lines),
        element("tbody", *body),
    ]
    return element(
        "div",
        element("table", *inner),
        class_="scroll",
        role="region",
        tabindex="0",
        aria_label=caption,
    )


def figure(given: Figure) -> Html:
    image = Html(
        f'<img alt="{html.escape(given.alt)}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(given.svg).decode()}">'
    )
    return element("figure", image, element("figcaption", given.caption))


def audio(content: bytes, label: str) -> Html:
    """A player of an MP3."""
    source = f"data:audio/mpeg;base64,{base64.b64encode(content).decode()}"
    return element("audio", controls="", preload="none", aria_label=label, src=source)


def document(title: str, body: Iterable[str]) -> str:
    """The whole file."""
    heads = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="referrer" content="no-referrer">'),
        element("title", title),
        element("style", Html(_STYLE)),
    ]
    page = element(
        "html",
        element("head", *heads),
        element("body", element("main", element("h1", title), *body)),
        lang="en-GB",
    )
    return f"<!doctype html>\n{page}\n"
