"""Transcripts as other programs read them: JSON lines, CTM, SubRip (.srt), WebVTT (.vtt)."""

import html
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from ..data.audio import is_audio_name
from ..data.errors import InputError
from .transcript import Transcript, Word

if TYPE_CHECKING:
    from .inputs import Item

Format = Literal["text", "json", "ctm", "srt", "vtt", "rttm", "stm", "seglst"]
Record: TypeAlias = dict[str, Any]
"""A result: id, audio_filepath and offset where there is a file, text, duration, words; of a
conversation its turns, which then hold the words."""

SUFFIXES: dict[Format, str] = {
    "text": ".txt",
    "json": ".jsonl",
    "ctm": ".ctm",
    "srt": ".srt",
    "vtt": ".vtt",
    "rttm": ".rttm",
    "stm": ".stm",
    "seglst": ".seglst",
}
SUBTITLES = ("srt", "vtt", "seglst")
"""Formats of one recording a file."""
OF_TURNS = ("rttm", "stm", "seglst")
"""Formats that say who speaks when, for models that hear turns."""

LINE_CHARACTERS = 42
CUE_SECONDS = 7.0
"""Longest cue: with two lines of `LINE_CHARACTERS`, what broadcasters' style guides allow."""
PAUSE_SECONDS = 0.8
"""A silence that ends a cue."""
_SHORTEST_MS = 1000
"""What a cue is extended to where the next one leaves room."""


class Cue(NamedTuple):
    start: int
    """Milliseconds, as are those of the end."""
    end: int
    lines: tuple[str, ...]
    """One or two."""


def record(item: "Item", transcript: Transcript) -> Record:
    """All that is known of an item, as a JSON line holds it; times to the millisecond."""
    fields = transcript.as_dict()
    del fields["audio_filepath"]
    where: Record = {"audio_filepath": item.path} if item.path else {}
    if item.offset:
        where["offset"] = item.offset
    return {"id": item.id, **where, **fields}


def render(form: Format, fields: Record, *, words: bool = False, named: bool = False) -> str:
    """A record with a newline at its end; of an empty transcript it may be ''.

    Args:
      form: one of `Format`.
      fields: of `record`.
      words: whether text and JSON show every word; the others are made of nothing else.
      named: whether text begins with the id.

    Raises:
      InputError: words are needed, and the record has none.
    """
    if form == "json":
        return json_line(fields if words else _without_words(fields))
    if "turns" in fields:
        from .turn_formats import render_turns

        return render_turns(form, fields, words=words, named=named)
    if form in OF_TURNS:
        raise InputError(
            f"the result of {fields['id']} has no turns to write as {form}: take a model that "
            "hears them, for example sts-tiny."
        )
    if form == "ctm":
        return ctm(fields["id"], _words(fields))
    if form in SUBTITLES:
        return srt(_words(fields)) if form == "srt" else vtt(_words(fields))
    lines = [f"{fields['id']}\t{fields['text']}" if named else fields["text"]]
    if words:
        lines += [
            f"  {w.start:7.2f} {w.end:7.2f}  {w.confidence:4.2f}  {w.text}" for w in _words(fields)
        ]
    return "".join(f"{line}\n" for line in lines)


def _without_words(fields: Record) -> Record:
    kept = {k: v for k, v in fields.items() if k != "words"}
    if "turns" in kept:
        kept["turns"] = [{k: v for k, v in t.items() if k != "words"} for t in kept["turns"]]
    return kept


