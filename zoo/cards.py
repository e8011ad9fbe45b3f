"""Model cards: Markdown under Hugging Face metadata, kept in step with what was measured.

The metadata hold the results as `EvalResult`s (the hub's `model-index`), each with the command, the
data, the date and the device that gave it. The text between two `parley:` marks is generated from
the metadata and replaced when a result is added; whatever a person wrote outside them stays.

Reading needs YAML alone, for `parley list`; writing goes through huggingface_hub, which checks.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..data.errors import InputError
from ..data.fields import build
from ..data.files import replace_file
from . import speaker_cards
from .card_text import body as body
from .card_text import template
from .card_yaml import read_front
from .markdown import percent as percent
from .speaker_cards import SpeakerMeasurement

CARD = "README.md"
TASK = "automatic-speech-recognition"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


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
    turns: bool | None = None
    """Whether its text comes in turns of several talkers; None where it does not."""
    architecture: Mapping[str, str] = field(default_factory=dict)
    """Its parts in a few words each, from the sound to the answer (`architecture.parts`)."""
    status: Literal["trained", "untrained", "imported"] = "untrained"
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
class Speed:
    """How fast the model was on one machine, compilation left out; times real time."""

    name: str
    """The corpus in words."""
    batch: float
    """Whole recordings in batches."""
    stream: float | None
    """One stream, chunk after chunk; None of models that do not stream."""
    audio_seconds: float
    command: str
    date: str
    device: str
    jax: str
    """Its version."""


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
    speed: tuple[Speed, ...] = ()
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
    return Card(facts, text=template(facts, notes))


def read_card(path: Path) -> Card:
    """Raises InputError where the file is missing or its metadata cannot be understood."""
    metadata, text = read_front(Path(path))
    try:
        return _from_metadata(metadata, text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: the metadata are not those of a parley card ({what}).") from None


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
    results = [EvalResult(**eval_result(result)) for result in card.results]
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
        parley={
            **{key: value for key, value in facts.items() if value not in (None, {})},
            **({"published": [asdict(p) for p in card.published]} if card.published else {}),
            **({"speed": [asdict(s) for s in card.speed]} if card.speed else {}),
        },
    )
    if not results:
        data.pop("model_name")
    return f"---\n{data.to_yaml()}\n---\n\n{body(card)}"


def _from_metadata(metadata: dict[str, Any], text: str) -> Card:
    metadata = dict(metadata)
    own = dict(metadata.pop("parley"))
    published = tuple(build(Published, values, "published") for values in own.pop("published", ()))
    speed = tuple(build(Speed, values, "speed") for values in own.pop("speed", ()))
    shown = {key: metadata.pop(key) for key in ("license", "language", "status")}
    facts = build(Facts, {**own, **shown}, "parley")
    if not _NAME.fullmatch(facts.name):
        raise ValueError(f"{facts.name[:96]!r} is no model's name")
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
    return Card(facts, results, text, verification, published, speed, metadata)


def eval_result(result: Measurement) -> dict[str, Any]:
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
    values = {
        "low": None,
        "high": None,
        **metric["args"],
        "name": dataset["name"],
        "split": dataset.get("split", ""),
        "wer": metric["value"],
    }
    result = build(Measurement, values, "a result")
    speaker_cards.check_groups(result.groups, ("wer", "words"))
    return result
