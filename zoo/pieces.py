"""Long recordings for models that hear whole ones: cut where it is quiet, and put together."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .transcript import HeardTurn, Transcript, Word

_WINDOW = 800
"""Samples by which loudness is judged: 50 ms."""
_SEARCHED = 0.25
"""Share of a piece, at its end, in which the quietest place is looked for."""


def cut_at_pauses(samples: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Spans of int16 samples [N], one behind the other, none longer than `longest` samples.

    Each but the last ends at the quietest fifth of a second of its last quarter.
    """
    spans, first = [], 0
    while len(samples) - first > longest:
        begin = first + round((1.0 - _SEARCHED) * longest)
        count = (first + longest - begin) // _WINDOW
        part = samples[begin : begin + count * _WINDOW].astype(np.float64)
        power = (part.reshape(count, _WINDOW) ** 2).mean(axis=1)
        around = np.convolve(power, np.ones(4), mode="same")
        cut = begin + int(np.argmin(around)) * _WINDOW
        spans.append((first, cut))
        first = cut
    return [*spans, (first, len(samples))]


def joined(
    parts: Sequence[Transcript], starts: Sequence[float], duration: float, source: str
) -> Transcript:
    """One transcript of the transcripts of its pieces, which begin at `starts` seconds."""

    def moved(word: Word, by: float) -> Word:
        return replace(word, start=word.start + by, end=word.end + by)

    def moved_turn(turn: HeardTurn, by: float) -> HeardTurn:
        words = tuple(moved(word, by) for word in turn.words)
        return replace(turn, start=turn.start + by, end=turn.end + by, words=words)

    placed = list(zip(parts, starts, strict=True))
    return Transcript(
        text=" ".join(part.text for part in parts if part.text),
        words=tuple(moved(word, by) for part, by in placed for word in part.words),
        duration=duration,
        source=source,
        turns=tuple(moved_turn(turn, by) for part, by in placed for turn in part.turns),
    )
