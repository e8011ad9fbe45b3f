"""HTML that cannot be broken out of: text is escaped on its way in, always.

    tag("p", "1 < 2", tag("b", name), class_="note")

A child that is a plain string is text. Only what these functions made is markup.
"""

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

# No inline script or style, nothing from elsewhere: whatever a card holds, a page loads nothing.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_VOID = frozenset(("br", "hr", "img", "input", "link", "meta", "circle", "line", "path", "rect"))


class Html(str):
    """Markup, as against text."""

    __slots__ = ()


Child: TypeAlias = "str | Html | Iterable[Child] | None"


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """One element. `class_` is class and `data_x` is data-x; True is an attribute without value,
    False and None are none."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID and not children:
        return Html(f"<{name}{written}>" if name in ("br", "hr", "img", "input", "link", "meta")
                    else f"<{name}{written}/>")  # fmt: skip
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Children one after another."""
    return Html("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return escape(child, quote=False)
    return join(child)


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    # `repr` of a float is its shortest exact form.
    return f' {name}="{escape(str(value), quote=True)}"'


def page(title: str, body: Child, *, root: str = "", here: str = "", scripts: bool = False) -> str:
    """A whole page. `root`: the way from it to the site's first page, `../` from a folder."""
    links = (
        ("Models", "index.html"),
        ("Compare", "compare.html"),
        ("Groups of speakers", "groups.html"),
        ("Guides and results", "docs/index.html"),
    )
    current = "page"
    menu = [
        tag("li", tag("a", text, href=root + to, aria_current=current if to == here else None))
        for text, to in links
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · Parley"),
        tag("link", rel="stylesheet", href=f"{root}site.css"),
        tag("link", rel="icon", href=f"{root}icon.svg", type="image/svg+xml"),
        tag("script", src=f"{root}site.js", defer=True) if scripts else None,
    )
    whole = tag(
        "body",
        tag("a", "To the content", class_="skip", href="#page:content"),
        tag(
            "header",
            tag("a", "Parley", class_="brand", href=f"{root}index.html"),
            tag("nav", tag("ul", menu), aria_label="Pages"),
        ),
        tag("main", body, id="page:content", tabindex="-1"),
        tag("footer", tag("p", "Every number was measured by the command that stands beside it.")),
    )
    return f"<!doctype html>\n{tag('html', head, whole, lang='en')}\n"


def table(
    head: Iterable[Child], rows: Iterable[Iterable[Child]], *, caption: str, right: bool = False
) -> Html:
    """A table whose first column names its rows. It scrolls by itself where it is too wide."""
    heads = list(head)
    body = [
        tag("tr", [
            tag("th", cell, scope="row") if i == 0 else tag("td", cell, data_label=_text(heads[i]))
            for i, cell in enumerate(row)
        ])
        for row in rows
    ]  # fmt: skip
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", [tag("th", h, scope="col") for h in heads])),
        tag("tbody", body),
        class_="figures" if right else None,
    )
    return scrolling(made, caption)


def scrolling(inner: Html, label: str) -> Html:
    """A box that scrolls sideways, by keyboard too."""
    return tag("div", inner, class_="wide", role="region", aria_label=label, tabindex="0")


def _text(child: Child) -> str:
    return str(child) if isinstance(child, str) and not isinstance(child, Html) else ""
