"""Text as it is trained on and scored: one normalisation for both."""

import re
import unicodedata
from collections.abc import Iterable

_APOSTROPHES = "'’‘ʼ＇`´"
_LOOSE_APOSTROPHE = re.compile(r"(?<!\S)'+|'+(?!\S)")


class _KeepWords(dict[int, str]):
    """A `str.translate` table, filled as characters are met: letters, marks and digits stay."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _APOSTROPHES:
            kept = "'"
        elif unicodedata.category(character)[0] in "LMN":
            kept = character
        else:
            kept = " "
        self[code] = kept
        return kept


_TABLE = _KeepWords()


def normalize(text: str) -> str:
    """Lower case; apostrophes inside words kept; other punctuation to spaces; single spaces.

    Typographic apostrophes become `'`, and quotation marks around words vanish, so that
    `‘Don’t,’ she said` and `don't she said` are the same words. Idempotent.
    """
    if not text.isascii():
        # The compatibility form would take the acute accent for a space and a combining mark.
        text = unicodedata.normalize("NFKC", text.replace("´", "'").lower()).lower()
    text = text.lower().translate(_TABLE)
    return " ".join(_LOOSE_APOSTROPHE.sub(" ", " ".join(text.split())).split())


def is_cased(pieces: Iterable[str]) -> bool:
    """Whether a vocabulary has capitals. Its first entry is the blank, and what stands in angle
    brackets is no text."""
    spelled = (piece for piece in pieces if not piece.startswith("<"))
    return any(letter.isupper() for piece in spelled for letter in piece)


def as_spelled(text: str, cased: bool) -> str:
    """Text as a vocabulary spells it: normalised, or with its capitals and punctuation where it
    has capitals itself."""
    if not cased:
        return normalize(text)
    return " ".join(unicodedata.normalize("NFKC", text).split())
