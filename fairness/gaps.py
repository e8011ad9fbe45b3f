"""How far apart cohorts are on the report speakers, and how far chance alone would put them.

Arrays are `errors` and `words` [S, G]; here each speaker is in one cohort.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .permutation import PERMUTATIONS, arrangements, p_by_chance, permutation_test
from .resampling import Estimate, draw_rates, gap_estimate, rate_estimates
from .statistics import ratio


@dataclass(frozen=True)
class BottomTop:
    """Between the bottom and the top, which other speakers have named.

    Attributes:
      bottom, top: pooled rates.
      points: bottom - top.
      of_top, of_bottom: the same, relative to the top's rate (the field's gap) and to the bottom's.
      chance: 95 % of the gaps `of_top` when speakers are dealt anew to the cohorts.
      p: how often chance gives as large a gap as was found.
    """

    bottom: Estimate
    top: Estimate
    points: Estimate
    of_top: Estimate
    of_bottom: Estimate
    chance: tuple[float, float]
    p: float

    def as_dict(self) -> dict[str, Any]:
        """In percent."""
        estimates = {
            k: getattr(self, k) for k in ("bottom", "top", "points", "of_top", "of_bottom")
        }
        rounded = {k: {n: percent(x) for n, x in e._asdict().items()} for k, e in estimates.items()}
        return {**rounded, "chance": [percent(x) for x in self.chance], "p": round(self.p, 5)}


@dataclass(frozen=True)
class Extremes:
    """Between the worst and the best of many cohorts, whichever these are.

    Attributes:
      relative: (worst - best) / best.
      chance: its median and 95th percentile where nobody differs: never near zero.
      p: how often chance gives as much.
      omnibus_p: of the hypothesis that no cohort differs.
    """

    relative: float
    chance: tuple[float, float]
    p: float
    omnibus_p: float

    def as_dict(self) -> dict[str, Any]:
        """Gaps in percent."""
        return {
            "relative": percent(self.relative),
            "chance": [percent(x) for x in self.chance],
            "p": round(self.p, 5),
            "omnibus_p": round(self.omnibus_p, 5),
        }


def bottom_top(
    errors: np.ndarray, words: np.ndarray, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> BottomTop:
    """Of [S, 3]: the bottom, the top, and the others who are dealt among them."""
    drawn = draw_rates(errors, words, seed=seed)
    bottom, top, _ = rate_estimates(errors, words, drawn)
    found = gap_estimate(errors, words, drawn, bottom=0, top=1)
    null = _dealt_anew(errors, words, permutations, seed)
    p = p_by_chance(found.of_top.value, null)
    return BottomTop(bottom, top, *found, chance=_quantiles(null, 0.025, 0.975), p=p)


def extremes(
    errors: np.ndarray, words: np.ndarray, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Extremes:
    """Of [S, G], two cohorts or more."""
    cohort = np.where((words > 0).any(axis=1), words.argmax(axis=1), -1)
    each = errors.sum(axis=1), words.sum(axis=1)
    found = permutation_test(*each, cohort, permutations=permutations, seed=seed)
    return Extremes(
        found.relative, _quantiles(found.relative_null, 0.5, 0.95), found.relative_p, found.p
    )


def percent(fraction: float) -> float | None:
    """Rounded to a hundredth; None for what is no number."""
    return round(100 * float(fraction), 2) if np.isfinite(fraction) else None


def rounded(value: float) -> float | None:
    """To a thousandth; None for what is no number."""
    return round(float(value), 3) if np.isfinite(value) else None


def _dealt_anew(errors: np.ndarray, words: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """(bottom - top) / top [P] of speakers dealt anew, so that bottom and top keep their numbers of
    them. Who is bottom was said by other speakers: on these, if nobody differs, the gap is as
    often below zero as above."""
    low, high = (words[:, :2] > 0).sum(axis=0)
    each = np.stack([errors.sum(axis=1), words.sum(axis=1)])
    gaps = []
    for order in arrangements(len(errors), permutations, seed):
        dealt = each[:, order[:, : low + high]]
        bottom, top = (ratio(*part.sum(axis=2)) for part in np.split(dealt, [low], axis=2))
        infinite = np.where(bottom > 0, np.inf, 0.0)
        gaps.append(np.where(top > 0, ratio(bottom - top, top), infinite))
    return np.concatenate(gaps)


def _quantiles(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    # A value of those that there are: between two infinite ones nothing can be computed.
    found = np.quantile(values, [low, high], method="closest_observation")
    return float(found[0]), float(found[1])
