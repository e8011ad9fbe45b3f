"""The tables of one grouping of a report, and how its numbers are written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .page import Html, Row, clean, element, table

Record = Mapping[str, Any]
NONE = "–"


def rates_table(record: Record, grouping: Record) -> Html:
    names = [clean(n) for n in record["systems"]]
    boxes = any("box" in group for group in grouping["groups"])
    head = ["group", "rank", "speakers", "utterances", "hours", "words", "shrunken"]
    head += ["area"] if boxes else []
    above = [("", len(head)), *((name, 4) for name in names)]
    rows = []
    for group in grouping["groups"]:
        role = f" ({group['role']})" if group["role"] in ("bottom", "top") else ""
        few = group["rank"] is None
        cells = [NONE if few else str(group["rank"])]
        cells += [f"{group[k]:,}" for k in ("speakers", "utterances")]
        cells += [f"{group['hours']:,.3f}", f"{group['words']:,}"]
        cells += [number(group["shrunken"])]
        cells += [_area(group["box"])] if boxes else []
        for system in group["systems"]:
            cells += [rate(system, "wer"), *kinds(system)]
        rows.append(Row(f"{clean(group['name'])}{role}{', too few' if few else ''}", cells, few))
    head += ["WER %", "subst.", "del.", "ins."] * len(names)
    caption = (
        "Pooled word error rates, the worst group by the first system first. Shrunken: its rate "
        "drawn to the mean by as much as it is uncertain, by which groups are ranked"
    )
    return table(caption, head, rows, above=above)


def disparity_part(record: Record, grouping: Record) -> list[Html]:
    names = [clean(n) for n in record["systems"]]
    systems = grouping["systems"]

    def row(name: str, key: str, write: Callable[[Any], str] = number) -> Row:
        return Row(name, [write(s[key]) if s else NONE for s in systems])

    rows = [
        row("worst group", "worst", clean),
        row("its WER, %", "worst_wer"),
        row("best group", "best", clean),
        row("its WER, %", "best_wer"),
        row("difference, points", "points"),
        row("difference, % of the best rate", "of_best"),
        row("the same by chance: median, 95th percentile", "of_best_chance", _pair),
        row("p of the difference", "of_best_p", p_value),
        row("difference, % of the worst rate", "of_worst"),
        row("p that no group differs, by permutation", "omnibus_p", p_value),
        row("variance of the rates, points squared", "variance", _thousandths),
        row("the same without noise", "variance_corrected", _thousandths),
    ]
    funnel = grouping["funnel"]
    notes = (
        "By chance: what speakers show who are dealt to the groups at random. Without noise: less "
        "the mean squared standard error; below zero where chance alone would give more. Within "
        f"groups speakers' own rates differ by {number(funnel['speakers_differ'])} % of the mean "
        f"({number(funnel['wer'])} %; {funnel['words_per_speaker']:,} words a speaker, weighted "
        "by words)."
    )
    parts: list[Html] = [
        table("Between the ranked groups", ["", *names], rows),
        element("p", notes, class_="note"),
    ]
    if any("bottom_top" in s for s in systems):
        parts.append(_bottom_top(names, grouping))
    return parts


def _bottom_top(names: Sequence[str], grouping: Record) -> Html:
    found = [s["bottom_top"] for s in grouping["systems"]]

    def row(name: str, key: str) -> Row:
        return Row(name, [_estimate(f[key]) for f in found])

    rows = [
        row("bottom, WER %", "bottom"),
        row("top, WER %", "top"),
        row("gap, points", "points"),
        row("gap, % of the top's rate", "of_top"),
        row("gap, % of the bottom's rate", "of_bottom"),
    ]
    if grouping["named_beforehand"]:
        chance = [" to ".join(map(number, f["chance"])) for f in found]
        rows += [
            Row("by chance, % of the top's rate", chance),
            Row("p of the gap", [p_value(f["p"]) for f in found]),
        ]
    who = "named by other speakers" if grouping["named_beforehand"] else "named by the first system"
    caption = f"Bottom ({_named(grouping, 'bottom')}) and top ({_named(grouping, 'top')}), {who}"
    return table(caption, ["", *names], rows)


def _named(grouping: Record, role: str, most: int = 6) -> str:
    found = [clean(g["name"]) for g in grouping["groups"] if g["role"] == role]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def ratios_part(record: Record, grouping: Record) -> list[Html]:
    names = [clean(n) for n in record["systems"]]
    regression = grouping["regression"]
    columns = [clean(c) for c in regression["adjusted_for"]]
    given = f"at equal {', '.join(columns)}" if columns else "without covariates"
    reference = clean(regression["reference"])
    rows = []
    for group in grouping["groups"]:
        if group["rank"] is None or not any(group["ratios"]):
            continue
        cells = []
        for found in group["ratios"]:
            cells += (
                [_ratio(found), p_value(found["p"]), p_value(found["p_holm"])]
                if found
                else [NONE] * 3
            )
        rows.append(Row(clean(group["name"]), cells))
    caption = (
        f"Rate ratios to {reference}, the largest group, {given}: how many times as many errors a "
        "word. Mixed-effects Poisson regression with an intercept for every speaker"
    )
    head = ["group", *["ratio", "p", "p (Holm)"] * len(names)]
    above = [("", 1), *((name, 3) for name in names)]
    lines = [_fit(name, s) for name, s in zip(names, regression["systems"], strict=True)]
    lines.append(f"Holm's p is adjusted for all {record['tests']:,} such tests of this report.")
    parts: list[Html] = [table(caption, head, rows, above=above)] if rows else []
    return [*parts, element("p", " ".join(lines), class_="note")]


def _fit(name: str, found: Record) -> str:
    """A sentence on a system's regression."""
    if found["p"] is None:
        return f"{name}: not fitted, for {found['reason']}."
    caution = f" Caution: {found['reason']}." if found["reason"] else ""
    return (
        f"{name}: p = {p_value(found['p'])} that no group differs, by likelihood ratio; a speaker "
        f"one standard deviation above the others of a group makes "
        f"{number(found['speakers_differ'])} % more errors.{caution}"
    )


