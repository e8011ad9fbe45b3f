"""What a page may hold, read as a browser reads it."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

TAGS = frozenset([
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "ul",
    "ol", "li", "main", "footer", "p", "h1", "h2", "h3", "h4", "h5", "h6", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "form", "label", "input", "select",
    "option", "button", "div", "section", "article", "figure", "figcaption", "audio", "img",
    "dl", "dt", "dd", "code", "pre", "em", "strong", "blockquote", "hr", "br", "span",
    "details", "summary", "noscript", "svg", "rect", "line", "path", "circle", "text", "s",
])  # fmt: skip
_FETCHES = {"src", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href"}


class Page(HTMLParser):
    """Collects what matters, and raises AssertionError for what no page may have."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.path = path
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        assert tag in TAGS, f"{self.path}: <{tag}>"
        assert len(given) == len(attrs), f"{self.path}: an attribute twice in <{tag}>"
        self.tags.append(tag)
        for key, value in given.items():
            assert not key.startswith("on"), f"{self.path}: {key}"
            assert key not in ("style", "srcdoc"), f"{self.path}: {key}"
            if key in _FETCHES or (key == "href" and tag == "link"):
                parts = urlsplit(value)
                assert not parts.scheme, f"{self.path}: fetches {value}"
                assert not parts.netloc, f"{self.path}: fetches {value}"
                self.fetched.append(parts.path)
            elif key == "href":
                parts = urlsplit(value)
                assert parts.scheme in ("", "http", "https"), f"{self.path}: links to {value}"
                if parts.scheme:
                    assert "noreferrer" in given.get("rel", "")
                elif parts.path:
                    self.links.append(parts.path)
            elif key == "id":
                self.ids.append(value)
        if tag == "script":
            assert given.get("src", "").endswith("site.js") or given["type"] == "application/json"
        if tag == "img":
            assert "alt" in given
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "script":
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def site_pages(out: Path) -> dict[str, Page]:
    """Every page of a site, checked: nothing that runs, and no address that leads nowhere."""
    found = {path.relative_to(out).as_posix(): Page(path) for path in sorted(out.rglob("*.html"))}
    for name, page in found.items():
        assert len(page.ids) == len(set(page.ids)), f"{name} has an id twice"
        for to in (*page.links, *page.fetched):
            at = (page.path.parent / to).resolve()
            assert at.is_relative_to(out.resolve()), f"{name} leads to {to}"
            assert at.is_file(), f"{name} leads to {to}, which is not there"
    return found
