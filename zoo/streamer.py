"""Recognition while the audio arrives.

    stream = zoo.load("rnnt-tiny").stream()
    for chunk in microphone:
        print(stream.feed(chunk))
    print(stream.finish())

The text is the one that `transcribe` gives for the whole recording, however the audio is cut.
"""

import numpy as np

from ..data.audio import SAMPLE_RATE, as_samples
from .assembly import Assembly
from .programs import STREAM_BLOCKS, Programs
from .transcript import HeardTurn, Token, Transcript


class Stream:
    """One recording in the making: memory and time a chunk do not grow with its length.

    `eager=False` waits for the largest block before it computes: fewer programs, for recordings
    that are there already and whose partial text nobody reads.
    """

    def __init__(self, recognizer: Programs, *, source: str = "", eager: bool = True):
        self._recognizer = recognizer
        self._source = source
        self._blocks = STREAM_BLOCKS if eager else STREAM_BLOCKS[:1]
        self._state = recognizer.start_streams(1)
        self._heard = Assembly(recognizer)
        self._waiting = np.zeros(0, np.int16)
        self._tentative: list[list[Token]] = []
        self._received = 0
        self._finished = False

    @property
    def text(self) -> str:
        """What has been recognised so far; the last word may be unfinished, and in beam search
        the last words may change."""
        return self._heard.preview(self._tentative)

    @property
    def seconds(self) -> float:
        """Audio received."""
        return self._received / SAMPLE_RATE

    @property
    def spoke_at(self) -> float | None:
        """Seconds from the start at which the last token was emitted; None: none was."""
        return self._heard.spoke_at(self._tentative)

    @property
    def turns(self) -> tuple[HeardTurn, ...]:
        """Of a model that hears turns: those that have ended."""
        return self._heard.turns

    def feed(self, samples: np.ndarray) -> str:
        """Takes the next samples (16 kHz mono, int16 or floats in [-1, 1]; any number of them).

        Returns the text so far. Raises InputError as `as_samples` does, and ValueError after
        `finish`.
        """
        self.push(samples)
        return self.text

    def push(self, samples: np.ndarray) -> None:
        """`feed` without putting the text together."""
        if self._finished:
            raise ValueError("this stream is finished: begin another one")
        samples = as_samples(samples)
        self._received += len(samples)
        self._run(samples, self._blocks)

    def finish(self, *, tail: bool = True) -> Transcript:
        """The result; the silence that lets the model finish its last word is added here.

        `tail=False`: it is not, as after a pause that was heard already.
        """
        if self._finished:
            raise ValueError("this stream is finished: begin another one")
        if self._received:  # of no samples there is no last word
            if tail:
                self._run(np.zeros(self._recognizer.tail, np.int16), STREAM_BLOCKS)
            self._heard.push(self._recognizer.rest(self._state)[: self._heard.channels])
        self._finished = True
        return self._heard.finish(self.seconds, self._source)

    def _run(self, samples: np.ndarray, blocks: tuple[int, ...]) -> None:
        """Advances by all whole blocks, largest first; the rest waits, less than the smallest."""
        # A copy even where nothing waited: the caller may overwrite a buffer that he handed in.
        audio = np.concatenate([self._waiting, samples])
        at, step = 0, self._recognizer.samples_per_step
        for block in blocks:
            size = block * step
            while len(audio) - at >= size:
                piece = audio[None, at : at + size]
                heard, self._state = self._recognizer.step(piece, self._state)
                rows = heard[: self._heard.channels]
                self._heard.push([row.tokens for row in rows])
                self._tentative = [row.tentative for row in rows]
                at += size
        self._waiting = audio[at:].copy()
