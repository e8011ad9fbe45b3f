"""What a model is to say: the labels of an utterance, or of a conversation for each channel.

A turn becomes `<sot> its words <eot>` where the tokenizer has these markers; its words behind a
`<st>` that parts it from the turn before where it has that one; and its words alone otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .corpus import Utterance
from .errors import InputError
from .tokenizer import BLANK, END_OF_TURN, NEXT_TURN, START_OF_TURN, Tokenizer
from .turns import Rule, assign_channels, turns_of


class Target(NamedTuple):
    """Of each channel, one entry a label or a turn."""

    labels: list[np.ndarray]  # [U] int32 of each channel
    times: list[np.ndarray]  # [U] float32, seconds at which a marker should come; else NaN
    spans: list[np.ndarray]  # [K, 2] float32, start and end of the turns in seconds

    @property
    def count(self) -> int:
        """Labels of the channel that has most."""
        return max(len(labels) for labels in self.labels)

    def at_speed(self, speed: float) -> "Target":
        """Of the recording played `speed` times as fast."""
        seconds = [[x / np.float32(speed) for x in rows] for rows in (self.times, self.spans)]
        return Target(self.labels, *seconds)


@dataclass(frozen=True)
class Speller:
    """Makes targets.

    Attributes:
      tokenizer: its markers decide what stands around turns.
      channels: of the model.
      rule: which channel a turn goes to, see `assign_channels`.
      timed_starts: whether starts of turns have times, and not their ends alone.
    """

    tokenizer: Tokenizer
    channels: int = 1
    rule: Rule = "first_free"
    timed_starts: bool = True

    @property
    def by_turns(self) -> bool:
        """Whether targets follow the turns of conversations; else an utterance is one text."""
        return self.channels > 1 or bool(self.tokenizer.markers)

    def __call__(self, utterance: Utterance) -> Target:
        """Raises InputError for a text that cannot be spelled or is empty, for turns that need
        more channels than there are, and where turns are needed and not known."""
        if not self.by_turns:
            ids = self.tokenizer.encode(utterance.text)
            if not ids:
                raise InputError("has no text.")
            return Target(
                [np.asarray(ids, np.int32)],
                [np.full(len(ids), np.nan, np.float32)],
                [np.zeros((0, 2), np.float32)],
            )
        turns = turns_of(utterance)
        if not turns:
            raise InputError(
                "has no turns: this model learns from conversations, for example "
                "--data.train 'assistant?turns=1-4&draws=20000'."
            )
        channels, overflow = assign_channels(turns, self.rule, self.channels)
        # One channel is what a model for a single talker has: it takes the turns as they begin.
        if overflow and self.channels > 1:
            raise InputError(f"has more than {self.channels} talkers at once.")
        markers = self.tokenizer.markers
        labels: list[list[int]] = [[] for _ in range(self.channels)]
        times: list[list[float]] = [[] for _ in range(self.channels)]
        spans: list[list[tuple[float, float]]] = [[] for _ in range(self.channels)]
        for turn, channel in zip(turns, channels, strict=True):
            words = self.tokenizer.encode(turn.text)
            before: list[tuple[int, float]] = []
            after: list[tuple[int, float]] = []
            if START_OF_TURN in markers:
                start = turn.start if self.timed_starts else np.nan
                before = [(markers[START_OF_TURN], start)]
                after = [(markers[END_OF_TURN], turn.end)]
            elif NEXT_TURN in markers and labels[channel]:
                before = [(markers[NEXT_TURN], np.nan)]
            for label, time in (*before, *((word, np.nan) for word in words), *after):
                labels[channel].append(label)
                times[channel].append(time)
            spans[channel].append((turn.start, turn.end))
        return Target(
            [np.asarray(channel, np.int32) for channel in labels],
            [np.asarray(channel, np.float32) for channel in times],
            [np.asarray(channel, np.float32).reshape(-1, 2) for channel in spans],
        )


def label_arrays(targets: Sequence[Target], room: int, *, by_turns: bool) -> dict[str, np.ndarray]:
    """The labels of a batch, see `data.loader`; U and K are `room`."""
    channels = len(targets[0].labels)
    shape = len(targets), channels
    labels = np.full((*shape, room), BLANK, np.int32)
    lengths = np.zeros(shape, np.int32)
    times = np.full((*shape, room), np.nan, np.float32)
    spans = np.full((*shape, room, 2), np.nan, np.float32)  # a turn has a label at least
    for row, target in enumerate(targets):
        for c in range(channels):
            count, turns = len(target.labels[c]), len(target.spans[c])
            lengths[row, c] = count
            labels[row, c, :count] = target.labels[c]
            times[row, c, :count] = target.times[c]
            spans[row, c, :turns] = target.spans[c]
    if not by_turns:
        return {"labels": labels[:, 0], "label_lengths": lengths[:, 0]}
    return {
        "labels": labels,
        "label_lengths": lengths,
        "label_times": times,
        "turn_spans": spans,
    }
