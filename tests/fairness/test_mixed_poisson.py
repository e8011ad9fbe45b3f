"""The likelihood against plain integration, the fit against a derivative-free search, the test
against simulation."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import gammaln

from crowds import crowd, totals
from parley.fairness.mixed_poisson import (
    _Data,
    _log_likelihood,
    fit_mixed_poisson,
    likelihood_ratio_p,
    treatment_design,
)


def study(seed: int, speakers: int = 12, sigma: float = 0.5):
    """Two kinds of recordings a speaker; errors, words, speakers [R] and design [R, 3]."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(speakers), 2)
    group, noisy = (who >= speakers // 2).astype(float), np.tile([0.0, 1.0], speakers)
    words = rng.integers(30, 200, 2 * speakers).astype(float)
    rate = np.exp(-2.3 + 0.3 * group + 0.4 * noisy + rng.normal(0, sigma, speakers)[who])
    design = np.stack([np.ones(2 * speakers), group, noisy], axis=1)
    return rng.poisson(words * rate).astype(float), words, who, design


def integrated(parameters: np.ndarray, errors, words, who, design) -> float:
    """Log-likelihood by adaptive integration over each speaker's intercept."""
    beta, sigma = parameters[:-1], math.exp(parameters[-1])
    mean = words * np.exp(design @ beta)
    total = float(errors @ np.log(mean) - gammaln(errors + 1).sum())
    for s in np.unique(who):
        total += _log_integral(errors[who == s].sum(), mean[who == s].sum(), sigma)
    return total


def _log_integral(y: float, mean: float, sigma: float) -> float:
    def log_density(u):
        return y * u - mean * np.exp(u) - u**2 / (2 * sigma**2)

    grid = np.linspace(-8, 8, 8001)
    peak = float(grid[np.argmax(log_density(grid))])
    top = float(log_density(peak))
    found = quad(
        lambda u: math.exp(log_density(u) - top),
        peak - 9 * sigma,
        peak + 9 * sigma,
        points=[peak - 0.2, peak, peak + 0.2],
        limit=400,
        epsabs=1e-12,
        epsrel=1e-11,
    )[0]
    return math.log(found) + top - math.log(sigma * math.sqrt(2 * math.pi))


def slopes(function, at: np.ndarray) -> np.ndarray:
    """By central differences: [P] of a number, [P, Q] of an array."""
    steps = 1e-5 * np.eye(len(at))
    return np.array([(function(at + h) - function(at - h)) / 2e-5 for h in steps])


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.2])
def test_the_likelihood_is_the_integral(sigma: float):
    errors, words, who, design = study(0)
    errors[:3] = 0
    data = _Data(errors, np.log(words), who, design)
    at = np.array([-2.2, 0.2, 0.5, math.log(sigma)])
    found = _log_likelihood(data, at)
    assert found.value == pytest.approx(integrated(at, errors, words, who, design), abs=1e-7)
    slope = slopes(lambda p: _log_likelihood(data, p).value, at)
    np.testing.assert_allclose(found.gradient, slope, atol=1e-5)
    curve = slopes(lambda p: _log_likelihood(data, p).gradient, at)
    np.testing.assert_allclose(found.hessian, curve, rtol=1e-4, atol=1e-5)


def test_the_fit_is_that_of_a_search_without_derivatives():
    errors, words, who, design = study(1, speakers=6, sigma=0.8)
    fit = fit_mixed_poisson(errors, words, who, design)
    found = minimize(
        lambda p: -integrated(p, errors, words, who, design),
        np.array([-2.0, 0.0, 0.0, -0.5]),
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-6, "maxfev": 1000},
    )
    assert fit.log_likelihood == pytest.approx(-found.fun, abs=1e-5)
    np.testing.assert_allclose(fit.coefficients, found.x[:-1], atol=2e-3)
    assert fit.sigma == pytest.approx(math.exp(found.x[-1]), rel=5e-3)
    assert fit.converged


