"""Confidence measures against brute force and hand counts; the calibrator against known truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.metrics.calibration import (
    Calibrator,
    auc,
    brier_score,
    calibration_error,
    calibration_error_by_chance,
    fit_calibrator,
    normalized_cross_entropy,
    reliability,
    right_words,
)
from parley.metrics.wer import word_errors

sentences = st.lists(st.sampled_from(["one", "two", "three"]), max_size=6).map(" ".join)
# Few values, so that equal confidences are common.
judged = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.booleans()), max_size=30)


def columns(words: list[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [c for c, _ in words], [r for _, r in words]


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def draw(n: int, seed: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences p, and words that are right with log-odds slope * logit(p) + intercept."""
    rng = np.random.default_rng(seed)
    sure = rng.beta(3, 1, n).clip(1e-4, 1 - 1e-4)
    chance = 1 / (1 + np.exp(-(slope * logit(sure) + intercept)))
    return sure, rng.random(n) < chance


def test_right_words_by_hand():
    assert right_words("a b c", "a x c") == [True, False, True]
    assert right_words("a b c", "a c") == [True, True]
    assert right_words("a c", "a b c") == [True, False, True]
    assert right_words("a b", "") == []
    assert right_words("", "a b") == [False, False]


@given(sentences, sentences)
def test_right_words_agree_with_the_errors(reference: str, hypothesis: str):
    right, errors = right_words(reference, hypothesis), word_errors(reference, hypothesis)
    assert len(right) == len(hypothesis.split())
    assert sum(right) == errors.words - errors.substitutions - errors.deletions
    assert right.count(False) == errors.substitutions + errors.insertions
    # What is right occurs in the reference, in its order.
    rest = iter(reference.split())
    assert all(w in rest for w, r in zip(hypothesis.split(), right, strict=True) if r)


def test_calibration_error_by_hand():
    sure, right = [0.9, 0.6, 0.7, 0.2], [True, False, True, False]
    # Two bins: {0.2, 0.6} with none right, {0.7, 0.9} with all right.
    assert calibration_error(sure, right, bins=2) == pytest.approx((0.4 + 0.2) / 2)
    assert calibration_error(sure, right, bins=1) == pytest.approx(0.6 - 0.5)
    # More bins than words: every word is a bin.
    assert calibration_error(sure, right) == pytest.approx((0.1 + 0.6 + 0.3 + 0.2) / 4)


@given(judged, st.randoms(use_true_random=False), st.integers(1, 12))
def test_order_does_not_matter_even_among_equals(words, random, bins: int):
    turned = random.sample(words, len(words))
    for measure in (auc, brier_score, normalized_cross_entropy):
        assert measure(*columns(turned)) == pytest.approx(measure(*columns(words)), nan_ok=True)
    assert calibration_error(*columns(turned), bins=bins) == pytest.approx(
        calibration_error(*columns(words), bins=bins), nan_ok=True
    )


def test_words_that_are_as_sure_are_alike():
    """All equally sure: the bins' edges, wherever they fall, change nothing."""
    sure, right = [0.5] * 20, [True] * 10 + [False] * 10
    assert calibration_error(sure, right) == pytest.approx(0.0)
    assert [b.right for b in reliability(sure, right, [""] * 20)] == pytest.approx([0.5] * 10)


@given(judged)
def test_auc_counts_pairs(words):
    sure, right = columns(words)
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, good in zip(sure, right, strict=True)
        for b, other in zip(sure, right, strict=True)
        if good and not other
    ]
    expected = sum(pairs) / len(pairs) if pairs else math.nan
    assert auc(sure, right) == pytest.approx(expected, nan_ok=True)


def test_normalized_cross_entropy_by_hand():
    """NIST's formula, (H_max + sum log2 p + sum log2 (1 - p)) / H_max, with three of four right."""
    sure, right = [0.5, 0.9, 0.75, 0.25], [True, True, True, False]
    h_max = -3 * math.log2(3 / 4) - math.log2(1 / 4)
    gained = math.log2(0.5) + math.log2(0.9) + math.log2(0.75) + math.log2(1 - 0.25)
    assert normalized_cross_entropy(sure, right) == pytest.approx((h_max + gained) / h_max)
    # The share of right words itself tells nothing; the truth tells all; its opposite misleads.
    assert normalized_cross_entropy([0.75] * 4, right) == pytest.approx(0.0)
    assert normalized_cross_entropy([1, 1, 1, 0], right) == pytest.approx(1.0, abs=1e-5)
    assert normalized_cross_entropy([0, 0, 0, 1], right) < -10


def test_brier_score_by_hand():
    assert brier_score([1.0, 0.5, 0.2], [True, True, False]) == pytest.approx((0.25 + 0.04) / 3)


