"""Model cards: Markdown under Hugging Face metadata, kept in step with what was measured.

The metadata hold the results as `EvalResult`s (the hub's `model-index`), each with the command, the
data, the date and the device that gave it. The text between two `parley:` marks is generated from
the metadata and replaced when a result is added; whatever a person wrote outside them stays.

Reading needs YAML alone, for `parley list`; writing goes through huggingface_hub, which checks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..data.errors import InputError
from ..data.files import replace_file
from . import speaker_cards
from .markdown import block, markdown_table, replace_block
from .speaker_cards import SpeakerMeasurement

CARD = "README.md"
TASK = "automatic-speech-recognition"
_FRONT = re.compile(r"\A---\s*\n(.*?\n)---\s*\n?(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Training:
    """How the weights came about."""

    command: str
    data: str
    date: str
    device: str
    steps: int
    seconds: float
    audio_hours: float
    """Audio seen, repetitions included."""
    init_from: str = ""


@dataclass(frozen=True)
class Facts:
    """What a card states of a model; all of it but `training` also holds for a bare preset."""

    name: str
    family: str
    description: str
    parameters: int
    vocab_size: int
    streaming: bool
    step_ms: float
    """Milliseconds of audio that a step of the encoder takes: the grain of its answers."""
    gflop_per_s: float | None = None
    """Billions of floating-point operations (two a multiply-add) for a second of audio, in a
    stream, the whole model; None in cards that were written before it was counted."""
    encoder_gflop_per_s: float | None = None
    """The encoder's share of them."""
    state_kib: float | None = None
    """What a stream keeps between two chunks, in units of 1,024 bytes; None too where it is no
    stream."""
    task: str | None = None
    """None for recognition; `speaker-verification`."""
    embedding: int | None = None
    """Of a speaker model: the width of what it says of a recording."""
    budget: float | None = None
    """Share of the dense encoder's multiply-adds that an amortized model was trained to spend."""
    status: str = "untrained"
    license: str = "apache-2.0"
    language: str = "en"
    training: Training | None = None
    source: str | None = None
    """Of an imported model: where it is from."""


@dataclass(frozen=True)
class Published:
    """A word error rate that others published of a model; it was not measured here."""

    data: str
    wer: float


@dataclass(frozen=True)
class Measurement:
    """One word error rate and where it is from; percents and counts. Of conversations it is the
    ORC-WER, its interval over recordings, which `speakers` counts."""

    data: str
    """The corpus's spec, as `--data` takes it."""
    split: str
    name: str
    """The corpus in words."""
    wer: float
    low: float | None
    """Lower end of the 95 % interval over speakers; None where there is no such interval."""
    high: float | None
    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int
    speakers: int
    command: str
    date: str
    device: str
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """column -> value -> {wer, low, high, words, speakers}."""
    compute: Mapping[str, float] = field(default_factory=dict)
    """Of an amortized model: theta, and ratio, speech_ratio and model_ratio of `zoo.usage`."""
    turns: Mapping[str, float] = field(default_factory=dict)
    """Of conversations: exact and bias of their number, latencies and rates of their ends."""

    @property
    def condition(self) -> tuple[str, str, float | None]:
        """What a newer measurement must share to take this one's place."""
        return self.data, self.split, self.compute.get("theta")


@dataclass(frozen=True)
class Card:
    facts: Facts
    results: tuple[Measurement, ...] = ()
    text: str = ""
    """The Markdown below the metadata."""
    verification: tuple[SpeakerMeasurement, ...] = ()
    """What a speaker model's measurements are, in the place of `results`."""
    published: tuple[Published, ...] = ()
    """Of an imported model: what its makers say."""
    other: Mapping[str, Any] = field(default_factory=dict)
    """Metadata of other people's making, kept as they are."""

    def with_result(self, result: Measurement | SpeakerMeasurement) -> "Card":
        """With `result` in the place of an older one of the same data."""
        if isinstance(result, SpeakerMeasurement):
            others = tuple(r for r in self.verification if r.condition != result.condition)
            return replace(self, verification=(*others, result))
        kept = tuple(r for r in self.results if r.condition != result.condition)
        return replace(self, results=(*kept, result))


