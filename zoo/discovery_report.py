"""What `parley fairness discover` prints."""

from collections.abc import Mapping
from typing import Any

from ..fairness.clusters import MIN_UTTERANCES
from ..fairness.describe import Description
from ..fairness.discovery import CohortResult, Discovery
from ..fairness.gaps import percent
from ..fairness.resampling import Estimate
from .console import stdout, table

_MOST_ROWS = 40
"""Of ranked cohorts: of more, the worst and the best are shown, and the file has all."""


_TYPICAL = 0.3
"""Of a cohort's speakers: what fewer of them have in common is not said."""


def print_discovery(
    found: Discovery, described: Mapping[str, Description], notes: Mapping[str, Any]
) -> None:
    """The table of cohorts, and the gaps with what chance alone would show."""
    console = stdout()
    for line in _heading(found, notes):
        console.print(line)
    numbers = ("rank", "speakers", "words", "ranking", "shrunken")
    rows = table("rank", "cohort", "", *numbers[1:], "report (95 %)", "typical", right=numbers)
    ranked = [c for c in found.cohorts if c.rank is not None]
    skipped = ranked[_MOST_ROWS // 2 : -_MOST_ROWS // 2] if len(ranked) > _MOST_ROWS else []
    for cohort in found.cohorts:
        if cohort in skipped:
            if cohort is skipped[0]:
                rows.add_row("...", f"{len(skipped)} more")
            continue
        grey = "dim" if cohort.rank is None else None
        rows.add_row(*_row(cohort, described[cohort.name]), style=grey)
    console.print(rows)
    few = len(found.cohorts) - len(ranked)
    console.print(
        "\nspeakers, words: of the report split. ranking: WER (%) of the ranking split. shrunken: "
        "the same, drawn to the mean as far as it is uncertain."
    )
    console.print(
        f"{few} of {len(found.cohorts)} cohorts have fewer than {found.selection.min_speakers} "
        "ranking or report speakers, and no rank."
    )
    console.print()
    for line in _gaps(found, len(ranked)):
        console.print(line)


def _heading(found: Discovery, notes: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{len(found.cohorts):,} cohorts of {found.speakers:,} speakers; on the report speakers "
        f"({found.report.speakers:,}) {_percent(found.report.wer)} of {found.report.words:,} words"
    ]
    if found.without_cohort:
        lines.append(f"{found.without_cohort:,} speakers are of no cohort: {why_none(found.kind)}")
    if found.without_speaker:
        lines.append(f"{found.without_speaker:,} utterances name no speaker, and are left out")
    if found.kind == "regions":
        lines.append(
            f"regions of at least {notes['min_region_speakers']:,} discovery speakers and "
            f"{notes['min_region_words']:,} words, at most {notes['max_regions']}; "
            f"split by {notes['criterion']}"
        )
    if found.kind == "clusters":
        lines.append(
            f"k-means with K = {notes['clusters']}, {notes['restarts']} restarts; speakers with "
            f"{notes['min_utterances']} utterances or more; adjusted Rand index of re-clusterings "
            f"{notes['stability']:.2f}"
        )
    if found.kind == "units":
        tried = [p for p in notes["partitions"] if p["gap"] is not None]
        shown = ", ".join(f"{p['attribute']} {p['gap']:.0f} %" for p in tried[:6])
        lines.append(f"partitions by gap on the discovery speakers: {shown}")
    return [*lines, ""]


def why_none(kind: str) -> str:
    """Why speakers are of no cohort of this kind."""
    return {
        "regions": "coordinates are missing",
        "clusters": f"fewer than {MIN_UTTERANCES} utterances of theirs can be heard",
        "units": "their unit is missing, or is not in the table",
    }.get(kind, "the value is missing, or was not there when the cohorts were found")


def _row(cohort: CohortResult, description: Description) -> list[str]:
    return [
        str(cohort.rank or "-"),
        cohort.name,
        cohort.group if cohort.group != "middle" else "",
        f"{cohort.report.speakers:,}",
        f"{cohort.report.words:,}",
        _number(cohort.ranking.wer),
        _number(cohort.shrunken),
        _interval(cohort.report_wer),
        typical(description),
    ]


def typical(description: Description, most: int = 2) -> str:
    """What a cohort has more of than others: `accent scotland 91 % (14 %), 3.1 words/s`."""
    over = [
        (t.share - t.overall, f"{column} {t.value} {100 * t.share:.0f} % ({100 * t.overall:.0f} %)")
        for column, t in description.profile.items()
        if t.share >= _TYPICAL and t.share - t.overall > 0.1
    ]
    words = [text for _, text in sorted(over, reverse=True)[:most]]
    if description.words_per_second == description.words_per_second:
        words.append(f"{description.words_per_second:.1f} words/s")
    if "pitch" in description.means:
        words.append(f"{description.means['pitch']:.0f} Hz")
    return ", ".join(words)


def _gaps(found: Discovery, ranked: int) -> list[str]:
    gap, far = found.gap, found.extremes
    if gap is None or far is None:
        return [
            f"no gap: fewer than two cohorts have {found.selection.min_speakers} ranking and report"
            " speakers; give more speakers, or lower --min-speakers"
        ]
    share = {k: f"{100 * x:.1f} %" for k, x in found.share.items()}
    chance = " to ".join(map(_number, gap.chance))
    median, high = map(_number, far.chance)
    return [
        f"bottom: {_interval(gap.bottom)} % ({_names(found.named('bottom'))}; {share['speakers']} "
        f"of the speakers, {share['utterances']} of the utterances, {share['words']} of the words)",
        f"top:    {_interval(gap.top)} % ({_names(found.named('top'))})",
        f"gap:    {_interval(gap.points)} points = {_interval(gap.of_top)} % of the top's rate, "
        f"{_interval(gap.of_bottom)} % of the bottom's",
        f"        by chance {chance} % of the top's (95 % of permutations), p = {gap.p:.2g}",
        f"worst to best of {ranked} cohorts: {_number(far.relative)} % of the best's; by chance "
        f"{median} % (median), {high} % (95th percentile), p = {far.p:.2g}; "
        f"that any differs: p = {far.omnibus_p:.2g}",
    ]


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _interval(estimate: Estimate) -> str:
    low, high = percent(estimate.low), percent(estimate.high)
    interval = "" if low is None or high is None else f" ({low:.1f} to {high:.1f})"
    return f"{_number(estimate.value)}{interval}"


def _number(fraction: float) -> str:
    value = percent(fraction)
    return "-" if value is None else f"{value:.1f}"


def _percent(fraction: float) -> str:
    return f"{_number(fraction)} %"
