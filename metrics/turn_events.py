"""When the start and the end of a turn are told, and what an end told too early costs.

A separator-transducer-segmenter emits `<sot>` and `<eot>` on the channel of a turn. The latency of
such an event is the time of its emission less the reference time, signed, in seconds. Events that
were emitted are paired with the reference by an order-preserving alignment: as many pairs as can
be, of these the least total of absolute latencies. Percentiles are told beside the rates of misses,
early emissions and false alarms, since a model could be quick by guessing. Metrics of Sklyar et
al., Interspeech 2022 (arXiv 2205.05199).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from .conversation import (
    MARKERS,
    OrcErrors,
    Turn,
    TurnCounts,
    count_turns,
    orc_errors,
)
from .wer import WordErrors

START, END = "<sot>", "<eot>"

Stream = Sequence[tuple[str, float]]
"""What one channel emitted: words and markers, each with the time of its emission, in order."""


@dataclass(frozen=True)
class Emissions:
    """Events of one kind; those of several channels and recordings add up."""

    latencies: tuple[float, ...] = ()
    """Seconds, of the reference events that were found; below zero where told too early."""
    missed: int = 0
    """Reference events without an emission."""
    false_alarms: int = 0
    """Emissions without a reference event."""

    @property
    def miss_rate(self) -> float:
        """Of reference events; 0 without any."""
        return _share(self.missed, self.missed + len(self.latencies))

    @property
    def early_rate(self) -> float:
        """Of the events found, those emitted before the reference time; 0 without any."""
        return _share(sum(x < 0 for x in self.latencies), len(self.latencies))

    @property
    def false_alarm_rate(self) -> float:
        """Of emissions; 0 without any."""
        return _share(self.false_alarms, self.false_alarms + len(self.latencies))

    def percentile(self, q: float) -> float:
        """Of the latencies, in seconds; q in 0 to 100. nan where no event was found."""
        return float(np.percentile(self.latencies, q)) if self.latencies else math.nan

    def __add__(self, other: "Emissions") -> "Emissions":
        return Emissions(
            self.latencies + other.latencies,
            self.missed + other.missed,
            self.false_alarms + other.false_alarms,
        )


@dataclass(frozen=True)
class ConversationScore:
    """All that is counted without speakers; scores of recordings add up."""

    words: WordErrors = field(default_factory=WordErrors)
    """ORC-WER."""
    endpointed: WordErrors = field(default_factory=WordErrors)
    """ORC-WER of what is left where words after a found `<eot>` are dropped until `<sot>`."""
    turns: TurnCounts = field(default_factory=TurnCounts)
    starts: Emissions = field(default_factory=Emissions)
    ends: Emissions = field(default_factory=Emissions)

    def __add__(self, other: "ConversationScore") -> "ConversationScore":
        return ConversationScore(
            self.words + other.words,
            self.endpointed + other.endpointed,
            self.turns + other.turns,
            self.starts + other.starts,
            self.ends + other.ends,
        )


def score_conversation(
    reference: Sequence[Turn], streams: Sequence[Stream], turns_found: int
) -> ConversationScore:
    """Scores of one recording.

    Reference turns are assigned to channels by ORC, and their events are looked for there.

    Args:
      reference: turns; none is silence.
      streams: what each channel emitted.
      turns_found: how many turns the streams were parsed into.

    Raises:
      ValueError, ModuleNotFoundError: as `orc_errors`.
    """
    orc = orc_errors(reference, [words_of(stream) for stream in streams])
    starts, ends = Emissions(), Emissions()
    left = []
    for channel, stream in enumerate(streams):
        turns = _assigned(reference, orc, channel)
        begun, ended = times_of(stream, START), times_of(stream, END)
        starts += emissions([turn.start for turn in turns], begun)
        ends += emissions([turn.end for turn in turns], ended)
        pairs = match_events([turn.end for turn in turns], ended)
        left.append(endpointed_words(stream, {j for _, j in pairs}))
    return ConversationScore(
        words=orc.errors,
        endpointed=orc_errors(reference, left).errors,
        turns=count_turns([(len(reference), turns_found)]),
        starts=starts,
        ends=ends,
    )


def match_events(
    reference: Sequence[float], emitted: Sequence[float], *, within: float = math.inf
) -> list[tuple[int, int]]:
    """Pairs (index of the reference, index of the emission), in order of time.

    Args:
      reference, emitted: times in seconds, in any order.
      within: seconds that a pair may be apart; without a limit min(len, len) pairs are made.

    Of all pairings in which time does not run backwards, those with the most pairs, of these the
    least total of absolute differences. O(N M).
    """
    rows = sorted(range(len(reference)), key=lambda i: reference[i])
    columns = sorted(range(len(emitted)), key=lambda j: emitted[j])
    n, m = len(rows), len(columns)
    # best[i][j]: (-pairs, total) of the first i and j, to be made least.
    best = [[(0, 0.0)] * (m + 1) for _ in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            choice = min(best[i - 1][j], best[i][j - 1])
            apart = abs(reference[rows[i - 1]] - emitted[columns[j - 1]])
            if apart <= within:
                pairs, total = best[i - 1][j - 1]
                choice = min(choice, (pairs - 1, total + apart))
            best[i][j] = choice
    found = []
    i, j = n, m
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((rows[i], columns[j]))
    return found[::-1]


def emissions(
    reference: Sequence[float], emitted: Sequence[float], *, within: float = math.inf
) -> Emissions:
    """Latencies, misses and false alarms of one channel's events of one kind.

    Paired by `match_events`.
    """
    pairs = match_events(reference, emitted, within=within)
    return Emissions(
        tuple(emitted[j] - reference[i] for i, j in pairs),
        missed=len(reference) - len(pairs),
        false_alarms=len(emitted) - len(pairs),
    )


def times_of(stream: Stream, marker: str) -> list[float]:
    """When the marker was emitted, in order."""
    return [time for text, time in stream if text == marker]


def words_of(stream: Stream) -> str:
    return " ".join(text for text, _ in stream if text not in MARKERS)


def endpointed_words(stream: Stream, found: Collection[int]) -> str:
    """The words that a service would have which stops listening at an end until the next start.

    Args:
      stream: of one channel.
      found: which of its `<eot>`s, counted from 0, belong to a turn of the reference; only after
        these words are dropped (a false alarm is counted as such).
    """
    kept, ends, listening = [], 0, True
    for text, _ in stream:
        if text == START:
            listening = True
        elif text == END:
            if ends in found:
                listening = False
            ends += 1
        elif listening and text not in MARKERS:
            kept.append(text)
    return " ".join(kept)


def _assigned(reference: Sequence[Turn], orc: OrcErrors, channel: int) -> list[Turn]:
    pairs = zip(reference, orc.assignment, strict=True)
    return [turn for turn, own in pairs if own == channel]


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0