def test_true_probabilities_have_the_error_that_chance_gives():
    errors, expected = [], []
    for seed in range(60):
        sure, right = draw(400, seed, 1.0, 0.0)
        errors.append(calibration_error(sure, right))
        expected.append(calibration_error_by_chance(sure))
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.08)
    sure, right = draw(400, 0, 1.0, 1.5)
    assert calibration_error(sure, right) > 3 * calibration_error_by_chance(sure)


def test_bins_hold_equal_shares_and_intervals_hold_the_truth():
    sure, right = draw(1003, 1, 1.0, 0.0)
    speakers = [f"s{i % 30}" for i in range(1003)]
    bins = reliability(sure, right, speakers)
    assert sum(b.words for b in bins) == 1003
    assert {b.words for b in bins} == {100, 101}
    assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)
    assert sum(b.words * b.right for b in bins) == pytest.approx(right.sum())
    held = sum(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 for b in bins)
    assert held >= 8  # of ten, at 95 %
    error = sum(b.words * abs(b.confidence - b.right) for b in bins) / 1003
    assert error == pytest.approx(calibration_error(sure, right))


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.6, 1.2), (1.5, -2.0)])
def test_the_calibrator_finds_what_the_truth_was_made_with(slope: float, intercept: float):
    fitted = fit_calibrator(*draw(20_000, 2, slope, intercept))
    # Three standard errors of 20,000 words, the largest being that of (1.5, -2): 0.03.
    assert fitted.slope == pytest.approx(slope, abs=0.09)
    assert fitted.intercept == pytest.approx(intercept, abs=0.09)
    sure, right = draw(20_000, 3, slope, intercept)
    moved = [fitted(p) for p in sure]
    assert calibration_error(moved, right) < 2 * calibration_error_by_chance(moved)
    assert auc(moved, right) == pytest.approx(auc(sure, right))


def test_the_calibrator_is_the_minimum():
    """Against a general optimiser on the same penalised likelihood."""
    from scipy.optimize import minimize

    sure, right = draw(50, 4, 0.5, 1.0)
    sign = np.where(right, 1.0, -1.0)

    def loss(w: np.ndarray) -> float:
        z = sign * (w[0] * logit(sure) + w[1])
        return float(np.logaddexp(0, -z).sum() + ((w[0] - 1) ** 2 + w[1] ** 2) / 2)

    expected = minimize(loss, [0.0, 0.0], tol=1e-10).x
    fitted = fit_calibrator(sure, right)
    assert [fitted.slope, fitted.intercept] == pytest.approx(list(expected), abs=1e-4)


@given(judged)
def test_any_words_give_a_calibrator_that_works(words):
    fitted = fit_calibrator(*columns(words))
    assert math.isfinite(fitted.slope)
    assert math.isfinite(fitted.intercept)
    assert all(0 < fitted(p) < 1 for p in (0.0, 0.3, 1.0))


def test_few_words_change_little_and_one_sided_ones_do_not_run_away():
    assert fit_calibrator([], []) == Calibrator(1.0, 0.0)
    few = fit_calibrator([0.8, 0.6], [True, True])
    assert few.slope == pytest.approx(1.0, abs=0.5)
    assert 0 < few.intercept < 0.5
    many = fit_calibrator([0.5] * 1000, [True] * 1000)
    assert 3 < many.intercept < 8
    assert 0.95 < many(0.5) < 1


def test_a_calibrator_moves_the_log_odds():
    assert Calibrator(1.0, 0.0)(0.3) == pytest.approx(0.3)
    assert Calibrator(2.0, 0.0)(0.75) == pytest.approx(0.9)  # odds of 3 become 9
    assert Calibrator(1.0, math.log(3))(0.5) == pytest.approx(0.75)
    moved = [Calibrator(0.5, 1.0)(p) for p in np.linspace(0, 1, 21)]
    assert moved == sorted(moved)
    assert 0 < Calibrator(1e6, 0.0)(0.0) < Calibrator(1e6, 0.0)(1.0) <= 1


@pytest.mark.parametrize("measure", [auc, normalized_cross_entropy])
@pytest.mark.parametrize("right", [[], [True, True], [False]])
def test_one_kind_of_word_has_nothing_to_tell(measure, right: list[bool]):
    assert math.isnan(measure([0.5] * len(right), right))


def test_without_words():
    assert math.isnan(calibration_error([], []))
    assert math.isnan(calibration_error_by_chance([]))
    assert math.isnan(brier_score([], []))
    assert reliability([], [], []) == []


@pytest.mark.parametrize("wrong", [[1.5], [-0.1], [math.nan], [0.5, 0.5]])
def test_what_is_no_confidence_is_refused(wrong: list[float]):
    for measure in (auc, brier_score, calibration_error, fit_calibrator):
        with pytest.raises(ValueError, match="confidences"):
            measure(wrong, [True])
    with pytest.raises(ValueError, match="speakers"):
        reliability([0.5], [True], [])
