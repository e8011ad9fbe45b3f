"""Is a word's confidence the chance that it is right? Measures, and a repair of two numbers.

A word that was heard is right or wrong; a word that was missed has no confidence and does not
appear here. All functions take one entry a word: `confidences` in [0, 1], `right` as booleans.
Words of equal confidence are alike, so the order in which they come changes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from rapidfuzz.distance import Levenshtein

from .bootstrap import speaker_bootstrap

Numbers: TypeAlias = Sequence[float] | np.ndarray
Booleans: TypeAlias = Sequence[bool] | np.ndarray

BINS = 10
"""Of equal mass: the tenth of the words that the model is least sure of, and so on."""
_EDGE = 1e-6
"""Confidences are kept so far from 0 and 1 where a logarithm is taken."""


def right_words(reference: str, hypothesis: str) -> list[bool]:
    """Whether each word of the hypothesis is right, by the alignment of `word_errors`."""
    expected, heard = reference.split(), hypothesis.split()
    right = [True] * len(heard)
    for edit in Levenshtein.editops(expected, heard):
        if edit.tag != "delete":
            right[edit.dest_pos] = False
    return right


class Bin(NamedTuple):
    """Words of similar confidence: what they promise, and what they keep."""

    words: int
    confidence: float
    """Mean of its words."""
    right: float
    """Share of its words."""
    low: float
    high: float
    """95 % interval of `right` over speakers; nan for fewer than two."""


def reliability(
    confidences: Numbers, right: Booleans, speakers: Sequence[str], *, bins: int = BINS
) -> list[Bin]:
    """The points of a reliability diagram, from the least sure to the surest.

    `speakers` as for `speaker_bootstrap`. Bins differ by one word at most; fewer words than bins
    give a bin each, none gives none.

    Raises:
      ValueError: lengths differ, or a confidence is not in [0, 1].
    """
    if len(speakers) != len(confidences):
        raise ValueError(f"{len(confidences)} confidences, {len(speakers)} speakers")
    sure, share = _shared(confidences, right)
    found = []
    for part in _equal_mass(sure, bins):
        names = [speakers[int(i)] for i in part]
        low, high = speaker_bootstrap(share[part].tolist(), [1] * len(part), names)
        found.append(Bin(len(part), float(sure[part].mean()), float(share[part].mean()), low, high))
    return found


def calibration_error(confidences: Numbers, right: Booleans, *, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and share of right words over bins.

    Bins are of equal mass, for confidences crowd near 1 and bins of equal width would leave most
    of them to one. nan without words; ValueError as for `reliability`. Even confidences that are
    true probabilities do not reach 0: see `calibration_error_by_chance`.
    """
    sure, share = _shared(confidences, right)
    if not len(sure):
        return math.nan
    parts = _equal_mass(sure, bins)
    return float(sum(abs((sure[p] - share[p]).sum()) for p in parts) / len(sure))


def calibration_error_by_chance(confidences: Numbers, *, bins: int = BINS) -> float:
    """The calibration error to expect if the confidences were true probabilities.

    What a finite number of words leaves to chance, by a normal approximation, for words that are
    right or wrong independently of each other. nan without words.
    """
    sure, _ = _shared(confidences, np.zeros(len(confidences), bool))
    if not len(sure):
        return math.nan
    variances = [(sure[p] * (1 - sure[p])).sum() for p in _equal_mass(sure, bins)]
    return float(np.sqrt(2 / math.pi * np.array(variances)).sum() / len(sure))


def brier_score(confidences: Numbers, right: Booleans) -> float:
    """Mean squared distance of confidence and truth (0 or 1); 0 is perfect. nan without words."""
    sure, truth = _pair(confidences, right)
    return float(np.mean((sure - truth) ** 2)) if len(sure) else math.nan


def normalized_cross_entropy(confidences: Numbers, right: Booleans) -> float:
    """What confidences tell of right and wrong, as a share of all there is to tell; NIST's NCE.

    1 is perfect, 0 tells no more than the share of right words does, below 0 misleads: one wrong
    word at a confidence near 1 costs much. nan where all words are right, or all wrong: then
    there is nothing to tell. Confidences of 0 and 1 count as 1e-6 from there.

    Source: Siu and Gish, "Evaluation of word confidence for speech recognition systems", Computer
    Speech and Language 13, 1999; the measure of NIST's evaluations since 1996.
    """
    sure, truth = _pair(confidences, right)
    if not 0 < truth.sum() < len(truth):
        return math.nan
    prior = truth.mean()
    entropy = -(prior * math.log(prior) + (1 - prior) * math.log(1 - prior))
    sure = sure.clip(_EDGE, 1 - _EDGE)
    return float(1 + np.mean(np.where(truth > 0, np.log(sure), np.log1p(-sure))) / entropy)