def test_rows_of_a_speaker_may_be_added_up():
    errors, words, who, design = study(2)
    # Each row as three utterances of the same kind.
    rng = np.random.default_rng(0)
    parts = rng.multinomial(errors.astype(int), [0.2, 0.3, 0.5])
    thirds = np.concatenate([words * share for share in (0.2, 0.3, 0.5)])
    whole = fit_mixed_poisson(errors, words, who, design)
    split = fit_mixed_poisson(parts.T.ravel(), thirds, np.tile(who, 3), np.tile(design, (3, 1)))
    np.testing.assert_allclose(whole.coefficients, split.coefficients, atol=1e-5)
    np.testing.assert_allclose(whole.covariance, split.covariance, rtol=1e-3, atol=1e-7)


def test_equal_speakers_give_plain_poisson_regression():
    rng = np.random.default_rng(3)
    words, group = np.full(400, 100.0), np.repeat([0.0, 1.0], 200)
    errors = rng.poisson(words * np.where(group > 0, 0.12, 0.1)).astype(float)
    errors[:200], errors[200:] = np.sort(errors[:200])[100], np.sort(errors[200:])[100]
    fit = fit_mixed_poisson(errors, words, np.arange(400), np.stack([np.ones(400), group], 1))
    a, b = errors[:200].sum(), errors[200:].sum()
    assert fit.sigma < 0.01
    assert fit.coefficients[1] == pytest.approx(math.log(b / a), abs=1e-4)
    assert fit.standard_errors[1] == pytest.approx(math.sqrt(1 / a + 1 / b), rel=0.02)


def test_size_where_plain_poisson_regression_finds_differences_that_are_not_there():
    """At 5 % nominal: mixed effects 3 to 9 %, plain Poisson about 46 %."""
    rng = np.random.default_rng(4)
    trials, mixed, ratio, plain, estimates = 200, 0, 0, 0, []
    for _ in range(trials):
        errors, words, groups = totals(crowd(rng, [0.1, 0.1], [30, 30], spread=0.37))
        design = np.stack([np.ones(60), groups], axis=1)
        fit = fit_mixed_poisson(errors, words, np.arange(60), design)
        alone = fit_mixed_poisson(errors, words, np.arange(60), design[:, :1])
        mixed += fit.rate_ratio(1).p < 0.05
        ratio += likelihood_ratio_p(fit, alone) < 0.05
        a, b = errors[:30].sum(), errors[30:].sum()
        plain += abs(math.log(a / b)) > 1.96 * math.sqrt(1 / a + 1 / b)
        estimates.append(fit.sigma)
    # Two standard deviations of 200 trials are 3 points; the soak test is sharper.
    assert 0.02 <= mixed / trials <= 0.11
    assert 0.02 <= ratio / trials <= 0.11
    assert 0.36 <= plain / trials <= 0.56
    assert np.mean(estimates) == pytest.approx(0.37, rel=0.06)


def test_rate_ratios_recover_what_was_simulated():
    errors, words, who, design = study(5, speakers=400)
    fit = fit_mixed_poisson(errors, words, who, design)
    found = fit.rate_ratio(2)
    assert found.low < math.exp(0.4) < found.high
    assert found.ratio == pytest.approx(math.exp(0.4), rel=0.06)
    assert found.p < 1e-6
    between = fit.rate_ratio(1)
    assert between.high / between.low > 1.15 * found.high / found.low  # speakers are what is scarce
    assert fit.sigma == pytest.approx(0.5, rel=0.1)


def test_a_group_without_errors_has_a_ratio_that_is_not_bounded_below():
    errors, words, who, design = study(6)
    errors[design[:, 1] > 0] = 0
    found = fit_mixed_poisson(errors, words, who, design).rate_ratio(1)
    assert found.ratio < 1e-3
    assert found.low < 1e-6
    assert found.high > 1


def test_what_cannot_be_fitted_is_said():
    errors, words, who, design = study(7)
    with pytest.raises(ValueError, match="depend on each other"):
        fit_mixed_poisson(errors, words, who, np.concatenate([design, design[:, :1]], 1))
    with pytest.raises(ValueError, match="nobody made an error"):
        fit_mixed_poisson(0 * errors, words, who, design)


def test_a_design_has_a_column_for_all_but_the_references():
    made = treatment_design([("accent", list("abca"), "b"), ("noise", ["0", "0", "1", "1"], "0")])
    assert made.columns == [("", ""), ("accent", "a"), ("accent", "c"), ("noise", "1")]
    assert made.matrix.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 1], [1, 1, 0, 1]]
