"""Recordings beside a card, with what the model made of them: to be heard before it is trusted.

`parley card examples NAME` takes recordings spread evenly over a test set, so that nobody chose
them, and writes into the model's folder: `example-0.mp3`, ..., a picture `example-0.png` and
`examples.json`, which says what was spoken and what was heard. The model hears the recording,
and people its MP3, which is a tenth as large.
"""

import contextlib
import datetime
import io
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..data.corpus import Corpus
from ..data.errors import InputError
from ..data.fields import build
from ..data.files import replace_file

EXAMPLES = "examples.json"
_SOUND = re.compile(r"example-\d{1,3}b?\.mp3")
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Heard:
    """A recording and its text."""

    audio: str
    """A file beside examples.json."""
    seconds: float
    reference: str
    """Turns of conversations are parted by ` / `."""
    hypothesis: str
    errors: int | None
    """Words that are wrong, missing or too many; None of conversations."""


@dataclass(frozen=True)
class Pair:
    """Two recordings, and whether one speaker is heard in both."""

    audio: str
    other: str
    same: bool
    cosine: float
    threshold: float


@dataclass(frozen=True)
class Examples:
    command: str
    corpus: str
    """In words."""
    date: str
    heard: tuple[Heard, ...] = ()
    pairs: tuple[Pair, ...] = ()


def read_examples(folder: Path) -> Examples | None:
    """The examples in a model's folder; None where there are none.

    Raises InputError where the file is none of `parley card examples`, or names files elsewhere.
    """
    path = folder / EXAMPLES
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is larger than any")
        found = build(Examples, json.loads(path.read_text(encoding="utf-8")), "examples")
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} is no list of examples ({str(error)[:200]}).") from None
    for name in sounds(found):
        if not _SOUND.fullmatch(name) or not (folder / name).is_file():
            raise InputError(f"{path} names {name[:60]!r}, which is no recording beside it.")
    return found


def sounds(found: Examples) -> list[str]:
    """The files that are to be heard."""
    return [h.audio for h in found.heard] + [n for p in found.pairs for n in (p.audio, p.other)]


def write_examples(model: Any, corpus: Corpus, count: int, command: str, to: Path) -> Examples:
    """Makes `count` examples of `corpus` and writes them into the folder `to`.

    `model`: as `zoo.load` gives it.
    """
    for old in to.glob("example*"):
        old.unlink()
    found = Examples(command, corpus.name, datetime.date.today().isoformat())
    if hasattr(model, "transcribe"):
        found = replace(found, heard=tuple(_heard(model, corpus, count, to)))
    else:
        found = replace(found, pairs=tuple(_pairs(model, corpus, count, to)))
    replace_file(to / EXAMPLES, json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n")
    return found


def spread(corpus: Corpus, count: int) -> list[int]:
    """Items evenly over the corpus."""
    last, count = len(corpus) - 1, min(count, len(corpus))
    return [round(i * last / max(count - 1, 1)) for i in range(count)]


def _heard(model: Any, corpus: Corpus, count: int, to: Path) -> Iterator[Heard]:
    from ..data.audio import SAMPLE_RATE
    from ..data.text import normalize
    from ..data.turns import turns_of
    from ..metrics.wer import word_errors

    for number, item in enumerate(spread(corpus, count)):
        samples, utterance = corpus.samples(item), corpus.utterance(item)
        result = model.transcribe(samples)
        turns = turns_of(utterance)
        reference = " / ".join(t.text for t in turns) if turns else normalize(utterance.text)
        heard = " / ".join(t.text for t in result.turns) if turns else normalize(result.text)
        _write_sound(to / f"example-{number}.mp3", samples)
        if number == 0:
            _draw(model, samples, to / "example-0.png")
        yield Heard(
            audio=f"example-{number}.mp3",
            seconds=round(len(samples) / SAMPLE_RATE, 2),
            reference=reference,
            hypothesis=heard,
            errors=None if turns else word_errors(reference, heard).total,
        )


def _pairs(model: Any, corpus: Corpus, count: int, to: Path) -> Iterator[Pair]:
    """Of one speaker and of two in turn; the first recording is spread over the corpus."""
    speakers = [corpus.utterance(i).speaker for i in range(len(corpus))]
    for number, item in enumerate(spread(corpus, count)):
        same = number % 2 == 0
        other = next(
            (
                j % len(corpus)
                for j in range(item + 1, item + len(corpus))
                if (speakers[j % len(corpus)] == speakers[item]) == same
            ),
            None,
        )
        if other is None:
            continue
        names = f"example-{number}.mp3", f"example-{number}b.mp3"
        sound = corpus.samples(item), corpus.samples(other)
        for name, samples in zip(names, sound, strict=True):
            _write_sound(to / name, samples)
        cosine = float(model.score(*sound))
        yield Pair(*names, same, round(cosine, 3), round(float(model.threshold), 3))


def _write_sound(path: Path, samples: Any) -> None:
    import soundfile

    from ..data.audio import SAMPLE_RATE

    made = io.BytesIO()
    soundfile.write(made, samples, SAMPLE_RATE, format="MP3")
    replace_file(path, made.getvalue())


def _draw(model: Any, samples: Any, path: Path) -> None:
    """As `parley inspect` draws a recording."""
    import soundfile

    from ..data.audio import SAMPLE_RATE
    from .commands_inspect import inspect_command

    with tempfile.TemporaryDirectory() as made, contextlib.redirect_stdout(io.StringIO()):
        sound = Path(made) / "example-0.wav"
        soundfile.write(sound, samples, SAMPLE_RATE)
        inspect_command([str(model.folder), str(sound), "--out", str(path)])
