"""Pages of models: the table of all, a card each, the comparison, groups of speakers."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..card_examples import Examples
from ..cards import Card, Measurement, body, percent
from ..registry import Entry
from .charts import Bar, architecture, bars
from .html import Child, Html, join, page, scrolling, table, tag
from .prose import to_html


class Model(NamedTuple):
    """A model as the site shows it."""

    entry: Entry
    card: Card
    examples: Examples | None
    picture: str | None
    """File of a picture of the first example."""

    @property
    def page(self) -> str:
        return f"cards/{self.entry.name}.html"


_COLUMNS = (
    ("name", "Model"), ("family", "Family"), ("params", "Parameters"), ("cost", "GFLOP/s"),
    ("latency", "Latency"), ("error", "Error rate (95 %)"), ("license", "Licence"),
    ("status", "Status"),
)  # fmt: skip
_NUMBERS = frozenset(("params", "cost", "latency"))


def index_page(models: Sequence[Model]) -> str:
    """The table of all models, with filters."""
    families = sorted({m.entry.facts.family for m in models})
    head = [
        tag("th", tag("button", label, type="button", data_sort=key), scope="col",
            class_="number" if key in _NUMBERS else None, data_numeric=key in {*_NUMBERS, "error"})
        for key, label in _COLUMNS
    ]  # fmt: skip
    chosen = tag("th", tag("span", "Compare", class_="quiet"), scope="col")
    whole = tag(
        "table",
        tag("caption", "Models, their cost, and the first error rate of each card"),
        tag("thead", tag("tr", chosen, head)),
        tag("tbody", [_row(m) for m in models]),
        id="models",
        class_="list",
    )
    text = join([
        tag("h1", "Models"),
        tag("p", "Streaming speech recognisers, and models that tell speakers apart. Latency: the "
            "audio that a step of the encoder takes. GFLOP/s: what a second of audio costs. Error "
            "rate: the first of the card, with its 95 % interval over speakers."),
        _filters(families),
        tag("p", f"{len(models)} models", id="count", role="status", aria_live="polite"),
        tag("p", tag("a", "Compare the chosen models", id="compare", href="compare.html",
                     class_="button"), class_="scripted"),
        scrolling(whole, "Table of models"),
    ])  # fmt: skip
    return page("Models", text, here="index.html", scripts=True)


def _filters(families: Sequence[str]) -> Html:
    def box(name: str, label: str) -> Html:
        return tag("label", tag("input", type="checkbox", name=name, value="yes"), f" {label}")

    options = [tag("option", "any", value=""), *(tag("option", f, value=f) for f in families)]
    return tag(
        "form",
        tag("label", "Words ", tag("input", type="search", name="words", autocomplete="off")),
        tag("label", "Family ", tag("select", options, name="family")),
        tag("label", "Most parameters, millions ",
            tag("input", type="number", name="params", min="0", step="any", inputmode="decimal")),
        tag("label", "Highest error rate, % ",
            tag("input", type="number", name="error", min="0", step="any", inputmode="decimal")),
        box("streaming", "streaming"),
        box("trained", "with weights"),
        box("turns", "with turns"),
        tag("button", "Clear", type="reset"),
        id="filters", role="search", aria_label="Filter models", class_="scripted",
    )  # fmt: skip


def _row(m: Model) -> Html:
    facts, first = m.entry.facts, m.entry.headline
    words = (facts.name, facts.family, facts.description, facts.task or "", facts.language)
    cells: list[tuple[str, Child, float | str | None]] = [
        ("Family", facts.family, facts.family),
        ("Parameters", f"{facts.parameters / 1e6:.2f} M", facts.parameters),
        ("GFLOP/s", _or_dash(facts.gflop_per_s, "{:.3g}"), facts.gflop_per_s),
        ("Latency", f"{facts.step_ms:g} ms" if facts.streaming else "–",
         facts.step_ms if facts.streaming else None),
        ("Error rate (95 %)", _rate(m.entry), m.entry.error),
        ("Licence", facts.license, facts.license),
        ("Status", facts.status, facts.status),
    ]  # fmt: skip
    label = f"Compare {facts.name}"
    check = tag("input", type="checkbox", value=facts.name, aria_label=label, class_="choose")
    link = tag("a", facts.name, href=m.page)
    return tag(
        "tr",
        tag("td", check, data_label="Compare"),
        tag("th", link, tag("p", facts.description, class_="quiet"), scope="row",
            data_value=facts.name),
        [
            tag("td", shown, data_label=name, data_value="" if value is None else value,
                class_="number" if name in ("Parameters", "GFLOP/s", "Latency") else None)
            for name, shown, value in cells
        ],
        data_words=" ".join([*words, first.name if first else ""]).lower(),
        data_family=facts.family,
        data_params=facts.parameters,
        data_error=m.entry.error,
        data_streaming=facts.streaming,
        data_trained=m.entry.trained,
        data_turns=bool(facts.turns),
    )  # fmt: skip


def _rate(entry: Entry) -> Child:
    first = entry.headline
    if first is None:
        return "not measured"
    kind = "" if isinstance(first, Measurement) else "EER "
    rate = first.wer if isinstance(first, Measurement) else first.eer
    return [f"{kind}{percent(rate, first.low, first.high)}", tag("p", first.data, class_="quiet")]


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def card_page(m: Model, pages: Mapping[str, str]) -> str:
    """A model's card, with its examples to be heard and its groups drawn. `pages`: as `to_html`."""
    text = body(m.card)
    before, mark, after = text.partition("\n## Use\n")
    fences = {"mermaid": lambda _: architecture(m.card.facts.architecture)}
    ids: set[str] = set()
    first = to_html(before, pages=pages, fences=fences, ids=ids)
    rest = to_html(mark + after, pages=pages, fences=fences, ids=ids) if mark else None
    whole = [first, _examples(m), rest, _groups(m.card)]
    return page(m.entry.name, tag("article", whole), root="../")


