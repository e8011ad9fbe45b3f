"""What a card says in words and pictures: the template, and the blocks that are generated."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import speaker_cards
from .architecture import PREDICTION
from .markdown import block, markdown_table, percent, replace_block

if TYPE_CHECKING:
    from .cards import Card, Facts, Measurement, Published, Speed

_SECTIONS = (
    ("facts", ""),
    ("architecture", "Architecture"),
    ("results", "Results"),
    ("speed", "Speed"),
)
"""Generated blocks in their order, and the headings that they stand under."""


def template(facts: "Facts", notes: str = "") -> str:
    """The Markdown of a new card, with the sections that a person should go on writing."""
    if facts.task == speaker_cards.TASK:
        shell = f"parley verify a.wav b.wav --model {facts.name}"
        python = f'print(zoo.load("{facts.name}").embed("recording.wav").shape)'
    else:
        shell = f"parley transcribe {facts.name} recording.wav"
        python = f'print(zoo.load("{facts.name}").transcribe("recording.wav"))'
    use = f"""```sh
{shell}
```

```python
from parley import zoo
{python}
```"""
    if facts.status == "untrained":
        use = f"""A preset without weights: train it first.

```sh
parley train {facts.name}
```"""
    return f"""# {facts.name}

{facts.description}

{block("facts", "")}

## Architecture

{block("architecture", "")}

## Use

{use}

## Results

{block("results", "")}

## Speed

{block("speed", "")}

## Intended use and limits

