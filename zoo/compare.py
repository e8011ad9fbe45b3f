"""Models side by side: what their cards say on the same data, and whether a difference is one.

    from parley.zoo.compare import compare, paired
    compare("rnnt-tiny", "tt-tiny-assistant").conditions
    paired("a.jsonl", "b.jsonl").differs        # files that `parley evaluate --out` wrote

Rates of two cards on one test set are not independent: the same speakers were hard for both. What
settles a difference is utterance by utterance, so `paired` asks for those.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..data.errors import InputError
from .cards import Card, Facts, Measurement
from .registry import card
from .speaker_cards import SpeakerMeasurement


class Rate(NamedTuple):
    """In percent; the ends of the 95 % interval are None where there is none."""

    error: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Condition:
    """One data set, and what each model scored on it."""

    data: str
    split: str
    metric: str
    """WER or EER."""
    rates: tuple[Rate | None, ...]
    """One a model, None where it was not measured on this."""


@dataclass(frozen=True)
class Comparison:
    facts: tuple[Facts, ...]
    conditions: tuple[Condition, ...]
    """Those that most models were measured on first."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "models": [asdict(f) for f in self.facts],
            "conditions": [
                {
                    "data": c.data,
                    "split": c.split,
                    "metric": c.metric,
                    "rates": [rate._asdict() if rate else None for rate in c.rates],
                }
                for c in self.conditions
            ],
        }


@dataclass(frozen=True)
class Paired:
    """Two models on the same utterances; rates and differences in percent and points."""

    first: float
    other: float
    difference: float
    """`other` minus `first`: below zero where the other one makes fewer errors."""
    low: float | None
    """Lower end of the 95 % interval over speakers of the difference; None with one speaker."""
    high: float | None
    utterances: int
    words: int
    speakers: int
    left_out: int
    """Utterances that only one of the files has."""

    @property
    def differs(self) -> bool | None:
        """Whether the interval leaves zero out; None without interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


def compare(*names: str | Path) -> Comparison:
    """Cards side by side. Raises InputError for a name that is not known."""
    cards = [card(name) for name in names]
    rates = [_rates(found) for found in cards]
    keys = dict.fromkeys(key for of in rates for key in of)
    conditions = [Condition(*key, tuple(of.get(key) for of in rates)) for key in keys]
    conditions.sort(key=lambda c: -sum(rate is not None for rate in c.rates))
    return Comparison(tuple(found.facts for found in cards), tuple(conditions))


def paired(first: Path | str, other: Path | str) -> Paired:
    """Two results files of `parley evaluate --out`, compared over the utterances of both.

    Raises:
      InputError: a file cannot be read, they share no utterance, or they state different
        references, so that they are not of the same corpus.
    """
    from ..metrics.bootstrap import paired_speaker_bootstrap

    one, two = read_utterances(Path(first)), read_utterances(Path(other))
    shared = [id for id in one if id in two]
    if not shared:
        raise InputError(f"{first} and {other} share no utterance: evaluate both on one corpus.")
    if odd := next((i for i in shared if one[i].reference != two[i].reference), None):
        raise InputError(
            f"{first} and {other} have different references for {odd[:80]!r}: evaluate both on one "
            "corpus."
        )
    errors = [one[i].errors for i in shared], [two[i].errors for i in shared]
    words = [one[i].words for i in shared]
    if not sum(words):
        raise InputError(f"{first}: no reference has words: there is no error rate.")
    speakers = [one[i].speaker for i in shared]
    low, high = paired_speaker_bootstrap(errors[1], errors[0], words, speakers)
    rates = [100 * sum(of) / sum(words) for of in errors]
    return Paired(
        first=round(rates[0], 2),
        other=round(rates[1], 2),
        difference=round(rates[1] - rates[0], 2),
        low=None if math.isnan(low) else round(100 * low, 2),
        high=None if math.isnan(high) else round(100 * high, 2),
        utterances=len(shared),
        words=sum(words),
        speakers=len({s for s in speakers if s}) + speakers.count(""),
        left_out=len(one) + len(two) - 2 * len(shared),
    )


class Utterance(NamedTuple):
    speaker: str
    reference: str
    errors: int
    words: int


def read_utterances(path: Path) -> dict[str, Utterance]:
    """id -> utterance, of a file that `parley evaluate --out` wrote.

    Raises InputError, naming file and line, for a line that is none of its.
    """
    found = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    made = Utterance(row["speaker"], row["reference"], row["errors"], row["words"])
                    id = row["id"]
                except (ValueError, KeyError, TypeError):
                    made, id = None, None
                if made is None or not _sound(id, made):
                    raise InputError(
                        f"{path}:{number} is no line of parley evaluate --out: give such a file."
                    )
                found[id] = made
    except FileNotFoundError:
        raise InputError(f"{path} is missing: make it with parley evaluate --out.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is not UTF-8 text: give a file of parley evaluate --out."
        ) from None
    return found


def _sound(id: Any, row: Utterance) -> bool:
    texts = all(isinstance(v, str) for v in (id, row.speaker, row.reference))
    counts = all(type(v) is int and 0 <= v < 10**9 for v in (row.errors, row.words))
    return texts and counts


def _rates(found: Card) -> dict[tuple[str, str, str], Rate]:
    results: Sequence[Measurement | SpeakerMeasurement] = (*found.results, *found.verification)
    rates = {}
    for r in results:
        if isinstance(r, Measurement):
            theta = r.compute.get("theta")
            data = r.data if theta is None else f"{r.data}, theta {theta:g}"
            kind = "ORC-WER" if r.turns else "WER"
            rates[data, r.split, kind] = Rate(r.wer, r.low, r.high)
        else:
            data = f"{r.data}, {r.trials}" if r.trials else r.data
            rates[data, r.split, "EER"] = Rate(r.eer, r.low, r.high)
    return rates
