"""Which cohorts are served worst, and how much of that is chance.

    splits = split_speakers(scores.speakers)
    cohorts = ...                                   # made of the speakers of the discovery split
    found = rank_cohorts(scores, cohorts, splits)
    found.gap.of_top, found.ranking

Cohorts are found on the discovery speakers, ordered on the ranking speakers and reported on the
report speakers, and no speaker is in two of these: of many cohorts, the one that is worst on the
speakers who chose it is not as bad as it looks. (Simulated: 126 regions of a country with two true
rates, 8.0 and 13.2 %: the worst has 21.5 % on the discovery speakers, and 14.4 % on others.)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from .cohorts import Cohorts, Ranking
from .gaps import BottomTop, Extremes, bottom_top, extremes, percent
from .permutation import PERMUTATIONS
from .resampling import Estimate, draw_rates, rate_estimates
from .scores import DISCOVERY, RANKING, REPORT, Scores
from .statistics import MIN_SPEAKERS, group_rates, ratio, shrunken_rates


@dataclass(frozen=True)
class Selection:
    """How cohorts are ordered, and which of them are bottom and top.

    Attributes:
      share: the bottom is the worst cohorts until they hold this share, the top the best ones.
      share_of: of what: speakers, or their words.
      top_k: so many cohorts instead of a share.
      rank_by: the shrunken rate; or the lower 95 % bound of the rate (lcb), which puts those first
        that are surely bad.
      min_speakers: cohorts of fewer ranking or report speakers are shown, and never ranked.
    """

    share: float = 0.1
    share_of: Literal["speakers", "words"] = "speakers"
    top_k: int | None = None
    rank_by: Literal["shrunken", "lcb"] = "shrunken"
    min_speakers: int = MIN_SPEAKERS


class Tally(NamedTuple):
    """What speakers have said, and the errors in it. Speakers without words are not counted."""

    speakers: int
    utterances: int
    words: int
    errors: int

    @property
    def wer(self) -> float:
        """nan without words."""
        return float(ratio(np.array(self.errors), np.array(self.words)))

    def as_dict(self) -> dict[str, Any]:
        """The rate in percent."""
        return {**self._asdict(), "wer": percent(self.wer)}


@dataclass(frozen=True)
class CohortResult:
    """One cohort, on the speakers of each split.

    Attributes:
      rank: 1 for the worst; None where it has too few speakers.
      group: bottom, middle or top; '' without a rank.
      shrunken: the ranking speakers' rate, drawn to the mean by as much as it is uncertain; nan
        without a rank.
      report_wer: on the report speakers, with its 95 % interval over them.
    """

    name: str
    rank: int | None
    group: str
    discovery: Tally
    ranking: Tally
    report: Tally
    shrunken: float
    report_wer: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Rates in percent."""
        return {
            "name": self.name,
            "rank": self.rank,
            "group": self.group or None,
            "shrunken": percent(self.shrunken),
            "discovery": self.discovery.as_dict(),
            "ranking": self.ranking.as_dict(),
            "report": {
                **self.report.as_dict(),
                "low": percent(self.report_wer.low),
                "high": percent(self.report_wer.high),
            },
        }


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Attributes:
      cohorts: in order: those ranked, worst first, then those of too few speakers.
      gap, extremes: on the report speakers; None where fewer than two cohorts are ranked.
      report: all report speakers, of any cohort or of none.
      bottom: those of them who are of the bottom.
      speakers: of all splits.
      without_cohort: speakers of none.
      without_speaker: utterances that name no speaker.
    """

    kind: str
    cohorts: tuple[CohortResult, ...]
    gap: BottomTop | None
    extremes: Extremes | None
    report: Tally
    bottom: Tally
    speakers: int
    without_cohort: int
    without_speaker: int
    selection: Selection

    @property
    def ranking(self) -> Ranking:
        """What is kept with the cohorts."""
        groups = {c.name: c.group for c in self.cohorts if c.rank is not None}
        return Ranking(tuple(c.name for c in self.cohorts), groups)

    @property
    def share(self) -> dict[str, float]:
        """The bottom's, of all report speakers, their utterances and words."""
        kinds = ("speakers", "utterances", "words")
        return {k: getattr(self.bottom, k) / max(1, getattr(self.report, k)) for k in kinds}

    def named(self, group: str) -> list[str]:
        """The cohorts that are bottom, middle or top, worst first."""
        return [c.name for c in self.cohorts if c.group == group]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; rates, gaps and shares in percent."""
        return {
            "kind": self.kind,
            "bottom": self.named("bottom"),
            "top": self.named("top"),
            "gap": self.gap and self.gap.as_dict(),
            "bottom_share": {k: percent(x) for k, x in self.share.items()},
            "extremes": self.extremes and self.extremes.as_dict(),
            "report": self.report.as_dict(),
            "speakers": self.speakers,
            "without_cohort": self.without_cohort,
            "without_speaker": self.without_speaker,
            "selection": asdict(self.selection),
            "cohorts": [c.as_dict() for c in self.cohorts],
        }


class _Matrix(NamedTuple):
    """Speakers of one split by cohort [S, G]."""

    errors: np.ndarray
    words: np.ndarray

    def columns(self, *groups: Sequence[int]) -> "_Matrix":
        """Groups of cohorts added up, without the speakers of no such cohort."""
        errors, words = (np.stack([x[:, g].sum(axis=1) for g in groups], axis=1) for x in self)
        spoken = words.any(axis=1)
        return _Matrix(errors[spoken], words[spoken])


def rank_cohorts(
    scores: Scores,
    cohorts: Cohorts,
    splits: np.ndarray,
    *,
    selection: Selection = Selection(),
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Discovery:
    """Orders cohorts on the ranking speakers and reports them on the report speakers.

    Args:
      splits: [S], of `split_speakers`.
      seed: of resampling and permutations.
    """
    index = cohorts.assign(scores.population)
    count = len(cohorts.names)
    parts = [np.where(splits == s, index, -1) for s in (DISCOVERY, RANKING, REPORT)]
    tallies = [_tallies(scores, part, count) for part in parts]
    least = max(1, selection.min_speakers)
    able = [k for k in range(count) if min(t[k].speakers for t in tallies[1:]) >= least]
    on_ranking, on_report = (_matrix(scores, part, count) for part in parts[1:])
    ranked, shrunken = _ordered(on_ranking, able, selection, seed)
    groups = dict(zip(ranked, _groups([tallies[1][k] for k in ranked], selection), strict=True))
    intervals = rate_estimates(*on_report, draw_rates(*on_report, seed=seed))
    rest = sorted(set(range(count)) - set(ranked), key=lambda k: (-tallies[1][k].words, k))
    results = tuple(
        CohortResult(
            name=cohorts.names[k],
            rank=place if k in groups else None,
            group=groups.get(k, ""),
            discovery=tallies[0][k],
            ranking=tallies[1][k],
            report=tallies[2][k],
            shrunken=shrunken.get(k, np.nan),
            report_wer=intervals[k],
        )
        for place, k in enumerate([*ranked, *rest], 1)
    )
    gap = far = None
    if len(ranked) > 1:
        three = [[k for k in ranked if groups[k] == g] for g in ("bottom", "top", "middle")]
        gap = bottom_top(*on_report.columns(*three), permutations=permutations, seed=seed)
        each = on_report.columns(*([k] for k in ranked))
        far = extremes(*each, permutations=permutations, seed=seed)
    bottom = [k for k in ranked if groups[k] == "bottom"]
    return Discovery(
        kind=cohorts.kind,
        cohorts=results,
        gap=gap,
        extremes=far,
        report=_tallies(scores, np.where(splits == REPORT, 0, -1), 1)[0],
        bottom=_tallies(scores, np.where(np.isin(parts[2], bottom), 0, -1), 1)[0],
        speakers=len(scores.speakers),
        without_cohort=int((index < 0).sum()),
        without_speaker=scores.population.without_speaker,
        selection=selection,
    )


def _tallies(scores: Scores, index: np.ndarray, count: int) -> list[Tally]:
    """Of each cohort; a speaker of -1 is left out."""
    own = index >= 0
    columns = (scores.words > 0, scores.utterances, scores.words, scores.errors)
    sums = [np.bincount(index[own], c[own], minlength=count).astype(np.int64) for c in columns]
    return [Tally(*row) for row in np.stack(sums, axis=1).tolist()]


def _matrix(scores: Scores, index: np.ndarray, count: int) -> _Matrix:
    """Of the speakers with words; one of -1 is left out."""
    rows = np.flatnonzero((index >= 0) & (scores.words > 0))
    matrices = np.zeros((2, len(rows), count))
    at = np.arange(len(rows)), index[rows]
    matrices[0][at], matrices[1][at] = scores.errors[rows], scores.words[rows]
    return _Matrix(matrices[0], matrices[1])


def _ordered(
    speakers: _Matrix, able: Sequence[int], selection: Selection, seed: int
) -> tuple[list[int], dict[int, float]]:
    """The cohorts that can be ranked, worst first, and their shrunken rates."""
    if not able:
        return [], {}
    matrix = speakers.columns(*([k] for k in able))
    shrunken = shrunken_rates(*matrix).rates
    worth = shrunken
    if selection.rank_by == "lcb":
        estimates = rate_estimates(*matrix, draw_rates(*matrix, seed=seed))
        worth = np.array([e.low for e in estimates])
    # Where the cohorts do not differ beyond chance, all shrunken rates are the mean.
    order = [able[i] for i in np.lexsort((-group_rates(*matrix), -worth))]
    return order, dict(zip(able, shrunken.tolist(), strict=True))


def _groups(ranked: Sequence[Tally], selection: Selection) -> list[str]:
    """Of cohorts in their order: the first are bottom and the last top, at least one of each."""
    if len(ranked) < 2:
        return ["middle"] * len(ranked)
    sizes = np.array([getattr(tally, selection.share_of) for tally in ranked], np.float64)

    def needed(sizes: np.ndarray) -> int:
        if selection.top_k is not None:
            return selection.top_k
        # Rounding must not ask for one cohort more than hold the share exactly.
        return int(np.argmax(np.cumsum(sizes) >= selection.share * sizes.sum() * (1 - 1e-9))) + 1

    bottom = min(needed(sizes), len(ranked) - 1)
    top = min(needed(sizes[::-1]), len(ranked) - bottom)
    return ["bottom"] * bottom + ["middle"] * (len(ranked) - bottom - top) + ["top"] * top
