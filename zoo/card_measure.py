"""Measuring a card's numbers again, and how fast a model is here."""

import contextlib
import datetime
import io
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..data.audio import SAMPLE_RATE
from ..data.corpus import Corpus
from ..data.errors import InputError
from .cards import CARD, Card, Measurement, Speed, read_card
from .decoding import Decoding
from .runtime import device_name
from .speaker_cards import SpeakerMeasurement

Result = Measurement | SpeakerMeasurement
# A card's command is a stranger's text: what it may say is what to measure, not what to write.
_MEASURES = frozenset(
    ["data", "split", "by", "trials", "cohort", "cohort_split", *(f.name for f in fields(Decoding))]
)
_STREAM_SECONDS = 60.0
_CHUNK_S = 0.24


def remeasure(folder: Path) -> Iterator[tuple[Result, Result]]:
    """(what the card says, what is measured now) of each of its results, one after another.

    The model's own folder stays as it is. Raises InputError for a command that is not one of
    `parley evaluate`, or that would do more than measure.
    """
    from .commands_evaluate import evaluate_command

    before = read_card(folder / CARD)
    again = [(old, arguments_of(old.command)) for old in (*before.results, *before.verification)]
    with tempfile.TemporaryDirectory() as made:
        copy = Path(shutil.copytree(folder, Path(made) / before.facts.name))
        for old, arguments in again:
            with contextlib.redirect_stdout(io.StringIO()):
                status = evaluate_command([str(copy), *arguments, "--update-card"])
            if status:
                raise InputError(f"{old.command}: not all of its data could be used.")
            now = read_card(copy / CARD)
            new = next(r for r in (*now.results, *now.verification) if r.condition == old.condition)
            yield old, replace(new, command=old.command)


def arguments_of(command: str) -> list[str]:
    """What follows the model in a card's `parley evaluate MODEL ...`.

    Raises InputError for any other command and for options that do not say what to measure.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if words[:2] != ["parley", "evaluate"] or len(words) < 3 or words[2].startswith("-"):
        raise InputError(f"{command[:80]!r} is no parley evaluate MODEL ...: measure it by hand.")
    for word in words[3:]:
        option = word[2:].partition("=")[0].replace("-", "_")
        if word.startswith("-") and not (word.startswith("--") and option in _MEASURES):
            raise InputError(
                f"{command[:80]!r} has {word[:30]}, which is nothing to measure: run it by hand."
            )
    return words[3:]


def measure_speed(model: Any, corpus: Corpus, utterances: int, command: str) -> Speed:
    """Times real time over the first `utterances` of a corpus, after a run that compiles.

    `model`: as `zoo.load` gives it, a recogniser or a speaker model.
    """
    import jax

    audio = [corpus.samples(i) for i in range(min(utterances, len(corpus)))]
    seconds = sum(map(len, audio)) / SAMPLE_RATE
    whole = model.transcribe if hasattr(model, "transcribe") else model.embed
    whole(audio)
    began = perf_counter()
    whole(audio)
    batch = seconds / (perf_counter() - began)
    return Speed(
        name=f"{corpus.name}, {len(audio)} recordings",
        batch=_rounded(batch),
        stream=_stream_speed(model, audio),
        audio_seconds=round(seconds, 1),
        command=command,
        date=datetime.date.today().isoformat(),
        device=device_name(),
        jax=jax.__version__,
    )


def with_speed(card: Card, speed: Speed) -> Card:
    """The card with this measurement in the place of an older one on the same device."""
    return replace(card, speed=(*(s for s in card.speed if s.device != speed.device), speed))


def _stream_speed(model: Any, audio: list[np.ndarray]) -> float | None:
    """Of one stream; None where the model does not stream."""
    if not hasattr(model, "stream"):
        return None
    try:
        model.stream()
    except InputError:
        return None
    joined = np.concatenate(audio)[: round(_STREAM_SECONDS * SAMPLE_RATE)]
    size = round(_CHUNK_S * SAMPLE_RATE)
    taken = 0.0
    for _ in range(2):  # the first one compiles
        stream, began = model.stream(), perf_counter()
        for start in range(0, len(joined), size):
            stream.feed(joined[start : start + size])
        stream.finish()
        taken = perf_counter() - began
    return _rounded(len(joined) / SAMPLE_RATE / taken)


def _rounded(times: float) -> float:
    """To three digits."""
    return float(f"{times:.3g}")