def _examples(m: Model) -> Child:
    found, name = m.examples, m.entry.name
    if found is None:
        return None
    picture = m.picture and tag(
        "figure",
        tag("img", src=f"../media/{name}/{m.picture}", loading="lazy",
            alt="The first recording's spectrogram, or its sound and turns, with what was heard"),
        tag("figcaption", "The first recording as the model sees it, and where it writes a word."),
    )  # fmt: skip
    return tag(
        "section",
        tag("h2", "Listen", id="page:listen"),
        tag("p", f"Recordings of {found.corpus}, spread evenly over it so that nobody chose them; "
            f"made on {found.date} by ", tag("code", found.command), "."),
        [_heard(name, i, h) for i, h in enumerate(found.heard)],
        [_pair(name, i, p) for i, p in enumerate(found.pairs)],
        picture,
        aria_labelledby="page:listen",
    )  # fmt: skip


def _audio(model: str, file: str, label: str) -> Html:
    return tag("audio", controls=True, preload="none", src=f"../media/{model}/{file}",
               aria_label=label)  # fmt: skip


def _heard(model: str, i: int, h: Any) -> Html:
    wrong = "" if h.errors is None else f" ({h.errors} wrong)" if h.errors else " (all right)"
    return tag(
        "figure",
        _audio(model, h.audio, f"Recording {i + 1}, {h.seconds:.1f} seconds"),
        tag("figcaption", tag("dl",
            tag("dt", "spoken"), tag("dd", h.reference),
            tag("dt", f"heard{wrong}"), tag("dd", h.hypothesis or "nothing"))),
        class_="heard",
    )  # fmt: skip


def _pair(model: str, i: int, p: Any) -> Html:
    verdict = "one speaker" if p.cosine >= p.threshold else "two speakers"
    truth = "one speaker" if p.same else "two speakers"
    return tag(
        "figure",
        _audio(model, p.audio, f"Pair {i + 1}, first recording"),
        _audio(model, p.other, f"Pair {i + 1}, second recording"),
        tag("figcaption", tag("dl",
            tag("dt", "in truth"), tag("dd", truth),
            tag("dt", "the model says"),
            tag("dd", f"{verdict}: cosine {p.cosine:.3f}, threshold {p.threshold:.3f}"))),
        class_="heard",
    )  # fmt: skip