def new_card(facts: Facts, *, notes: str = "") -> Card:
    """A card with the sections that a person should go on writing."""
    if facts.task == speaker_cards.TASK:
        shell = f"parley verify a.wav b.wav --model {facts.name}"
        python = f'print(zoo.load("{facts.name}").embed("recording.wav").shape)'
    else:
        shell = f"parley transcribe {facts.name} recording.wav"
        python = f'print(zoo.load("{facts.name}").transcribe("recording.wav"))'
    text = f"""# {facts.name}

{facts.description}

{block("facts", "")}

## Use

```sh
{shell}
```

```python
from parley import zoo
{python}
```

## Results

{block("results", "")}

## Intended use and limits

{notes or "Not yet written."}
"""
    return Card(facts, text=text)


def read_card(path: Path) -> Card:
    """Raises InputError where the file is missing or its metadata cannot be understood."""
    try:
        found = _FRONT.match(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: a model folder needs its card.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: save it again.") from None
    if not found:
        raise InputError(f"{path} does not begin with metadata between two lines of ---.")
    try:
        # The C loader, where there is one, reads a card with many results ten times as fast.
        metadata = yaml.load(found[1], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return _from_metadata(metadata, found[2])
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 2}" if where else ""
        raise InputError(f"{path}: the metadata are not valid YAML{line}.") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: the metadata are not those of a parley card ({type(error).__name__}: {error})"
        ) from None


def keep_text(path: Path, card: Card) -> Card:
    """`card` with what a person wrote into the one at `path`, where there is one: text, licence and
    other metadata. Not its results: they are of other weights."""
    if not Path(path).exists():
        return card
    before = read_card(path)
    facts = replace(card.facts, license=before.facts.license)
    return Card(facts, text=before.text, other=before.other)


def write_card(path: Path, card: Card) -> None:
    """Writes the card whole or not at all, its generated text brought up to date."""
    replace_file(path, render(card))


def update_card(path: Path, result: Measurement | SpeakerMeasurement) -> Card:
    """Adds a measurement to the card at `path`, and returns the card."""
    card = read_card(path).with_result(result)
    write_card(path, card)
    return read_card(path)


def render(card: Card) -> str:
    """The file's content."""
    from huggingface_hub import EvalResult, ModelCardData

    facts = asdict(card.facts)
    shown = {key: facts.pop(key) for key in ("license", "language", "status")}
    results = [EvalResult(**_eval_result(result)) for result in card.results]
    results += [EvalResult(**speaker_cards.eval_result(result)) for result in card.verification]
    speakers = card.facts.task == speaker_cards.TASK
    tag, kinds = ("feature-extraction", ()) if speakers else (TASK, (TASK,))
    other = {key: value for key, value in card.other.items() if key != "tags"}
    data = ModelCardData(
        **{**other, **shown},
        library_name="parley",
        pipeline_tag=tag,
        tags=list(
            dict.fromkeys(
                [
                    *card.other.get("tags", ()),
                    *kinds,
                    "jax",
                    speaker_cards.TASK if speakers else "transducer",
                ]
            )
        ),
        metrics=["eer" if speakers else "wer"] if results else None,
        model_name=card.facts.name,
        eval_results=results or None,
        parley={key: value for key, value in facts.items() if value is not None}
        | ({"published": [asdict(p) for p in card.published]} if card.published else {}),
    )
    if not results:
        data.pop("model_name")
    return f"---\n{data.to_yaml()}\n---\n\n{body(card)}"


def body(card: Card) -> str:
    """The Markdown below the metadata, its generated blocks brought up to date."""
    text = replace_block(card.text, "facts", _facts_text(card.facts))
    measured = _results_text(card.results)
    if card.verification:
        measured = speaker_cards.results_text(card.verification)
    if card.published:
        measured = f"{measured}\n\n{_published_text(card.published)}"
    text = replace_block(text, "results", measured)
    return f"{text.strip()}\n"


