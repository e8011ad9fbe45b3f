"""What the statistics of groups promise, by simulation long enough to say it: `-s` prints it."""

import math

import numpy as np
import pytest

from crowds import by_group, crowd, totals
from parley.fairness.mixed_poisson import fit_mixed_poisson, likelihood_ratio_p
from parley.fairness.permutation import permutation_test
from parley.fairness.resampling import changes, draw_rates, gap_estimate, rate_estimates
from parley.fairness.statistics import (
    between_group_variance,
    gap,
    group_rates,
    shrunken_rates,
    standard_errors,
)
from parley.metrics.bootstrap import interval_of
from parley.metrics.verification import eer, equal_error
from parley.metrics.verification_bootstrap import (
    WeightedCurve,
    draw_all,
    resample_speakers,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("spread", [0.25, 0.35, 0.5])
@pytest.mark.parametrize("size", [20, 50])
def test_speakers_cover_where_utterances_do_not(spread: float, size: int):
    """WER 10 %, 40 utterances a speaker: speakers 90 to 97 %, utterances 46 to 76 %."""
    rng = np.random.default_rng([size, int(100 * spread)])
    trials, hits, blind = 1000, np.zeros(4), 0
    for _ in range(trials):
        c = crowd(rng, [0.1, 0.13], [size, size], spread=spread)
        errors, words, groups = totals(c)
        after = rng.binomial(errors.astype(int), 0.8).astype(float)
        e = np.stack([by_group(x, groups, 2) for x in (errors, after)])
        w = by_group(words, groups, 2)
        drawn = draw_rates(e, w, draws=1000)
        between = gap_estimate(e[0], w, drawn[:, 0], bottom=1, top=0)
        found = [
            rate_estimates(e[0], w, drawn[:, 0])[0],
            between.points,
            between.of_top,
            changes(e, w, drawn)[0].relative,
        ]
        for i, (estimate, truth) in enumerate(zip(found, [0.1, 0.03, 0.3, -0.2], strict=True)):
            hits[i] += estimate.low <= truth <= estimate.high
        mine = c.errors[c.groups == 0] / 10
        rates = rng.choice(mine, (400, len(mine))).mean(axis=1)
        low, high = np.quantile(rates, [0.025, 0.975])
        blind += low <= 0.1 <= high
    shares = ", ".join(f"{100 * h / trials:.1f}" for h in hits)
    print(f"\n{size} speakers, spread {spread}: rate, gap, relative gap, change {shares} %; "
          f"utterances {100 * blind / trials:.1f} %")  # fmt: skip
    assert (hits / trials >= 0.90).all()
    assert (hits / trials <= 0.97).all()
    assert 0.43 <= blind / trials <= 0.79


@pytest.mark.parametrize("size", [4, 8, 12])
def test_few_speakers_under_cover(size: int):
    """Why groups of fewer than 20 are greyed."""
    rng = np.random.default_rng(size)
    hits, trials = 0, 2000
    for _ in range(trials):
        errors, words, groups = totals(crowd(rng, [0.1], [size], spread=0.8))
        e, w = by_group(errors, groups, 1), by_group(words, groups, 1)
        (found,) = rate_estimates(e, w, draw_rates(e, w, draws=400))
        hits += found.low <= 0.1 <= found.high
    print(f"\n{size} skewed speakers (spread 0.8): {100 * hits / trials:.1f} %")
    assert hits / trials < 0.925


@pytest.mark.parametrize(("size", "spread"), [(20, 0.37), (30, 0.37), (60, 0.5)])
def test_mixed_poissons_size(size: int, spread: float):
    """3 to 9 % at nominal 5 %, where plain Poisson regression rejects nearly half the time."""
    rng = np.random.default_rng([size, 1])
    trials, wald, ratio, plain, permuted = 1000, 0, 0, 0, 0
    for _ in range(trials):
        errors, words, groups = totals(crowd(rng, [0.1, 0.1], [size] * 2, spread=spread))
        design = np.stack([np.ones(2 * size), groups], axis=1)
        fit = fit_mixed_poisson(errors, words, np.arange(2 * size), design)
        alone = fit_mixed_poisson(errors, words, np.arange(2 * size), design[:, :1])
        wald += fit.rate_ratio(1).p < 0.05
        ratio += likelihood_ratio_p(fit, alone) < 0.05
        a, b = errors[:size].sum(), errors[size:].sum()
        plain += abs(math.log(a / b)) > 1.96 * math.sqrt(1 / a + 1 / b)
        permuted += permutation_test(errors, words, groups, permutations=199).p <= 0.05
    print(f"\n2 x {size} speakers, spread {spread}: Wald {wald / 10:.1f} %, likelihood ratio "
          f"{ratio / 10:.1f} %, permutation {permuted / 10:.1f} %, "
          f"plain Poisson {plain / 10:.1f} %")  # fmt: skip
    assert 0.03 <= wald / trials <= 0.09
    assert 0.03 <= ratio / trials <= 0.09
    assert 0.03 <= permuted / trials <= 0.07
    assert plain / trials > 0.40


@pytest.mark.parametrize(
    ("sizes", "utterances", "spreads", "most"),
    [
        ((30, 30, 30, 30, 30), (40,) * 5, (0.5,) * 5, 0.07),
        ((100, 25), (40, 10), (0.4, 0.4), 0.07),
        ((100, 25), (10, 40), (0.4, 0.4), 0.07),
        # What is not exchangeable: speakers of one group spread wider. Not exact.
        ((100, 25), (40, 40), (0.3, 0.7), 0.12),
        ((100, 25), (40, 40), (0.7, 0.3), 0.07),
    ],
)
def test_the_permutation_tests_size(
    sizes: tuple[int, ...], utterances: tuple[int, ...], spreads: tuple[float, ...], most: float
):
    rng = np.random.default_rng(len(sizes))
    trials, wrong = 1000, 0
    for _ in range(trials):
        parts = [
            totals(crowd(rng, [0.1], [n], spread=s, utterances=u))
            for n, u, s in zip(sizes, utterances, spreads, strict=True)
        ]
        errors, words = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
        groups = np.repeat(np.arange(len(sizes)), sizes)
        wrong += permutation_test(errors, words, groups, permutations=199).p <= 0.05
    print(f"\npermutation, {sizes} speakers of {utterances} utterances, spread {spreads}: "
          f"{wrong / 10:.1f} %")  # fmt: skip
    assert wrong / trials <= most
    if len(set(spreads)) == 1:
        assert wrong / trials >= 0.03


@pytest.mark.parametrize(("size", "percent"), [(20, 109), (100, 39)])
def test_the_gap_of_fifty_random_clusters(size: int, percent: int):
    rng = np.random.default_rng(size)
    seen, expected = [], []
    for _ in range(60):
        c = crowd(rng, [0.1], [50 * size], spread=0.65, utterances=1, length=400)
        errors, words, _ = totals(c)
        groups = np.arange(len(errors)) % 50
        rates = np.bincount(groups, errors) / np.bincount(groups, words)
        seen.append(gap(float(rates.max()), float(rates.min())).of_top)
        expected.append(permutation_test(errors, words, groups, permutations=50).relative_null)
    print(f"\n50 clusters of {size}: gap {100 * np.mean(seen):.0f} %, "
          f"by permutation {100 * np.mean(expected):.0f} %")  # fmt: skip
    assert 100 * np.mean(seen) == pytest.approx(percent, rel=0.06)
    assert np.mean(expected) == pytest.approx(np.mean(seen), rel=0.06)


def test_the_variance_between_groups():
    """Truth 1.00e-4: raw 1.97e-4, corrected about 1.0e-4; shrinking halves the error."""
    rng = np.random.default_rng(0)
    found, shrunk = [], []
    for _ in range(300):
        rates = rng.normal(0.1, 0.01, 50)
        c = crowd(rng, rates, [20] * 50, spread=0.4, utterances=1, length=400)
        errors, words, groups = totals(c)
        table = by_group(errors, groups, 50), by_group(words, groups, 50)
        measured = group_rates(*table)
        found.append(between_group_variance(measured, standard_errors(*table)))
        estimate = shrunken_rates(*table)
        errors_of = [np.mean((x - rates) ** 2) for x in (measured, estimate.rates)]
        shrunk.append([*errors_of, estimate.between])
    raw, corrected = np.mean(found, axis=0)
    plain, better, between = np.mean(shrunk, axis=0)
    print(f"\nraw {raw:.3g}, corrected {corrected:.3g}, Paule and Mandel {between:.3g}; squared "
          f"error of a rate {plain:.3g}, shrunken {better:.3g}")  # fmt: skip
    assert raw == pytest.approx(1.97e-4, rel=0.04)
    assert corrected == pytest.approx(1.00e-4, rel=0.06)
    assert between == pytest.approx(1.00e-4, rel=0.1)
    assert better < 0.6 * plain


def test_equal_error_rates():
    """Weights v_a v_b and v_a cover 96 %; trials drawn one by one 32 %; v_a^2 is too wide."""
    rng = np.random.default_rng(0)
    speakers, each, trials = 40, 6, 100
    enrol, test = (x.ravel() for x in np.indices((speakers * each, speakers * each)))
    pairs = enrol < test
    owner = np.arange(speakers * each) // each
    a, b = owner[enrol[pairs]], owner[test[pairs]]
    same = a == b

    def scores() -> np.ndarray:
        # A speaker's targets share how alike his recordings are; goats exist.
        alike = rng.normal(2.5, 0.6, speakers)
        common = rng.normal(0, 0.6, speakers)
        return np.where(same, alike[a], common[a] + common[b]) + rng.normal(size=len(a))

    truth = float(np.mean([eer(scores(), same) for _ in range(60)]))
    hits, widths = np.zeros(3), np.zeros(3)
    for seed in range(trials):
        measured = scores()
        curve = WeightedCurve(measured, same)
        drawn = resample_speakers(a.tolist(), b.tolist(), draws=120, seed=seed)

        changes_of_weights = (
            lambda w: w,
            lambda w: np.where(same, w**2, w),
            lambda _: rng.poisson(1.0, len(same)).astype(float),
        )
        for i, change in enumerate(changes_of_weights):
            draws = draw_all(lambda w, c=change, k=curve: equal_error(k(c(w))).rate, drawn)
            low, high = interval_of(draws, speakers)
            hits[i] += low <= truth <= high
            widths[i] += (high - low) / trials
    print(f"\nEER {100 * truth:.2f} %: speakers {hits[0]:.0f}, squared {hits[1]:.0f}, "
          f"trials {hits[2]:.0f} of {trials}; widths {100 * widths}")  # fmt: skip
    assert 90 <= hits[0] <= 99
    assert hits[2] < 60
    assert widths[1] > 1.1 * widths[0]
