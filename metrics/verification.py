"""How well scores tell same speaker from different speakers.

A trial is a pair of recordings with a score; it is accepted where the score is at least the
threshold. A target trial is one of the same speaker.

    FNMR(t): share of target trials below t          (false non-matches, misses)
    FMR(t):  share of non-target trials at or above t   (false matches, false alarms)

The equal error rate (EER) is where both are equal. They are step functions, so between the two
neighbouring thresholds where their order changes both are taken for straight lines, which is where
the diagonal cuts the ROC of scikit-learn's points.

Trials may have weights: a resampled set of speakers is one (`metrics.verification_bootstrap`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """Error rates at every threshold that changes anything, ascending; each [K + 1].

    At `thresholds[0]`, the lowest score, all is accepted; the last is +inf, where nothing is.
    """

    thresholds: np.ndarray
    fmr: np.ndarray
    fnmr: np.ndarray


class EqualError(NamedTuple):
    rate: float
    """A fraction."""
    threshold: float


def error_curve(
    scores: Sequence[float] | np.ndarray,
    targets: Sequence[bool] | np.ndarray,
    weights: Sequence[float] | np.ndarray | None = None,
) -> Curve:
    """FMR and FNMR at every threshold. Scores that are equal change sides together.

    Raises:
      ValueError: the lengths differ, a score is not finite, or one kind of trial has no weight.
    """
    score, target = np.asarray(scores, np.float64), np.asarray(targets, bool)
    weight = np.ones(len(score)) if weights is None else np.asarray(weights, np.float64)
    if not len(score) == len(target) == len(weight):
        raise ValueError(f"{len(score)} scores, {len(target)} targets, {len(weight)} weights")
    if not np.isfinite(score).all():
        raise ValueError("a score is not finite")
    order = np.argsort(score, kind="stable")
    score = score[order]
    on, off = weight[order] * target[order], weight[order] * ~target[order]
    if not on.sum() > 0 or not off.sum() > 0:
        raise ValueError("an error rate needs target and non-target trials")
    last = np.append(np.flatnonzero(np.diff(score) > 0), len(score) - 1)
    missed = np.concatenate([[0.0], np.cumsum(on)[last]])
    refused = np.concatenate([[0.0], np.cumsum(off)[last]])
    # Between two scores any threshold does the same; the upper one stands for all.
    thresholds = np.concatenate([score[:1], score[last[:-1] + 1], [np.inf]])
    return Curve(thresholds, 1.0 - refused / refused[-1], missed / missed[-1])


def equal_error(curve: Curve) -> EqualError:
    """Where FMR and FNMR are equal."""
    gap = curve.fnmr - curve.fmr  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    rate = curve.fmr[before] + share * (curve.fmr[after] - curve.fmr[before])
    low, high = curve.thresholds[[before, after]]
    threshold = low if np.isinf(high) else (1 - share) * low + share * high
    return EqualError(float(rate), float(threshold))


def eer(
    scores: Sequence[float] | np.ndarray,
    targets: Sequence[bool] | np.ndarray,
    weights: Sequence[float] | np.ndarray | None = None,
) -> float:
    """The equal error rate, a fraction. Raises ValueError as `error_curve`."""
    return equal_error(error_curve(scores, targets, weights)).rate


def min_dcf(
    curve: Curve, *, p_target: float = 0.01, cost_miss: float = 1.0, cost_false: float = 1.0
) -> float:
    """Least detection cost over all thresholds, as a share of the better blind decision's cost.

    Source: NIST 2016 speaker recognition evaluation plan, section 3.
    """
    cost = cost_miss * p_target * curve.fnmr + cost_false * (1.0 - p_target) * curve.fmr
    return float(cost.min() / min(cost_miss * p_target, cost_false * (1.0 - p_target)))


def rates_at(curve: Curve, threshold: float) -> tuple[float, float]:
    """(FMR, FNMR) where scores from `threshold` on are accepted."""
    i = int(np.searchsorted(curve.thresholds, threshold, side="left"))
    return float(curve.fmr[i]), float(curve.fnmr[i])


def det_points(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """FMR and FNMR as normal deviates, the axes of a DET plot; points at 0 or 1 are left out.

    Source: Martin et al. 1997, "The DET curve in assessment of detection task performance".
    """
    from scipy.special import ndtri

    inside = (curve.fmr > 0) & (curve.fmr < 1) & (curve.fnmr > 0) & (curve.fnmr < 1)
    return ndtri(curve.fmr[inside]), ndtri(curve.fnmr[inside])


def as_norm(
    scores: np.ndarray,
    enrol_cohort: np.ndarray,
    test_cohort: np.ndarray,
    *,
    top: int = 200,
) -> np.ndarray:
    """Adaptive symmetric score normalisation: how a score stands out among those with strangers.

        s' = ((s - mean_e) / std_e + (s - mean_t) / std_t) / 2

    over the `top` highest scores of either side with a cohort. Source: Matejka et al. 2017,
    "Analysis of score normalization in multilingual speaker recognition", section 2 (AS-norm1).

    Args:
      scores: [K].
      enrol_cohort, test_cohort: [K, C], scores of each trial's two sides with a cohort's speakers.

    Raises:
      ValueError: a cohort of fewer than two speakers.
    """

    def standing(cohort: np.ndarray) -> np.ndarray:
        count = min(top, cohort.shape[1])
        if count < 2:
            raise ValueError(f"a cohort of {cohort.shape[1]} says nothing of the spread")
        best = np.partition(cohort, -count, axis=1)[:, -count:]
        return (scores - best.mean(axis=1)) / np.maximum(best.std(axis=1), 1e-9)

    return (standing(enrol_cohort) + standing(test_cohort)) / 2


def disparity(rates: Mapping[str, float]) -> dict[str, float]:
    """Of the groups' error rates: worst, best, their gap, and the population standard deviation.

    A gap is in the rates' own unit; `relative` is the gap as a share of the best rate.
    """
    values = np.asarray(list(rates.values()), np.float64)
    if not len(values):
        raise ValueError("a disparity is one between groups")
    gap = float(values.max() - values.min())
    best = float(values.min())
    return {
        "worst": float(values.max()),
        "best": best,
        "gap": gap,
        "relative": gap / best if best > 0 else (math.inf if gap else 0.0),
        "std": float(values.std()),
    }
