"""Scored utterances, grouped by speaker: what `parley evaluate --out FILE.jsonl` wrote.

scores = read_scores(Path("results.jsonl"))
scores.errors.sum() / scores.words.sum()
scores.population.labels("accent", "gender").names
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.errors import InputError
from ..metrics.wer import WordErrors
from .population import Population, population_of, require_speakers

DISCOVERY, RANKING, REPORT = 0, 1, 2
"""Splits: groups are found on the first, ordered on the second and reported on the third."""
THIRDS = (1 / 3, 1 / 3, 1 / 3)

_KINDS = ("substitutions", "deletions", "insertions", "words")
_MOST = 1 << 40  # of a count: beyond, sums of them would not be exact


class _Scored(Protocol):
    """An utterance of an evaluation in memory."""

    @property
    def id(self) -> str: ...
    @property
    def speaker(self) -> str: ...
    @property
    def errors(self) -> WordErrors: ...
    @property
    def duration(self) -> float: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


class _Row(NamedTuple):
    id: str
    speaker: str
    counts: tuple[int, int, int, int]
    seconds: float
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """Word errors of utterances whose speakers are known.

    Attributes:
      source: where they come from, for messages.
      population: the speakers.
      ids: [U] names of the utterances.
      counts: [U, 4] int64: substitutions, deletions, insertions and reference words.
      durations: [U], seconds.
    """

    source: str
    population: Population
    ids: tuple[str, ...]
    counts: np.ndarray
    durations: np.ndarray

    @property
    def speakers(self) -> tuple[str, ...]:
        """S names."""
        return self.population.speakers

    @cached_property
    def kinds(self) -> np.ndarray:
        """Each speaker's substitutions, deletions and insertions [S, 3]."""
        return self._sums(self.counts[:, :3])

    @cached_property
    def errors(self) -> np.ndarray:
        """Each speaker's word errors [S]."""
        return self.kinds.sum(axis=1)

    @cached_property
    def words(self) -> np.ndarray:
        """Each speaker's reference words [S]."""
        return self._sums(self.counts[:, 3:])[:, 0]

    @property
    def utterances(self) -> np.ndarray:
        """How many each speaker has [S]."""
        return self.population.utterances

    @cached_property
    def seconds(self) -> np.ndarray:
        """Of each speaker's speech [S]."""
        return np.bincount(self.population.owner, self.durations, minlength=len(self.speakers))

    def _sums(self, values: np.ndarray) -> np.ndarray:
        total = np.zeros((len(self.speakers), values.shape[1]), np.int64)
        np.add.at(total, self.population.owner, values)
        return total


def read_scores(path: Path) -> Scores:
    """Reads the JSON lines of `parley evaluate --out`.

    Raises:
      InputError: the file cannot be read, a line of it is no scored utterance, no line names a
        speaker, or there are no words.
    """
    try:
        with open(path, "rb") as file:
            return _gather(str(path), _rows(path, file))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from None


def scores_of(utterances: Iterable[_Scored], source: str) -> Scores:
    """Of an evaluation in memory: `scores_of(evaluation.utterances, "rnnt-tiny on assistant")`.

    Raises:
      InputError: no utterance names its speaker, or there are no words.
    """
    return _gather(source, map(_row_of, utterances))


def split_speakers(
    speakers: Sequence[str], *, seed: int = 0, shares: Sequence[float] = THIRDS
) -> np.ndarray:
    """Each speaker's split [S]: DISCOVERY, RANKING or REPORT.

    A function of the name and the seed alone: whoever else is there, and in whatever order, a
    speaker stays where he is. So the shares are those of an unlimited number of speakers.

    Args:
      shares: of the splits; they add up to one.
    """
    edges = np.cumsum(shares)[:-1]
    names = (f"{seed}\n{speaker}".encode("utf-8", "surrogateescape") for speaker in speakers)
    digests = (hashlib.blake2b(name, digest_size=8).digest() for name in names)
    drawn = np.array([int.from_bytes(digest) for digest in digests], np.float64) / 2**64
    return np.searchsorted(edges, drawn, side="right")


def _row_of(scored: _Scored) -> _Row:
    e = scored.errors
    counts = (e.substitutions, e.deletions, e.insertions, e.words)
    return _Row(scored.id, scored.speaker, counts, scored.duration, scored.metadata)


def _rows(path: Path, lines: Iterable[bytes]) -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _parsed(json.loads(line))
        except (ValueError, RecursionError) as error:
            reason = str(error) if type(error) is ValueError else "it is not JSON"
            raise InputError(
                f"{path}:{number} is no scored utterance ({reason}): give the file that parley "
                "evaluate --out wrote, whole."
            ) from None


def _parsed(record: Any) -> _Row:
    """Raises ValueError for what is not as `parley evaluate` writes it."""
    if not isinstance(record, dict):
        raise ValueError("it is no object")
    for key in ("id", "speaker", "duration", *_KINDS):
        if key not in record:
            raise ValueError(f"it has no {key}")
    id, speaker, seconds = record["id"], record["speaker"], record["duration"]
    counts = tuple(record[kind] for kind in _KINDS)
    metadata = record.get("metadata", {})
    if not (isinstance(id, str) and isinstance(speaker, str)):
        raise ValueError("its id or speaker is no text")
    if not all(type(n) is int and 0 <= n < _MOST for n in counts):
        raise ValueError("its errors and words are no counts")
    if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
        raise ValueError("its duration is no number of seconds")
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is no object")
    return _Row(id, speaker, counts, float(seconds), metadata)


def _gather(source: str, rows: Iterable[_Row]) -> Scores:
    ids: list[str] = []
    counts: list[tuple[int, int, int, int]] = []
    durations: list[float] = []

    def kept() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for row in rows:
            if row.speaker:
                ids.append(row.id)
                counts.append(row.counts)
                durations.append(row.seconds)
            yield row.speaker, row.metadata

    population = population_of(kept())
    if not ids and not population.without_speaker:
        raise InputError(f"{source} holds no scored utterances: evaluate a corpus into it first.")
    require_speakers(population, source)
    counted = np.array(counts, np.int64)
    if not counted[:, 3].any():
        raise InputError(
            f"{source} has no words to compare with: evaluate recordings whose text is known."
        )
    return Scores(source, population, tuple(ids), counted, np.array(durations, np.float64))
