"""Verification on a corpus: error rates overall and of groups of speakers, with intervals.

    evaluation = verify_corpus(zoo.load("speaker-tiny"), open_corpus("assistant", "test"))
    print(evaluation.overall, evaluation.by("gender"))

A group's trials are those whose enrolled speaker belongs to it; of `SAME_GROUP` columns (gender)
only those in which both speakers do, for two genders are easily told apart. A service has one
threshold for everybody: where it lies at the equal error rate of all, each group's two error rates
are given.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from ..data.corpus import Corpus, Utterance
from ..data.errors import InputError, Rejected
from ..data.trials import PairedTrials, group_of, make_trials
from ..metrics.bootstrap import Interval, interval_of
from ..metrics.verification import (
    Curve,
    as_norm,
    disparity,
    eer,
    equal_error,
    error_curve,
    min_dcf,
    rates_at,
)
from ..metrics.verification_bootstrap import (
    Resampled,
    WeightedCurve,
    draw_all,
    resample_speakers,
)
from ..train.speakers.regions import speaker_means
from .speakers import SpeakerModel

MIN_SPEAKERS = 20
"""Groups of fewer are shown and marked, and enter no gap: of five speakers an equal error rate is
known to about 63 % of itself."""
SAME_GROUP = ("gender",)
DRAWS = 400
P_TARGETS = (0.01, 0.05)


@dataclass(frozen=True)
class GroupRates:
    """Error rates of some trials, fractions."""

    eer: float
    interval: Interval
    fmr: float
    """At the threshold that is common to all groups."""
    fnmr: float
    speakers: int
    targets: int
    others: int

    @property
    def few(self) -> bool:
        """Whether its speakers are too few to be ranked by."""
        return self.speakers < MIN_SPEAKERS

    def as_dict(self) -> dict[str, Any]:
        """Percents, rounded to what can be meant; no interval as None."""
        low, high = ((None if math.isnan(x) else _percent(x)) for x in self.interval)
        return {
            "eer": _percent(self.eer),
            "low": low,
            "high": high,
            "fmr": _percent(self.fmr),
            "fnmr": _percent(self.fnmr),
            "speakers": self.speakers,
            "targets": self.targets,
            "others": self.others,
        }


@dataclass(frozen=True)
class Disparity:
    """Between the groups that are large enough; fractions, with intervals over speakers."""

    gap: float
    gap_interval: Interval
    std: float
    std_interval: Interval
    worst: str
    best: str

    def as_dict(self) -> dict[str, Any]:
        ends = [*self.gap_interval, *self.std_interval]
        shown = [None if math.isnan(x) else _percent(x) for x in ends]
        return {
            "gap": _percent(self.gap),
            "gap_low": shown[0],
            "gap_high": shown[1],
            "std": _percent(self.std),
            "std_low": shown[2],
            "std_high": shown[3],
            "worst": self.worst,
            "best": self.best,
        }


@dataclass(frozen=True)
class Verification:
    """What a model made of the trials of a corpus."""

    scores: np.ndarray
    """[K] cosines."""
    trials: PairedTrials
    utterances: Sequence[Utterance]
    curve: Curve
    threshold: float
    """At the equal error rate of all trials."""
    floor: float
    """EER of the cosines of mean log-mels."""
    normalised: float | None
    """EER after AS-norm; None without a cohort."""
    audio_seconds: float
    seconds: float
    quarantine: list[Rejected] = field(default_factory=list)
    resampled: Resampled | None = None

    def min_dcf(self, p_target: float) -> float:
        return min_dcf(self.curve, p_target=p_target)

    @cached_property
    def overall(self) -> GroupRates:
        """Of all trials."""
        everything = np.ones(len(self.scores), bool)
        return _rates(self, everything, self._interval_of(everything))

    def by(self, column: str, *, intervals: bool = True) -> dict[str, GroupRates]:
        """Groups by a column of the metadata, or speaker; those without trials of both kinds are
        left out.

        Raises:
          InputError: no utterance has the column.
        """
        none = Interval(math.nan, math.nan)
        return {
            value: _rates(self, chosen, self._interval_of(chosen) if intervals else none)
            for value, chosen in self.members(column).items()
        }

    def members(self, column: str) -> dict[str, np.ndarray]:
        """Which trials are each group's: value -> [K] bool."""
        values = np.array([group_of(u, column) for u in self.utterances])
        if not values[values != ""].size:
            known = sorted({key for u in self.utterances for key in u.metadata})
            raise InputError(
                f"no recording has a field {column!r}; there are {', '.join(['speaker', *known])}."
            )
        enrol, test = values[self.trials.enrol], values[self.trials.test]
        groups = {}
        for value in sorted(set(values[values != ""].tolist())):
            chosen = enrol == value
            if column in SAME_GROUP:
                chosen &= test == value
            if len(set(self.trials.same[chosen].tolist())) == 2:
                groups[value] = chosen
        return groups

    def disparity(self, column: str) -> Disparity | None:
        """Gap and deviation of the groups of at least `MIN_SPEAKERS`; None of fewer than two."""
        groups = {v: c for v, c in self.members(column).items() if not self._few(c)}
        if len(groups) < 2:
            return None
        rates = {v: eer(self.scores[c], self.trials.same[c]) for v, c in groups.items()}
        found = disparity(rates)
        gaps, deviations = self._drawn_disparity(groups)
        count = self.resampled.speakers if self.resampled else 0
        return Disparity(
            gap=found["gap"],
            gap_interval=interval_of(gaps, count),
            std=found["std"],
            std_interval=interval_of(deviations, count),
            worst=max(rates, key=lambda v: rates[v]),
            best=min(rates, key=lambda v: rates[v]),
        )

    def group_draws(self, groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """EER of each group in every draw of speakers [draws]; the draws are common to all."""
        if self.resampled is None:
            return {value: np.full(1, math.nan) for value in groups}
        return {
            value: draw_all(_rate_under(self, chosen), self.resampled)
            for value, chosen in groups.items()
        }

    def _drawn_disparity(self, groups: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        draws = np.array(list(self.group_draws(groups).values()))
        return draws.max(axis=0) - draws.min(axis=0), draws.std(axis=0)

    def _interval_of(self, chosen: np.ndarray) -> Interval:
        if self.resampled is None:
            return Interval(math.nan, math.nan)
        return interval_of(draw_all(_rate_under(self, chosen), self.resampled), self._count(chosen))

    def _few(self, chosen: np.ndarray) -> bool:
        return self._count(chosen) < MIN_SPEAKERS

    def _count(self, chosen: np.ndarray) -> int:
        """Enrolled speakers of the trials."""
        indices = set(self.trials.enrol[chosen].tolist())
        return len({self.utterances[i].speaker for i in indices})


def verify_corpus(
    model: SpeakerModel,
    corpus: Corpus,
    *,
    trials: PairedTrials | None = None,
    cohort: Corpus | None = None,
    draws: int = DRAWS,
    on_audio: Callable[[float], None] | None = None,
) -> Verification:
    """Scores the trials of a corpus.

    Args:
      trials: None makes them (`data.trials.make_trials`).
      cohort: recordings of strangers for AS-norm; its speakers' means are the cohort.
      draws: resampled sets of speakers for the intervals; 0 for none.

    Raises:
      InputError: no trials can be made, or too few recordings can be read.
    """
    began = perf_counter()
    trials = make_trials(corpus) if trials is None else trials
    utterances = [corpus.utterance(i) for i in range(len(corpus))]
    embedded = model.embed_corpus(corpus, on_audio=on_audio)
    trials = _readable(trials, embedded.embeddings, corpus.name)
    scores = _cosines(embedded.embeddings, trials)
    curve = error_curve(scores, trials.same)
    found = equal_error(curve)
    normalised = None
    if cohort is not None:
        strangers = _cohort(model, cohort)
        sides = (embedded.embeddings[i] @ strangers.T for i in (trials.enrol, trials.test))
        normalised = eer(as_norm(scores, *sides), trials.same)
    enrol, test = (
        [utterances[i].speaker for i in side.tolist()] for side in (trials.enrol, trials.test)
    )
    known = all(enrol) and all(test)
    return Verification(
        scores=scores,
        trials=trials,
        utterances=utterances,
        curve=curve,
        threshold=found.threshold,
        floor=eer(_cosines(embedded.floor, trials), trials.same),
        normalised=normalised,
        audio_seconds=sum(u.duration for u in utterances),
        seconds=perf_counter() - began,
        quarantine=embedded.quarantine,
        resampled=resample_speakers(enrol, test, draws=draws) if draws and known else None,
    )


def _rates(evaluation: Verification, chosen: np.ndarray, interval: Interval) -> GroupRates:
    same = evaluation.trials.same[chosen]
    curve = error_curve(evaluation.scores[chosen], same)
    fmr, fnmr = rates_at(curve, evaluation.threshold)
    return GroupRates(
        eer=equal_error(curve).rate,
        interval=interval,
        fmr=fmr,
        fnmr=fnmr,
        speakers=evaluation._count(chosen),
        targets=int(same.sum()),
        others=int((~same).sum()),
    )


def _rate_under(evaluation: Verification, chosen: np.ndarray) -> Callable[[np.ndarray], float]:
    """EER of some trials as a function of all trials' weights."""
    curve = WeightedCurve(evaluation.scores[chosen], evaluation.trials.same[chosen])
    return lambda weights: equal_error(curve(weights[chosen])).rate


def _readable(trials: PairedTrials, embeddings: np.ndarray, name: str) -> PairedTrials:
    """The trials both of whose recordings could be read."""
    fine = np.isfinite(embeddings[:, 0])
    kept = fine[trials.enrol] & fine[trials.test]
    left = PairedTrials(*(side[kept] for side in trials))
    if len(set(left.same.tolist())) < 2:
        raise InputError(f"{name}: too few recordings can be read for its trials.")
    return left


def _cosines(rows: np.ndarray, trials: PairedTrials) -> np.ndarray:
    first, second = (rows[side].astype(np.float64) for side in (trials.enrol, trials.test))
    return np.einsum("kd,kd->k", first, second)


def _cohort(model: SpeakerModel, corpus: Corpus) -> np.ndarray:
    """Speakers' mean embeddings [S, D], unit length."""
    embeddings = model.embed_corpus(corpus).embeddings
    names = [corpus.utterance(i).speaker or corpus.utterance(i).id for i in range(len(corpus))]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return speaker_means(embeddings, np.array([numbers[name] for name in names]))


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)
