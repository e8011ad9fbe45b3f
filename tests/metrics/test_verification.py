"""Error rates of verification against scikit-learn, against counting, and against simulation."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from parley.metrics.verification import (
    as_norm,
    det_points,
    disparity,
    eer,
    equal_error,
    error_curve,
    min_dcf,
    rates_at,
)
from parley.metrics.verification_bootstrap import (
    WeightedCurve,
    bootstrap_interval,
    draw_all,
    resample_speakers,
)


def trials(seed: int, count: int = 400, rounded: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and whether each is of a target."""
    rng = np.random.default_rng(seed)
    targets = rng.random(count) < 0.3
    targets[:2] = True, False
    return np.round(rng.normal(targets * 1.5, 1.0), rounded), targets


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounded", [0, 1, 8])
def test_eer_is_where_the_diagonal_cuts_scikit_learns_roc(seed: int, rounded: int):
    scores, targets = trials(seed, rounded=rounded)
    fpr, tpr, _ = roc_curve(targets, scores, drop_intermediate=False)
    cut = brentq(lambda x: 1.0 - x - interp1d(fpr, tpr)(x), 0.0, 1.0, xtol=1e-14)
    assert eer(scores, targets) == pytest.approx(cut, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_scikit_learns_roc_and_what_counting_gives(seed: int):
    scores, targets = trials(seed)
    curve = error_curve(scores, targets)
    fpr, tpr, thresholds = roc_curve(targets, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fmr[::-1], fpr, atol=1e-12)
    np.testing.assert_allclose(1 - curve.fnmr[::-1], tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds[::-1], thresholds)
    for threshold, fmr, fnmr in zip(*curve, strict=True):
        assert fmr == pytest.approx(np.mean(scores[~targets] >= threshold))
        assert fnmr == pytest.approx(np.mean(scores[targets] < threshold))
        assert rates_at(curve, threshold) == (fmr, fnmr)
    for between in (scores.min() - 1, 0.123456, scores.max() + 1):
        found = rates_at(curve, between)
        wanted = np.mean(scores[~targets] >= between), np.mean(scores[targets] < between)
        assert found == pytest.approx(wanted)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_eer_lies_between_the_two_rates_at_its_threshold_by_brute_force(data: st.DataObject):
    count = data.draw(st.integers(2, 12))
    scores = np.array(data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)), float)
    targets = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    if targets.all() or not targets.any():
        with pytest.raises(ValueError, match="target and non-target"):
            eer(scores, targets)
        return
    points = [
        (np.mean(scores[~targets] >= t), np.mean(scores[targets] < t))
        for t in [*np.unique(scores), np.inf]
    ]
    # Every pair of neighbours, as a line: where does FMR = FNMR lie on it?
    found = []
    for (x0, y0), (x1, y1) in pairwise(points):
        a, b = y0 - x0, y1 - x1
        if a * b <= 0 and a != b:
            found.append(x0 + a / (a - b) * (x1 - x0))
    assert min(abs(eer(scores, targets) - x) for x in found) < 1e-12


def test_weights_count_as_copies_do():
    scores, targets = trials(7, 60)
    copies = np.random.default_rng(0).integers(0, 4, 60)
    copies[:2] = 1
    repeated = np.repeat(scores, copies), np.repeat(targets, copies)
    assert eer(scores, targets, copies) == pytest.approx(eer(*repeated), abs=1e-12)


def test_perfect_reversed_and_blind_scores():
    targets = np.array([True, True, False, False])
    assert eer([4, 3, 2, 1], targets) == 0.0
    assert eer([1, 2, 3, 4], targets) == 1.0
    assert eer([5, 5, 5, 5], targets) == 0.5
    found = equal_error(error_curve([4, 3, 2, 1], targets))
    assert 2 < found.threshold <= 3


def test_min_dcf_against_every_threshold():
    scores, targets = trials(3)
    curve = error_curve(scores, targets)
    for p, miss, false in ((0.01, 1, 1), (0.05, 1, 1), (0.5, 2, 1)):
        costs = [
            miss * p * np.mean(scores[targets] < t)
            + false * (1 - p) * np.mean(scores[~targets] >= t)
            for t in [*np.unique(scores), np.inf]
        ]
        blind = min(miss * p, false * (1 - p))
        found = min_dcf(curve, p_target=p, cost_miss=miss, cost_false=false)
        assert found == pytest.approx(min(costs) / blind)
        assert found <= 1.0


