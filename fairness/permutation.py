"""What chance alone would show: speakers permuted over the groups.

Every group keeps its number of speakers. If the groups do not differ, each permutation is as
likely as what was seen, so the test's size is exact; and the largest gap among many groups of few
speakers, which is far from zero by chance, has its null distribution. (Fifty random clusters of
twenty speakers each, without any difference, show a worst-to-best gap of about 110 %.)
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .statistics import ratio, speaker_variance

PERMUTATIONS = 2000
_PRIOR_SPEAKERS = 10
"""What the common variance counts for beside a group's own."""
_VALUES_AT_ONCE = 1 << 22


class Omnibus(NamedTuple):
    """Whether any group differs, and the gap between the extremes, seen and by chance."""

    p: float
    """Of the hypothesis that no group differs; at least 1 / (permutations + 1)."""
    gap: float
    """Largest rate - smallest, a fraction."""
    gap_p: float
    relative: float
    """(largest - smallest) / smallest."""
    relative_null: np.ndarray
    """[P], under permutation; inf where a group made no errors."""
    relative_p: float


def permutation_test(
    errors: np.ndarray,
    words: np.ndarray,
    groups: np.ndarray,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Omnibus:
    """Permutes speakers over groups.

    The omnibus statistic is Welch's: the groups' squared distances from their common rate, each in
    units of its own standard error over speakers. So groups whose speakers say less, or differ
    more, do not by themselves make a difference (by simulation, size 1 to 10 % at nominal 5 % with
    100 speakers against 25 who say a quarter or four times as much or spread twice or half as
    wide; a sum of squares weighted by words rejects 0 to 17 %). A group's own variance is
    moderated by what all speakers' would be in it, which counts as ten more of them: few speakers
    do not know their variance.

    Args:
      errors, words: [S], a speaker's totals.
      groups: [S], numbers from 0 on; -1 leaves a speaker out.

    Raises:
      ValueError: fewer than two groups.
    """
    kept = (groups >= 0) & (words > 0)
    errors, words = (np.asarray(x, np.float64)[kept] for x in (errors, words))
    order = np.argsort(groups[kept], kind="stable")
    errors, words = errors[order], words[order]
    _, starts = np.unique(groups[kept][order], return_index=True)
    if len(starts) < 2:
        raise ValueError("speakers are permuted over two groups or more")
    rate = errors.sum() / words.sum()
    spread = speaker_variance(errors[:, None], words[:, None], rate)
    expected = rate * words + spread * (rate * words) ** 2
    values = np.stack([errors, words, errors**2, errors * words, words**2, expected])
    seen = _statistics(values[:, None, :], starts)
    pieces = [
        _statistics(values[:, dealt], starts)
        for dealt in arrangements(len(errors), permutations, seed)
    ]
    null = np.concatenate(pieces, axis=1)
    p = [p_by_chance(float(s[0]), n) for s, n in zip(seen, null, strict=True)]
    return Omnibus(p[0], float(seen[1, 0]), p[1], float(seen[2, 0]), null[2], p[2])


def arrangements(speakers: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Orders of the speakers [some of the permutations, speakers], a piece after the other.

    The same seed gives the same.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _VALUES_AT_ONCE // max(1, speakers))
    for first in range(0, permutations, at_once):
        count = min(at_once, permutations - first)
        yield rng.permuted(np.tile(np.arange(speakers), (count, 1)), axis=1)


def p_by_chance(seen: float, null: np.ndarray) -> float:
    """How often chance gives as much as was seen, from what it gives [P]."""
    # What was seen is itself one of the arrangements; rounding must not put it above its equals.
    near = seen - 1e-12 * abs(seen) if np.isfinite(seen) else seen
    return float((1 + (null >= near).sum()) / (1 + len(null)))


def _statistics(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Omnibus, gap and relative gap [3, P] of [6, P, S] in the order of the groups."""
    errors, words, ee, ew, ww, expected = np.add.reduceat(values, starts, axis=2)
    n = np.diff(np.append(starts, values.shape[2]))
    rates = errors / words
    scatter = n * np.maximum(ee - 2 * rates * ew + rates**2 * ww, 0.0)
    variance = (scatter + _PRIOR_SPEAKERS * expected) / (n - 1 + _PRIOR_SPEAKERS) / words**2
    # Without any error nothing varies, and nothing differs.
    precision = np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
    weight = np.maximum(precision.sum(axis=1, keepdims=True), 1e-300)
    common = (precision * rates).sum(axis=1, keepdims=True) / weight
    omnibus = (precision * (rates - common) ** 2).sum(axis=1)
    low = rates.min(axis=1)
    gap = rates.max(axis=1) - low
    relative = np.where(low > 0, ratio(gap, low), np.where(gap > 0, np.inf, 0.0))
    return np.stack([omnibus, gap, relative])
