"""Markdown to HTML, as a stranger's: tags in it are text, and nothing it names is fetched."""

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from .html import Html, scrolling, tag

# Of what is generated, and of blocks that no test runs.
_MARK = re.compile(r"^<!-- (?:/?parley|only parsed):[^>]*-->\n?", re.MULTILINE)
Fences = Mapping[str, Callable[[str], Html]]
"""language of a fenced block -> what stands in its place."""


def to_html(
    text: str,
    *,
    pages: Mapping[str, str],
    at: str = "",
    fences: Fences | None = None,
    ids: set[str] | None = None,
) -> Html:
    """The HTML of Markdown.

    Args:
      pages: files that the site has -> their addresses from this page. A link or picture to one of
        them is kept; to elsewhere on the web a link stays a link, and a picture becomes its text.
      at: the file's folder, from which its links are meant.
      fences: what to make of fenced blocks of some languages.
      ids: names that headings of the page have already; this text's are added. Names with a colon
        are the page's own: no heading gets one.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_MARK.sub("", text))
    _rewrite(tokens, pages, at)
    _anchor(tokens, set() if ids is None else ids)
    renderer = _Renderer(parser, fences or {})
    return Html(renderer.render(tokens, parser.options, {}))


def title_of(text: str, otherwise: str) -> str:
    """The first heading."""
    found = re.search(r"^# +(.+?) *$", text, re.MULTILINE)
    return found[1] if found else otherwise


class _Renderer(RendererHTML):
    """markdown-it calls the method that a token's kind names."""

    def __init__(self, parser: Any, fences: Fences):
        super().__init__(parser)
        self._fences = fences

    def table_open(self, *_: Any) -> str:
        return '<div class="wide" role="region" aria-label="table" tabindex="0"><table>\n'

    def table_close(self, *_: Any) -> str:
        return "</table></div>\n"

    def th_open(self, *_: Any) -> str:
        return '<th scope="col">'

    def code_block(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        return scrolling(tag("pre", tag("code", tokens[i].content)), "code")

    def fence(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        language = tokens[i].info.strip().split(" ")[0]
        if language in self._fences:
            return self._fences[language](tokens[i].content)
        return self.code_block(tokens, i, options, env)


def _rewrite(tokens: list[Token], pages: Mapping[str, str], at: str) -> None:
    for token in tokens:
        children = token.children or []
        opened: list[bool] = []
        for child in children:
            if child.type == "image":
                to = _inside(str(child.attrs.get("src", "")), pages, at)
                if to is None:
                    child.type, child.content = "text", child.content or "picture"
                else:
                    child.attrs = {"src": to, "alt": child.content}
            elif child.type == "link_open":
                address = str(child.attrs.get("href", ""))
                to = address if address.startswith("#") else _inside(address, pages, at)
                web = urlsplit(address).scheme in ("http", "https")
                if to is not None:
                    child.attrs = {"href": to}
                elif web:
                    child.attrs = {"href": address, "rel": "noreferrer noopener"}
                else:
                    child.hidden, child.type, child.content = True, "text", ""
                opened.append(to is not None or web)
            elif child.type == "link_close" and not opened.pop():
                child.type, child.content = "text", ""


def _inside(address: str, pages: Mapping[str, str], at: str) -> str | None:
    """The address on the site of what Markdown names; None for what the site does not have."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or parts.path.startswith("/"):
        return None
    to = pages.get(posixpath.normpath(posixpath.join(at, parts.path)))
    return None if to is None else to + (f"#{parts.fragment}" if parts.fragment else "")


def _anchor(tokens: list[Token], taken: set[str]) -> None:
    """Headings get the names that a link to them would have on GitHub."""
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", tokens[i + 1].content.lower()).replace(" ", "-")
            name, count = words, 0
            while name in taken:
                count += 1
                name = f"{words}-{count}"
            taken.add(name)
            token.attrs = {"id": name}
