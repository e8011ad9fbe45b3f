"""Chance is known exactly: by enumeration, and by simulation."""

from itertools import combinations

import numpy as np
import pytest

from crowds import crowd, totals
from parley.fairness.permutation import permutation_test
from parley.fairness.statistics import speaker_variance


def test_p_is_the_share_of_all_arrangements():
    errors = np.array([1.0, 3, 2, 9, 8, 12, 5])
    words = np.array([50.0, 40, 60, 50, 70, 50, 45])
    groups = np.array([0, 0, 0, 1, 1, 1, 1])
    rate = errors.sum() / words.sum()
    spread = speaker_variance(errors[:, None], words[:, None], rate)

    def statistics(chosen: tuple[int, ...]) -> tuple[float, float]:
        rates, precision = [], []
        for part in (list(chosen), [i for i in range(7) if i not in chosen]):
            e, w, n = errors[part], words[part], len(part)
            own = n * ((e - e.sum() / w.sum() * w) ** 2).sum()
            model = (rate * w + spread * rate**2 * w**2).sum()
            rates.append(e.sum() / w.sum())
            precision.append(w.sum() ** 2 * (n + 9) / (own + 10 * model))
        common = np.average(rates, weights=precision)
        return float(precision @ (np.array(rates) - common) ** 2), abs(rates[0] - rates[1])

    seen = statistics((0, 1, 2))
    every = np.array([statistics(c) for c in combinations(range(7), 3)])
    exact = (every >= np.array(seen) - 1e-12).mean(axis=0)
    found = permutation_test(errors, words, groups, permutations=20_000)
    assert found.p == pytest.approx(exact[0], abs=0.012)
    assert found.gap_p == pytest.approx(exact[1], abs=0.012)
    assert found.gap == pytest.approx(seen[1])
    # A speaker who is left out, or said nothing, changes nothing.
    more = [np.append(x, v) for x, v in ((errors, 7.0), (words, 9.0), (groups, -1))]
    assert permutation_test(*more, permutations=50).gap == found.gap
    more[1][-1], more[2][-1] = 0.0, 1
    assert permutation_test(*more, permutations=50).gap == found.gap


def test_size_and_power():
    rng = np.random.default_rng(0)
    trials, wrong, right, gaps = 150, 0, 0, 0
    for _ in range(trials):
        errors, words, groups = totals(crowd(rng, [0.1] * 5, [30] * 5))
        found = permutation_test(errors, words, groups, permutations=99)
        wrong += found.p <= 0.05
        gaps += found.relative_p <= 0.05
        errors, words, groups = totals(crowd(rng, [0.1] * 4 + [0.15], [30] * 5))
        right += permutation_test(errors, words, groups, permutations=99).p <= 0.05
    assert wrong / trials == pytest.approx(0.05, abs=0.04)
    assert gaps / trials == pytest.approx(0.05, abs=0.04)
    assert right / trials > 0.8


@pytest.mark.parametrize(("size", "percent"), [(20, 109), (100, 39)])
def test_fifty_random_clusters_show_a_gap_by_chance(size: int, percent: int):
    """Without any difference: 109 % at 20 speakers each, 39 % at 100."""
    rng = np.random.default_rng(1)
    c = crowd(rng, [0.1], [50 * size], spread=0.65, utterances=1, length=400)
    errors, words, _ = totals(c)
    groups = np.arange(len(errors)) % 50
    found = permutation_test(errors, words, groups, permutations=300)
    assert 100 * found.relative_null.mean() == pytest.approx(percent, rel=0.12)
    assert found.relative_p > 0.01
    # A cluster that is truly served worse makes a gap that chance does not.
    errors[groups == 0] *= 3
    assert permutation_test(errors, words, groups, permutations=300).relative_p < 0.02


def test_equal_speakers_and_faultless_groups():
    even = permutation_test(np.ones(8), np.full(8, 10.0), np.arange(8) % 2, permutations=50)
    assert even.p == 1.0
    assert even.relative == 0.0
    assert permutation_test(np.zeros(8), np.full(8, 10.0), np.arange(8) % 2, permutations=50).p == 1
    errors = np.array([0.0, 0, 0, 2, 2, 2])
    found = permutation_test(errors, np.full(6, 10.0), np.arange(6) // 3, permutations=200)
    assert found.relative == np.inf
    assert 0.05 < found.relative_p < 0.2  # two of twenty arrangements
    with pytest.raises(ValueError, match="two groups"):
        permutation_test(errors, np.full(6, 10.0), np.zeros(6, int))
