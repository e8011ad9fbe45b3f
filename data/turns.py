"""Turns of talk in a recording, and the two output channels they are assigned to.

A turn is what one talker says from one start to the next end; turns of different talkers may
overlap. A separator-transducer-segmenter has two channels however many talkers there are, so every
turn gets one by a rule (Sklyar et al., Interspeech 2022, arXiv 2205.05199).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .corpus import Utterance
from .errors import InputError

Rule = Literal["first_free", "stay_unless_overlap"]


@dataclass(frozen=True)
class Turn:
    """`text` said by `speaker` from `start` to `end`, in seconds of the recording."""

    start: float
    end: float
    text: str
    speaker: str = ""  # '' where unknown


def in_order(turns: Iterable[Turn]) -> list[Turn]:
    """By start, then by end."""
    return sorted(turns, key=lambda turn: (turn.start, turn.end))


def assign_channels(
    turns: Sequence[Turn], rule: Rule = "first_free", channels: int = 2
) -> tuple[list[int], bool]:
    """The channel of each turn, in the order of `in_order`.

    Args:
      turns: of one recording, in any order.
      rule: `first_free` takes the lowest channel whose last turn has ended;
        `stay_unless_overlap` the previous turn's channel unless it is busy, then the lowest free.
      channels: how many there are.

    Returns:
      The channels, and whether some turn found all of them busy. It then takes the one that ends
      first; such a recording is kept out of training.
    """
    if rule not in ("first_free", "stay_unless_overlap"):
        raise ValueError(f"no rule {rule!r}: take first_free or stay_unless_overlap")
    ends = [-math.inf] * channels
    assigned: list[int] = []
    flagged = False
    for turn in in_order(turns):
        free = [c for c in range(channels) if ends[c] <= turn.start]
        if not free:
            channel, flagged = min(range(channels), key=lambda c: ends[c]), True
        elif rule == "stay_unless_overlap" and assigned and assigned[-1] in free:
            channel = assigned[-1]
        else:
            channel = free[0]
        ends[channel] = max(ends[channel], turn.end)
        assigned.append(channel)
    return assigned, flagged


def overlap_share(turns: Iterable[Turn]) -> float:
    """Time with two talkers or more over time with any; 0 without turns."""
    times = _seconds_by_talkers(turns)
    active = sum(times.values())
    return sum(t for count, t in times.items() if count > 1) / active if active else 0.0


def most_at_once(turns: Iterable[Turn]) -> int:
    """The largest number of talkers at any moment; one who ends as another starts is not one."""
    return max(_seconds_by_talkers(turns), default=0)


def _seconds_by_talkers(turns: Iterable[Turn]) -> dict[int, float]:
    """For each number of talkers at once from 1 on, the seconds with that many.

    Turns of one speaker count once while they overlap each other; nameless turns are different
    talkers.
    """
    events: list[tuple[float, int, str | int]] = []
    for number, turn in enumerate(turns):
        who = turn.speaker or number
        events += [(turn.start, 1, who), (turn.end, -1, who)]
    events.sort(key=lambda event: event[:2])
    talking: dict[str | int, int] = {}
    times: dict[int, float] = {}
    before = -math.inf
    for time, step, who in events:
        count = sum(n > 0 for n in talking.values())
        if count and time > before:
            times[count] = times.get(count, 0.0) + time - before
        before = time
        talking[who] = talking.get(who, 0) + step
    return times


def turns_of(utterance: Utterance) -> tuple[Turn, ...]:
    """The turns of a recording, in start order, from `metadata["turns"]`; none if it has none.

    They are `Turn`s, or objects of a manifest with `start`, `end`, `text` and perhaps `speaker`.

    Raises:
      InputError: for anything else, naming the recording.
    """
    found = utterance.metadata.get("turns", ())
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise InputError(f"{utterance.id}: turns is not a list; give objects with start and end.")
    return tuple(in_order(parse_turn(turn, utterance.id) for turn in found))


def parse_turn(value: Any, where: str) -> Turn:
    """A `Turn`, checked, of one or of an object such as `to_json` makes.

    Raises:
      InputError: times that are no numbers or not in order, or a text that is none; the message
        begins with `where`.
    """
    if isinstance(value, Turn):
        turn = value
    elif isinstance(value, Mapping):
        try:
            turn = Turn(
                _number(value["start"]), _number(value["end"]), value["text"],
                value.get("speaker") or "",
            )  # fmt: skip
        except KeyError as error:
            raise InputError(f"{where}: a turn has no {error.args[0]}; add it.") from None
        except (TypeError, ValueError):
            raise InputError(
                f"{where}: a turn's start or end is not a number of seconds."
            ) from None
    else:
        raise InputError(
            f"{where}: {value!r:.40} is not a turn; give an object with start and end."
        )
    if not (math.isfinite(turn.start) and math.isfinite(turn.end) and 0 <= turn.start < turn.end):
        raise InputError(
            f"{where}: a turn from {turn.start:g} to {turn.end:g} s; it must start at 0 or later "
            "and end after it starts."
        )
    if not isinstance(turn.text, str) or not isinstance(turn.speaker, str):
        raise InputError(f"{where}: a turn's text or speaker is not a string.")
    return turn


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise TypeError
    return float(value)


def to_json(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """What `turns_of` reads back from a manifest."""
    return [
        {"start": turn.start, "end": turn.end, "text": turn.text, "speaker": turn.speaker}
        for turn in turns
    ]
