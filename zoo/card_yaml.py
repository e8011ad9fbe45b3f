"""A card's file taken apart, as one would a stranger's: metadata that are plain, small and finite.

Cards come from the hub and from other people. What could hang, flood or deceive a reader is refused
in one sentence: files beyond every card's size, YAML that refers to itself (whose few lines can
stand for gigabytes), numbers that are none, and characters that rewrite a terminal or turn the
direction of text.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..data.errors import InputError

MOST_BYTES = 1 << 20
MOST_DEPTH = 40
MOST_TEXT = 20_000
"""Characters of one field of the metadata."""
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|\Z)(.*)\Z", re.DOTALL)
_REFERS = re.compile(r"(?:^|[\s,\[{:?-])[&*]\S", re.MULTILINE)
# Escape sequences, and marks that show text in another order than it is written.
_DECEIVES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# The C loader, where there is one, reads a card with many results ten times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_front(path: Path) -> tuple[Any, str]:
    """(metadata, the Markdown below them) of the card at `path`.

    Raises InputError, naming the file, for all that a card has no need of.
    """
    content = _content(Path(path))
    found = _FRONT.match(content)
    if not found:
        raise InputError(f"{path} does not begin with metadata between two lines of ---.")
    front, text = found[1], found[2]
    try:
        if _REFERS.search(front) and _has_references(front):
            raise InputError(f"{path}: the metadata refer to themselves (& and *): write them out.")
        metadata = yaml.load(front, _LOADER)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 2}" if where else ""
        raise InputError(f"{path}: the metadata are not valid YAML{line}.") from None
    except RecursionError:
        raise InputError(f"{path}: the metadata are nested too deeply for a card.") from None
    except (ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: the metadata hold a value that cannot be read.") from None
    _check(metadata, str(path), 0)
    return metadata, text


def _content(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            raise InputError(f"{path} is no file: a card is one.")
        if path.stat().st_size > MOST_BYTES:
            raise InputError(
                f"{path} is larger than any card ({MOST_BYTES >> 20} MiB): keep the card's own "
                "text in it and the rest elsewhere."
            )
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: a model folder needs its card.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: save it again.") from None
    if odd := _DECEIVES.search(content):
        line = content.count("\n", 0, odd.start()) + 1
        raise InputError(
            f"{path}:{line} holds the control character U+{ord(odd[0]):04X}: take it out."
        )
    return content


def _has_references(front: str) -> bool:
    events = yaml.parse(front, _LOADER)
    return any(
        isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) for event in events
    )


def _check(value: Any, path: str, depth: int) -> None:
    """Raises InputError for what no card holds, wherever it is."""
    if depth > MOST_DEPTH:
        raise InputError(f"{path}: the metadata are nested too deeply for a card.")
    if isinstance(value, str):
        if len(value) > MOST_TEXT:
            raise InputError(f"{path}: a field of {len(value):,} characters is no card's.")
        if odd := _DECEIVES.search(value):
            raise InputError(
                f"{path}: the metadata hold the control character U+{ord(odd[0]):04X}: take it out."
            )
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check(key, path, depth + 1)
            _check(inner, path, depth + 1)
    elif isinstance(value, Sequence):
        for inner in value:
            _check(inner, path, depth + 1)
    elif isinstance(value, int | float) and not abs(value) < 1e15:
        raise InputError(f"{path}: the metadata hold a number that is none of a model.")
