"""What is heard of a recording: the tokens of its channels put together to words and turns.

A model for one talker gives one text. One with channels, or with markers around turns, gives turns:
each with its words, the channel that it was heard on, and the times at which the model said that it
began and ended. Any sequence of tokens can be read: a turn that never ends does so with its last
word or at the next beginning, words before any beginning are a turn, and an end without a beginning
is passed over.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..data.tokenizer import END_OF_TURN, NEXT_TURN, START_OF_TURN, Tokenizer
from .programs import Programs
from .transcript import Assembler, HeardTurn, Token, Transcript, Word


class Assembly:
    """One recording in the making; `channels` rows of tokens come in at a time."""

    def __init__(self, recognizer: Programs):
        tokenizer, step = recognizer.tokenizer, recognizer.frame_s
        self.channels = recognizer.channels
        self._frame_s = step
        self._single: Assembler | None = None
        self._parts: list[_Channel] = []
        if self.channels == 1 and not tokenizer.markers:
            self._single = Assembler(tokenizer, step, recognizer.calibrator)
        else:
            self._parts = [
                _Channel(c, tokenizer, step, recognizer.calibrator) for c in range(self.channels)
            ]

    def push(self, rows: Sequence[Iterable[Token]]) -> None:
        """Takes the next tokens of every channel."""
        if self._single is not None:
            self._single.push(rows[0])
            return
        for part, tokens in zip(self._parts, rows, strict=True):
            part.push(tokens)

    @property
    def turns(self) -> tuple[HeardTurn, ...]:
        """Turns that have ended, in the order of their beginnings."""
        return _in_order(turn for part in self._parts for turn in part.turns)

    def spoke_at(self, tentative: Sequence[Sequence[Token]] = ()) -> float | None:
        """End of the frame that the last token was emitted in, those to come included, in seconds;
        None: none was."""
        frames = [row[-1].frame for row in tentative if row]
        if frames:
            return (max(frames) + 1) * self._frame_s
        if self._single is not None:
            return self._single.spoke_at
        return max((p.spoke_at for p in self._parts if p.spoke_at is not None), default=None)

    def preview(self, tentative: Sequence[Sequence[Token]]) -> str:
        """The text so far, the last words perhaps unfinished, and what tokens to come would add;
        turns in the order of their beginnings, those that go on last."""
        if self._single is not None:
            return self._single.preview(tentative[0] if tentative else ())
        ended = [turn.text for turn in self.turns]
        rows = tentative or [()] * self.channels
        going_on = [part.preview(row) for part, row in zip(self._parts, rows, strict=True)]
        return " ".join(text for text in (*ended, *going_on) if text)

    def finish(self, duration: float, source: str = "") -> Transcript:
        """The whole; times beyond the end (in the silence that follows it) are brought back."""
        if self._single is not None:
            return self._single.finish(duration, source)
        turns = _in_order(t for part in self._parts for t in part.finish(duration))
        words = sorted((w for turn in turns for w in turn.words), key=lambda w: w.start)
        text = " ".join(turn.text for turn in turns if turn.text)
        return Transcript(text, tuple(words), duration, source, turns=turns)


class _Channel:
    """Turns of one channel."""

    def __init__(
        self,
        channel: int,
        tokenizer: Tokenizer,
        frame_s: float,
        calibrator: Callable[[float], float] | None,
    ):
        self.turns: list[HeardTurn] = []
        self.spoke_at: float | None = None
        self._channel = channel
        self._frame_s = frame_s
        self._new = lambda: Assembler(tokenizer, frame_s, calibrator)
        self._words = self._new()
        self._began: float | None = None
        markers = tokenizer.markers
        self._beginning = markers.get(START_OF_TURN, markers.get(NEXT_TURN))
        self._end = markers.get(END_OF_TURN)
        self._parts_only = START_OF_TURN not in markers

    def push(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            self.spoke_at = (token.frame + 1) * self._frame_s
            if token.id == self._beginning:
                self._close(None)
                self._began = None if self._parts_only else token.frame * self._frame_s
            elif token.id == self._end:
                self._close(self.spoke_at)
            else:
                self._words.push([token])

    def preview(self, tentative: Sequence[Token]) -> str:
        return self._words.preview(tentative)

    def finish(self, duration: float) -> list[HeardTurn]:
        self._close(None)
        return [_within(turn, duration) for turn in self.turns]

    def _close(self, ended: float | None) -> None:
        words = self._words.finish(float("inf")).words
        began, self._began, self._words = self._began, None, self._new()
        if not words and (began is None or ended is None):
            return
        start = words[0].start if began is None else began
        end = words[-1].end if ended is None else ended
        text = " ".join(word.text for word in words)
        marked = began is not None, ended is not None
        self.turns.append(HeardTurn(text, start, max(start, end), self._channel, words, marked))


def _in_order(turns: Iterable[HeardTurn]) -> tuple[HeardTurn, ...]:
    return tuple(sorted(turns, key=lambda turn: (turn.start, turn.end, turn.channel)))


def _within(turn: HeardTurn, duration: float) -> HeardTurn:
    def back(item: Word) -> Word:
        return replace(item, start=min(item.start, duration), end=min(item.end, duration))

    start, end = min(turn.start, duration), min(turn.end, duration)
    return replace(turn, start=start, end=end, words=tuple(map(back, turn.words)))
