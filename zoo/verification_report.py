"""Tables of an experiment on speaker models, from the results file alone.

Error rates are compared draw by draw: every row holds its groups' rates under the same resampled
sets of test speakers (`verification_row`).
"""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np

from ..metrics.bootstrap import Interval, interval_of
from ..train.experiment import Condition, Part, Row
from .experiment_results import Record, Results
from .markdown import markdown_table
from .speaker_cards import interval
from .verification import MIN_SPEAKERS
from .verification_row import COLUMNS

INTERVALS = f"""\
Rates are means over the seeds that are done. In brackets: 95 % intervals of a bootstrap over test
speakers, who are drawn alike for all rows, so that differences are paired by speaker and seed. How
far training seeds scatter shows in the rates of the single seeds, and is in no interval. Gap is the
worst group's rate less the best one's, deviation the groups' population standard deviation, both
over groups of at least {MIN_SPEAKERS} speakers; resampling makes both larger, so their intervals
lie high. Worst is the group that the baseline serves worst."""
CLAIM = (
    "The claim asks that the rate of the group that the baseline serves worst falls by at least "
    "5 % of itself with a one-sided 95 % bound below zero, and that the rate of all does not rise."
)
_UNIT = 1e-3
"""Of the draws in the records: points of a percent."""


class Rate(NamedTuple):
    """A rate over the seeds that are done, percents."""

    mean: float
    seeds: dict[int, float]
    draws: np.ndarray
    """[draws], means over the seeds."""
    speakers: int

    @property
    def interval(self) -> Interval:
        return interval_of(self.draws, self.speakers)


def rates(results: Results, rows: Sequence[Row], condition: str) -> dict[str, Rate]:
    """By group, `all` first; empty where no row is done."""
    return _over_seeds([(row.seed, r) for row in rows if (r := results.done(row))], condition)


def paired(
    results: Results, rows: Sequence[Row], baseline: Sequence[Row], condition: str
) -> tuple[dict[str, Rate], dict[str, Rate]]:
    """System and baseline over the seeds that both have."""
    mine = {row.seed: r for row in rows if (r := results.done(row))}
    theirs = {row.seed: r for row in baseline if (r := results.done(row))}
    seeds = sorted(mine.keys() & theirs.keys())
    return (
        _over_seeds([(s, mine[s]) for s in seeds], condition),
        _over_seeds([(s, theirs[s]) for s in seeds], condition),
    )


def _over_seeds(records: Sequence[tuple[int, Record]], condition: str) -> dict[str, Rate]:
    if not records:
        return {}
    first = records[0][1]["evaluations"][condition]
    found = {}
    for name, about in first["groups"].items():
        every = [(seed, r["evaluations"][condition]) for seed, r in records]
        seeds = {seed: e["groups"][name]["eer"] for seed, e in every}
        drawn = [np.array(e["draws"][name], np.float64) * _UNIT for _, e in every]
        found[name] = Rate(mean(seeds.values()), seeds, np.mean(drawn, axis=0), about["speakers"])
    return found


class Spread(NamedTuple):
    """Between the large groups of a column, percents."""

    gap: float
    gaps: np.ndarray
    std: float
    stds: np.ndarray
    worst: str


def spread(found: dict[str, Rate], column: str) -> Spread | None:
    """None of fewer than two groups that are large enough."""
    groups = {
        name: rate
        for name, rate in found.items()
        if name.startswith(f"{column}=") and rate.speakers >= MIN_SPEAKERS
    }
    if len(groups) < 2:
        return None
    means = np.array([rate.mean for rate in groups.values()])
    draws = np.array([rate.draws for rate in groups.values()])
    return Spread(
        float(means.max() - means.min()),
        draws.max(axis=0) - draws.min(axis=0),
        float(means.std()),
        draws.std(axis=0),
        list(groups)[int(means.argmax())],
    )


class Change(NamedTuple):
    """Of a rate, as a share of the baseline's, percents."""

    mean: float
    interval: Interval
    bound: float
    """One-sided, 95 %."""


def change(system: Rate, baseline: Rate) -> Change:
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = 100 * (system.draws / baseline.draws - 1)
    draws = np.where(np.isfinite(draws), draws, np.nan)
    two, one = (interval_of(draws, system.speakers, confidence=c) for c in (0.95, 0.90))
    share = 100 * (system.mean / baseline.mean - 1) if baseline.mean else float("nan")
    return Change(share, two, one.high)


def speaker_part(results: Results, part: Part, groups: dict[str, list[Row]]) -> str:
    """All of a part's sections but its title; `groups` are its rows, the baseline's too."""
    sections = []
    for condition in part.conditions:
        title = f"### {part.title}: {condition.name} (`{condition.data}`, {condition.split})"
        sections += [title, _overall(results, part, groups, condition)]
        for column in COLUMNS:
            if table := _by_column(results, part, groups, condition, column):
                sections += [f"By {column}, with the gap and its change:", table]
        if claim := _claim(results, part, groups, condition):
            sections += [CLAIM, claim]
    sections += [f"### {part.title}: models and training", _models(results, groups)]
    return "\n\n".join(sections)


def _overall(
    results: Results, part: Part, groups: dict[str, list[Row]], condition: Condition
) -> str:
    head = ["system", "EER", "each seed", f"against {part.baseline}, of its rate", "mean log-mels"]
    table = []
    for group, rows in groups.items():
        found = rates(results, rows, condition.name)
        if not found:
            table.append([group, why_not(results, rows), _seeds(results, rows, condition), "", ""])
            continue
        record = next(r for row in rows if (r := results.done(row)))
        floor = record["evaluations"][condition.name]["floor"]
        line = [group, _rate(found["all"]), _seeds(results, rows, condition)]
        table.append([*line, _against(results, part, groups, group, condition), f"{floor:.1f} %"])
    return markdown_table(head, table)