def auc(confidences: Numbers, right: Booleans) -> float:
    """Area under the ROC curve: the chance that a right word is surer than a wrong one.

    Equal confidences count half. 0.5 is a guess. nan where all words are right, or all wrong.
    """
    sure, truth = _pair(confidences, right)
    n_right = truth.sum()
    n_wrong = len(truth) - n_right
    if not (n_right and n_wrong):
        return math.nan
    _, inverse, counts = np.unique(sure, return_inverse=True, return_counts=True)
    middle_rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ranks = middle_rank[truth > 0].sum()
    return float((ranks - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


@dataclass(frozen=True)
class Calibrator:
    """Moves a confidence along the log-odds: logit(q) = slope * logit(p) + intercept.

    With a slope above 0 the order of confidences stays. Source: Platt 1999, "Probabilistic outputs
    for support vector machines", with the confidence's logit as the score.
    """

    slope: float
    intercept: float

    def __call__(self, confidence: float) -> float:
        p = min(max(confidence, _EDGE), 1 - _EDGE)
        moved = self.slope * math.log(p / (1 - p)) + self.intercept
        # Beyond 30, exp says nothing more to a probability, and far beyond it overflows.
        return 1 / (1 + math.exp(-min(max(moved, -30.0), 30.0)))


def fit_calibrator(confidences: Numbers, right: Booleans) -> Calibrator:
    """The calibrator that makes `right` likeliest, drawn towards the one that changes nothing.

    Logistic regression with a normal prior of deviation 1 around slope 1 and intercept 0: some
    hundred words outweigh it, few or one-sided ones do not run away, and no words change nothing.
    Raises ValueError as `reliability` does.
    """
    sure, truth = _pair(confidences, right)
    sure = sure.clip(_EDGE, 1 - _EDGE)
    inputs = np.stack([np.log(sure) - np.log1p(-sure), np.ones(len(sure))], axis=1)
    prior = np.array([1.0, 0.0])

    def loss(weights: np.ndarray) -> float:
        margin = (2 * truth - 1) * (inputs @ weights)
        return float(np.logaddexp(0, -margin).sum() + 0.5 * ((weights - prior) ** 2).sum())

    weights = prior
    for _ in range(100):  # Newton's method; a handful of steps in practice
        chance = 0.5 * (1 + np.tanh(0.5 * (inputs @ weights)))
        gradient = inputs.T @ (chance - truth) + weights - prior
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        decrease = float(gradient @ step)
        if decrease < 1e-12 * max(1.0, loss(weights)):
            break
        scale = 1.0
        while loss(weights - scale * step) > loss(weights) - 0.1 * scale * decrease:
            scale /= 2
        weights = weights - scale * step
    return Calibrator(float(weights[0]), float(weights[1]))


def _pair(confidences: Numbers, right: Booleans) -> tuple[np.ndarray, np.ndarray]:
    """As float arrays of one length; the truth is 0 or 1."""
    sure, truth = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if sure.shape != truth.shape or sure.ndim != 1:
        raise ValueError(f"{len(sure)} confidences, {len(truth)} words right or wrong")
    if not np.all((sure >= 0) & (sure <= 1)):
        raise ValueError("confidences must lie in [0, 1]")
    return sure, truth.astype(np.float64)


def _shared(confidences: Numbers, right: Booleans) -> tuple[np.ndarray, np.ndarray]:
    """Like `_pair`, where each word's truth is the mean of all words that are as sure.

    So it does not matter which of them fall on which side of a bin's edge.
    """
    sure, truth = _pair(confidences, right)
    _, inverse, counts = np.unique(sure, return_inverse=True, return_counts=True)
    return sure, (np.bincount(inverse, weights=truth, minlength=len(counts)) / counts)[inverse]


def _equal_mass(sure: np.ndarray, bins: int) -> list[np.ndarray]:
    """Indices of each bin's words."""
    if bins < 1:
        raise ValueError(f"{bins} bins: use 1 or more")
    order = np.argsort(sure, kind="stable")
    return np.array_split(order, min(bins, len(sure))) if len(sure) else []
