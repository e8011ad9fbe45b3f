"""Conversations as other programs read them: who says what from when to when.

These take a record (`formats.Record`) whose `turns` have start, end, channel and text, perhaps a
speaker, and perhaps their own `words` as a record has them. A turn without a speaker is its
channel's: "channel 1". SegLST, STM and RTTM are written by `data.segments` from `labelled`.
"""

import html
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..data.errors import InputError
from ..data.segments import write_rttm, write_seglst, write_stm
from ..data.turns import Turn
from .formats import Cue, Format, Record, clock, ctm, cues
from .transcript import Word


def render_turns(form: Format, fields: Record, *, words: bool = False, named: bool = False) -> str:
    """As `formats.render`, of a record with turns. Raises InputError as `turns_ctm`."""
    if form == "text":
        return _text(fields, words=words, named=named)
    if form in ("rttm", "stm", "seglst"):
        sessions = {fields["id"]: labelled(fields)}
        return {"rttm": write_rttm, "stm": write_stm, "seglst": write_seglst}[form](sessions)
    return {"ctm": turns_ctm, "srt": turns_srt, "vtt": turns_vtt}[form](fields)


def _text(fields: Record, *, words: bool, named: bool) -> str:
    """A line a turn, `Ann: what she says`, after the id where there are several recordings; with
    its times, and also of a turn in which no word was heard, where `words` are asked for."""
    lines: list[str] = []
    for turn in fields["turns"]:
        times = f"{turn['start']:7.2f} {turn['end']:7.2f}  " if words else ""
        if turn["text"] or words:
            lines.append(f"{times}{speaker_of(turn)}: {turn['text']}".rstrip())
    prefix = f"{fields['id']}\t" if named else ""
    return "".join(f"{prefix}{line}\n" for line in lines) or (f"{prefix}\n" if named else "")


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
