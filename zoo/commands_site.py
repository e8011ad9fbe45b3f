"""`parley site`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .arguments import parse
from .cards import CARD, read_card
from .console import remark
from .registry import Entry, folder_of, list_models


@dataclass(frozen=True)
class SiteArguments:
    """Writes a gallery of the models as plain pages: a table to filter and sort, a page a card with
    recordings to hear, a comparison, groups of speakers, and the guides. It needs no server: open
    index.html, or put the folder on any web server.

    * parley site gallery
    * parley site gallery --add runs/mine hf://someone/rnnt-mine
    """

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Where to; a gallery that is there already is written anew."""
    add: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODEL...")] = ()
    """Models' folders, or models on the hub, that are to be in it too."""
    docs: bool = True
    """Have the guides and results of the source tree in it."""


def site_command(argv: list[str]) -> int:
    given = parse(SiteArguments, argv, "parley site")
    from .site.build import SOURCE, write_site

    entries = {entry.name: entry for entry in list_models()}
    for name in given.add:
        folder = folder_of(name)
        found = read_card(folder / CARD)
        entry = Entry(found.facts, found.results, found.verification, folder)
        entries[entry.name] = entry
    count = write_site(given.out, entries.values(), source=SOURCE if given.docs else None)
    print(given.out / "index.html")
    remark(f"{count} pages of {len(entries)} models")
    return 0
