"""Tables of an experiment on repair: regions or cohorts before and after, from the results file.

Which cohorts are served worst was decided by the row that found them, on other speakers than those
whose errors are counted here, and for each training seed anew.
"""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np

from ..fairness.resampling import Change, Estimate, changes, draw_rates
from ..fairness.statistics import (
    MIN_SPEAKERS,
    between_group_variance,
    group_rates,
    group_speakers,
    standard_errors,
)
from ..train.experiment import SPLITS, Row
from .experiment_results import Record, Results
from .markdown import markdown_table

_SUMS = ("all", "bottom cohorts", "all others", "worst cohort")


class _Seed(NamedTuple):
    """Errors of one training seed's model and of the model before it, by cohort."""

    errors: np.ndarray
    """[2, S, G]: before, after."""
    words: np.ndarray
    """[S, G]; the last column is of speakers without a cohort."""
    bottom: np.ndarray
    """[G] bool."""
    worst: int


class Spread(NamedTuple):
    """Over cohorts of at least `MIN_SPEAKERS` speakers: percents, and points squared."""

    mean: float
    high: float
    """90th percentile."""
    largest: float
    raw: float
    corrected: float


def cohort_tables(
    results: Results, groups: dict[str, list[Row]], baseline: Sequence[Row], kind: str
) -> str:
    """What became of cohorts of a kind: rates and their spread, and changes against the baseline;
    empty where no row is done."""
    before = {row.seed: r for row in baseline if (r := results.done(row)) is not None}
    rates: list[list[str]] = []
    moved: list[list[str]] = []
    for group, rows in groups.items():
        after = {row.seed: r for row in rows if (r := results.done(row)) is not None}
        seeds = [_seed(before[s], after[s], kind) for s in sorted(before.keys() & after.keys())]
        if not seeds:
            rates.append([group, "not run", *[""] * (len(_SUMS) + 4)])
            continue
        totals = [_sums(seed) for seed in seeds]
        errors, words = (np.sum([t[i] for t in totals], axis=0) for i in (0, 1))
        shown = 100 * group_rates(errors, words[None])[1]
        spread = _mean_spread([_spread(seed, 1) for seed in seeds])
        rates.append([group, str(len(seeds)), *(f"{x:.2f} %" for x in shown), *_shown(spread)])
        if any(row in baseline for row in rows):
            continue
        found = changes(errors, words, draw_rates(errors, words))
        first = _mean_spread([_spread(seed, 0) for seed in seeds])
        moved.append([group, *map(_change, found), *_moved(spread, first)])
    if not any(line[1] != "not run" for line in rates):
        return ""
    over = ["mean", "P90", "max", "variance (corrected)"]
    head = ["system", "seeds", *_SUMS, *over]
    tables = [
        f"WER of {kind}; on the right, over those of at least {MIN_SPEAKERS} speakers.",
        markdown_table(head, rates),
    ]
    if moved:
        head = ["system", *_SUMS, "mean", "max", "variance"]
        tables += [
            "Change in proportion to the baseline, with 95 % intervals over speakers; behind the "
            "semicolon the one-sided 95 % bound.",
            markdown_table(head, moved),
        ]
    return "\n\n".join(tables)


def _seed(before: Record, after: Record, kind: str) -> _Seed:
    """Raises ValueError where the two heard other speech."""
    found = before["cohorts"][kind]
    names: list[str] = found["names"]
    of = {name: i for i, name in enumerate(names)}
    heard, again = (r["evaluations"][SPLITS[-1]]["speakers"] for r in (before, after))
    errors = np.zeros((2, len(heard), len(names) + 1))
    words = np.zeros((len(heard), len(names) + 1))
    for i, (speaker, (wrong, spoken)) in enumerate(heard.items()):
        if again[speaker][1] != spoken:
            raise ValueError(f"{speaker} did not say the same in both")
        column = of.get(found["speakers"].get(speaker), len(names))
        errors[:, i, column] = wrong, again[speaker][0]
        words[i, column] = spoken
    bottom = np.array([*(name in found["bottom"] for name in names), False])
    return _Seed(errors, words, bottom, of[found["bottom"][0]])


def _sums(seed: _Seed) -> tuple[np.ndarray, np.ndarray]:
    """Errors [2, S, 4] and words [S, 4] of what `_SUMS` names."""
    worst = np.arange(len(seed.bottom)) == seed.worst
    members = np.stack([np.ones(len(worst)), seed.bottom, ~seed.bottom, worst], axis=1)
    return seed.errors @ members, seed.words @ members


def _spread(seed: _Seed, system: int) -> Spread:
    errors, words = seed.errors[system][:, :-1], seed.words[:, :-1]
    large = group_speakers(words) >= MIN_SPEAKERS
    errors, words = errors[:, large], words[:, large]
    rates = 100 * group_rates(errors, words)
    variance = between_group_variance(rates, 100 * standard_errors(errors, words))
    if not len(rates):
        return Spread(*[float("nan")] * 5)
    high = float(np.quantile(rates, 0.9))
    return Spread(float(rates.mean()), high, float(rates.max()), *variance)


def _mean_spread(each: Sequence[Spread]) -> Spread:
    return Spread(*(mean(values) for values in zip(*each, strict=True)))


def _shown(spread: Spread) -> list[str]:
    rates = [f"{x:.2f} %" for x in spread[:3]]
    return [*rates, f"{spread.raw:.2f} ({spread.corrected:.2f})"]


def _moved(after: Spread, before: Spread) -> list[str]:
    def relative(name: str) -> str:
        old = getattr(before, name)
        return f"{100 * (getattr(after, name) / old - 1):+.1f} %" if old else ""

    return [relative("mean"), relative("largest"), relative("raw")]


def _change(change: Change) -> str:
    def shown(estimate: Estimate) -> str:
        value, low, high = (100 * x for x in estimate)
        return f"{value:+.1f} % ({low:+.1f} to {high:+.1f})"

    return f"{shown(change.relative)}; {100 * change.upper_relative:+.1f} %"
