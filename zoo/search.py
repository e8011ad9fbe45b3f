"""Which model: by fields, or in words such as "streaming under 5M with turns".

    from parley import zoo
    zoo.search("streaming under 5M with turns")
    zoo.search(streaming=True, max_params=5e6, sort="error")

Looking up imports no JAX.
"""

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from ..data.errors import InputError
from .registry import Entry, list_models

Sort = Literal["name", "family", "parameters", "cost", "latency", "error", "license", "status"]

_NUMBER = r"(?P<number>\d+(?:\.\d+)?(?:e\d+)?)\s*(?P<scale>[kmbg](?![a-z]))?"
_UNIT = r"\s*(?P<unit>parameters?|params?|ms|milliseconds?|gflops?(?:/s)?|%|percent)?"
_MOST = re.compile(
    rf"(?<!\S)(?:under|below|less than|at most|up to|max(?:imum)?|<=?)\s*{_NUMBER}{_UNIT}(?!\S)"
)
_LEAST = re.compile(
    rf"(?<!\S)(?:over|above|more than|at least|min(?:imum)?|>=?)\s*{_NUMBER}{_UNIT}(?!\S)"
)
_SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}
_UNITS = {"ms": "step_ms", "mill": "step_ms", "gf": "cost", "%": "error", "per": "error"}
# Phrases that mean a field; the longer ones first, for they hold the others.
_PHRASES: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"not streaming|without streaming|offline", {"streaming": False}),
    (r"streaming|streams|live", {"streaming": True}),
    (r"untrained|without weights|presets?", {"trained": False}),
    (r"trained|with weights", {"trained": True}),
    (r"without turns", {"turns": False}),
    (r"with turns|turns|two talkers|several talkers", {"turns": True}),
)
_FILLERS = frozenset(
    ("a", "an", "and", "for", "in", "model", "models", "of", "the", "that", "to", "which", "with")
)


@dataclass(frozen=True)
class Query:
    """What a model has to be; None and () ask for nothing."""

    words: tuple[str, ...] = ()
    """All of which occur in name, family, description, language or the data measured on."""
    streaming: bool | None = None
    """Whether it answers while the audio arrives."""
    trained: bool | None = None
    """Whether weights are there."""
    turns: bool | None = None
    """Whether its text comes in turns of several talkers."""
    family: str | None = None
    license: str | None = None
    """As the card writes it, `apache-2.0`."""
    max_params: float | None = None
    min_params: float | None = None
    max_step_ms: float | None = None
    """Longest step of the encoder, in milliseconds of audio; of models that stream."""
    max_cost: float | None = None
    """Most GFLOP for a second of audio."""
    max_error: float | None = None
    """Highest error rate of the card's first measurement, in percent."""

    def fits(self, entry: Entry) -> bool:
        facts = entry.facts
        about = " ".join(
            [
                *(facts.name, facts.family, facts.description, facts.task or "", facts.language),
                *(r.name for r in (*entry.results, *entry.verification)),
            ]
        ).lower()
        return (
            all(word.lower() in about for word in self.words)
            and self.streaming in (None, facts.streaming)
            and self.trained in (None, entry.trained)
            and self.turns in (None, bool(facts.turns))
            and self.family in (None, facts.family)
            and self.license in (None, facts.license)
            and (self.min_params is None or facts.parameters >= self.min_params)
            and _within(facts.parameters, self.max_params)
            and _within(facts.step_ms if facts.streaming else None, self.max_step_ms)
            and _within(facts.gflop_per_s, self.max_cost)
            and _within(entry.error, self.max_error)
        )

    def __str__(self) -> str:
        """For people: `streaming, at most 5 M parameters, with turns`."""
        said = [f"{word!r}" for word in self.words]
        for value, yes, no in (
            (self.streaming, "streaming", "not streaming"),
            (self.trained, "trained", "untrained"),
            (self.turns, "with turns", "without turns"),
        ):
            said += [] if value is None else [yes if value else no]
        said += [f"family {self.family}"] if self.family else []
        said += [f"licence {self.license}"] if self.license else []
        for bound, value, scale, unit in (
            ("at least", self.min_params, 1e6, "M parameters"),
            ("at most", self.max_params, 1e6, "M parameters"),
            ("at most", self.max_step_ms, 1, "ms"),
            ("at most", self.max_cost, 1, "GFLOP/s"),
            ("at most", self.max_error, 1, "% error"),
        ):
            said += [] if value is None else [f"{bound} {value / scale:g} {unit}"]
        return ", ".join(said) or "every model"


