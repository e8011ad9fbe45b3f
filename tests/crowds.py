"""Simulated speakers, whose true rates are known: log-normal around their group's rate."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Crowd(NamedTuple):
    """Utterances of speakers; every array is [U]."""

    errors: np.ndarray
    words: np.ndarray
    speakers: np.ndarray
    groups: np.ndarray


def crowd(
    rng: np.random.Generator,
    rates: Sequence[float] | np.ndarray,
    sizes: Sequence[int],
    *,
    spread: float = 0.4,
    utterances: int = 40,
    length: int = 10,
) -> Crowd:
    """Args:
    rates, sizes: true rate and number of speakers of each group; the rate is the mean over its
      speakers.
    spread: standard deviation of a speaker's log rate.
    length: words of an utterance.
    """
    groups = np.repeat(np.arange(len(rates)), sizes)
    rate = np.asarray(rates)[groups] * np.exp(rng.normal(-(spread**2) / 2, spread, len(groups)))
    speakers = np.repeat(np.arange(len(groups)), utterances)
    errors = rng.poisson(length * rate[speakers])
    return Crowd(errors, np.full(len(speakers), length), speakers, groups[speakers])


def totals(c: Crowd) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors, words and group of every speaker, each [S]."""
    errors, words = (np.bincount(c.speakers, x).astype(np.float64) for x in (c.errors, c.words))
    return errors, words, c.groups[np.unique(c.speakers, return_index=True)[1]]


def by_group(errors: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Speakers' totals [S] as a matrix [S, count]."""
    return errors[:, None] * (groups[:, None] == np.arange(count))
