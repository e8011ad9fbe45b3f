"""Lists of words and phrases to expect: one a line, perhaps with a tab and a weight."""

from collections.abc import Sequence
from pathlib import Path

from .errors import InputError
from .text import as_spelled, is_cased


def read_phrases(path: Path, pieces: Sequence[str]) -> tuple[list[str], list[float]]:
    """Phrases, as the pieces spell them, and weights; lines whose first sign is # are left out.

    Raises:
      InputError: the file cannot be read, or a line holds a character that no piece spells, or a
        weight that is no positive number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text: give a list of phrases.") from None
    except OSError as error:
        raise InputError(f"phrases {path} cannot be read ({error.strerror}).") from None
    found: list[str] = []
    weights: list[float] = []
    for number, line in enumerate(lines, start=1):
        text, _, weight = line.partition("\t")
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        found.append(check_phrase(text, pieces, f"{path}, line {number}"))
        try:
            weights.append(float(weight or 1.0))
            if not 0.0 < weights[-1] < float("inf"):
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path}, line {number}: {weight.strip()!r} is no positive weight."
            ) from None
    return found, weights


def check_phrase(text: str, pieces: Sequence[str], where: str) -> str:
    """The phrase as `as_spelled`; raises InputError for what no token spells, or for nothing."""
    phrase = as_spelled(text, is_cased(pieces))
    known = set("".join(pieces[1:]))
    unknown = sorted(set(phrase) - known - {" "})
    if unknown or not phrase:
        what = f"no token spells {', '.join(map(repr, unknown))}" if unknown else "nothing is left"
        raise InputError(f"{where}: {what} of {text.strip()[:60]!r}; respell it or leave it out.")
    return phrase