def read_query(text: str) -> Query:
    """A query in words. What is no known phrase is a word to be found.

    Raises:
      InputError: a number stands there without saying of what.
    """
    found: dict[str, Any] = {}
    rest = re.sub(r"[,;.](?=\s|$)", " ", text.lower())
    for pattern, bound in ((_MOST, "max"), (_LEAST, "min")):
        while match := pattern.search(rest):
            found |= _bound(bound, match)
            rest = f"{rest[: match.start()]} {rest[match.end() :]}"
    for phrase, values in _PHRASES:
        rest, count = re.subn(rf"(?<!\S)(?:{phrase})(?!\S)", " ", rest)
        found |= values if count else {}
    return Query(words=tuple(w for w in rest.split() if w not in _FILLERS), **found)


def search(
    text: str = "",
    *,
    streaming: bool | None = None,
    trained: bool | None = None,
    turns: bool | None = None,
    family: str | None = None,
    license: str | None = None,
    max_params: float | None = None,
    min_params: float | None = None,
    max_step_ms: float | None = None,
    max_cost: float | None = None,
    max_error: float | None = None,
    sort: Sort | None = None,
    descending: bool = False,
) -> list[Entry]:
    """Models that meet every condition given, in words (`read_query`) or by fields (`Query`).

    Args:
      sort: the order, models that do not have the field last; without it trained models come
        first, by name.
      descending: the other way round.

    Raises:
      InputError: the words cannot be understood, or `sort` is no field.
    """
    given = {
        "streaming": streaming, "trained": trained, "turns": turns, "family": family,
        "license": license, "max_params": max_params, "min_params": min_params,
        "max_step_ms": max_step_ms, "max_cost": max_cost, "max_error": max_error,
    }  # fmt: skip
    query = replace(read_query(text), **{k: v for k, v in given.items() if v is not None})
    return run(query, sort=sort, descending=descending)


def run(query: Query, *, sort: Sort | None = None, descending: bool = False) -> list[Entry]:
    """The models that a query means, sorted as `search` does."""
    found = [entry for entry in list_models() if query.fits(entry)]
    if sort is None:
        return found[::-1] if descending else found
    if sort not in get_args(Sort):
        raise InputError(f"models cannot be sorted by {sort!r}: by {', '.join(get_args(Sort))}.")
    keys = {entry.name: _key(entry, sort) for entry in found}
    known = [entry for entry in found if keys[entry.name] is not None]
    known.sort(key=lambda entry: keys[entry.name], reverse=descending)
    return known + [entry for entry in found if keys[entry.name] is None]


def asks_for_nothing(query: Query) -> bool:
    return all(getattr(query, f.name) in (None, ()) for f in fields(query))


def _key(entry: Entry, sort: Sort) -> Any:
    facts = entry.facts
    values: dict[Sort, Any] = {
        "name": facts.name,
        "family": facts.family,
        "parameters": facts.parameters,
        "cost": facts.gflop_per_s,
        "latency": facts.step_ms if facts.streaming else None,
        "error": entry.error,
        "license": facts.license,
        "status": not entry.trained,
    }
    return values[sort]


def _within(value: float | None, most: float | None) -> bool:
    return most is None or (value is not None and value <= most)


def _bound(bound: str, match: re.Match[str]) -> dict[str, float]:
    number = float(match["number"])
    scale, unit = match["scale"], match["unit"] or ""
    if (unit.startswith("p") and unit != "percent") or (scale and not unit):
        return {f"{bound}_params": number * _SCALES.get(scale, 1.0)}
    kinds = (
        ("ms", "step_ms"),
        ("mill", "step_ms"),
        ("gf", "cost"),
        ("%", "error"),
        ("per", "error"),
    )
    for start, field in kinds:
        if unit.startswith(start):
            if bound == "min":
                raise InputError(f"{match[0].strip()!r}: only parameters have a least number.")
            return {f"max_{field}": number}
    raise InputError(
        f"{match[0].strip()!r} does not say of what: write 5M, 80 ms, 0.1 GFLOP or 5 %."
    )
