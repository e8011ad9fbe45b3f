"""Enrolled speakers: who is known by which voice, kept in a JSON file.

    book = SpeakerBook.open(Path("speakers.json"), model)
    book.enrol("ann", ["ann1.wav", "ann2.wav"])
    book.save()
    print(book.identify("who.wav")[0])

Recordings are checked before they stand for somebody: enough speech, and one voice in them.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.audio import SAMPLE_RATE
from ..data.errors import InputError
from ..data.files import replace_file
from ..data.speech import speech_only
from .speakers import Audio, SpeakerModel, load_samples

MIN_SPEECH_SECONDS = 1.0
WINDOW_SECONDS = 1.5
_FEWEST_WINDOWS = 2
"""Of either voice: a window alone is no voice."""
_LEAST_SHARE = 0.2
"""Of the windows: a cough is no voice either."""


class Checked(NamedTuple):
    """A recording that can stand for a speaker."""

    name: str
    samples: np.ndarray
    speech_s: float


@dataclass(frozen=True)
class Enrolled:
    """A known speaker."""

    name: str
    embedding: tuple[float, ...]
    """Of unit length: the mean over recordings, by the speech in each."""
    recordings: tuple[str, ...]
    speech_s: float


class Match(NamedTuple):
    name: str
    score: float
    accepted: bool


def check_speech(
    audio: Audio, *, rate: int = SAMPLE_RATE, least_s: float = MIN_SPEECH_SECONDS
) -> Checked:
    """Reads a recording and finds its speech.

    Raises:
      InputError: it cannot be read, is silent, or holds less speech than `least_s` seconds.
    """
    name = "recording" if isinstance(audio, bytes | np.ndarray) else os.fspath(audio)
    samples = load_samples(audio, rate)
    speech = speech_only(samples)
    seconds = len(speech) / SAMPLE_RATE
    if not len(speech):
        raise InputError(f"{name} is silent: record it again, nearer to the microphone.")
    if seconds < least_s:
        raise InputError(
            f"{name} holds {seconds:.1f} s of speech, and {least_s:g} s are the least to know a "
            "voice by: give a longer recording."
        )
    return Checked(name, samples, seconds)


def two_voices(model: SpeakerModel, samples: np.ndarray) -> float | None:
    """How alike the two halves are that a recording's windows fall into most easily.

    Windows of 1.5 s of speech, half overlapping, in two clusters (2-means, beginning with the two
    that are least alike). One voice in two moods still gives a high cosine. How
    well that works at the model's own threshold: `python -m parley.benchmarks.speakers NAME
    --two-voices`.

    Returns:
      The cosine of the clusters' means; None where there are too few windows to tell.
    """
    windows = windows_of(speech_only(samples))
    return halves_alike(model.embed_samples(windows)) if windows else None


def windows_of(samples: np.ndarray) -> list[np.ndarray]:
    """Whole windows of `WINDOW_SECONDS`, half overlapping, of samples [N]."""
    size = round(WINDOW_SECONDS * SAMPLE_RATE)
    return [samples[at : at + size] for at in range(0, len(samples) - size + 1, size // 2)]


def halves_alike(windows: np.ndarray) -> float | None:
    """Cosine of the two clusters that embedded windows [N, D] fall into: 2-means on the sphere,
    beginning with the two that are least alike. None where one of them is no voice of its own: it
    has less than two windows, or a fifth of them."""
    if len(windows) < 2 * _FEWEST_WINDOWS:
        return None
    alike = windows @ windows.T
    first, second = np.unravel_index(np.argmin(alike), alike.shape)
    means = windows[[first, second]]
    fewest = max(_FEWEST_WINDOWS, _LEAST_SHARE * len(windows))
    side = np.zeros(len(windows), int)
    for _ in range(10):
        side = np.argmax(windows @ means.T, axis=1)
        if min(np.bincount(side, minlength=2)) < fewest:
            return None
        means = np.stack([windows[side == k].mean(axis=0) for k in (0, 1)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    return float(means[0] @ means[1])


def check_voice(model: SpeakerModel, audio: Audio) -> Checked:
    """`check_speech`, and one voice. Raises InputError as that, and for two voices."""
    found = check_speech(audio)
    alike = two_voices(model, found.samples)
    if alike is not None and alike < model.threshold:
        raise InputError(
            f"{found.name} seems to hold two voices (cosine {alike:.2f} between its parts, below "
            f"{model.threshold:.2f}): cut it to one speaker, or give --any-voices if it is one."
        )
    return found


class SpeakerBook:
    """The enrolled speakers of one model, by name."""

    def __init__(self, path: Path, model: SpeakerModel, speakers: dict[str, Enrolled]):
        self.path, self.model, self.speakers = path, model, speakers

    @classmethod
    def open(cls, path: Path, model: SpeakerModel, *, must_exist: bool = False) -> "SpeakerBook":
        """Reads the file, or begins anew where there is none.

        Raises:
          InputError: the file is damaged, belongs to another model, or is missing and `must_exist`.
        """
        path = Path(path)
        if not path.exists():
            if must_exist:
                raise InputError(f"{path} is missing: enrol speakers with parley enrol first.")
            return cls(path, model, {})
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            owner, fingerprint = record["model"], record["fingerprint"]
            speakers = {
                name: Enrolled(
                    name,
                    tuple(float(x) for x in entry["embedding"]),
                    tuple(map(str, entry["recordings"])),
                    float(entry["speech_s"]),
                )
                for name, entry in record["speakers"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path} is no list of enrolled speakers: restore it, or enrol anew into another."
            ) from None
        if fingerprint != model.package.fingerprint:
            raise InputError(
                f"{path} was made with {owner} as it then was, and embeddings of two models have "
                "nothing in common: name that model, or enrol anew."
            )
        for speaker in speakers.values():
            if len(speaker.embedding) != model.width or not np.isfinite(speaker.embedding).all():
                raise InputError(f"{path}: the entry of {speaker.name} is damaged; enrol anew.")
        return cls(path, model, speakers)

    def enrol(
        self, name: str, recordings: Sequence[Audio], *, any_voices: bool = False
    ) -> Enrolled:
        """Adds a speaker, or takes the place of one of this name; `save` writes it.

        Args:
          any_voices: take recordings in which several voices seem to speak.

        Raises:
          InputError: a recording cannot be used, or is by somebody else than the others are.
        """
        if not recordings:
            raise InputError(f"nothing to enrol {name} by: give recordings.")
        checked = [
            check_speech(r) if any_voices else check_voice(self.model, r) for r in recordings
        ]
        embedded = self.model.embed_samples([c.samples for c in checked])
        if len(checked) > 1 and not any_voices:
            self._require_one_voice(checked, embedded)
        seconds = np.array([c.speech_s for c in checked])
        mean = (seconds[:, None] * embedded).sum(axis=0)
        mean /= np.linalg.norm(mean)
        made = Enrolled(
            name,
            tuple(round(float(x), 6) for x in mean),
            tuple(c.name for c in checked),
            round(float(seconds.sum()), 2),
        )
        self.speakers[name] = made
        return made

    def _require_one_voice(self, checked: Sequence[Checked], embedded: np.ndarray) -> None:
        """Raises InputError for the recording least like the others, if that is too little."""
        total = embedded.sum(axis=0)
        others = total[None, :] - embedded
        others /= np.linalg.norm(others, axis=1, keepdims=True)
        alike = np.einsum("kd,kd->k", embedded, others)
        odd = int(np.argmin(alike))
        if alike[odd] < self.model.threshold:
            raise InputError(
                f"{checked[odd].name} is not by the voice of the other recordings (cosine "
                f"{alike[odd]:.2f}, below {self.model.threshold:.2f}): leave it out, or give "
                "--any-voices if it is."
            )

    def identify(self, audio: Audio, *, threshold: float | None = None) -> list[Match]:
        """Every enrolled speaker, the likeliest first.

        Raises:
          InputError: nobody is enrolled, or the recording cannot be used.
        """
        if not self.speakers:
            raise InputError(f"{self.path} knows nobody: enrol speakers with parley enrol first.")
        least = self.model.threshold if threshold is None else threshold
        embedding = self.model.embed_samples([check_speech(audio).samples])[0]
        scores = {
            name: float(embedding @ np.array(speaker.embedding, np.float32))
            for name, speaker in self.speakers.items()
        }
        ranked = sorted(scores.items(), key=lambda item: -item[1])
        return [Match(name, score, score >= least) for name, score in ranked]

    def save(self) -> None:
        """Writes the file whole or not at all."""
        record = {
            "model": self.model.name,
            "fingerprint": self.model.package.fingerprint,
            "speakers": {
                name: {k: v for k, v in asdict(speaker).items() if k != "name"}
                for name, speaker in sorted(self.speakers.items())
            },
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
