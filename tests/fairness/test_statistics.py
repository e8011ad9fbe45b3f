"""Rates, gaps, variances and corrections for many tests, against simulation and plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowds import by_group, crowd, totals
from parley.fairness.statistics import (
    benjamini_hochberg,
    between_group_variance,
    gap,
    group_rates,
    group_speakers,
    holm,
    ratio,
    shrunken_rates,
    standard_errors,
)

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_groups_rate_is_pooled_and_not_a_mean_of_speakers():
    errors, words = np.array([[1.0], [30.0]]), np.array([[10.0], [100.0]])
    assert group_rates(errors, words) == pytest.approx([31 / 110])
    assert group_speakers(np.array([[0, 20], [10, 0], [10, 0], [10, 0]])).tolist() == [3, 1]
    assert np.isnan(group_rates(errors, 0 * words)).all()
    assert ratio(np.ones(2), np.array([2.0, 0.0])).tolist()[0] == 0.5


def test_gaps_name_their_denominator():
    found = gap(0.15, 0.10)
    assert found == pytest.approx((0.05, 0.5, 1 / 3))
    assert gap(0.1, 0.0).of_top == math.inf
    assert gap(0.0, 0.0) == (0.0, 0.0, 0.0)


def test_standard_errors_are_those_of_resampled_speakers():
    rng = np.random.default_rng(0)
    errors, words, groups = totals(crowd(rng, [0.1, 0.2], [80, 120]))
    words = words * rng.uniform(0.5, 2, len(words))
    table = by_group(errors, groups, 2), by_group(words, groups, 2)
    for g in range(2):
        mine = np.flatnonzero(groups == g)
        drawn = rng.choice(mine, (4000, len(mine)))
        rates = errors[drawn].sum(axis=1) / words[drawn].sum(axis=1)
        assert standard_errors(*table)[g] == pytest.approx(rates.std(), rel=0.05)
    assert np.isnan(standard_errors(np.ones((1, 1)), np.ones((1, 1)))).all()


def test_the_corrected_variance_is_that_of_the_true_rates():
    """True rates with variance 1.00e-4, groups of 20: raw 1.97e-4, corrected about 1.0e-4."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(30):
        rates = rng.normal(0.1, 0.01, 50)
        c = crowd(rng, rates, [20] * 50, spread=0.4, utterances=1, length=400)
        errors, words, groups = totals(c)
        table = by_group(errors, groups, 50), by_group(words, groups, 50)
        found.append(between_group_variance(group_rates(*table), standard_errors(*table)))
    raw, corrected = np.mean(found, axis=0)
    assert raw == pytest.approx(1.97e-4, rel=0.08)
    assert corrected == pytest.approx(1.00e-4, rel=0.2)
    assert math.isnan(between_group_variance(np.ones(1), np.ones(1)).raw)


def test_shrunken_rates_are_nearer_to_the_truth_and_balance_their_deviations():
    rng = np.random.default_rng(2)
    rates = rng.normal(0.1, 0.01, 60)
    sizes = rng.integers(2, 60, 60)
    errors, words, groups = totals(crowd(rng, rates, sizes.tolist(), utterances=5, length=80))
    table = by_group(errors, groups, 60), by_group(words, groups, 60)
    measured, found = group_rates(*table), shrunken_rates(*table)
    assert np.mean((found.rates - rates) ** 2) < 0.6 * np.mean((measured - rates) ** 2)
    assert found.between == pytest.approx(1e-4, rel=0.6)
    precision = 1 / (found.between + found.noise)
    assert found.mean == pytest.approx((precision * measured).sum() / precision.sum())
    assert (precision * (measured - found.mean) ** 2).sum() == pytest.approx(59, rel=1e-6)
    # The fewer speakers, the more a group is drawn to the mean.
    assert found.weights[sizes < 8].max() < found.weights[sizes > 40].min()


def test_a_small_group_without_errors_is_not_believed():
    rng = np.random.default_rng(3)
    errors, words, groups = totals(crowd(rng, [0.1] * 6, [30] * 5 + [1]))
    errors[-1] = 0
    found = shrunken_rates(by_group(errors, groups, 6), by_group(words, groups, 6))
    assert 0 < found.rates[-1] < 0.2
    assert found.noise[-1] > 5 * found.noise[:-1].max()


def test_shrinking_what_is_not_there():
    words = np.array([[10.0, 0.0], [10.0, 0.0]])
    found = shrunken_rates(np.array([[1.0, 0.0], [3.0, 0.0]]), words)
    assert found.rates == pytest.approx([0.2, 0.2])
    assert found.between == 0.0
    assert shrunken_rates(0 * words, words + 1).rates.tolist() == [0.0, 0.0]


@given(P_VALUES)
def test_holm_is_its_definition(p: list[float]):
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.3, 0.9):
        order = sorted(range(len(p)), key=lambda i: p[i])
        rejected = set()
        for step, i in enumerate(order):
            if p[i] * (len(p) - step) > level:
                break
            rejected.add(i)
        assert {i for i in range(len(p)) if adjusted[i] <= level} == rejected


@settings(deadline=None)  # the first call imports scipy.stats
@given(P_VALUES)
def test_benjamini_and_hochbergs_is_its_definition(p: list[float]):
    adjusted = benjamini_hochberg(p)
    for level in (0.05, 0.3):
        ranked = sorted(p)
        below = [q for i, q in enumerate(ranked) if q * len(p) / (i + 1) <= level]
        rejected = {i for i, q in enumerate(p) if below and q <= below[-1]}
        assert {i for i in range(len(p)) if adjusted[i] <= level} == rejected


def test_no_tests_need_no_correction():
    assert holm([]).size == 0
    assert benjamini_hochberg([]).size == 0
