"""Text with times: what a recogniser returns, and how tokens become words."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol


class Pieces(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, ids: Sequence[int]) -> str: ...
    def starts_word(self, id: int, /) -> bool: ...


class Token(NamedTuple):
    """A token as the decoder emits it."""

    id: int
    frame: int
    """Encoder frame of the emission, counted from the start of the recording."""
    probability: float


@dataclass(frozen=True)
class Word:
    """A word with the times at which a streaming model speaks it, and how sure it is.

    `start` is the beginning of the frame that its first token was emitted in, and `end` the end of
    the last one's or the start of the next word, whichever comes first; in seconds. A streaming
    model emits a little after it has heard, so these times lie behind the sound, the more so for a
    model that was not trained to hurry.
    """

    text: str
    start: float
    end: float
    confidence: float
    """How likely the word is right, 0 to 1: the product of its tokens' probabilities, which the
    model's calibrator, where it has one, moves to where it belongs (docs/confidence.md).

    Of the ways to make one number of a word's tokens, the product tells right from wrong best.
    Area under the ROC curve, rnnt-tiny: on `assistant`'s test set (7,557 words, 2.5 % of them
    wrong) 0.847, the minimum 0.842, the mean 0.828; on `words?limit=300&noise=10` of the
    development set (679 words, 11 % wrong) 0.894, 0.874, 0.814. By itself it promises too little:
    calibration error 16.4, 12.5 and 5.3 % on the test set. With calibrators fitted to the
    development set that is 0.5, 0.8 and 0.7 %, and the normalised cross entropy 0.22, 0.19, 0.15.
    """


@dataclass(frozen=True)
class HeardTurn:
    """What one talker says without a break, in a conversation."""

    text: str
    start: float
    """Seconds: the beginning of the frame in which the model says that the turn begins; without
    such a marker, of the one that gives its first word."""
    end: float
    """Seconds: the end of the frame in which it says that the turn has ended; without, of the last
    word. It is only known from here on."""
    channel: int
    words: tuple[Word, ...] = ()
    marked: tuple[bool, bool] = (False, False)
    """Whether the model marked beginning and end."""
    speaker: str = ""
    """'' where nobody was asked for."""

    def as_dict(self, *, words: bool = False) -> dict[str, Any]:
        """For a JSON line; times to the millisecond."""
        who = {"speaker": self.speaker} if self.speaker else {}
        times = {"start": round(self.start, 3), "end": round(self.end, 3)}
        spoken = {"words": [_word_record(word) for word in self.words]} if words else {}
        return {**times, "channel": self.channel, **who, "text": self.text, **spoken}


@dataclass(frozen=True)
class Alternative:
    """What else a recording may have said."""

    text: str
    score: float
    """Log-probability of its tokens, with what language model and phrases added."""


@dataclass(frozen=True)
class Transcript:
    """The result for one recording; `str()` is its text."""

    text: str
    words: tuple[Word, ...]
    duration: float
    """Seconds of audio."""
    source: str = ""
    """The file's path; '' for samples from memory."""
    alternatives: tuple[Alternative, ...] = ()
    """The next best of a beam search that was asked for several, best first."""
    turns: tuple[HeardTurn, ...] = ()
    """Of a model that hears turns, in the order of their beginnings; the text is theirs."""

    def __str__(self) -> str:
        return self.text

    def as_dict(self, *, words: bool = True) -> dict[str, Any]:
        """For a JSON line; times to the millisecond. Words of turns are in the turns."""
        record: dict[str, Any] = {
            "audio_filepath": self.source,
            "text": self.text,
            "duration": round(self.duration, 3),
        }
        if self.alternatives:
            record["alternatives"] = [
                {"text": other.text, "score": round(other.score, 3)} for other in self.alternatives
            ]
        if self.turns:
            record["turns"] = [turn.as_dict(words=words) for turn in self.turns]
        elif words:
            record["words"] = [_word_record(word) for word in self.words]
        return record


def _word_record(word: Word) -> dict[str, Any]:
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(word).items()}


class Assembler:
    """Puts words together from tokens, which may come at once or as a stream.

    `calibrator` takes the probability that the model gives to a word to the word's confidence;
    None: they are the same.
    """

    def __init__(
        self,
        tokenizer: Pieces,
        frame_s: float,
        calibrator: Callable[[float], float] | None,
    ):
        self._tokenizer = tokenizer
        self._frame_s = frame_s
        self._calibrator = calibrator
        self._words: list[Word] = []
        self._open: list[Token] = []

    def push(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            if self._open and self._tokenizer.starts_word(token.id):
                self._close(token.frame)
            self._open.append(token)

    @property
    def spoke_at(self) -> float | None:
        """End of the frame that the last token was emitted in, in seconds; None: none was."""
        if self._open:
            return (self._open[-1].frame + 1) * self._frame_s
        return self._words[-1].end if self._words else None

    def preview(self, tentative: Sequence[Token] = ()) -> str:
        """The words so far, the last perhaps unfinished, and what tokens to come would add."""
        texts = [word.text for word in self._words]
        tail = self._tokenizer.decode([token.id for token in (*self._open, *tentative)])
        return " ".join([*texts, *tail.split()])

    def finish(self, duration: float, source: str = "") -> Transcript:
        """The whole; times beyond the end (in the silence that follows it) are brought back."""
        self._close()
        words = tuple(
            Word(w.text, min(w.start, duration), min(w.end, duration), w.confidence)
            for w in self._words
        )
        return Transcript(" ".join(w.text for w in words), words, duration, source)

    def _close(self, next_frame: float = math.inf) -> None:
        text = " ".join(self._tokenizer.decode([token.id for token in self._open]).split())
        # A bare word mark before another one spells nothing.
        if text:
            probability = math.prod(token.probability for token in self._open)
            calibrator = self._calibrator
            self._words.append(
                Word(
                    text,
                    self._open[0].frame * self._frame_s,
                    min(self._open[-1].frame + 1, next_frame) * self._frame_s,
                    probability if calibrator is None else calibrator(probability),
                )
            )
        self._open = []
