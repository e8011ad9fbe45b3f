"""The documentation is whole: every page is listed, every link and every name leads somewhere."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
PAGES = sorted(DOCS.rglob("*.md"))
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def listed(nav: Any) -> Iterator[str]:
    """The pages of a navigation, at whatever depth."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from listed(entry)


def prose(path: Path) -> str:
    """Without code."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path: Path) -> set[str]:
    """Names that headings have on GitHub and on the site."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_navigation_has_every_page_once():
    pages = list(listed(SITE["nav"]))
    assert len(pages) == len(set(pages))
    assert set(pages) == {path.relative_to(DOCS).as_posix() for path in PAGES}


def test_the_first_page_leads_to_every_guide():
    linked = {link or picture for link, picture in _LINK.findall((DOCS / "index.md").read_text())}
    guides = {p.relative_to(DOCS).as_posix() for p in PAGES if "reference" not in p.parts}
    assert guides - {"index.md"} <= linked


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)  # fmt: skip
def test_links_lead_somewhere(page: Path):
    for link, picture in _LINK.findall(prose(page)):
        path, _, anchor = (link or picture).partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} leads to {path}"
        assert not anchor or anchor in anchors(target), f"{page.name} leads to #{anchor}"
        if page.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{page.name}: the site does not have {path}"


def test_the_reference_names_what_there_is():
    found = 0
    for page in (DOCS / "reference").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
            found += 1
            assert _defined(name), f"{page.name}: {name}"
    assert found > 50


def _defined(name: str) -> bool:
    """A module of the package, or what one defines."""
    _, *parts = name.split(".")
    for cut in (len(parts), len(parts) - 1):
        base = ROOT.joinpath(*parts[:cut])
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if path.is_file():
            tree = ast.parse(path.read_text())
            made = {getattr(node, "name", "") for node in tree.body}
            return all(part in made for part in parts[cut:])
    return False


def test_no_page_asks_anything_of_another_place():
    """Fonts are the reader's own, and search works without a server."""
    assert SITE["theme"]["font"] is False
    assert "offline" in SITE["plugins"]
    assert not {"extra_css", "extra_javascript"} & SITE.keys()
