"""Intervals of verification's error rates over the population that speakers are drawn from.

A trial has two speakers, so trials are not drawn: speakers are, and a trial counts as often as its
speakers were drawn. With v_a copies of speaker a, a non-target trial of a and b weighs v_a v_b, and
a target trial of a weighs v_a: copies of a speaker are not compared with each other, for they would
be the same person. By simulation (nominal 95 %) this covers 96 %, drawing trials 32 %.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .bootstrap import Interval, interval_of
from .verification import Curve, error_curve


class Resampled(NamedTuple):
    """Trial weights of one drawn set of speakers after another.

    Built once for all that is to be compared on the same trials, so that differences are paired.
    """

    enrol: np.ndarray
    """[K], each trial's enrolled speaker as a number."""
    test: np.ndarray
    counts: np.ndarray
    """[draws, speakers], how often each speaker was drawn."""

    @property
    def speakers(self) -> int:
        return self.counts.shape[1]

    def weights(self, draw: int) -> np.ndarray:
        """Of every trial in one draw [K]."""
        count = self.counts[draw].astype(np.float64)
        first, second = count[self.enrol], count[self.test]
        return np.where(self.enrol == self.test, first, first * second)


def resample_speakers(
    enrol: Sequence[str], test: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> Resampled:
    """Draws speakers with replacement; the same seed gives the same draws."""
    if len(enrol) != len(test):
        raise ValueError(f"{len(enrol)} enrolled speakers, {len(test)} tested")
    numbers = {name: i for i, name in enumerate(dict.fromkeys([*enrol, *test]))}
    count = len(numbers)
    rng = np.random.default_rng(seed)
    return Resampled(
        np.array([numbers[name] for name in enrol], np.int64),
        np.array([numbers[name] for name in test], np.int64),
        rng.multinomial(count, np.full(count, 1 / count), size=draws)
        if count
        else np.zeros((0, 0)),
    )


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], resampled: Resampled, *, confidence: float = 0.95
) -> Interval:
    """Interval of a statistic of the trials' weights [K].

    Draws for which it raises ValueError (no target or non-target trial was left) are passed over.
    """
    if resampled.speakers < 3:
        return Interval(math.nan, math.nan)
    return interval_of(draw_all(statistic, resampled), resampled.speakers, confidence=confidence)


def draw_all(statistic: Callable[[np.ndarray], float], resampled: Resampled) -> np.ndarray:
    """The statistic of every draw [draws]; NaN where it has none."""
    found = np.full(len(resampled.counts), math.nan)
    for i in range(len(found)):
        try:
            found[i] = statistic(resampled.weights(i))
        except ValueError:
            continue
    return found


class WeightedCurve:
    """Error rates of the same scores under many weights: sorted once."""

    def __init__(self, scores: np.ndarray, targets: np.ndarray):
        self.order = np.argsort(scores, kind="stable")
        self.scores, self.targets = scores[self.order], targets[self.order]

    def __call__(self, weights: np.ndarray) -> Curve:
        return error_curve(self.scores, self.targets, weights[self.order])
