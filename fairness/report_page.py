"""A report's record written out for people: one HTML file.

Every number of the record stands on the page.
"""

from collections.abc import Sequence

from .page import Figure, Html, Row, clean, document, element, figure, table
from .report_tables import (
    Record,
    change_cells,
    changes_part,
    disparity_part,
    kinds,
    number,
    p_value,
    rate,
    rates_table,
    ratios_part,
)


def report_page(
    record: Record,
    *,
    figures: Sequence[Sequence[Figure]] = (),
    players: Sequence[Sequence[Html]] = (),
) -> str:
    """Args:
    record: of `report.report`, with a title, a version and the day it was made on.
    figures: of each grouping.
    players: of each grouping, what can be listened to.
    """
    body: list[Html] = [*_heading(record), *_data(record), *_overall(record)]
    for i, grouping in enumerate(record["groupings"]):
        body += _grouping(record, grouping, figures[i] if figures else ())
        body += players[i] if players else ()
    return document(clean(record["title"]), [*body, *_limits(), *_methods(record)])


def _heading(record: Record) -> list[Html]:
    names = [clean(n) for n in record["systems"]]
    data = record["data"]
    lines = [
        f"{name}: {rate(o, 'wer')} errors in 100 words."
        for name, o in zip(names, record["overall"], strict=True)
    ]
    for grouping in record["groupings"]:
        lines += [_finding(grouping, name, k) for k, name in enumerate(names)]
    summary = (
        f"{data['speakers']:,} speakers with {data['words']:,} words. In brackets, here and "
        "below: 95 % intervals over speakers."
    )
    note = f"Made by parley {record['version']} on {record['made']}."
    return [
        element("p", summary),
        element("ul", *(element("li", line) for line in lines)),
        element("p", note, class_="note"),
    ]


def _finding(grouping: Record, name: str, k: int) -> str:
    """One sentence of a grouping."""
    found = grouping["systems"][k]
    start = f"{name}, by {clean(grouping['name'])}: "
    if not found:
        return f"{start}fewer than two groups are large enough to be compared."
    differ = "differ" if found["omnibus_p"] <= 0.05 else "were not found to differ"
    worst, best = (
        f"{clean(found[which])} with {number(found[f'{which}_wer'])} %"
        for which in ("worst", "best")
    )
    return (
        f"{start}the {grouping['ranked']} ranked groups {differ} (p = "
        f"{p_value(found['omnibus_p'])}); worst {worst}, best {best}."
    )


def _data(record: Record) -> list[Html]:
    data, missing = record["data"], record["missing"]
    counts = [
        Row("speakers", [f"{data['speakers']:,}"]),
        Row("utterances", [f"{data['utterances']:,}"]),
        Row("hours", [f"{data['hours']:,}"]),
        Row("words of the references", [f"{data['words']:,}"]),
        Row("utterances without a speaker, left out", [f"{data['without_speaker']:,}"]),
        Row("utterances that not all systems have scored, left out", [f"{data['not_in_all']:,}"]),
    ]
    parts = [
        element("h2", "What was measured"),
        table("The data, the same for all systems", ["", "number"], counts),
    ]
    if "files" in record:
        rows = [
            Row(clean(name), [clean(file)])
            for name, file in zip(record["systems"], record["files"], strict=True)
        ]
        parts.append(table("Systems", ["system", "scores"], rows, text=[0]))
    if missing:
        rows = [Row(clean(c), [f"{n:,}"]) for c, n in missing.items()]
        head = ["column", "utterances without a value"]
        parts.append(table("Missing metadata", head, rows))
    return parts


