"""End-pointing: where one utterance of a stream ends and the next may begin.

By what the recogniser says, not by energy: a model that was trained in noise is the better judge of
what is speech. At an end the stream is finished and another begun with all of its state anew, since
models are trained on utterances: what they carry over minutes was never trained. A word may have
begun by then that is not emitted yet, so the next stream hears the end of the pause again.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..data.audio import SAMPLE_RATE, as_samples
from ..data.errors import InputError
from .transcript import Transcript, Word

if TYPE_CHECKING:
    from .transcriber import Transcriber

REHEARD_S = 0.5
"""Seconds of a pause that the next utterance hears again, at most; never more than half of it."""


class Cut(NamedTuple):
    """How an utterance ends: `heard_out`, the pause was as long as the silence that lets a model
    finish, so none is added; the next one begins `again` samples back, in that pause."""

    heard_out: bool
    again: int


@dataclass(frozen=True)
class EndpointRules:
    """When an utterance is over; times in seconds, counted from the last emission.

    Attributes:
      pause: nothing said for so long after something was.
      silence: nothing said for so long from the start: the stream begins anew, without a result.
      longest: an utterance of this length ends at the next `short_pause`,
      hardest: and one of this length wherever it is.

    Raises:
      InputError: a time that is not above 0.
    """

    pause: float = 0.8
    silence: float = 5.0
    longest: float = 15.0
    short_pause: float = 0.25
    hardest: float = 30.0

    def __post_init__(self):
        for name, seconds in asdict(self).items():
            if not seconds > 0:
                raise InputError(f"{name} is {seconds:g} s: give a time above 0.")

    def ended(self, seconds: float, spoke_at: float | None) -> bool:
        """Whether an utterance of `seconds` is over that last spoke at `spoke_at` (None: never)."""
        if spoke_at is None:
            return seconds >= self.silence
        quiet = seconds - spoke_at
        return (
            quiet >= self.pause
            or (seconds >= self.longest and quiet >= self.short_pause)
            or seconds >= self.hardest
        )

    def cut(self, seconds: float, spoke_at: float | None, tail: int) -> Cut | None:
        """The end of an utterance of `seconds`, if this is one; `tail`: samples of silence that let
        the model finish."""
        if not self.ended(seconds, spoke_at):
            return None
        pause = seconds - (spoke_at or 0.0)
        # A pause as long as the tail has let the model finish: what would come now is the next
        # utterance's, and that one hears it from its beginning.
        if pause * SAMPLE_RATE < tail:
            return Cut(heard_out=False, again=0)
        return Cut(heard_out=True, again=round(min(pause / 2, REHEARD_S) * SAMPLE_RATE))


@dataclass(frozen=True)
class Segment:
    """An utterance of a stream; its words' times count from the stream's start.

    `start` to `end` is the audio it was heard in: the next may begin before `end`, in the pause.
    """

    start: float
    end: float
    transcript: Transcript


def segment(transcript: Transcript, start: float, end: float) -> Segment:
    """The utterance between `start` and `end`, in seconds; the transcript's times are its own."""

    def later(word: Word) -> Word:
        return replace(word, start=word.start + start, end=word.end + start)

    words = tuple(map(later, transcript.words))
    turns = tuple(
        replace(t, start=t.start + start, end=t.end + start, words=tuple(map(later, t.words)))
        for t in transcript.turns
    )
    return Segment(start, end, replace(transcript, words=words, turns=turns))


class Listener:
    """A stream without an end, cut into utterances: the same however its audio is cut.

    Attributes:
      rules: None: the whole is one utterance.
    """

    def __init__(self, model: "Transcriber", rules: EndpointRules | None = None):
        self.rules = rules
        self._model = model
        self._step = model.recognizer.samples_per_step
        self._start = 0
        self._heard = 0
        self._audio = np.zeros(0, np.int16)  # the last that was heard, and what waits from `_next`
        self._next = 0
        self._stream = model.stream()

    @property
    def seconds(self) -> float:
        """Audio received."""
        return (self._heard + len(self._audio) - self._next) / SAMPLE_RATE

    @property
    def text(self) -> str:
        """Of the utterance that is not over."""
        return self._stream.text

    def feed(self, samples: np.ndarray) -> list[Segment]:
        """Takes the next samples; returns the utterances that are over with them.

        Raises InputError as `as_samples`, before anything is taken.
        """
        self._audio = np.concatenate([self._audio, as_samples(samples)])
        segments: list[Segment] = []
        # Step by step: the rules then see the same, however the audio comes.
        while len(self._audio) - self._next >= self._step:
            self._push(self._step)
            if self.rules is None:
                continue
            tail = self._model.recognizer.tail
            cut = self.rules.cut(self._stream.seconds, self._stream.spoke_at, tail)
            if cut is not None:
                segments += self._end(cut)
        kept = max(0, self._next - round(REHEARD_S * SAMPLE_RATE))
        self._audio, self._next = self._audio[kept:].copy(), self._next - kept
        return segments

    def finish(self) -> list[Segment]:
        """The last utterance, if it said anything."""
        self._push(len(self._audio) - self._next)
        return self._end(Cut(heard_out=False, again=0))

    def _push(self, count: int) -> None:
        self._stream.push(self._audio[self._next : self._next + count])
        self._next += count
        self._heard += count

    def _end(self, cut: Cut) -> list[Segment]:
        stream, start, end = self._stream, self._start / SAMPLE_RATE, self._heard / SAMPLE_RATE
        self._stream = self._model.stream()
        self._heard -= cut.again
        self._next -= cut.again
        self._start = self._heard
        if not stream.seconds:
            return []
        found = stream.finish(tail=not cut.heard_out)
        return [segment(found, start, end)] if found.text else []
