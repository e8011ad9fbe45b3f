"""Mixed-effects Poisson regression: what a group's rate is beside another's, at equal covariates.

Liu, Veliche and Peng (arXiv 2109.09061): errors of speaker s in recordings of kind i are
Poisson(w_si exp(x_i beta + u_s)) with w words and u_s ~ N(0, sigma^2). The random intercept is what
a speaker's recordings share; without it (plain Poisson regression) a difference between groups of
equal speakers is found in nearly half of all studies.

Given u, recordings of one speaker enter only through Y = sum of errors and
M = sum of w exp(x beta), so the likelihood of a speaker is one integral over u of
exp(Y u - M e^u) against the normal density: adaptive Gauss-Hermite quadrature around its mode, all
speakers at once. The mode has a closed form by Lambert's function; gradient and Hessian follow from
posterior moments of u (Fisher's and Louis's identities), so a fit is a few Newton steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

NODES = 25
_NO_SPREAD = 1e-3
"""A standard deviation of the intercepts below this is none; its error bar would be of rounding."""


class RateRatio(NamedTuple):
    """How many times as many errors a word, with its 95 % interval and Wald's p."""

    ratio: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class MixedPoisson:
    """A fitted model."""

    coefficients: np.ndarray
    """[P], log rate ratios."""
    covariance: np.ndarray
    """[P, P], of the coefficients, sigma being estimated too."""
    sigma: float
    """Standard deviation of the speakers' log rates."""
    log_likelihood: float
    converged: bool

    @property
    def standard_errors(self) -> np.ndarray:
        return np.sqrt(np.diag(self.covariance))

    def rate_ratio(self, column: int, *, confidence: float = 0.95) -> RateRatio:
        """Of one unit more in a column of the design."""
        from scipy.special import ndtr, ndtri

        value, error = float(self.coefficients[column]), float(self.standard_errors[column])
        reach = float(ndtri(0.5 + confidence / 2)) * error
        p = 2 * float(ndtr(-abs(value) / error)) if error > 0 else math.nan
        return RateRatio(_exp(value), _exp(value - reach), _exp(value + reach), p)


def fit_mixed_poisson(
    errors: np.ndarray, words: np.ndarray, speakers: np.ndarray, design: np.ndarray
) -> MixedPoisson:
    """Maximum likelihood.

    Args:
      errors, words: [R], a row a speaker and a kind of recording; rows without words have no rate
        and are left out. Utterances of a speaker with equal covariates may be added up.
      speakers: [R] int, any numbers.
      design: [R, P], the column of ones included.

    Raises:
      ValueError: the columns of the design depend on each other, or nobody made an error.
    """
    from scipy.optimize import minimize

    kept = words > 0
    data = _Data(
        np.asarray(errors, np.float64)[kept],
        np.log(np.asarray(words, np.float64)[kept]),
        np.unique(speakers[kept], return_inverse=True)[1],
        np.asarray(design, np.float64)[kept],
    )
    kinds = np.unique(data.design, axis=0)  # of categories few, however many speakers
    if np.linalg.matrix_rank(kinds) < kinds.shape[1]:
        raise ValueError("the columns of the design depend on each other")
    if not data.errors.sum():
        raise ValueError("nobody made an error: there is no rate to compare")
    rate = math.log(data.errors.sum() / np.exp(data.offset).sum())
    start = np.linalg.lstsq(kinds, np.full(len(kinds), rate), rcond=None)[0]
    # trust-exact asks for value, gradient and Hessian of one point in turn.
    at: tuple[bytes, _Value] | None = None

    def value(parameters: np.ndarray) -> _Value:
        nonlocal at
        if at is None or at[0] != parameters.tobytes():
            at = parameters.tobytes(), _log_likelihood(data, parameters)
        return at[1]

    found = minimize(
        lambda p: -value(p).value,
        np.append(start, math.log(0.5)),
        jac=lambda p: -value(p).gradient,
        hess=lambda p: -value(p).hessian,
        method="trust-exact",
        options={"gtol": 1e-6 * max(1.0, data.errors.sum() ** 0.5), "maxiter": 200},
    )
    last = value(found.x)
    sigma = float(np.exp(found.x[-1]))
    information = -last.hessian
    if sigma < _NO_SPREAD:
        covariance = np.linalg.pinv(information[:-1, :-1])
    else:
        covariance = np.linalg.pinv(information)[:-1, :-1]
    return MixedPoisson(found.x[:-1], covariance, sigma, last.value, bool(found.success))


def likelihood_ratio_p(full: MixedPoisson, reduced: MixedPoisson) -> float:
    """p of the hypothesis that the columns which only `full` has do nothing, by chi-square."""
    from scipy.special import chdtrc

    freedom = len(full.coefficients) - len(reduced.coefficients)
    statistic = 2 * (full.log_likelihood - reduced.log_likelihood)
    return float(chdtrc(freedom, max(0.0, statistic)))