def changes_part(record: Record, grouping: Record) -> list[Html]:
    others = [clean(n) for n in record["systems"][1:]]
    head = ["group", *["points", "relative %", "relative, at most"] * len(others)]
    above = [("", 1), *((name, 3) for name in others)]
    rows = [
        Row(
            clean(group["name"]) + (", too few" if group["rank"] is None else ""),
            [cell for change in group["changes"] for cell in change_cells(change)],
            group["rank"] is None,
        )
        for group in grouping["groups"]
    ]
    first = clean(record["systems"][0])
    caption = f"Change of each group's WER from {first}, below zero where it is better; paired"
    parts = [table(caption, head, rows, above=above)]
    found = grouping["comparisons"]

    def row(name: str, *cells: str) -> Row:
        return Row(name, cells)

    rows = [
        row("target groups", *(", ".join(map(clean, c["targets"])) or NONE for c in found)),
        row("other ranked groups", *(str(c["others"]) for c in found)),
        row("of these worse", *(str(c["worse"]) for c in found)),
        row("share of them worse, %", *(number(c["worse_share"]) for c in found)),
        row(
            "worse beyond chance (95 % interval above zero)",
            *(_listed(c["surely_worse"]) for c in found),
        ),
    ]
    if any("gap_points" in c for c in found):
        rows += [
            row("bottom, change in points", *(rate(c, "bottom_points") for c in found)),
            row("bottom, relative change %", *(rate(c, "bottom_relative") for c in found)),
            row(
                "bottom, relative change at most",
                *(f"{number(c['bottom_relative_upper'])} %" for c in found),
            ),
            row("gap, change in points", *(rate(c, "gap_points") for c in found)),
            row("gap in % of the top's rate, change", *(rate(c, "gap_of_top") for c in found)),
            row("that gap, relative change %", *(rate(c, "gap_relative") for c in found)),
        ]
    return [*parts, table(f"Harm check, and the gap, from {first}", ["", *others], rows)]


def change_cells(change: Record) -> list[str]:
    upper = change["relative_upper"]
    bound = NONE if upper is None else f"{number(upper)} %"
    return [rate(change, "points"), rate(change, "relative"), bound]


def kinds(record: Record) -> list[str]:
    return [number(record[kind]) for kind in ("substitutions", "deletions", "insertions")]


def rate(record: Record, key: str) -> str:
    """`12.66 (12.08 to 13.28)`."""
    return _interval(record[key], record[f"{key}_low"], record[f"{key}_high"])


def _estimate(found: Record) -> str:
    return _interval(found["value"], found["low"], found["high"])


def _ratio(found: Record) -> str:
    shown = ["unbounded" if found[k] is None else f"{found[k]:.3f}" for k in ("low", "high")]
    ratio = NONE if found["ratio"] is None else f"{found['ratio']:.3f}"
    return f"{ratio} ({shown[0]} to {shown[1]})"


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _pair(values: Sequence[float | None]) -> str:
    return ", ".join(map(number, values))


def _thousandths(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def p_value(value: float) -> str:
    return f"at most {value:g}" if value <= 1e-4 else f"{value:g}"


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(map(clean, names))}" if names else "none"


def _area(box: Sequence[float | None]) -> str:
    shown = [
        edge if x is None else f"{x:g}"
        for x, edge in zip(box, ("the west", "the east", "the south", "the north"), strict=True)
    ]
    return "{} to {}, {} to {}".format(*shown)
