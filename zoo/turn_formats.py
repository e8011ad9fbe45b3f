"""Conversations as other programs read them: who says what from when to when.

These take a record (`formats.Record`) whose `turns` have start, end, channel and text, perhaps a
speaker, and perhaps their own `words` as a record has them. A turn without a speaker is its
channel's: "channel 1". SegLST, STM and RTTM are written by `data.segments` from `labelled`.
"""

import html
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..data.errors import InputError
from ..data.turns import Turn
from .formats import Cue, Record, clock, ctm, cues
from .transcript import Word


class _Said(NamedTuple):
    cue: Cue
    speaker: str


def labelled(fields: Record) -> list[Turn]:
    """The record's turns, each with a speaker."""
    return [
        Turn(turn["start"], turn["end"], turn["text"], speaker_of(turn)) for turn in fields["turns"]
    ]


def speaker_of(turn: dict[str, Any]) -> str:
    """Who is named, on one line, else `channel N`, counted from 1."""
    return " ".join((turn.get("speaker") or "").split()) or f"channel {turn['channel'] + 1}"


def dialogue(fields: Record) -> str:
    """A line a turn: `Ann: what she says`; turns without words are left out."""
    return "".join(f"{turn.speaker}: {turn.text}\n" for turn in labelled(fields) if turn.text)


def turns_ctm(fields: Record) -> str:
    """NIST CTM, a turn's channel in the second column; who speaks stands in the RTTM beside it.

    Raises:
      InputError: a turn with text has no words.
    """
    rows: list[str] = []
    # Scoring tools take a file that is sorted by channel, then by time.
    for turn in sorted(fields["turns"], key=lambda turn: (turn["channel"], turn["start"])):
        if turn["text"] and "words" not in turn:
            raise InputError(
                f"the result of {fields['id']} holds no times of words: transcribe with --words."
            )
        words = [Word(**word) for word in turn.get("words", ())]
        rows.append(ctm(fields["id"], words, channel=turn["channel"] + 1))
    return "".join(rows)


def turns_srt(fields: Record) -> str:
    """SubRip; a cue begins with its speaker where the one before was another's."""
    blocks: list[str] = []
    before = None
    for number, (cue, speaker) in enumerate(_cues(fields), 1):
        name = f"{speaker}: " if speaker != before else ""
        text = (name + "\n".join(cue.lines)).replace("-->", "->")
        blocks.append(f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{text}\n")
        before = speaker
    return "\n".join(blocks)


def turns_vtt(fields: Record) -> str:
    """WebVTT; every cue has its speaker in a voice tag."""
    blocks = ["WEBVTT\n"]
    for cue, speaker in _cues(fields):
        name = html.escape(speaker, quote=False)
        text = html.escape("\n".join(cue.lines), quote=False)
        times = f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}"
        blocks.append(f"{times}\n<v {name}>{text}\n")
    return "\n".join(blocks)


def _cues(fields: Record) -> list[_Said]:
    """In order of start; those of different turns may overlap."""
    said = [
        _Said(cue, speaker_of(turn)) for turn in fields["turns"] for cue in cues(list(_words(turn)))
    ]
    return sorted(said, key=lambda one: one.cue[:2])


def _words(turn: dict[str, Any]) -> Iterator[Word]:
    """A turn's words; where their times are not known, spread evenly over it."""
    if "words" in turn:
        yield from (Word(**word) for word in turn["words"])
        return
    texts = turn["text"].split()
    step = (turn["end"] - turn["start"]) / max(len(texts), 1)
    for i, text in enumerate(texts):
        start = turn["start"] + i * step
        yield Word(text, start, start + step, 1.0)