def test_a_det_plot_of_normal_scores_is_a_straight_line():
    """Martin et al. 1997: both score distributions normal with one deviation give slope -1."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(2, 1, 40_000), rng.normal(0, 1, 40_000)])
    x, y = det_points(error_curve(scores, np.arange(80_000) < 40_000))
    middle = np.abs(x) < 2
    slope, offset = np.polyfit(x[middle], y[middle], 1)
    assert slope == pytest.approx(-1, abs=0.03)
    assert offset == pytest.approx(-2, abs=0.03)


def test_as_norm_against_a_loop():
    rng = np.random.default_rng(0)
    scores, enrol, test = rng.normal(size=9), rng.normal(size=(9, 20)), rng.normal(size=(9, 20))
    found = as_norm(scores, enrol, test, top=5)
    for i in range(9):
        sides = [np.sort(cohort[i])[-5:] for cohort in (enrol, test)]
        wanted = np.mean([(scores[i] - side.mean()) / side.std() for side in sides])
        assert found[i] == pytest.approx(wanted)
    # Shifting and stretching all scores of a trial alike changes nothing.
    moved = as_norm(3 * scores + 1, 3 * enrol + 1, 3 * test + 1, top=5)
    np.testing.assert_allclose(moved, found)
    with pytest.raises(ValueError, match="cohort of 1"):
        as_norm(scores, enrol[:, :1], test[:, :1])


def test_disparity_of_the_papers_nationalities():
    """Jin et al. 2022, their PW row: US 1.04, UK 0.76, other 1.22; deviation 0.19."""
    found = disparity({"us": 1.04, "uk": 0.76, "other": 1.22})
    assert found["std"] == pytest.approx(0.19, abs=0.005)
    assert found["gap"] == pytest.approx(0.46)
    assert found["relative"] == pytest.approx(0.46 / 0.76)
    assert disparity({"a": 0.0, "b": 0.0})["relative"] == 0.0


def pairs(speakers: int, each: int, rng: np.random.Generator):
    """All pairs of recordings, scores with a strength of the speaker's own and of the pair's."""
    who = np.repeat(np.arange(speakers), each)
    a, b = np.triu_indices(speakers * each, 1)
    enrol, test = who[a], who[b]
    hard = rng.normal(0, 1.0, speakers)
    alike = rng.normal(0, 0.5, (speakers, speakers))
    alike = (alike + alike.T) / 2
    scores = rng.normal(0, 1, len(a)) + np.where(
        enrol == test, 2.0 + hard[enrol], alike[enrol, test] + (hard[enrol] + hard[test]) / 2
    )
    return scores, enrol == test, enrol, test


def test_draws_weigh_trials_by_their_speakers():
    resampled = resample_speakers(["a", "a", "b"], ["a", "b", "c"], draws=50)
    for i in range(50):
        v = dict(zip("abc", resampled.counts[i], strict=True))
        assert v["a"] + v["b"] + v["c"] == 3
        np.testing.assert_array_equal(
            resampled.weights(i), [v["a"], v["a"] * v["b"], v["b"] * v["c"]]
        )


@pytest.mark.slow
def test_the_speaker_bootstrap_covers_and_the_trial_bootstrap_does_not():
    """40 worlds of 25 speakers, who differ in how hard they are; the truth by 200 more."""
    worlds = (pairs(25, 8, np.random.default_rng(10_000 + i)) for i in range(200))
    truth = np.mean([eer(scores, targets) for scores, targets, _, _ in worlds])
    covered = naive = 0
    for i in range(40):
        rng = np.random.default_rng(i)
        scores, targets, enrol, test = pairs(25, 8, rng)
        curve = WeightedCurve(scores, targets)
        resampled = resample_speakers([*map(str, enrol)], [*map(str, test)], draws=100, seed=i)
        low, high = bootstrap_interval(lambda w, c=curve: equal_error(c(w)).rate, resampled)
        covered += low <= truth <= high
        counts = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=40)
        drawn = [equal_error(curve(c.astype(float))).rate for c in counts]
        low, high = np.quantile(drawn, [0.025, 0.975])
        naive += low <= truth <= high
    assert covered >= 34, f"{covered} of 40"
    assert naive <= 30, f"{naive} of 40"  # 38 would be as promised


def test_draws_without_trials_are_passed_over():
    resampled = resample_speakers(["a", "b"], ["a", "c"], draws=200, seed=1)
    curve = WeightedCurve(np.array([1.0, 0.0]), np.array([True, False]))
    found = draw_all(lambda w: equal_error(curve(w)).rate, resampled)
    assert np.isnan(found).any()
    assert np.nanmax(found) == 0.0
    nothing = bootstrap_interval(lambda w: 1.0, resample_speakers(["a"], ["b"]))
    assert np.isnan(nothing.low)
