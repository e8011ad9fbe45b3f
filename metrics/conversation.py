"""Words and turns of a conversation that is recognised on a few channels.

ORC-WER (optimal reference combination) asks whether every turn's words came out on some channel,
whoever spoke them: each reference turn goes, whole and in order of start, to the channel that makes
the fewest errors in all. cpWER (concatenated minimum permutation) asks who said what: all the words
of a reference speaker against all those of the recognised speaker he is mapped to. Sklyar et al.
2022 (arXiv 2112.10200), Watanabe et al. 2020 (arXiv 2004.09249).

Results are counts, so those of several recordings add up. For an interval, give
`bootstrap.speaker_bootstrap` one entry a recording, with the recording's name for a speaker: turns
of one conversation go wrong together.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from rapidfuzz.distance import Levenshtein

from .wer import WordErrors, total_errors, word_errors

MARKERS = ("<sot>", "<eot>", "<st>")
"""What a separator-transducer-segmenter emits beside words."""


class Turn(Protocol):
    """A stretch of speech by one speaker, times in seconds."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def text(self) -> str: ...
    @property
    def speaker(self) -> str: ...


@dataclass(frozen=True)
class OrcErrors:
    errors: WordErrors
    assignment: tuple[int, ...]
    """The channel of each reference turn, in the order in which the turns were given."""


@dataclass(frozen=True)
class SpeakerErrors:
    errors: WordErrors
    mapping: dict[str, str]
    """Reference speakers and the recognised ones they were mapped to; who has none is absent."""


@dataclass(frozen=True)
class TurnCounts:
    """How many turns were found, over recordings."""

    recordings: int = 0
    exact: int = 0
    """Recordings with the right number."""
    reference: int = 0
    difference: int = 0
    """Sum of what is too many (positive) or too few."""
    distance: int = 0
    """Sum of the same without its sign."""

    @property
    def exact_share(self) -> float:
        """Of recordings; 1 without any, since none is wrong."""
        return self.exact / self.recordings if self.recordings else 1.0

    @property
    def soft_accuracy(self) -> float:
        """`1 - sum |N_hyp - N_ref| / sum N_ref`; -inf where turns were found and none is there."""
        return 1.0 - _per(self.distance, self.reference)

    @property
    def bias(self) -> float:
        """`sum (N_hyp - N_ref) / sum N_ref`: above zero, too many turns."""
        return _per(self.difference, self.reference)

    def __add__(self, other: "TurnCounts") -> "TurnCounts":
        return TurnCounts(
            self.recordings + other.recordings,
            self.exact + other.exact,
            self.reference + other.reference,
            self.difference + other.difference,
            self.distance + other.distance,
        )


def strip_markers(text: str) -> str:
    """Words alone, separated by single blanks."""
    for marker in MARKERS:
        text = text.replace(marker, " ")
    return " ".join(text.split())


def orc_errors(reference: Sequence[Turn], channels: Sequence[str]) -> OrcErrors:
    """ORC-WER's counts of one recording. Markers are stripped from both sides.

    Args:
      reference: turns in any order; those without words go to the first channel.
      channels: the text of each channel, '' of a silent one. The time it takes grows as the
        product of the channels' lengths: two of 700 words take seconds, three are too many.

    Raises:
      ValueError: there is no channel.
      ModuleNotFoundError: the package meeteval is not installed.
    """
    if not channels:
        raise ValueError("no channel to score: an empty recording has channels of empty text")
    match = _meeteval_orc()
    heard = [strip_markers(text) for text in channels]
    spoken = [strip_markers(turn.text) for turn in reference]
    # A turn without words fits anywhere, and a channel without words costs the same for any turn.
    order = [i for i in by_start(reference) if spoken[i]]
    found = [0] * len(reference)
    if order and any(heard):
        result = match(
            [spoken[i] for i in order], heard, reference_sort=False, hypothesis_sort=False
        )
        for i, channel in zip(order, result.assignment, strict=True):
            found[i] = channel
    expected = [
        " ".join(spoken[i] for i in order if found[i] == channel) for channel in range(len(heard))
    ]
    errors = total_errors(word_errors(a, b) for a, b in zip(expected, heard, strict=True))
    return OrcErrors(errors, tuple(found))


def speaker_errors(reference: Sequence[Turn], recognized: Sequence[Turn]) -> SpeakerErrors:
    """cpWER's counts of one recording, with the cheapest mapping of speakers.

    Each speaker's turns are strung together in order of start. A speaker without counterpart is all
    deletions or all insertions. Markers are stripped.
    """
    expected, heard = _words_of_speakers(reference), _words_of_speakers(recognized)
    pairs = _cheapest_pairs(list(expected.values()), list(heard.values()))
    names, others = list(expected), list(heard)
    mapping = {names[i]: others[j] for i, j in pairs}
    errors = [
        word_errors(text, heard.get(mapping[name], "") if name in mapping else "")
        for name, text in expected.items()
    ]
    taken = set(mapping.values())
    errors += [word_errors("", text) for name, text in heard.items() if name not in taken]
    return SpeakerErrors(total_errors(errors), mapping)


def count_turns(counts: Iterable[tuple[int, int]]) -> TurnCounts:
    """Counts of recordings, given as (turns in the reference, turns found) of each."""
    total = TurnCounts()
    for expected, found in counts:
        off = found - expected
        total += TurnCounts(1, int(off == 0), expected, off, abs(off))
    return total


def by_start(turns: Sequence[Turn]) -> list[int]:
    """Indices of the turns in order of start, of end where they start together."""
    return sorted(range(len(turns)), key=lambda i: (turns[i].start, turns[i].end))


def _words_of_speakers(turns: Sequence[Turn]) -> dict[str, str]:
    words: dict[str, list[str]] = {}
    for i in by_start(turns):
        words.setdefault(turns[i].speaker, []).append(strip_markers(turns[i].text))
    return {speaker: " ".join(filter(None, texts)) for speaker, texts in words.items()}


def _cheapest_pairs(expected: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """(i, j) that make the fewest errors in all; unpaired texts are counted as errors too."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment  # 0.3 s: only where it is asked for

    side = max(len(expected), len(heard))
    a = [text.split() for text in expected] + [[]] * (side - len(expected))
    b = [text.split() for text in heard] + [[]] * (side - len(heard))
    costs = np.array([[Levenshtein.distance(x, y) for y in b] for x in a]).reshape(side, side)
    rows, columns = linear_sum_assignment(costs)
    return [
        (int(i), int(j))
        for i, j in zip(rows, columns, strict=True)
        if i < len(expected) and j < len(heard)
    ]


def _meeteval_orc() -> Any:
    try:
        # By name, so that type checkers pass where it is not installed.
        return import_module("meeteval.wer.wer.orc").orc_word_error_rate
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "ORC-WER needs the package meeteval, which a C++ compiler builds: "
            'pip install "parley-asr[meetings]", or pip install meeteval.'
        ) from error


def _per(count: float, reference: float) -> float:
    """A share of the reference; of none 0, or infinite with the sign of the count."""
    if reference:
        return count / reference
    return math.copysign(math.inf, count) if count else 0.0