{notes or "Not yet written."}
"""


def body(card: "Card") -> str:
    """The Markdown below the metadata, its generated blocks brought up to date."""
    measured = _results_text(card)
    if card.verification:
        measured = speaker_cards.results_text(card.verification)
    if card.published:
        measured = f"{measured}\n\n{_published_text(card.published)}"
    contents = {
        "facts": _facts_text(card.facts),
        "architecture": _architecture_text(card.facts),
        "results": measured,
        "speed": _speed_text(card.speed),
    }
    text = card.text
    for i, (name, heading) in enumerate(_SECTIONS):
        before = _SECTIONS[i - 1][0] if i else None
        text = replace_block(text, name, contents[name], heading=heading, after=before)
    return f"{text.strip()}\n"


def _architecture_text(facts: "Facts") -> str:
    if not facts.architecture:
        return "Not described."
    marks = {part: f"p{i}" for i, part in enumerate(facts.architecture)}
    lines = ["```mermaid", "flowchart LR", '  sound(["sound"])']
    for part, what in facts.architecture.items():
        lines.append(f'  {marks[part]}["{_quoted(part)}<br>{_quoted(what)}"]')
    chain = ["sound", *(mark for part, mark in marks.items() if part != PREDICTION)]
    if PREDICTION in marks:
        lines.append(f'  text(["text so far"]) --> {marks[PREDICTION]} --> {chain[-1]}')
        chain.append('token(["next token"])')
    lines.append("  " + " --> ".join(chain))
    return "\n".join([*lines, "```"])


def _quoted(text: str) -> str:
    """For a label of Mermaid, which would read marks in it."""
    for mark, name in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
        text = text.replace(mark, name)
    return text.replace("\n", " ")


def _speed_text(speed: "Sequence[Speed]") -> str:
    if not speed:
        return "Not measured yet."
    head = ("device", "data", "batch", "one stream")
    rows = [
        (
            s.device,
            s.name,
            f"{s.batch:,.0f} times real time",
            "" if s.stream is None else f"{s.stream:,.0f} times real time",
        )
        for s in speed
    ]
    measured = [f"- {s.device}: `{s.command}`, {s.date}, jax {s.jax}" for s in speed]
    return f"{markdown_table(head, rows)}\n\nMeasured by:\n\n" + "\n".join(measured)


def _facts_text(facts: "Facts") -> str:
    rows = [
        ("status", facts.status),
        ("parameters", f"{facts.parameters:,}"),
        *_kind_rows(facts),
        *_cost_rows(facts),
        ("language", facts.language),
        ("licence", facts.license),
    ]
    if facts.source:
        rows.append(("imported from", facts.source))
    if training := facts.training:
        rows += [
            ("trained on", f"{training.data}, {training.audio_hours:,.1f} h of audio seen"),
            ("training", f"{training.steps:,} steps in {training.seconds / 60:,.1f} min"),
            ("device, date", f"{training.device}, {training.date}"),
            ("command", f"`{training.command}`"),
        ]
        if training.init_from:
            rows.append(("begun from", training.init_from))
    return markdown_table(("what", "value"), rows)


def _kind_rows(facts: "Facts") -> list[tuple[str, str]]:
    if facts.task == speaker_cards.TASK:
        return [("embedding", f"{facts.embedding:,} numbers a recording")]
    return [
        ("tokens", f"{facts.vocab_size:,}, blank included"),
        ("streaming", f"yes, in steps of {facts.step_ms:g} ms" if facts.streaming else "no"),
    ]


def _cost_rows(facts: "Facts") -> list[tuple[str, str]]:
    rows = []
    if facts.gflop_per_s is not None:
        encoder = (
            f", of which the encoder {facts.encoder_gflop_per_s:g}"
            if facts.encoder_gflop_per_s is not None
            else ""
        )
        rows.append(("cost", f"{facts.gflop_per_s:g} GFLOP per second of audio{encoder}"))
    if facts.budget is not None:
        rows.append(("budget", f"{facts.budget:g} of the encoder's computation, by its gates"))
    if facts.state_kib is not None:
        rows.append(("state of a stream", f"{facts.state_kib:g} KiB"))
    return rows


def _results_text(card: "Card") -> str:
    results = card.results
    if not results:
        if card.facts.status == "untrained":
            return "Nothing has been measured yet. This preset has no weights."
        return "Nothing has been measured yet."
    head = ("data", "WER (95 % interval over speakers)", "sub / del / ins", "words")
    rows = [
        (
            f"{r.name}, {r.split}" if r.split else r.name,
            percent(r.wer, r.low, r.high) + (" ORC-WER" if r.turns else ""),
            f"{r.substitutions} / {r.deletions} / {r.insertions}",
            f"{r.words:,} of {r.speakers} {'recordings' if r.turns else 'speakers'}",
        )
        for r in results
    ]
    if any(r.compute for r in results):
        head += ("encoder computes", "on speech", "theta")
        rows = [(*row, *_compute_cells(r)) for row, r in zip(rows, results, strict=True)]
    if any(r.turns for r in results):
        head += ("turns counted right", "end of turn, P90")
        rows = [(*row, *_turn_cells(r)) for row, r in zip(rows, results, strict=True)]
    parts = [markdown_table(head, rows)]
    for r in results:
        for column, values in r.groups.items():
            group_rows = [
                (value, percent(g["wer"], g.get("low"), g.get("high")), f"{g['words']:,}")
                for value, g in values.items()
            ]
            parts.append(f"{r.name}, by {column}:")
            parts.append(markdown_table((column, "WER", "words"), group_rows))
    measured = [f"- {r.name}: `{r.command}`, {r.date}, {r.device}" for r in results]
    return "\n\n".join([*parts, "Measured by:\n\n" + "\n".join(measured)])


def _published_text(published: "Sequence[Published]") -> str:
    rows = [(p.data, f"{p.wer:.2f} %") for p in published]
    table = markdown_table(("data", "WER, published"), rows)
    return f"Published by its makers, not measured here:\n\n{table}"


def _compute_cells(result: "Measurement") -> tuple[str, ...]:
    shown = (result.compute.get(key) for key in ("ratio", "speech_ratio", "theta"))
    return tuple("" if value is None else f"{value:.3g}" for value in shown)


def _turn_cells(result: "Measurement") -> tuple[str, ...]:
    exact, end = result.turns.get("exact"), result.turns.get("end_p90")
    return "" if exact is None else f"{exact:.1f} %", "" if end is None else f"{end:.2f} s"
