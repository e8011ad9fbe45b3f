"""Who spoke when: errors in seconds, exact on intervals.

At every instant N_ref speakers talk by the reference and N_hyp by the hypothesis, of whom N_ok are
the same under the mapping of speakers that agrees for the longest time. An instant adds
`max(0, N_ref - N_hyp)` to what is missed, `max(0, N_hyp - N_ref)` to the false alarm and
`min(N_ref, N_hyp) - N_ok` to the confusion; the error rate divides by the integral of N_ref (NIST
Rich Transcription 2009 evaluation plan). With a collar, instants that near to the start or the end
of a reference turn are not scored, neither in the mapping.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .conversation import Turn

_ANYONE = ""


@dataclass(frozen=True)
class DiarizationErrors:
    """Seconds of speakers' time; those of several recordings add up."""

    missed: float = 0.0
    false_alarm: float = 0.0
    confused: float = 0.0
    speech: float = 0.0
    """In the reference, where it is scored."""

    @property
    def rate(self) -> float:
        """DER, a fraction; without speech 0 if there is no error, else inf."""
        wrong = self.missed + self.false_alarm + self.confused
        if self.speech:
            return wrong / self.speech
        return math.inf if wrong else 0.0

    def __add__(self, other: "DiarizationErrors") -> "DiarizationErrors":
        return DiarizationErrors(
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confused + other.confused,
            self.speech + other.speech,
        )


def diarization_errors(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], *, collar: float = 0.0
) -> DiarizationErrors:
    """Errors of one recording, speakers mapped one to one; names need not agree.

    Args:
      reference, hypothesis: turns in any order, which may overlap; where two of one speaker do, he
        counts once. Turns that do not last are no speech.
      collar: seconds on either side of a reference boundary that are not scored.

    Raises:
      ValueError: the collar is negative, or a time is not a finite number.
    """
    return _errors(_intervals(reference), _intervals(hypothesis), collar)


def activity_errors(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], *, collar: float = 0.0
) -> DiarizationErrors:
    """The same of speech activity: whether anyone talks, whoever it is. Nothing is confused.

    A collar lies about the edges of speech, not of turns within it.
    """
    return _errors(_union(_intervals(reference)), _union(_intervals(hypothesis)), collar)


_Intervals = dict[str, list[tuple[float, float]]]


def _intervals(turns: Sequence[Turn]) -> _Intervals:
    own: _Intervals = {}
    for turn in turns:
        if not (math.isfinite(turn.start) and math.isfinite(turn.end)):
            raise ValueError(f"a turn from {turn.start} to {turn.end}: times must be finite")
        if turn.end > turn.start:
            own.setdefault(turn.speaker, []).append((turn.start, turn.end))
    return own


def _union(intervals: _Intervals) -> _Intervals:
    """The time in which anyone talks, as one speaker's intervals that do not touch."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(interval for own in intervals.values() for interval in own):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return {_ANYONE: merged}


def _errors(reference: _Intervals, hypothesis: _Intervals, collar: float) -> DiarizationErrors:
    if not collar >= 0:
        raise ValueError(f"a collar of {collar} s: it must not be negative")
    excluded = [
        (edge - collar, edge + collar)
        for own in reference.values()
        for interval in own
        for edge in interval
        if collar
    ]
    everything = [*reference.values(), *hypothesis.values(), excluded]
    edges = sorted({edge for own in everything for interval in own for edge in interval})
    # Between two edges nothing changes: [pieces] seconds, [speakers, pieces] who talks.
    lasting = np.array([b - a for a, b in pairwise(edges)])
    lasting = lasting * ~_active([excluded], edges)[0]
    spoken, heard = _active(reference.values(), edges), _active(hypothesis.values(), edges)
    n_spoken, n_heard = spoken.sum(axis=0), heard.sum(axis=0)
    agreed = _agreed(spoken, heard, lasting)
    return DiarizationErrors(
        missed=float(lasting @ np.maximum(n_spoken - n_heard, 0)),
        false_alarm=float(lasting @ np.maximum(n_heard - n_spoken, 0)),
        confused=float(lasting @ (np.minimum(n_spoken, n_heard) - agreed)),
        speech=float(lasting @ n_spoken),
    )


def _active(speakers, edges: Sequence[float]) -> np.ndarray:
    """[speakers, pieces] of bool: who talks between edge p and the next."""
    place = {edge: i for i, edge in enumerate(edges)}
    active = np.zeros((len(speakers), max(len(edges) - 1, 0)), bool)
    for row, own in zip(active, speakers, strict=True):
        for start, end in own:
            row[place[start] : place[end]] = True
    return active


def _agreed(spoken: np.ndarray, heard: np.ndarray, lasting: np.ndarray) -> np.ndarray:
    """[pieces]: how many talk by both, under the mapping that agrees longest."""
    from scipy.optimize import linear_sum_assignment  # 0.3 s: only where it is asked for

    together = (spoken * lasting) @ heard.T
    rows, columns = linear_sum_assignment(together, maximize=True)
    return (spoken[rows] & heard[columns]).sum(axis=0)
