"""End-pointing: where one utterance of a stream ends and the next may begin.

By what the recogniser says, not by energy: a model that was trained in noise is the better judge of
what is speech. At an end the stream is finished and another begun with all of its state anew, since
models are trained on utterances: what they carry over minutes was never trained. A word may have
begun by then that is not emitted yet, so the next stream hears the end of the pause again.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np

from ..data.audio import SAMPLE_RATE, as_samples
from ..data.errors import InputError
from .transcriber import Transcriber
from .transcript import Transcript

REHEARD_S = 0.5
"""Seconds of a pause that the next utterance hears again, at most; never more than half of it."""


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


@dataclass(frozen=True)
class Segment:
    """An utterance of a stream; its words' times count from the stream's start.

    `start` to `end` is the audio it was heard in: the next may begin before `end`, in the pause.
    """

    start: float
    end: float
    transcript: Transcript


class Listener:
    """A stream without an end, cut into utterances: the same however its audio is cut.

    Attributes:
      rules: None: the whole is one utterance.
    """

    def __init__(self, model: Transcriber, rules: EndpointRules | None = None):
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
            seconds, spoke_at = self._stream.seconds, self._stream.spoke_at
            if self.rules is not None and self.rules.ended(seconds, spoke_at):
                segments += self._end(seconds - (spoke_at or 0.0))
        kept = max(0, self._next - round(REHEARD_S * SAMPLE_RATE))
        self._audio, self._next = self._audio[kept:].copy(), self._next - kept
        return segments

    def finish(self) -> list[Segment]:
        """The last utterance, if it said anything."""
        self._push(len(self._audio) - self._next)
        return self._end()

    def _push(self, count: int) -> None:
        self._stream.push(self._audio[self._next : self._next + count])
        self._next += count
        self._heard += count

    def _end(self, pause: float = 0.0) -> list[Segment]:
        """Ends the utterance, after so many seconds without a word."""
        stream, start, end = self._stream, self._start / SAMPLE_RATE, self._heard / SAMPLE_RATE
        # A pause as long as the tail has let the model finish: what would come now is the next
        # utterance's, and that one hears it from its beginning.
        heard_out = pause * SAMPLE_RATE >= self._model.recognizer.tail
        again = round(min(pause / 2, REHEARD_S) * SAMPLE_RATE) if heard_out else 0
        self._stream = self._model.stream()
        self._heard -= again
        self._next -= again
        self._start = self._heard
        if not stream.seconds:
            return []
        found = stream.finish(tail=not heard_out)
        words = tuple(replace(w, start=w.start + start, end=w.end + start) for w in found.words)
        return [Segment(start, end, replace(found, words=words))] if found.text else []