def json_line(fields: Record) -> str:
    """One line of JSON that can be written as UTF-8: other names of files come as escapes."""
    line = json.dumps(fields, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(fields)
    return line + "\n"


def _words(fields: Record) -> list[Word]:
    if "words" not in fields:
        raise InputError(
            f"the result of {fields['id']} holds no times of words: transcribe with --words."
        )
    return [Word(**word) for word in fields["words"]]


def ctm(id: str, words: Iterable[Word], *, channel: int = 1) -> str:
    """NIST CTM: `recording channel start duration word confidence`.

    Seconds are counted from the item's beginning. Columns are separated by blanks and `;;` begins a
    comment, so in ids blanks, `;` and `%` are written as in a URL.
    """
    name = re.sub(r"[\s;%]", lambda match: quote(match[0]), id)
    rows = []
    for word in words:
        start, end = _ms(word.start), _ms(word.end)
        seconds = f"{start / 1000:.3f} {max(end - start, 0) / 1000:.3f}"
        rows.append(f"{name} {channel} {seconds} {word.text} {word.confidence:.3f}\n")
    return "".join(rows)


def srt(words: Sequence[Word]) -> str:
    """SubRip. It has no escapes; only an arrow, which would read as times, is changed."""
    blocks = []
    for number, cue in enumerate(cues(words), 1):
        text = "\n".join(cue.lines).replace("-->", "->")
        times = f"{clock(cue.start, ',')} --> {clock(cue.end, ',')}"
        blocks.append(f"{number}\n{times}\n{text}\n")
    return "\n".join(blocks)


def vtt(words: Sequence[Word]) -> str:
    """WebVTT, with `&`, `<` and `>` as entities."""
    blocks = ["WEBVTT\n"]
    for cue in cues(words):
        text = html.escape("\n".join(cue.lines), quote=False)
        blocks.append(f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{text}\n")
    return "\n".join(blocks)


def cues(words: Sequence[Word]) -> list[Cue]:
    """Words as captions of at most two lines and `CUE_SECONDS`, broken at pauses.

    A cue starts no earlier than the one before ends, and lasts at least a millisecond, whatever the
    times of the words; only a word longer than a line makes a longer line, and only a word longer
    than `CUE_SECONDS` a longer cue.
    """
    groups: list[list[Word]] = []
    for word in words:
        if groups and _fits(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    made: list[Cue] = []
    free = 0
    for i, group in enumerate(groups):
        start = max(_ms(group[0].start), free)
        end = max(_ms(group[-1].end), start + 1)
        following = _ms(groups[i + 1][0].start) if i + 1 < len(groups) else start + _SHORTEST_MS
        free = max(end, min(start + _SHORTEST_MS, following))
        made.append(Cue(start, free, _lines([word.text for word in group])))
    return made


def file_names(ids: Iterable[str], suffix: str) -> dict[str, Path]:
    """A relative path for each id's file: the id, less the folder that all share and its suffix.

    Raises InputError where two ids would be one file.
    """
    ids = list(ids)
    try:
        shared = os.path.commonpath([os.path.dirname(id) for id in ids]) if ids else ""
    except ValueError:  # absolute and relative ones
        shared = ""
    names: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for id in ids:
        path = PurePath(os.path.relpath(id, shared) if shared else id)
        # Out of the folder, no id leads.
        parts = [part for part in path.parts if part not in ("..", path.anchor)]
        stem = path.with_suffix("").name if is_audio_name(Path(path)) else path.name
        name = Path(*parts[:-1], f"{stem}{suffix}")
        if name in owners:
            raise InputError(
                f"{owners[name]} and {id} would both be written as {name}: transcribe them into "
                "different folders."
            )
        owners[name] = id
        names[id] = name
    return names


def _fits(group: Sequence[Word], word: Word) -> bool:
    return (
        word.start - group[-1].end < PAUSE_SECONDS
        and word.end - group[0].start <= CUE_SECONDS
        and _breaks([*(w.text for w in group), word.text])[0] <= LINE_CHARACTERS
    )


def _lines(texts: Sequence[str]) -> tuple[str, ...]:
    """One line where it fits, else two of about one length."""
    whole = " ".join(texts)
    if len(whole) <= LINE_CHARACTERS or len(texts) == 1:
        return (whole,)
    _, at = _breaks(texts)
    return " ".join(texts[:at]), " ".join(texts[at:])


def _breaks(texts: Sequence[str]) -> tuple[int, int]:
    """(characters of the longer line, words of the first) of the most even break into two."""
    return min(
        (max(len(" ".join(texts[:at])), len(" ".join(texts[at:]))), at)
        for at in range(1, len(texts))
    )


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def clock(ms: int, point: str) -> str:
    """`hours:minutes:seconds` and milliseconds behind the point that the format takes."""
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{ms // 1000:02d}{point}{ms % 1000:03d}"
