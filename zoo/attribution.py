"""Who said what: a speaker for every turn, by the sound of its voice.

    names = attribute(samples, turns)                                # "speaker 1", "speaker 2", ...
    names = attribute(samples, turns, enrolled={"Ann": ann}, max_speakers=3)

Turns are taken as they end, which is the order that speakers are numbered in. Each is compared with
the speakers met so far; near enough to one, it is his, and moves his mean; else it is somebody
new's. What others say at the same time is cut out first, and who talks at the same time is somebody
else. A turn with too little left to embed goes to the latest speaker on its channel, else to the
latest at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..data.audio import SAMPLE_RATE
from ..data.errors import InputError
from .enrolment import halves_alike, windows_of
from .voice_embedding import SpeakerVoice, VoiceEmbedding

LEAST_SECONDS = 0.5
"""Less is not embedded."""
FOUNDING_SECONDS = 0.75
"""Less makes no new speaker where there is one to choose, and does not move a mean."""
ENROLMENT_SECONDS = 4.0
"""The least that an enrolment holds."""
_TOGETHER_SECONDS = 0.25
"""Turns of two channels that overlap by more are two speakers'; ends are not told more exactly."""


class TimedTurn(Protocol):
    """A recognised turn, times in seconds."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def channel(self) -> int: ...


@dataclass(eq=False)
class _Speaker:
    name: str
    total: np.ndarray | float = 0.0
    """Sum of embeddings, weighted by seconds."""

    def likeness(self, embedding: np.ndarray) -> float:
        """Cosine with the mean; of a speaker without one, 0."""
        length = float(np.linalg.norm(self.total))
        return float(np.dot(embedding, self.total)) / length if length else 0.0

    @property
    def heard(self) -> bool:
        return bool(np.any(self.total))


class Attributor:
    """Names the turns of a conversation, one after another; `begin` begins another one.

    Args:
      embedding: what tells voices apart; by default the zoo's speaker model.
      enrolled: recordings (16 kHz int16 [N]) of speakers who are known by name.
      max_speakers: how many there can be, with the enrolled ones; None: any number.

    Raises:
      InputError: an enrolment is too short or holds two voices, or there are more than
        `max_speakers` of them.
    """

    def __init__(
        self,
        embedding: VoiceEmbedding | None = None,
        *,
        enrolled: Mapping[str, np.ndarray] | None = None,
        max_speakers: int | None = None,
    ):
        enrolled = enrolled or {}
        if max_speakers is not None and max_speakers < max(1, len(enrolled)):
            raise InputError(
                f"at most {max_speakers} speakers, but {len(enrolled)} are enrolled: allow more."
                if enrolled
                else f"at most {max_speakers} speakers: allow one or more."
            )
        self._embedding = embedding or SpeakerVoice()
        self._most = max_speakers
        self._enrolled = {
            name: ENROLMENT_SECONDS * enrol(name, samples, self._embedding)
            for name, samples in enrolled.items()
        }
        self.begin()

    def begin(self) -> None:
        """Forgets all but who is enrolled."""
        self._speakers = [_Speaker(name, total) for name, total in self._enrolled.items()]
        self._past: list[tuple[TimedTurn, _Speaker]] = []

    def attribute(self, samples: np.ndarray, turns: Sequence[TimedTurn]) -> list[str]:
        """A speaker for each turn of another recording, 16 kHz int16 [N], in the order given."""
        self.begin()
        names = [""] * len(turns)
        for i in sorted(range(len(turns)), key=lambda i: (turns[i].end, turns[i].start)):
            names[i] = self.name(turns[i], alone(samples, turns[i], turns))
        return names

    def name(self, turn: TimedTurn, samples: np.ndarray) -> str:
        """The speaker of a turn.

        Args:
          turn: later turns end later.
          samples: 16 kHz int16 [N] of the turn, without what others say (`alone`); may be empty.
        """
        others = self._heard_beside(turn)
        known = [speaker for speaker in self._speakers if speaker not in others]
        seconds = len(samples) / SAMPLE_RATE
        if seconds >= LEAST_SECONDS:
            speaker = self._by_voice(samples, seconds, known)
        else:
            speaker = self._nearest(turn, known) or self._new() or self._any(turn)
        self._past.append((turn, speaker))
        return speaker.name

    def _by_voice(self, samples: np.ndarray, seconds: float, known: list[_Speaker]) -> _Speaker:
        embedding = self._embedding.embed(samples)
        heard = [speaker for speaker in known if speaker.heard]
        best = max(heard, key=lambda speaker: speaker.likeness(embedding), default=None)
        silent = next((speaker for speaker in known if not speaker.heard), None)
        firm = seconds >= FOUNDING_SECONDS
        if best is None or (firm and best.likeness(embedding) < self._embedding.same):
            # Of whom nothing was heard but a word too short, he may be this one.
            best = silent or self._new() or best or self._closest(embedding)
        if firm or not best.heard:
            best.total = best.total + seconds * embedding
        return best

    def _closest(self, embedding: np.ndarray) -> _Speaker:
        """Where all that there can be talk at once by the clock, the clock is wrong."""
        return max(self._speakers, key=lambda speaker: speaker.likeness(embedding))

    def _heard_beside(self, turn: TimedTurn) -> list[_Speaker]:
        return [
            speaker
            for other, speaker in self._past
            if other.channel != turn.channel
            and min(other.end, turn.end) - max(other.start, turn.start) > _TOGETHER_SECONDS
        ]

    def _nearest(self, turn: TimedTurn, known: list[_Speaker]) -> _Speaker | None:
        """The latest speaker on the turn's channel, else the latest."""
        past = [(other, speaker) for other, speaker in self._past if speaker in known]
        if not past:
            return None
        _, speaker = max(past, key=lambda at: (at[0].channel == turn.channel, at[0].end))
        return speaker

    def _any(self, turn: TimedTurn) -> _Speaker:
        return self._nearest(turn, self._speakers) or self._speakers[0]

    def _new(self) -> _Speaker | None:
        if self._most is not None and len(self._speakers) >= self._most:
            return None
        taken = {speaker.name for speaker in self._speakers}
        number = next(n for n in range(1, len(taken) + 2) if f"speaker {n}" not in taken)
        self._speakers.append(_Speaker(f"speaker {number}"))
        return self._speakers[-1]


