"""End-pointing: where one utterance of a stream ends and the next may begin.

By what the recogniser says, not by energy: a model that was trained in noise is the better judge of
what is speech. At an end the stream is finished and another begun with all of its state anew, since
models are trained on utterances: what they carry over minutes was never trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..data.audio import SAMPLE_RATE
from .transcriber import Transcriber
from .transcript import Transcript


@dataclass(frozen=True)
class EndpointRules:
    """When an utterance is over; times in seconds, counted from the last emission.

    Attributes:
      pause: nothing said for so long after something was.
      silence: nothing said for so long from the start: the stream begins anew, without a result.
      longest: an utterance of this length ends at the next `short_pause`,
      hardest: and one of this length wherever it is.
    """

    pause: float = 0.8
    silence: float = 5.0
    longest: float = 15.0
    short_pause: float = 0.25
    hardest: float = 30.0

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
    """An utterance of a stream; its words' times count from the stream's start."""

    start: float
    end: float
    transcript: Transcript


class Listener:
    """A stream without an end, cut into utterances.

    Attributes:
      rules: None: the whole is one utterance.
    """

    def __init__(self, model: Transcriber, rules: EndpointRules | None = None):
        self.rules = rules
        self._model = model
        self._start = 0
        self._received = 0
        self._stream = model.stream()

    @property
    def seconds(self) -> float:
        """Audio received."""
        return self._received / SAMPLE_RATE

    @property
    def text(self) -> str:
        """Of the utterance that is not over."""
        return self._stream.text

    def feed(self, samples: np.ndarray) -> list[Segment]:
        """Takes the next samples; returns the utterances that are over with them."""
        segments: list[Segment] = []
        grain = max(1, round(0.1 * SAMPLE_RATE))
        for at in range(0, len(samples), grain):
            piece = samples[at : at + grain]
            self._stream.push(piece)
            self._received += len(piece)
            spoke_at = self._stream.spoke_at
            if self.rules is not None and self.rules.ended(self._stream.seconds, spoke_at):
                segments += self._end()
        return segments

    def finish(self) -> list[Segment]:
        """The last utterance, if it said anything."""
        return list(self._end())

    def _end(self) -> Iterator[Segment]:
        stream, start = self._stream, self._start / SAMPLE_RATE
        self._stream, self._start = self._model.stream(), self._received
        if not stream.seconds:
            return
        found = stream.finish()
        if found.text:
            words = tuple(replace(w, start=w.start + start, end=w.end + start) for w in found.words)
            yield Segment(start, self.seconds, replace(found, words=words))
