"""Writing the gallery: pages of models, guides and results, pictures and sounds."""

import posixpath
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from ...data.errors import InputError
from ...data.files import replacing_folder
from ..card_examples import read_examples, sounds
from ..cards import CARD, new_card, read_card
from ..registry import Entry
from .charts import icon
from .html import page, tag
from .models import Model, card_page, compare_page, groups_page, index_page
from .prose import title_of, to_html

MARK = ".parley-site"
"""A file that says that a folder is a site, which may be written anew."""
SOURCE = Path(__file__).parents[2]
"""The source tree, whose guides and results the site has; an installed package has none."""
GUIDES = "docs/index.html"
_PICTURES = (".svg", ".png")
_MOST_PICTURE = 8 << 20


def write_site(out: Path, entries: Iterable[Entry], *, source: Path | None = SOURCE) -> int:
    """Writes the site whole, in place of an older one; returns the number of pages.

    `source`: a folder with docs/; None leaves guides and results out.

    Raises:
      InputError: `out` is there and is no site, or a card or its examples cannot be understood.
    """
    if out.exists() and not (out / MARK).is_file() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"{out} is there and is no site of parley's: give another folder.")
    models = [_model(entry) for entry in entries]
    seen: dict[str, str] = {}
    for m in models:
        # On many disks Model and model are one file.
        if twin := seen.get(m.entry.name.lower()):
            raise InputError(f"two models are called {twin} and {m.entry.name}: rename one.")
        seen[m.entry.name.lower()] = m.entry.name
    guides = _guides(source)
    addresses = {path: _address(path) for path in guides}
    addresses |= {f"zoo/models/{m.entry.name}/{CARD}": m.page for m in models}
    addresses |= {picture: picture for picture in _pictures(source)}
    with replacing_folder(out) as fresh:
        (fresh / MARK).write_text("")
        for name in ("site.css", "site.js"):
            asset = resources.files(__name__.rpartition(".")[0]) / "assets" / name
            (fresh / name).write_text(asset.read_text(encoding="utf-8"), encoding="utf-8")
        (fresh / "icon.svg").write_text(icon())
        pages = {
            "index.html": index_page(models),
            "compare.html": compare_page(models),
            "groups.html": groups_page(models),
            GUIDES: _no_guides(),
        }
        for m in models:
            pages[m.page] = card_page(m, _seen_from(m.page, addresses))
            _copy_media(m, fresh / "media" / m.entry.name)
        for path, text in guides.items():
            to = addresses[path]
            made = to_html(text, pages=_seen_from(to, addresses), at=posixpath.dirname(path))
            root, here = "../" * to.count("/"), to if to == GUIDES else ""
            pages[to] = page(title_of(text, path), tag("article", made), root=root, here=here)
        for picture in _pictures(source):
            _copy(source, picture, fresh / picture)
        for name, text in pages.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(text, encoding="utf-8")
    return len(pages)


def _model(entry: Entry) -> Model:
    if entry.folder is None:
        made = new_card(entry.facts)
        return Model(
            entry, replace(made, results=entry.results, verification=entry.verification), None, None
        )
    examples, picture = read_examples(entry.folder), "example-0.png"
    drawn = examples is not None and (entry.folder / picture).is_file()
    return Model(entry, read_card(entry.folder / CARD), examples, picture if drawn else None)


def _copy_media(m: Model, to: Path) -> None:
    if m.examples is None or m.entry.folder is None:
        return
    to.mkdir(parents=True)
    for name in {*sounds(m.examples), *([m.picture] if m.picture else [])}:
        path = m.entry.folder / name
        # A link in a stranger's folder may lead to what is not his.
        if path.is_symlink() or path.stat().st_size > _MOST_PICTURE:
            raise InputError(f"{path} is a link, or larger than any example: take it out.")
        shutil.copyfile(path, to / name)


def _guides(source: Path | None) -> dict[str, str]:
    """path in the source tree -> text. Pages of the reference are for a generator that reads
    docstrings."""
    if source is None or not (source / "docs" / "index.md").is_file():
        return {}
    return {
        path.relative_to(source).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(source.glob("docs/**/*.md"))
        if path.parent.name != "reference"
    }


def _pictures(source: Path | None) -> list[str]:
    if source is None:
        return []
    found = (p for p in sorted(source.glob("docs/**/*")) if p.suffix in _PICTURES)
    return [path.relative_to(source).as_posix() for path in found]


def _copy(source: Path | None, name: str, to: Path) -> None:
    assert source is not None
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / name, to)


def _address(path: str) -> str:
    """Of a guide."""
    return f"{path.removesuffix('.md')}.html"


def _seen_from(to: str, addresses: Mapping[str, str]) -> dict[str, str]:
    at = posixpath.dirname(to) or "."
    return {path: posixpath.relpath(address, at) for path, address in addresses.items()}


def _no_guides() -> str:
    text = "The guides are in the source tree, which this gallery was not made in."
    return page("Guides and results", [tag("h1", "Guides and results"), tag("p", text)],
                root="../", here=GUIDES)  # fmt: skip
