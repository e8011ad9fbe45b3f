"""What the speakers of a cohort have in common, in words and numbers for people.

Errors are not looked at, so all speakers are described, whichever split they are in.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.errors import InputError
from .gaps import rounded
from .population import Population
from .scores import Scores

_MOST_VALUES = 50
"""A column of more values is no profile but a register."""


class Typical(NamedTuple):
    """The value of a column that is commonest in a cohort."""

    value: str
    share: float
    """Of the cohort's speakers who have a value."""
    overall: float
    """Of all speakers who have one."""


@dataclass(frozen=True)
class Description:
    """Of one cohort.

    Attributes:
      speakers, utterances: how many.
      seconds: the mean length of an utterance.
      words_per_second: of the references, pauses included.
      means: of numbers, by column: first each speaker's mean, then theirs.
      profile: by column.
    """

    speakers: int
    utterances: int
    seconds: float
    words_per_second: float
    means: Mapping[str, float]
    profile: Mapping[str, Typical]

    def as_dict(self) -> dict[str, Any]:
        """Rounded."""
        return {
            "speakers": self.speakers,
            "utterances": self.utterances,
            "seconds": rounded(self.seconds),
            "words_per_second": rounded(self.words_per_second),
            "means": {k: rounded(v) for k, v in self.means.items()},
            "profile": {
                k: {"value": t.value, "share": rounded(t.share), "overall": rounded(t.overall)}
                for k, t in self.profile.items()
            },
        }


def describe(
    scores: Scores,
    index: np.ndarray,
    count: int,
    *,
    measured: Mapping[str, np.ndarray] | None = None,
) -> list[Description]:
    """Describes each cohort.

    Args:
      index: [S], each speaker's cohort; -1 for none.
      count: of cohorts.
      measured: further numbers of speakers [S], by name.
    """
    numbers = {**_numbers(scores.population), **(measured or {})}
    profiles = _profiles(scores.population, index, count)
    found = []
    for k in range(count):
        own = index == k
        utterances, seconds = int(scores.utterances[own].sum()), float(scores.seconds[own].sum())
        words = int(scores.words[own].sum())
        found.append(
            Description(
                speakers=int(own.sum()),
                utterances=utterances,
                seconds=seconds / utterances if utterances else math.nan,
                words_per_second=words / seconds if seconds else math.nan,
                means={name: _mean(values[own]) for name, values in numbers.items()},
                profile=profiles[k],
            )
        )
    return found


def _numbers(population: Population) -> dict[str, np.ndarray]:
    """Speakers' means [S] of all columns of numbers, of speakers or of recordings."""
    found = {}
    for name, values in population.columns.items():
        if all(v is None or type(v) in (int, float) for v in values):
            given = np.array([math.nan if v is None else v for v in values], np.float64)
            found[name] = population.means(given)
    return found


def _profiles(population: Population, index: np.ndarray, count: int) -> list[dict[str, Typical]]:
    profiles: list[dict[str, Typical]] = [{} for _ in range(count)]
    for name, values in population.columns.items():
        if not any(isinstance(v, str) for v in values):
            continue
        try:
            labels = population.labels(name)
        except InputError:  # a column of recordings
            continue
        if not 2 <= len(labels.names) <= _MOST_VALUES:
            continue
        known = labels.index >= 0
        overall = np.bincount(labels.index[known], minlength=len(labels.names)) / known.sum()
        for k, profile in enumerate(profiles):
            own = np.bincount(labels.index[known & (index == k)], minlength=len(labels.names))
            if own.any():
                most = int(own.argmax())
                share = own[most] / own.sum()
                profile[name] = Typical(labels.names[most], float(share), float(overall[most]))
    return profiles


def _mean(values: np.ndarray) -> float:
    fine = values[np.isfinite(values)]
    return float(fine.mean()) if len(fine) else math.nan