def _groups(card: Card) -> Child:
    drawn = []
    for r in (*card.results, *card.verification):
        key = "wer" if isinstance(r, Measurement) else "eer"
        for column, groups in r.groups.items():
            rows = [Bar(value, g[key], g.get("low"), g.get("high")) for value, g in groups.items()]
            label = f"{r.name}, by {column}"
            chart = scrolling(bars(rows, key.upper(), label), label)
            drawn.append(tag("figure", tag("figcaption", label), chart))
    if not drawn:
        return None
    return tag(
        "section", tag("h2", "Groups of speakers, drawn", id="page:groups"),
        tag("p", "Point: the group's error rate. Line: its 95 % interval over speakers."),
        drawn, aria_labelledby="page:groups",
    )  # fmt: skip


def groups_page(models: Sequence[Model]) -> str:
    """Error rates of groups of speakers, a table for every data set and column."""
    found: dict[tuple[str, str, str, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for m in models:
        for r in (*m.card.results, *m.card.verification):
            key = "wer" if isinstance(r, Measurement) else "eer"
            for column, groups in r.groups.items():
                found[r.data, r.split, column, key][m.entry.name] = groups
    parts: list[Child] = [
        tag("h1", "Groups of speakers"),
        tag("p", "Who is served worse. A group's rate comes with its 95 % interval over speakers: "
            "few speakers make it wide. Worst less best is of the rates alone, and even of equal "
            "groups it is above zero."),
    ]  # fmt: skip
    for (data, split, column, key), rates in sorted(found.items()):
        values = list(dict.fromkeys(v for groups in rates.values() for v in groups))
        rows = []
        for name, groups in rates.items():
            cells = [_group_cell(groups.get(v), key) for v in values]
            known = [g[key] for g in groups.values()]
            gap = f"{max(known) - min(known):.2f} points"
            rows.append([tag("a", name, href=f"cards/{name}.html"), *cells, gap])
        where = ", ".join(filter(None, (data, split)))
        caption = f"{key.upper()} on {where}, by {column}"
        parts += [
            tag("h2", f"{where}, by {column}"),
            table(["model", *values, "worst less best"], rows, caption=caption),
        ]
    if not found:
        parts.append(tag("p", "No card has results of groups."))
    return page("Groups of speakers", parts, here="groups.html")


def _group_cell(group: Mapping[str, Any] | None, key: str) -> str:
    return "" if group is None else percent(group[key], group.get("low"), group.get("high"))


def compare_page(models: Sequence[Model]) -> str:
    """Accuracy against cost, size and latency; the table below says the same without a picture."""
    records = [_record(m) for m in models]
    # `<` and `>` would end the element or begin a comment in it.
    data = json.dumps(records).replace("<", "\\u003c").replace(">", "\\u003e")
    axes = (("cost", "GFLOP per second of audio"), ("params", "parameters, millions"),
            ("latency", "latency, ms"))  # fmt: skip
    text = [
        tag("h1", "Compare"),
        tag("p", "Error rate against what it costs. Point at a mark, or step through them with the "
            "Tab key, to read it. Rates of different data cannot be compared, so one data set is "
            "shown at a time."),
        tag(
            "form",
            tag("label", "Data ", tag("select", [], name="data")),
            tag("label", "Across ",
                tag("select", [tag("option", label, value=key) for key, label in axes],
                    name="axis")),
            tag("details", tag("summary", "Models"), tag("div", [], id="choose")),
            id="compare-form", class_="scripted",
        ),
        tag("noscript", tag("p", "The comparison is drawn by a script; the cards have the same "
                            "numbers.")),
        tag("div", tag("div", [], id="plot"), class_="wide", role="region", tabindex="0",
            aria_label="Plot of error rate against cost"),
        tag("p", [], id="told", role="status", aria_live="polite"),
        scrolling(tag("div", [], id="plot-table"), "The plot's numbers"),
        tag("script", Html(data), type="application/json", id="data"),
    ]  # fmt: skip
    return page("Compare", text, here="compare.html", scripts=True)


def _record(m: Model) -> dict[str, Any]:
    facts = m.entry.facts
    return {
        "name": facts.name,
        "family": facts.family,
        "page": m.page,
        "params": facts.parameters / 1e6,
        "cost": facts.gflop_per_s,
        "latency": facts.step_ms if facts.streaming else None,
        "results": [
            {
                "data": ", ".join(filter(None, (r.data, r.split))),
                "metric": "WER" if isinstance(r, Measurement) else "EER",
                "error": r.wer if isinstance(r, Measurement) else r.eer,
                "low": r.low,
                "high": r.high,
            }
            for r in (*m.card.results, *m.card.verification)
        ],
    }