def _from_metadata(metadata: dict[str, Any], text: str) -> Card:
    metadata = dict(metadata)
    own = metadata.pop("parley")
    training = own.pop("training", None)
    published = tuple(Published(**entry) for entry in own.pop("published", ()))
    facts = Facts(
        **own,
        **{key: metadata.pop(key) for key in ("license", "language", "status")},
        training=Training(**training) if training else None,
    )
    if facts.status not in ("trained", "untrained", "imported"):
        raise ValueError(f"status {facts.status!r} is not trained, untrained or imported")
    found = [
        (entry["dataset"], metric)
        for model in metadata.pop("model-index", [])
        for entry in model["results"]
        for metric in entry["metrics"]
    ]
    results = tuple(_measurement(*entry) for entry in found if entry[1]["type"] == "wer")
    verification = tuple(
        speaker_cards.measurement(*entry) for entry in found if entry[1]["type"] == "eer"
    )
    for key in ("library_name", "pipeline_tag", "metrics"):
        metadata.pop(key, None)
    return Card(facts, results, text, verification, published, metadata)


def _eval_result(result: Measurement) -> dict[str, Any]:
    """Fields of an `EvalResult`. The hub groups by dataset type, config and split: these differ
    for any two conditions."""
    arguments = {k: v for k, v in asdict(result).items() if v is not None and v != {}}
    for key in ("name", "split", "wer"):
        del arguments[key]
    source, _, query = result.data.partition("?")
    if result.compute:
        query = "&".join(filter(None, [query, f"theta={result.compute['theta']:g}"]))
    return {
        "task_type": TASK,
        "task_name": "Speech recognition",
        "dataset_type": source,
        "dataset_name": result.name,
        "dataset_config": query or None,
        "dataset_split": result.split or None,
        "metric_type": "wer",
        "metric_name": "ORC-WER (%)" if result.turns else "WER (%)",
        "metric_value": result.wer,
        "metric_args": arguments,
    }


def _measurement(dataset: Mapping[str, Any], metric: Mapping[str, Any]) -> Measurement:
    return Measurement(
        **{"low": None, "high": None, **metric["args"]},
        name=dataset["name"],
        split=dataset.get("split", ""),
        wer=float(metric["value"]),
    )


def _facts_text(facts: Facts) -> str:
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
    return markdown_table(("what", ""), rows)


def _kind_rows(facts: Facts) -> list[tuple[str, str]]:
    if facts.task == speaker_cards.TASK:
        return [("embedding", f"{facts.embedding:,} numbers a recording")]
    return [
        ("tokens", f"{facts.vocab_size:,}, blank included"),
        ("streaming", f"yes, in steps of {facts.step_ms:g} ms" if facts.streaming else "no"),
    ]


def _cost_rows(facts: Facts) -> list[tuple[str, str]]:
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


def _results_text(results: Sequence[Measurement]) -> str:
    if not results:
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


def _published_text(published: Sequence[Published]) -> str:
    rows = [(p.data, f"{p.wer:.2f} %") for p in published]
    table = markdown_table(("data", "WER, published"), rows)
    return f"Published by its makers, not measured here:\n\n{table}"


def _compute_cells(result: Measurement) -> tuple[str, ...]:
    shown = (result.compute.get(key) for key in ("ratio", "speech_ratio", "theta"))
    return tuple("" if value is None else f"{value:.3g}" for value in shown)


def _turn_cells(result: Measurement) -> tuple[str, ...]:
    exact, end = result.turns.get("exact"), result.turns.get("end_p90")
    return "" if exact is None else f"{exact:.1f} %", "" if end is None else f"{end:.2f} s"


def percent(wer: float, low: float | None, high: float | None) -> str:
    """`5.31 % (4.20 to 6.55)`; the arguments are percents."""
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{wer:.2f} %{interval}"
