"""A corpus whose texts are what somebody heard in it: pseudo-labels.

With the key `transcripts=FILE` of a corpus's spec, utterances have the texts of FILE, and those
that it lacks are left out. FILE has a JSON line for each, `{"id": ..., "text": ..., "confidence":
...}`, as `parley fairness pseudo-label` writes it; what else a line holds is not read. The
confidence goes to the metadata, so that `confidence=0.95-1` selects by it.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from .corpus import Corpus, Utterance, is_endless
from .errors import InputError
from .views import SelectedCorpus


@dataclass(frozen=True)
class Heard:
    """What was heard in an utterance; the confidence is nan where it is not known."""

    text: str
    confidence: float


def read_transcripts(path: Path) -> dict[str, Heard]:
    """Texts by the utterance's id. Raises InputError where the file cannot be read or holds other
    things."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{path} cannot be read ({reason}); check the path.") from None
    found: dict[str, Heard] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["id"], row["text"]
            confidence = float(row.get("confidence", math.nan))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            name = text = None
            confidence = math.nan
        if not (isinstance(name, str) and isinstance(text, str)):
            raise InputError(
                f"{path}, line {number}, is no transcript: it needs a JSON object with id and "
                "text, as parley fairness pseudo-label writes it."
            )
        found[name] = Heard(text, confidence)
    if not found:
        raise InputError(f"{path} holds no transcripts.")
    return found


class TranscribedCorpus(SelectedCorpus):
    """The utterances of `base` that were heard, with what was heard in the place of their texts.

    Raises:
      InputError: none of them was, or the corpus is drawn anew in every epoch.
    """

    def __init__(self, base: Corpus, heard: dict[str, Heard], source: str):
        if is_endless(base):
            raise InputError(f"{base.name} is drawn anew in every epoch: it takes no transcripts.")
        found = [i for i in range(len(base)) if base.utterance(i).id in heard]
        if not found:
            raise InputError(
                f"{source} has no utterance of {base.name}: write it for this corpus, with parley "
                "fairness pseudo-label."
            )
        super().__init__(base, found, f"{base.name} as heard")
        self._heard = heard

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        utterance = super().utterance(i)
        found = self._heard[utterance.id]
        metadata = utterance.metadata
        if not math.isnan(found.confidence):
            metadata = {**metadata, "confidence": found.confidence}
        return replace(utterance, text=found.text, metadata=metadata)