def attribute(
    samples: np.ndarray,
    turns: Sequence[TimedTurn],
    embedding: VoiceEmbedding | None = None,
    *,
    enrolled: Mapping[str, np.ndarray] | None = None,
    max_speakers: int | None = None,
) -> list[str]:
    """A speaker for each turn of a recording, in the order of the turns given.

    Args:
      samples: 16 kHz int16 [N], the whole recording.
      turns: in any order.
      embedding, enrolled, max_speakers: see `Attributor`, which raises InputError.
    """
    attributor = Attributor(embedding, enrolled=enrolled, max_speakers=max_speakers)
    return attributor.attribute(samples, turns)


def alone(samples: np.ndarray, turn: TimedTurn, others: Iterable[TimedTurn]) -> np.ndarray:
    """What is heard of a turn while no other is: int16 [M], strung together.

    Args:
      samples: 16 kHz int16 [N], the recording from its beginning; what of the turn lies outside is
        left out.
      others: turns whose time is cut out, but for those of the turn's own channel, which cannot
        overlap it.
    """
    first, last = (min(max(0, _at(time)), len(samples)) for time in (turn.start, turn.end))
    keep = np.ones(max(0, last - first), bool)
    for other in others:
        if other.channel != turn.channel:
            keep[max(0, _at(other.start) - first) : max(0, _at(other.end) - first)] = False
    return samples[first : first + len(keep)][keep]


def enrol(name: str, samples: np.ndarray, embedding: VoiceEmbedding) -> np.ndarray:
    """The embedding of an enrolment, 16 kHz int16 [N], of `ENROLMENT_SECONDS` at least.

    Raises:
      InputError: it is too short, or two voices are heard in it.
    """
    seconds = len(samples) / SAMPLE_RATE
    if seconds < ENROLMENT_SECONDS:
        raise InputError(
            f"the enrolment of {name} has {seconds:.1f} s: give {ENROLMENT_SECONDS:.0f} s or more "
            "of this one voice."
        )
    likeness = likeness_of_halves(samples, embedding)
    if likeness < embedding.undivided:
        raise InputError(
            f"the enrolment of {name} seems to hold two voices (they are alike by {likeness:.2f}; "
            f"one voice's parts by {embedding.undivided:.2f} or more): give a recording of "
            f"{name} alone."
        )
    return embedding.embed(samples)


def likeness_of_halves(samples: np.ndarray, embedding: VoiceEmbedding) -> float:
    """Cosine of the two clusters that an enrolment's windows fall into (`enrolment.halves_alike`):
    low where two voices are heard, 1 where there is no second one."""
    alike = halves_alike(np.stack([embedding.embed(window) for window in windows_of(samples)]))
    return 1.0 if alike is None else alike


def _at(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
