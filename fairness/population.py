"""Who speaks in a corpus, and what its metadata say of each speaker."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..data.corpus import Corpus
from ..data.errors import InputError

_PER_UTTERANCE = 0.5
"""A column that differs within more than this share of the speakers is one of recordings."""


class Labels(NamedTuple):
    """A value for each speaker."""

    names: tuple[str, ...]
    """The values there are, sorted."""
    index: np.ndarray
    """[S], a speaker's value as a number of `names`; -1 where it is missing."""

    @property
    def missing(self) -> int:
        """Speakers without a value."""
        return int((self.index < 0).sum())

    def mapped(self, numbers: Mapping[str, int]) -> np.ndarray:
        """Each speaker's number [S] by his value; -1 where it is missing or has none."""
        of_names = np.array([*(numbers.get(name, -1) for name in self.names), -1])
        return of_names[self.index]


@dataclass(frozen=True)
class Population:
    """Speakers and the metadata of their utterances; made by `population_of`.

    Attributes:
      speakers: S names, sorted, so that nothing depends on the order of a file.
      owner: [U], each utterance's speaker as a number of `speakers`.
      columns: metadata by name, each with an entry an utterance, None where it is missing.
      without_speaker: utterances that name no speaker. They are left out: nobody knows whether two
        of them are one person's, so no split of them would be disjoint.
      embeddings: [S, D], speakers' mean embeddings of unit length, NaN where there is none; None
        where nobody has computed them.
    """

    speakers: tuple[str, ...]
    owner: np.ndarray
    columns: Mapping[str, Sequence[Any]]
    without_speaker: int = 0
    embeddings: np.ndarray | None = field(default=None, compare=False)

    @property
    def utterances(self) -> np.ndarray:
        """How many each speaker has [S]."""
        return np.bincount(self.owner, minlength=len(self.speakers))

    def labels(self, *columns: str) -> Labels:
        """Each speaker's value of a column; of several columns, crossed: `scotland / female`.

        Utterances without a value say nothing about their speaker; a speaker whose utterances all
        have none, or who lacks one of the crossed columns, is missing.

        Raises:
          InputError: there is no such column, or it is not one of speakers.
        """
        found = [self._labels(column) for column in columns]
        if len(found) == 1:
            return found[0]
        known = np.all([one.index >= 0 for one in found], axis=0)
        crossed = [
            " / ".join(one.names[i] for one, i in zip(found, row, strict=True)) if fine else None
            for *row, fine in zip(*(one.index.tolist() for one in found), known, strict=True)
        ]
        return _numbered(crossed)

    def _labels(self, column: str) -> Labels:
        seen: list[dict[str, None]] = [{} for _ in self.speakers]
        for speaker, value in zip(self.owner.tolist(), self.column(column), strict=True):
            if isinstance(value, list | dict):
                raise InputError(f"column {column!r} holds lists: name one with a single value.")
            if value is not None:
                seen[speaker][_label(value)] = None
        self._require_one(column, seen)
        return _numbered([next(iter(values), None) for values in seen])

    def numbers(self, column: str) -> np.ndarray:
        """Each speaker's value of a numeric column [S]; nan where it is missing.

        Raises:
          InputError: there is no such column, it holds something else than numbers, or it is not
            one of speakers.
        """
        seen: list[dict[float, None]] = [{} for _ in self.speakers]
        for speaker, value in zip(self.owner.tolist(), self.column(column), strict=True):
            if value is not None:
                seen[speaker][_number(column, value)] = None
        self._require_one(column, seen)
        return np.array([next(iter(values), math.nan) for values in seen])

    def means(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Speakers' means [S] of a number of each utterance [U]; nan ones are left out."""
        return speaker_averages(np.asarray(values), self.owner, len(self.speakers))

    def column(self, name: str) -> Sequence[Any]:
        """An entry an utterance [U]. Raises InputError where no utterance has it."""
        if name not in self.columns:
            raise InputError(
                f"no utterance has a column {name!r}; there are {', '.join(sorted(self.columns))}."
            )
        return self.columns[name]

    def _require_one(self, column: str, seen: Sequence[Mapping[Any, None]]) -> None:
        """Raises InputError where speakers have several values."""
        several = [i for i, values in enumerate(seen) if len(values) > 1]
        if not several:
            return
        able = int((self.utterances > 1).sum())
        if len(several) > _PER_UTTERANCE * able:
            raise InputError(
                f"column {column!r} has a value for each recording, and groups are of speakers: "
                "name a column that is the same for all recordings of a speaker."
            )
        first = several[0]
        values = ", ".join(map(str, list(seen[first])[:3]))
        raise InputError(
            f"column {column!r} differs within {len(several):,} of {len(self.speakers):,} speakers "
            f"({self.speakers[first]} has {values}): correct the metadata, or name another column."
        )


def speaker_averages(values: np.ndarray, owner: np.ndarray, speakers: int) -> np.ndarray:
    """Means [S] of numbers [U] whose speakers are `owner` [U]; nan ones are left out."""
    fine = np.isfinite(values)
    count = np.bincount(owner[fine], minlength=speakers)
    total = np.bincount(owner[fine], values[fine], minlength=speakers)
    return np.divide(total, count, out=np.full(speakers, np.nan), where=count > 0)


def population_of(spoken: Iterable[tuple[str, Mapping[str, Any]]]) -> Population:
    """Gathers (speaker, metadata) of utterances.

    Empty texts and NaN are missing values. Utterances without a speaker are counted, not kept.
    """
    numbers: dict[str, int] = {}
    owner: list[int] = []
    columns: dict[str, list[Any]] = defaultdict(list)
    known: dict[Any, Any] = {}  # a million utterances say "scotland": it is kept once
    unnamed = 0
    for speaker, metadata in spoken:
        if not speaker:
            unnamed += 1
            continue
        for name, value in metadata.items():
            if is_missing(value):
                continue
            column = columns[name]
            column.extend([None] * (len(owner) - len(column)))
            column.append(known.setdefault(value, value) if isinstance(value, str) else value)
        owner.append(numbers.setdefault(speaker, len(numbers)))
    for column in columns.values():
        column.extend([None] * (len(owner) - len(column)))
    names = tuple(sorted(numbers))
    place = np.empty(len(names), np.int64)
    place[[numbers[name] for name in names]] = np.arange(len(names))
    return Population(names, place[np.array(owner, np.int64)], dict(columns), unnamed)


def population_of_corpus(corpus: Corpus) -> Population:
    """The speakers of a corpus; no audio is read.

    Raises:
      InputError: it names no speaker.
    """
    utterances = (corpus.utterance(i) for i in range(len(corpus)))
    found = population_of((u.speaker, u.metadata) for u in utterances)
    require_speakers(found, corpus.name)
    return found


def require_speakers(population: Population, source: str) -> None:
    """Raises InputError where no utterance of `source` names its speaker."""
    if not population.speakers:
        raise InputError(
            f"{source} names no speakers, and groups are of speakers: give recordings with the "
            "field speaker."
        )


def is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(column: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"column {column!r} holds {value!r}, which is no number: correct it.")
    return number


def _numbered(values: Sequence[str | None]) -> Labels:
    names = tuple(sorted({value for value in values if value is not None}))
    number = {name: i for i, name in enumerate(names)} | {None: -1}
    return Labels(names, np.array([number[value] for value in values], np.int64))