class Design(NamedTuple):
    """Columns of a regression on categories."""

    matrix: np.ndarray
    """[R, P]."""
    columns: list[tuple[str, str]]
    """(column, value) of each, the first being ('', '') for the ones."""


def treatment_design(columns: Sequence[tuple[str, Sequence[str], str]]) -> Design:
    """Ones, and a column for every value but the reference.

    Args:
      columns: (name, value of every row, reference).
    """
    rows = len(columns[0][1]) if columns else 0
    made, names = [np.ones(rows)], [("", "")]
    for name, values, reference in columns:
        at = np.asarray(values)
        for value in sorted(set(values) - {reference}):
            made.append((at == value).astype(np.float64))
            names.append((name, value))
    return Design(np.stack(made, axis=1), names)


class _Data(NamedTuple):
    errors: np.ndarray
    offset: np.ndarray
    speakers: np.ndarray
    design: np.ndarray


class _Value(NamedTuple):
    """Of (beta, log sigma) [P + 1]."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray


def _log_likelihood(data: _Data, parameters: np.ndarray) -> _Value:
    beta, sigma = parameters[:-1], math.exp(min(max(parameters[-1], -20.0), 5.0))
    linear = data.offset + data.design @ beta
    mean = np.exp(np.minimum(linear, 50.0))
    count = int(data.speakers.max()) + 1
    total = np.bincount(data.speakers, data.errors, minlength=count)
    expected = np.bincount(data.speakers, mean, minlength=count)
    integral = _integrate(total, expected, sigma)
    # Of the complete data: what depends on beta alone, and log Gamma(y + 1).
    fixed = float(data.errors @ linear) - _log_factorials(data.errors)
    value = fixed + float(integral.log_value.sum())
    # Per speaker [S, P]: sum of x mean. A speaker's score is sum x y - e^u sum x mean.
    weighted = np.zeros((count, data.design.shape[1]))
    np.add.at(weighted, data.speakers, data.design * mean[:, None])
    rate = integral.moment(1, 0)
    spread = integral.moment(0, 2) / sigma**2
    gradient = np.append(data.design.T @ data.errors - weighted.T @ rate, (spread - 1).sum())
    # Louis: minus the complete information, plus the covariance of the complete scores.
    row_rate = rate[data.speakers] * mean
    of_rate = integral.moment(2, 0) - rate**2
    across = -(integral.moment(1, 2) - rate * integral.moment(0, 2)) / sigma**2
    of_spread = (integral.moment(0, 4) - integral.moment(0, 2) ** 2) / sigma**4
    hessian = np.empty((len(parameters), len(parameters)))
    hessian[:-1, :-1] = weighted.T @ (weighted * of_rate[:, None])
    hessian[:-1, :-1] -= data.design.T @ (data.design * row_rate[:, None])
    hessian[:-1, -1] = hessian[-1, :-1] = weighted.T @ across
    hessian[-1, -1] = (of_spread - 2 * spread).sum()
    return _Value(value, gradient, hessian)


class _Integral(NamedTuple):
    """Posterior of every speaker's intercept on the nodes [S, K]."""

    log_value: np.ndarray
    """[S], log of the integral of exp(Y u - M e^u) against N(0, sigma^2)."""
    u: np.ndarray
    weights: np.ndarray
    """Adding up to 1 for each speaker."""

    def moment(self, exponentials: int, powers: int) -> np.ndarray:
        """E[e^(a u) u^b] of each speaker [S]."""
        return (self.weights * np.exp(exponentials * self.u) * self.u**powers).sum(axis=1)


def _integrate(total: np.ndarray, expected: np.ndarray, sigma: float) -> _Integral:
    """Adaptive Gauss-Hermite quadrature; `total` Y and `expected` M are [S]."""
    from scipy.special import logsumexp, wrightomega

    variance = sigma**2
    # The mode solves Y - M e^u - u / sigma^2 = 0.
    mode = variance * total - np.real(wrightomega(variance * total + np.log(variance * expected)))
    width = 1 / np.sqrt(expected * np.exp(mode) + 1 / variance)
    nodes, weights = np.polynomial.hermite.hermgauss(NODES)
    u = mode[:, None] + math.sqrt(2) * width[:, None] * nodes
    log_terms = total[:, None] * u - expected[:, None] * np.exp(u) - u**2 / (2 * variance)
    log_terms += np.log(weights) + nodes**2
    log_sum = np.asarray(logsumexp(log_terms, axis=1))
    log_value = log_sum + np.log(width) - 0.5 * math.log(math.pi) - math.log(sigma)
    return _Integral(log_value, u, np.exp(log_terms - log_sum[:, None]))


def _log_factorials(counts: np.ndarray) -> float:
    from scipy.special import gammaln

    return float(gammaln(counts + 1).sum())


def _exp(x: float) -> float:
    return math.exp(min(x, 700.0))