def _overall(record: Record) -> list[Html]:
    head = ["system", "WER %", "substitutions", "deletions", "insertions"]
    rows = [
        Row(clean(name), [rate(o, "wer"), *kinds(o)])
        for name, o in zip(record["systems"], record["overall"], strict=True)
    ]
    parts = [element("h2", "Overall"), table("Word error rate (WER), percent", head, rows)]
    if record["overall_changes"]:
        margin = f"{record['options']['margin']:g} %"
        head = ["system", "points", "relative %", "relative, at most", f"within {margin}"]
        rows = [
            Row(clean(name), [*change_cells(c), "yes" if c["not_inferior"] else "not shown"])
            for name, c in zip(record["systems"][1:], record["overall_changes"], strict=True)
        ]
        caption = (
            f"Change from {clean(record['systems'][0])}, on the same speech. Overall the system is "
            f"not inferior where the one-sided 95 % bound lies below {margin} of the rate"
        )
        parts.append(table(caption, head, rows))
    return parts


def _grouping(record: Record, grouping: Record, figures: Sequence[Figure]) -> list[Html]:
    name = clean(grouping["name"])
    parts = [element("h2", f"By {name}"), element("p", _origin(record, grouping))]
    parts += [rates_table(record, grouping), *(figure(f) for f in figures)]
    if any(grouping["systems"]):
        parts += [element("h3", f"How far apart: {name}"), *disparity_part(record, grouping)]
    if grouping["regression"]["reference"] is not None:
        parts += [element("h3", f"Rate ratios: {name}"), *ratios_part(record, grouping)]
    if any(grouping["comparisons"]):
        parts += [element("h3", f"What changed, and harm: {name}"), *changes_part(record, grouping)]
    return parts


def _origin(record: Record, grouping: Record) -> str:
    least = record["options"]["min_speakers"]
    every, ranked = len(grouping["groups"]), grouping["ranked"]
    lines = [grouping["source"], grouping["disjoint"]]
    if grouping["without_group"]:
        lines.append(f"{grouping['without_group']:,} speakers are of no group.")
    lines.append(f"{ranked:,} of {every:,} groups have {least} speakers or more and are ranked.")
    if ranked < every:
        lines.append("The others are shown in grey and enter no comparison.")
    if not grouping["named_beforehand"] and grouping["ranked"] > 1:
        lines.append(
            f"Worst and best were chosen on these speakers, by {clean(record['systems'][0])}: "
            "their distance is too large by what chance adds (compare it with the one by chance), "
            "and part of a narrowing would come without any repair."
        )
    return " ".join(filter(None, lines))


def _limits() -> list[Html]:
    text = (
        "Groups are those of the metadata or of the cohorts that were given; who is served badly "
        "within a group, or across groups that were not looked at, does not show. A difference "
        "between groups has no cause here: microphones, noise, what is said and who was recorded "
        "differ along with the speakers, and only the covariates that are named were held equal. "
        "Intervals are over speakers like these; another sample of a population may be drawn "
        "otherwise, and metadata may be wrong. Words weigh alike, whatever a mistake costs. A "
        "group that was not found to differ may still differ: look at the width of its interval. "
        "Word error rates are of the references as they are; errors in these, and words that some "
        "groups spell or say otherwise, count as the recogniser's. That a rate is low does not say "
        "that people are content with what they get. A small group's numbers may tell about single "
        "people: think before you publish them."
    )
    return [element("h2", "What this does not show"), element("p", text)]


def _methods(record: Record) -> list[Html]:
    options = record["options"]
    text = (
        f"Intervals: {options['draws']:,} draws of speakers with all their utterances, percentiles "
        "expanded for few speakers. Groups, systems and gaps come from the same draws. "
        f"Permutations: {options['permutations']:,}. Seed: {options['seed']}. Groups are ranked "
        f"from {options['min_speakers']} speakers on. Margin of non-inferiority: "
        f"{options['margin']:g} %. WER of a group: all its errors over all its words. Gap: "
        '(bottom - top) / top, by the other denominator too. Changes "at most" are one-sided 95 % '
        "bounds. The JSON file beside this page holds the same numbers."
    )
    return [element("h2", "How the numbers were computed"), element("p", text)]
