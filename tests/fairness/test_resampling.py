"""Intervals hold the truth as often as they say; everything comes from the same draws."""

import numpy as np
import pytest

from crowds import by_group, crowd, totals
from parley.fairness.resampling import (
    changes,
    draw_rates,
    gap_estimate,
    non_inferiority,
    one_sided,
    rate_estimates,
)
from parley.metrics.bootstrap import paired_speaker_bootstrap, speaker_bootstrap

SIZES = [30, 40]


def table(seed: int, rates: list[float], sizes: list[int]):
    errors, words, groups = totals(crowd(np.random.default_rng(seed), rates, sizes))
    return by_group(errors, groups, len(sizes)), by_group(words, groups, len(sizes))


def test_one_group_has_the_interval_of_the_plain_bootstrap():
    errors, words = table(0, [0.1], [30])
    names = [f"s{i}" for i in range(30)]
    (found,) = rate_estimates(errors, words, draw_rates(errors, words))
    plain = speaker_bootstrap(errors[:, 0].tolist(), words[:, 0].tolist(), names)
    assert found[1:] == pytest.approx(plain)
    other = np.random.default_rng(1).binomial(errors.astype(int), 0.8).astype(float)
    (change,) = changes(
        np.stack([errors, other]), words, draw_rates(np.stack([errors, other]), words)
    )
    paired = paired_speaker_bootstrap(
        other[:, 0].tolist(), errors[:, 0].tolist(), words[:, 0].tolist(), names
    )
    assert change.points[1:] == pytest.approx(paired)
    assert paired[0] < change.points.value < change.upper_points < paired[1]


def test_draws_are_what_a_loop_over_drawn_speakers_gives():
    errors, words = table(2, [0.1, 0.2], [5, 6])
    systems = np.stack([errors, 2 * errors, errors + words])
    drawn = draw_rates(systems, words, draws=50, seed=3)
    counts = np.random.default_rng(3).multinomial(11, np.full(11, 1 / 11), size=50)
    assert drawn.shape == (50, 3, 2)
    for d in range(50):
        chosen = np.repeat(np.arange(11), counts[d])
        for k in range(3):
            for g in range(2):
                total = words[chosen, g].sum()
                expected = systems[k, chosen, g].sum() / total if total else np.nan
                assert drawn[d, k, g] == pytest.approx(expected, nan_ok=True)
    np.testing.assert_allclose(drawn[:, 2], drawn[:, 0] + 1)


def test_few_or_no_speakers_have_no_interval():
    errors, words = table(4, [0.1, 0.1], [40, 2])
    whole, few = rate_estimates(errors, words, draw_rates(errors, words))
    assert whole.low < whole.value < whole.high
    assert np.isnan(few[1:]).all()
    assert draw_rates(np.zeros((2, 0, 3)), np.zeros((0, 3))).shape == (0, 2, 3)


@pytest.mark.parametrize("size", [20, 50])
def test_coverage_of_rates_gaps_and_changes(size: int):
    """Speakers 90 to 97 % at nominal 95 %; utterances, as others resample, far below."""
    rng = np.random.default_rng(size)
    trials, hits, blind = 150, np.zeros(4), 0
    truth = [0.1, 0.13]
    for _ in range(trials):
        c = crowd(rng, truth, [size, size])
        errors, words, groups = totals(c)
        after = rng.binomial(errors.astype(int), 0.8).astype(float)
        e = np.stack([by_group(x, groups, 2) for x in (errors, after)])
        w = by_group(words, groups, 2)
        drawn = draw_rates(e, w, draws=400)
        rate = rate_estimates(e[0], w, drawn[:, 0])[0]
        gap = gap_estimate(e[0], w, drawn[:, 0], bottom=1, top=0)
        change = changes(e, w, drawn)[0]
        found = [rate, gap.points, gap.of_top, change.relative]
        for i, (estimate, value) in enumerate(zip(found, [0.1, 0.03, 0.3, -0.2], strict=True)):
            hits[i] += estimate.low <= value <= estimate.high
        mine = c.errors[c.groups == 0]
        drawn = rng.choice(mine, (200, len(mine))).mean(axis=1) / 10
        low, high = np.quantile(drawn, [0.025, 0.975])
        blind += low <= 0.1 <= high
    # Two standard deviations of 150 trials are 3.6 points; the soak test is sharper.
    assert (hits / trials >= 0.90 - 0.036).all(), hits / trials
    assert (hits / trials <= 0.97 + 0.036).all(), hits / trials
    assert blind / trials < 0.75


def test_pairing_narrows_what_is_said_of_a_change():
    errors, words = table(5, [0.1, 0.1], SIZES)
    after = np.random.default_rng(6).binomial(errors.astype(int), 0.9).astype(float)
    drawn = draw_rates(np.stack([errors, after]), words)
    (change, _) = changes(np.stack([errors, after]), words, drawn)
    alone = rate_estimates(errors, words, drawn[:, 0])[0]
    assert change.points.high < 0
    assert change.points.high - change.points.low < 0.4 * (alone.high - alone.low)
    assert change.relative.value == pytest.approx(after[:, 0].sum() / errors[:, 0].sum() - 1)


def test_one_sided_bounds_lie_inside_the_two_sided():
    errors, words = table(7, [0.1], [40])
    drawn = draw_rates(errors, words)
    (two,) = rate_estimates(errors, words, drawn)
    one = one_sided(drawn[:, 0], 40)
    assert two.low < one.low < two.value < one.high < two.high


def test_non_inferiority_needs_both_a_small_loss_and_enough_speakers():
    errors, words = table(8, [0.1, 0.1], [60, 60])
    same = np.stack([errors, errors])
    assert non_inferiority(same, words, margin=0.01).holds
    worse = np.stack([errors, 1.1 * errors])
    found = non_inferiority(worse, words, margin=0.05)
    assert found.relative == pytest.approx(0.1)
    assert not found.holds
    assert non_inferiority(worse, words, margin=0.11).holds
    flat = non_inferiority(worse.sum(axis=2), words.sum(axis=1), margin=0.11)
    assert flat == pytest.approx(non_inferiority(worse, words, margin=0.11))
    assert not non_inferiority(same[:, :2], words[:2], margin=0.5).holds


def test_a_speaker_in_several_groups_ties_them_together():
    errors, words = table(9, [0.1], [40])
    twice = np.concatenate([errors, errors], axis=1), np.concatenate([words, words], axis=1)
    drawn = draw_rates(*twice)
    gap = gap_estimate(*twice, drawn, bottom=0, top=1)
    assert gap.points == (0.0, 0.0, 0.0)
