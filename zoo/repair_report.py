"""Tables of an experiment on repair: regions or cohorts before and after, from the results file.

Which cohorts are served worst was decided by the row that found them, on other speakers than those
whose errors are counted here, and for each training seed anew.
"""

from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from ..fairness.resampling import Estimate, changes, draw_rates, gap_change
from ..fairness.statistics import (
    MIN_SPEAKERS,
    between_group_variance,
    gap,
    group_rates,
    group_speakers,
    standard_errors,
)
from ..train.experiment import SPLITS, Row
from .experiment_results import Record, Results
from .markdown import markdown_table

_SUMS = ("all", "bottom cohorts", "top cohorts", "all others", "worst cohort")
_BOTTOM, _TOP = 1, 2


class _Seed(NamedTuple):
    """Errors of one training seed's model and of the model before it, by cohort."""

    errors: np.ndarray
    """[2, S, G]: before, after."""
    words: np.ndarray
    """[S, G]; the last column is of speakers without a cohort."""
    bottom: np.ndarray
    """[G] bool."""
    top: np.ndarray
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
    empty where no row is done. Each seed's cohorts are those of the row that has found them."""
    before = {row.seed: r for row in baseline if (r := results.done(row)) is not None}
    finders = [row for row in results.experiment.rows if kind in row.finds]
    cohorts = {
        row.seed: r["cohorts"][kind] for row in finders if (r := results.done(row)) is not None
    }
    rates: list[list[str]] = []
    moved: list[list[str]] = []
    for group, rows in groups.items():
        after = {row.seed: r for row in rows if (r := results.done(row)) is not None}
        known = before.keys() & after.keys() & cohorts.keys()
        seeds = [_seed(before[s], after[s], cohorts[s]) for s in sorted(known)]
        if not seeds:
            rates.append([group, "not run", *[""] * (len(_SUMS) + 5)])
            continue
        totals = [_sums(seed) for seed in seeds]
        errors, words = (np.sum([t[i] for t in totals], axis=0) for i in (0, 1))
        shown = 100 * group_rates(errors, words[None])[1]
        spread = _mean_spread([_spread(seed, 1) for seed in seeds])
        apart = gap(shown[_BOTTOM], shown[_TOP]).of_top
        sums = [f"{x:.2f} %" for x in shown]
        rates.append([group, str(len(seeds)), *sums, f"{100 * apart:.1f} %", *_shown(spread)])
        if any(row in baseline for row in rows):
            continue
        drawn = draw_rates(errors, words)
        found = [(c.relative, c.upper_relative) for c in changes(errors, words, drawn)]
        found.append(gap_change(errors, words, drawn, bottom=_BOTTOM, top=_TOP))
        first = _mean_spread([_spread(seed, 0) for seed in seeds])
        moved.append([group, *(_change(*pair) for pair in found), *_moved(spread, first)])
    if not any(line[1] != "not run" for line in rates):
        return ""
    over = ["mean", "P90", "max", "variance (corrected)"]
    head = ["system", "seeds", *_SUMS, "gap", *over]
    tables = [
        f"WER of {kind}; the gap is bottom over top less 1; on the right of it, over those of at "
        f"least {MIN_SPEAKERS} speakers.",
        markdown_table(head, rates),
    ]
    if moved:
        head = ["system", *_SUMS, "gap", "mean", "max", "variance"]
        tables += [
            "Change in proportion to the baseline, with 95 % intervals over speakers; behind the "
            "semicolon the one-sided 95 % bound.",
            markdown_table(head, moved),
        ]
    return "\n\n".join(tables)


def _seed(before: Record, after: Record, found: dict[str, Any]) -> _Seed:
    """Raises ValueError where the two heard other speech."""
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
    bottom, top = (
        np.array([*(name in found[end] for name in names), False]) for end in ("bottom", "top")
    )
    return _Seed(errors, words, bottom, top, of[found["bottom"][0]])


def _sums(seed: _Seed) -> tuple[np.ndarray, np.ndarray]:
    """Errors [2, S, 4] and words [S, 4] of what `_SUMS` names."""
    worst = np.arange(len(seed.bottom)) == seed.worst
    ones = np.ones(len(worst))
    members = np.stack([ones, seed.bottom, seed.top, ~seed.bottom, worst], axis=1)
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


def _change(relative: Estimate, upper: float) -> str:
    value, low, high = (100 * x for x in relative)
    return f"{value:+.1f} % ({low:+.1f} to {high:+.1f}); {100 * upper:+.1f} %"
