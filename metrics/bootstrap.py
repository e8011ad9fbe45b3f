"""Confidence intervals that respect speakers.

Utterances of one speaker go wrong together, so the unit that is resampled is the speaker with all
his utterances (the block bootstrap of Bisani and Ney, ICASSP 2004). With few speakers a plain
percentile interval is too narrow: resampling understates the variance by (n - 1) / n and uses a
normal's tails where a t distribution's belong. The "expanded" percentiles of Hesterberg (2015,
"What teachers should know about the bootstrap", The American Statistician 69) repair both.

What skewed speakers still cost, by simulation (the test's; nominal 95 %): 4 speakers cover 84 %,
8 cover 92 %, 20 and more 93 to 95 %.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

_DRAWS_AT_ONCE = 1 << 22  # counts held in memory


class Interval(NamedTuple):
    """NaN where there are too few speakers for one."""

    low: float
    high: float


def speaker_bootstrap(
    errors: Sequence[float],
    words: Sequence[float],
    speakers: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of `sum(errors) / sum(words)` over the population that speakers are drawn from.

    Args:
      errors, words, speakers: one entry an utterance; '' is an unknown speaker, and each such
        utterance is taken for a speaker of its own.
      draws: resamples; the same `seed` gives the same interval.
      confidence: 0.95 leaves 2.5 % on either side.

    Returns:
      (low, high) as fractions; (nan, nan) for fewer than two speakers with words, from which no
      interval over speakers can be had.

    Raises:
      ValueError: the sequences differ in length.
    """
    if not len(errors) == len(words) == len(speakers):
        raise ValueError(f"{len(errors)} errors, {len(words)} words, {len(speakers)} speakers")
    names = [speaker or ("", i) for i, speaker in enumerate(speakers)]
    blocks = {name: i for i, name in enumerate(dict.fromkeys(names))}
    index = [blocks[name] for name in names]
    numerator = np.bincount(index, weights=errors) if index else np.zeros(0)
    denominator = np.bincount(index, weights=words) if index else np.zeros(0)
    spoken = denominator > 0
    n = len(blocks)
    if spoken.sum() < 2:
        return math.nan, math.nan
    ratios = []
    for counts in draw_speakers(n, draws, seed):
        totals = counts @ denominator
        # A speaker without words stays in for his insertions; a draw of only such has no ratio.
        ratios.append((counts @ numerator)[totals > 0] / totals[totals > 0])
    tail = expanded_tail((1 - confidence) / 2, n)
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return float(low), float(high)


def paired_speaker_bootstrap(
    errors: Sequence[float],
    baseline: Sequence[float],
    words: Sequence[float],
    speakers: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of two systems' difference in error rate, `sum(errors - baseline) / sum(words)`.

    Both heard the same speech, so a speaker is drawn with the errors of both: what makes him hard
    for either falls out of the difference, and the interval is narrower than the two rates' own.

    Args:
      errors, baseline, words, speakers: one entry an utterance (or a speaker, or an utterance and
        a training seed: entries of one speaker stay together).

    Returns:
      (low, high) as fractions; below zero where the system is better than the baseline.

    Raises:
      ValueError: the sequences differ in length.
    """
    if len(errors) != len(baseline):
        raise ValueError(f"{len(errors)} errors, {len(baseline)} of the baseline")
    difference = [a - b for a, b in zip(errors, baseline, strict=True)]
    return speaker_bootstrap(
        difference, words, speakers, draws=draws, seed=seed, confidence=confidence
    )


def draw_speakers(speakers: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each speaker was drawn [some of the draws, speakers], a piece after the other.

    In each draw as many are drawn, with replacement, as there are. The same seed gives the same.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // speakers)
    for first in range(0, draws, at_once):
        size = min(draws - first, at_once)
        yield rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=size)


def interval_of(draws: np.ndarray, speakers: int, *, confidence: float = 0.95) -> Interval:
    """Percentiles of a statistic's draws [D], expanded for few speakers.

    NaN for fewer than three speakers, or where half of the draws have no value.
    """
    kept = draws[np.isfinite(draws)]
    if speakers < 3 or len(kept) <= len(draws) / 2:
        return Interval(math.nan, math.nan)
    tail = expanded_tail((1 - confidence) / 2, speakers)
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(float(low), float(high))


def expanded_tail(tail: float, n: int) -> float:
    """The percentile of a bootstrap distribution of n blocks that leaves `tail` outside."""
    from scipy.special import ndtr, stdtrit  # 0.4 s: only where an interval is asked for

    return float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, tail)))
