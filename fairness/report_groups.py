"""One grouping of a report: rates, tests, gaps and changes of its groups, as a record for JSON.

Rates, gaps and changes are in percent. What was rounded away was not known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..metrics.bootstrap import interval_of
from .gaps import bottom_top, extremes, percent, rounded
from .permutation import PERMUTATIONS
from .report_data import Grouping, Systems
from .resampling import (
    DRAWS,
    Change,
    Estimate,
    changes,
    draw_rates,
    estimate,
    rate_estimates,
)
from .statistics import (
    MIN_SPEAKERS,
    between_group_variance,
    gap,
    group_rates,
    ratio,
    shrunken_rates,
    speaker_variance,
    standard_errors,
)

Record = dict[str, Any]
_KINDS = ("substitutions", "deletions", "insertions")


@dataclass(frozen=True)
class Options:
    """What a report is computed with.

    Attributes:
      min_speakers: groups of fewer are shown, never ranked, and enter no test, gap or variance.
      margin: overall the new system may be worse by less than this share of the old one's rate.
      adjust_for: columns that the rate ratios are adjusted for.
    """

    min_speakers: int = MIN_SPEAKERS
    margin: float = 0.01
    adjust_for: tuple[str, ...] = ()
    draws: int = DRAWS
    permutations: int = PERMUTATIONS
    seed: int = 0


class Table(NamedTuple):
    """Speakers by groups; each speaker is in one."""

    kinds: np.ndarray
    """[K, S, G, 3]."""
    errors: np.ndarray
    """[K, S, G]."""
    words: np.ndarray
    """[S, G]."""


def tabulate(systems: Systems, index: np.ndarray, count: int) -> Table:
    """Args:
    index: [S], each speaker's group of `count`; -1 leaves him out, as does having no words.
    """
    rows = np.flatnonzero((index >= 0) & (systems.words > 0))
    at = np.arange(len(rows)), index[rows]
    words = np.zeros((len(rows), count))
    words[at] = systems.words[rows]
    kinds = np.zeros((len(systems.names), len(rows), count, 3))
    kinds[:, at[0], at[1]] = systems.kinds[:, rows]
    return Table(kinds, kinds.sum(axis=-1), words)


def counts_of(systems: Systems, index: np.ndarray, count: int) -> list[Record]:
    """Speakers, utterances, hours and words of each group."""
    own = (index >= 0) & (systems.words > 0)
    scores = systems.scores
    columns = (np.ones(len(index)), scores.utterances, scores.words, scores.seconds / 3600)
    sums = [np.bincount(index[own], c[own], minlength=count) for c in columns]
    return [
        {"speakers": int(s), "utterances": int(u), "words": int(w), "hours": round(float(h), 3)}
        for s, u, w, h in zip(*sums, strict=True)
    ]


def rates_of(table: Table, drawn: np.ndarray) -> list[list[Record]]:
    """WER with its interval, and its parts, of each group in each system [G][K]."""
    parts = ratio(table.kinds.sum(axis=1), table.words.sum(axis=0)[:, None])
    systems = [
        rate_estimates(errors, table.words, drawn[:, k]) for k, errors in enumerate(table.errors)
    ]
    return [
        [
            {
                **spread("wer", found[g]),
                **{kind: percent(parts[k, g, i]) for i, kind in enumerate(_KINDS)},
            }
            for k, found in enumerate(systems)
        ]
        for g in range(table.words.shape[1])
    ]


def changes_of(table: Table, drawn: np.ndarray) -> list[list[Record]]:
    """Of each group from the first system to each other [G][K - 1]."""
    found = [
        changes(table.errors[[0, k]], table.words, drawn[:, [0, k]])
        for k in range(1, len(table.errors))
    ]
    return [[_change(system[g]) for system in found] for g in range(table.words.shape[1])]


def _change(change: Change) -> Record:
    return {
        **spread("points", change.points),
        **spread("relative", change.relative),
        "relative_upper": percent(change.upper_relative),
    }


def spread(name: str, found: Estimate) -> Record:
    """A value in percent with its interval."""
    return {
        name: percent(found.value),
        f"{name}_low": percent(found.low),
        f"{name}_high": percent(found.high),
    }


def grouping_record(systems: Systems, grouping: Grouping, options: Options) -> Record:
    """All that is said of a grouping, but for the rate ratios (`report_ratios`)."""
    index = np.where(grouping.kept, grouping.index, -1)
    count = len(grouping.names)
    counts = counts_of(systems, index, count)
    table = tabulate(systems, index, count)
    drawn = draw_rates(table.errors, table.words, draws=options.draws, seed=options.seed)
    able = [g for g in range(count) if counts[g]["speakers"] >= max(1, options.min_speakers)]
    shrunken, order = _order(table, able)
    rates, changed = rates_of(table, drawn), changes_of(table, drawn)
    roles = _roles(grouping, order)
    groups = []
    for g in [*order, *sorted(set(range(count)) - set(order), key=lambda g: grouping.names[g])]:
        few = g not in shrunken
        groups.append(
            {
                "name": grouping.names[g],
                "rank": None if few else order.index(g) + 1,
                "role": roles.get(g, ""),
                **counts[g],
                "shrunken": None if few else percent(shrunken[g]),
                "systems": rates[g],
                "changes": changed[g],
            }
        )
        if grouping.boxes is not None:
            groups[-1]["box"] = [
                round(float(x), 4) if np.isfinite(x) else None for x in grouping.boxes[g]
            ]
    without = grouping.kept & (grouping.index < 0) & (systems.words > 0)
    return {
        "name": grouping.name,
        "source": grouping.source,
        "disjoint": grouping.disjoint,
        "named_beforehand": bool(grouping.roles),
        "without_group": int(without.sum()),
        "ranked": len(order),
        "groups": groups,
        "funnel": _funnel(table) if len(order) > 1 else {},
        "systems": [
            _disparity(
                table, k, grouping.names, order, roles, options, beforehand=bool(grouping.roles)
            )
            for k in range(len(table.errors))
        ],
        "comparisons": [
            _comparison(table, drawn, k, grouping.names, order, roles)
            for k in range(1, len(table.errors))
        ],
    }


def _order(table: Table, able: Sequence[int]) -> tuple[dict[int, float], list[int]]:
    """The groups that can be ranked, worst first by the first system, and their shrunken rates."""
    if not able:
        return {}, []
    found = shrunken_rates(table.errors[0][:, able], table.words[:, able]).rates
    rates = group_rates(table.errors[0], table.words)
    shrunken = dict(zip(able, found.tolist(), strict=True))
    # Where nothing but chance is seen, all shrunken rates are the mean.
    return shrunken, sorted(able, key=lambda g: (-shrunken[g], -rates[g]))


def _roles(grouping: Grouping, order: Sequence[int]) -> dict[int, str]:
    """Bottom and top: as named beforehand, else the worst and the best of the first system."""
    if grouping.roles:
        named = {g: grouping.roles.get(grouping.names[g], "") for g in order}
        return {g: role for g, role in named.items() if role in ("bottom", "top")}
    if len(order) < 2:
        return {}
    return {order[0]: "bottom", order[-1]: "top"}


def _disparity(
    table: Table,
    k: int,
    names: Sequence[str],
    order: Sequence[int],
    roles: Mapping[int, str],
    options: Options,
    *,
    beforehand: bool,
) -> Record:
    """Of one system, over the groups that are ranked; empty for fewer than two."""
    if len(order) < 2:
        return {}
    errors, words = (x[..., list(order)] for x in (table.errors[k], table.words))
    inside = words.any(axis=1)
    errors, words = errors[inside], words[inside]
    rates = group_rates(errors, words)
    worst, best = int(rates.argmax()), int(rates.argmin())
    apart = gap(float(rates[worst]), float(rates[best]))
    # In points, so that a spread of one point is a variance of one.
    variance = between_group_variance(100 * rates, 100 * standard_errors(errors, words))
    chance = {"permutations": options.permutations, "seed": options.seed}
    far = extremes(errors, words, **chance)
    record = {
        "worst": names[order[worst]],
        "best": names[order[best]],
        "worst_wer": percent(rates[worst]),
        "best_wer": percent(rates[best]),
        "points": percent(apart.points),
        "of_best": percent(apart.of_top),
        "of_worst": percent(apart.of_bottom),
        "of_best_chance": [percent(x) for x in far.chance],
        "of_best_p": round(far.p, 4),
        "omnibus_p": round(far.omnibus_p, 4),
        "variance": rounded(variance.raw),
        "variance_corrected": rounded(variance.corrected),
    }
    if _has_both(roles):
        three = _bottom_top_others(table, order, roles)
        found = bottom_top(three.errors[k], three.words, **chance)
        record["bottom_top"] = found.as_dict()
        if not beforehand:  # who is chosen for being the worst is far from the best by choice
            del record["bottom_top"]["chance"], record["bottom_top"]["p"]
    return record


def _has_both(roles: Mapping[int, str]) -> bool:
    return {"bottom", "top"} <= set(roles.values())


def _bottom_top_others(table: Table, order: Sequence[int], roles: Mapping[int, str]) -> Table:
    """Bottom, top and the other ranked groups, added up [.., 3]."""
    parts = [[g for g in order if roles.get(g, "") == role] for role in ("bottom", "top", "")]
    kinds = np.stack([table.kinds[:, :, p].sum(axis=2) for p in parts], axis=2)
    words = np.stack([table.words[:, p].sum(axis=1) for p in parts], axis=1)
    inside = words.any(axis=1)
    kinds, words = kinds[:, inside], words[inside]
    return Table(kinds, kinds.sum(axis=-1), words)


def _comparison(
    table: Table,
    drawn: np.ndarray,
    k: int,
    names: Sequence[str],
    order: Sequence[int],
    roles: Mapping[int, str],
) -> Record:
    """Of system k with the first: what happens to the gap, and to groups that are no target."""
    target = [g for g in order if roles.get(g) == "bottom"]
    others = [g for g in order if g not in target]
    if not others:
        return {}
    found = changes(table.errors[[0, k]], table.words, drawn[:, [0, k]])
    # A group whose rates are equal is not worse.
    worse = [names[g] for g in others if found[g].points.value > 0]
    record = {
        "targets": [names[g] for g in target],
        "others": len(others),
        "worse": len(worse),
        "worse_share": percent(len(worse) / len(others)),
        "surely_worse": [names[g] for g in others if found[g].points.low > 0],
    }
    if _has_both(roles):
        record |= _gap_change(_bottom_top_others(table, order, roles), k, len(drawn))
    return record


def _gap_change(three: Table, k: int, draws: int) -> Record:
    """How the bottom and its gap to the top change; paired, bottom and top staying who they are."""
    errors = three.errors[[0, k]]
    drawn = draw_rates(errors, three.words, draws=draws)
    seen = group_rates(errors, three.words[None])[None]
    few = int(min((three.words[:, :2] > 0).sum(axis=0)))

    def gap_changes(rates: np.ndarray) -> dict[str, np.ndarray]:
        points = rates[..., 0] - rates[..., 1]
        relative = ratio(points, rates[..., 1])
        return {
            "gap_points": points[:, 1] - points[:, 0],
            "gap_of_top": relative[:, 1] - relative[:, 0],
            "gap_relative": ratio(relative[:, 1], relative[:, 0]) - 1,
        }

    record: Record = {}
    values, draws_of = gap_changes(seen), gap_changes(drawn)
    for name, value in values.items():
        record |= spread(name, estimate(value[0], draws_of[name], few))
    before = drawn[:, 0, 0] - drawn[:, 0, 1]
    if not interval_of(before, few).low > 0:  # a share of a gap that may be none says nothing
        record |= dict.fromkeys(("gap_relative", "gap_relative_low", "gap_relative_high"))
    bottom = changes(errors, three.words, drawn)[0]
    return record | {f"bottom_{name}": value for name, value in _change(bottom).items()}


def _funnel(table: Table) -> Record:
    """What a group's rate is expected to scatter by, were it equal to all others': speakers differ
    by `spread` times the rate, and say `words` each (weighted by what they say)."""
    errors, words = table.errors[0].sum(axis=1), table.words.sum(axis=1)
    rate = float(errors.sum() / words.sum())
    relative = speaker_variance(table.errors[0], table.words, rate)
    return {
        "wer": percent(rate),
        "speakers_differ": percent(math.sqrt(relative)),
        "words_per_speaker": round(float((words**2).sum() / words.sum()), 1),
    }