def _by_column(
    results: Results,
    part: Part,
    groups: dict[str, list[Row]],
    condition: Condition,
    column: str,
) -> str:
    known = [rates(results, rows, condition.name) for rows in groups.values()]
    names = [n for n in next((k for k in known if k), {}) if n.startswith(f"{column}=")]
    if not names:
        return ""
    head = ["system", *(name.partition("=")[2] for name in names), "gap", "deviation"]
    head.append(f"gap against {part.baseline}")
    table = []
    for group, found in zip(groups, known, strict=True):
        if not found:
            table.append([group, why_not(results, groups[group]), *[""] * (len(names) + 2)])
            continue
        line = [group, *(_rate(found[name]) for name in names)]
        between = spread(found, column)
        if between is None:
            table.append([*line, "", "", ""])
            continue
        count = found["all"].speakers
        line += [
            _span(between.gap, interval_of(between.gaps, count)),
            _span(between.std, interval_of(between.stds, count)),
            _gap_change(results, part, groups, group, condition, column),
        ]
        table.append(line)
    return markdown_table(head, table)


def _gap_change(
    results: Results,
    part: Part,
    groups: dict[str, list[Row]],
    group: str,
    condition: Condition,
    column: str,
) -> str:
    if group == part.baseline:
        return ""
    mine, theirs = paired(results, groups[group], groups[part.baseline], condition.name)
    if not mine:
        return ""
    a, b = spread(mine, column), spread(theirs, column)
    if a is None or b is None:
        return ""
    found = interval_of(a.gaps - b.gaps, mine["all"].speakers)
    return f"{a.gap - b.gap:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _claim(results: Results, part: Part, groups: dict[str, list[Row]], condition: Condition) -> str:
    """Each system's change of the groups that the baseline serves worst, and of all."""
    base = rates(results, groups[part.baseline], condition.name)
    if not base:
        return ""
    worst = [s.worst for column in COLUMNS if (s := spread(base, column))]
    head = ["system", "group", "change (95 % interval)", "one-sided bound", "all", "seeds", "claim"]
    table = []
    for group in groups:
        if group == part.baseline:
            continue
        mine, theirs = paired(results, groups[group], groups[part.baseline], condition.name)
        if not mine:
            table.append([group, why_not(results, groups[group]), *[""] * 5])
            continue
        whole = change(mine["all"], theirs["all"])
        for name in worst:
            found = change(mine[name], theirs[name])
            shown = found.mean <= -5 and found.bound < 0 and whole.mean <= 0
            table.append(
                [
                    group,
                    name.partition("=")[2],
                    _share(found),
                    f"{found.bound:+.1f} %",
                    _share(whole),
                    f"{len(mine['all'].seeds)}",
                    "shown" if shown else "not shown",
                ]
            )
    return markdown_table(head, table)


def _against(
    results: Results,
    part: Part,
    groups: dict[str, list[Row]],
    group: str,
    condition: Condition,
) -> str:
    if group == part.baseline:
        return ""
    mine, theirs = paired(results, groups[group], groups[part.baseline], condition.name)
    return _share(change(mine["all"], theirs["all"])) if mine else ""


def _models(results: Results, groups: dict[str, list[Row]]) -> str:
    head = ["system", "parameters", "training", "audio seen", "dev EER", "effective share"]
    head += ["largest weight", "mean weight by group"]
    table = []
    for group, rows in groups.items():
        records = [r for row in rows if (r := results.done(row))]
        if not records:
            table.append([group, why_not(results, rows), *[""] * 6])
            continue
        seconds = [r["train_seconds"] for r in records if r["train_seconds"]]
        line = [
            group,
            f"{records[0]['parameters']:,}",
            f"{mean(seconds) / 60:.1f} min" if seconds else "",
            f"{mean(r['audio_hours'] for r in records):.1f} h",
            f"{mean(r['dev_eer'] for r in records):.2f} %",
        ]
        weights = [r["weights"] for r in records if r["weights"]]
        if weights:
            means = {n: mean(w["means"][n] for w in weights) for n in weights[0]["means"]}
            line += [
                f"{mean(w['effective_share'] for w in weights):.3f}",
                f"{mean(w['max_weight'] for w in weights):.2f}",
                ", ".join(f"{n.partition('=')[2]} {value:.2f}" for n, value in means.items()),
            ]
        else:
            line += ["", "", ""]
        table.append(line)
    return markdown_table(head, table)


def why_not(results: Results, rows: Sequence[Row]) -> str:
    return "failed" if all(results.state(row) == "failed" for row in rows) else "not run"


def _seeds(results: Results, rows: Sequence[Row], condition: Condition) -> str:
    shown = []
    for row in rows:
        record = results.done(row)
        rate = record["evaluations"][condition.name]["eer"] if record else None
        shown.append(results.state(row) if rate is None else f"{rate:.2f}")
    return " / ".join(shown)


def _rate(rate: Rate) -> str:
    low, high = rate.interval
    few = "" if rate.speakers >= MIN_SPEAKERS else " (few)"
    return (
        interval(rate.mean, None, None) if np.isnan(low) else interval(rate.mean, low, high)
    ) + few


def _share(found: Change) -> str:
    return f"{found.mean:+.1f} % ({found.interval.low:+.1f} to {found.interval.high:+.1f})"


def _span(value: float, found: Interval) -> str:
    return f"{value:.2f} ({found.low:.2f} to {found.high:.2f})"
