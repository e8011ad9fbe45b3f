"""Intervals by resampling speakers: of every group, gap and difference between systems at once.

A draw is a count for every speaker, C ~ multinomial; the rates of all groups under it are
(C errors) / (C words), for every system from the same draws, so that differences between groups
and between systems are paired (the block bootstrap of Liu and Peng, arXiv 1912.09508).

Speakers are drawn from all of them, not within each group. Then a group's share of the speakers is
as random as it was when they were recorded, a speaker who is in several groups takes all of them
with him, and the overall rate has its interval from the same draws. Where each speaker is in one
group, drawing within the groups would give a group's rate and the gap of two the same standard
errors to first order (a ratio's residuals add up to zero, so a group's varying size does not
count); it would only leave out that the groups' shares vary.

The maximum over many groups has no such interval: resampling makes the largest larger still, so
percentiles lie above the truth. Bottom and top are named beforehand, on other speakers; what gap
chance alone would show is `permutation`'s.
"""

from typing import NamedTuple

import numpy as np

from ..metrics.bootstrap import Interval, draw_speakers, interval_of
from .statistics import gap, group_rates, group_speakers, ratio

DRAWS = 2000


class Estimate(NamedTuple):
    """A number with its 95 % interval over speakers; nan where there are too few for one."""

    value: float
    low: float
    high: float


class GapEstimate(NamedTuple):
    points: Estimate
    of_top: Estimate
    of_bottom: Estimate


class Change(NamedTuple):
    """A group's rate under one system against another's, on the same speech."""

    points: Estimate
    """after - before, a fraction; below zero where it is better."""
    relative: Estimate
    """after / before - 1."""
    upper_points: float
    """The one-sided 95 % bound: it is not worse by more than that."""
    upper_relative: float


class NonInferiority(NamedTuple):
    relative: float
    upper: float
    """One-sided bound of the relative change."""
    margin: float
    holds: bool
    """Whether the bound is below the margin; False where there is no bound."""


def draw_rates(
    errors: np.ndarray, words: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Rates of all groups under resampled speakers.

    Args:
      errors: [S, G], or [K, S, G] of K systems that heard the same speech.
      words: [S, G].

    Returns:
      [D, G] or [D, K, G]; nan where a draw has no words of a group.
    """
    pieces = []
    for counts in draw_speakers(len(words), draws, seed) if len(words) else ():
        counts = counts.astype(np.float64)
        # A system's axis in front of the draws' for the product, behind them in the result.
        pieces.append(np.moveaxis(ratio(counts @ errors, counts @ words), -2, 0))
    shape = (0, *errors.shape[:-2], errors.shape[-1])
    return np.concatenate([np.zeros(shape), *pieces])


def estimate(
    value: float, draws: np.ndarray, speakers: int, *, confidence: float = 0.95
) -> Estimate:
    """`value` with the interval of its draws [D]."""
    return Estimate(float(value), *interval_of(draws, int(speakers), confidence=confidence))


def one_sided(draws: np.ndarray, speakers: int, *, confidence: float = 0.95) -> Interval:
    """Lower and upper bound, each of which holds by itself with `confidence`."""
    return interval_of(draws, int(speakers), confidence=2 * confidence - 1)


def rate_estimates(errors: np.ndarray, words: np.ndarray, drawn: np.ndarray) -> list[Estimate]:
    """Of every group, from its draws [D, G]."""
    rates, counts = group_rates(errors, words), group_speakers(words)
    return [estimate(r, drawn[:, g], counts[g]) for g, r in enumerate(rates)]


def gap_estimate(
    errors: np.ndarray, words: np.ndarray, drawn: np.ndarray, *, bottom: int, top: int
) -> GapEstimate:
    """Of two groups that were named beforehand (see the module), from draws [D, G].

    The interval is widened for the smaller group's number of speakers.
    """
    rates, counts = group_rates(errors, words), group_speakers(words)
    found = gap(float(rates[bottom]), float(rates[top]))
    few = int(min(counts[bottom], counts[top]))
    low, high = drawn[:, top], drawn[:, bottom]
    points = high - low
    return GapEstimate(
        estimate(found.points, points, few),
        estimate(found.of_top, ratio(points, low), few),
        estimate(found.of_bottom, ratio(points, high), few),
    )


def gap_change(
    errors: np.ndarray, words: np.ndarray, drawn: np.ndarray, *, bottom: int, top: int
) -> tuple[Estimate, float]:
    """Of the gap (relative to the top's rate) from the first system to the second, in proportion to
    the first's; and its one-sided 95 % upper bound. Arguments as of `changes` and `gap_estimate`.
    """
    rates, counts = group_rates(errors, words[None]), group_speakers(words)
    few = int(min(counts[bottom], counts[top]))

    def relative(of: np.ndarray) -> np.ndarray:
        """Of rates [..., 2, G]."""
        gaps = ratio(of[..., bottom] - of[..., top], of[..., top])
        return ratio(gaps[..., 1] - gaps[..., 0], gaps[..., 0])

    found = relative(drawn)
    return estimate(float(relative(rates)), found, few), one_sided(found, few).high


def changes(errors: np.ndarray, words: np.ndarray, drawn: np.ndarray) -> list[Change]:
    """Of every group from the first system to the second.

    Args:
      errors: [2, S, G].
      words: [S, G].
      drawn: [D, 2, G], of `draw_rates`.
    """
    rates, counts = group_rates(errors, words[None]), group_speakers(words)
    found = []
    for g, n in enumerate(counts):
        before, after = drawn[:, 0, g], drawn[:, 1, g]
        points, relative = after - before, ratio(after - before, before)
        value = rates[1, g] - rates[0, g]
        found.append(
            Change(
                estimate(value, points, n),
                estimate(float(ratio(value, rates[0, g])), relative, n),
                one_sided(points, n).high,
                one_sided(relative, n).high,
            )
        )
    return found


def non_inferiority(
    errors: np.ndarray, words: np.ndarray, *, margin: float, draws: int = DRAWS, seed: int = 0
) -> NonInferiority:
    """Whether the second system is overall not worse than the first by `margin` (0.01: 1 % of its
    rate) or more, at one-sided 95 % over speakers.

    Args:
      errors: [2, S, G] or [2, S], of which the groups are added up.
      words: [S, G] or [S].
    """
    errors, words = errors.reshape(*errors.shape[:2], -1), words.reshape(len(words), -1)
    whole = errors.sum(axis=2, keepdims=True), words.sum(axis=1, keepdims=True)
    (change,) = changes(*whole, draw_rates(*whole, draws=draws, seed=seed))
    upper = change.upper_relative
    return NonInferiority(change.relative.value, upper, margin, bool(upper < margin))
