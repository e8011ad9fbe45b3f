"""Who said what when, as files: SegLST, STM and RTTM.

What scoring tools read (meeteval, NIST sctk, dscore). Every reader takes the file's text and gives
the turns of each session, every writer the reverse; a line that cannot be understood is named.

* **SegLST**: a JSON array of objects with `session_id`, `start_time`, `end_time`, `words` and
  `speaker` (CHiME-7; github.com/fgnt/meeteval). Only here names and words stay as they are.
* **STM**: `session channel speaker start end [<label>] words`, `;;` begins a comment (NIST sctk).
* **RTTM**: `SPEAKER session channel start duration <NA> <NA> speaker <NA> <NA>`, without words
  (NIST RT-09); records other than SPEAKER are passed over.

In STM and RTTM, names cannot hold spaces, which become underscores, and `<NA>` is no name.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .errors import InputError
from .turns import Turn, in_order, parse_turn

Sessions = Mapping[str, Sequence[Turn]]
_NOBODY = "<NA>"


def write_seglst(sessions: Sessions) -> str:
    """A SegLST file."""
    rows = [
        {
            "session_id": session,
            "speaker": turn.speaker,
            "start_time": turn.start,
            "end_time": turn.end,
            "words": turn.text,
        }
        for session, turns in sessions.items()
        for turn in in_order(turns)
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def read_seglst(content: str, name: str) -> dict[str, list[Turn]]:
    """The turns of a SegLST file; `name` is what to call it in an error.

    Raises:
      InputError: for broken JSON, or an entry without session, times or words.
    """
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is broken JSON ({error}); mend it.") from None
    if not isinstance(rows, list):
        raise InputError(f"{name} is no SegLST: it must be a JSON array of segments.")
    found: dict[str, list[Turn]] = {}
    for number, row in enumerate(rows, 1):
        where = f"{name}[{number}]"
        if not isinstance(row, dict):
            raise InputError(f"{where} is not a JSON object; give session_id, start_time, ...")
        missing = [k for k in ("session_id", "start_time", "end_time", "words") if k not in row]
        if missing:
            raise InputError(f"{where} has no {missing[0]}; add it.")
        turn = {
            "start": row["start_time"],
            "end": row["end_time"],
            "text": row["words"],
            "speaker": row.get("speaker"),
        }
        found.setdefault(str(row["session_id"]), []).append(parse_turn(turn, where))
    return _sorted(found)


def write_stm(sessions: Sessions) -> str:
    """An STM file, channel 1."""
    lines = []
    for session, turns in sessions.items():
        for turn in in_order(turns):
            words = " ".join(turn.text.split())
            # Words that begin like a label would be read as one.
            label = f"{_NOBODY} " if words.startswith("<") else ""
            times = f"{_time(turn.start)} {_time(turn.end)}"
            lines.append(
                f"{_name(session)} 1 {_name(turn.speaker)} {times} {label}{words}".rstrip()
            )
    return "".join(f"{line}\n" for line in lines)


def read_stm(content: str, name: str) -> dict[str, list[Turn]]:
    """The turns of an STM file.

    Raises:
      InputError: for a line of fewer than five fields, or times that are none.
    """

    def parse(line: str, where: str) -> tuple[str, Turn] | None:
        fields = line.split(maxsplit=5)
        if len(fields) < 5:
            raise InputError(f"{where}: not 'session channel speaker start end words'; mend it.")
        words = fields[5] if len(fields) > 5 else ""
        if words.startswith("<"):
            label, _, rest = words.partition(" ")
            words = rest.strip() if label.endswith(">") else words
        return fields[0], _turn(fields[3], fields[4], words, fields[2], where)

    return _read_lines(content, name, parse)


def write_rttm(sessions: Sessions) -> str:
    """An RTTM file, channel 1."""
    return "".join(
        f"SPEAKER {_name(session)} 1 {_time(turn.start)} {_time(turn.end - turn.start)} "
        f"{_NOBODY} {_NOBODY} {_name(turn.speaker)} {_NOBODY} {_NOBODY}\n"
        for session, turns in sessions.items()
        for turn in in_order(turns)
    )


def read_rttm(content: str, name: str) -> dict[str, list[Turn]]:
    """The turns of an RTTM file, without words.

    Raises:
      InputError: for a SPEAKER line of fewer than eight fields, or times that are none.
    """

    def parse(line: str, where: str) -> tuple[str, Turn] | None:
        fields = line.split()
        if fields[0] != "SPEAKER":
            return None
        if len(fields) < 8:
            raise InputError(f"{where}: not 'SPEAKER session channel start duration ...'; mend it.")
        start, duration = _seconds(fields[3], where), _seconds(fields[4], where)
        end = round(start + duration, 6)  # the sum of two decimals is one again
        return fields[1], _turn(str(start), str(end), "", fields[7], where)

    return _read_lines(content, name, parse)


def _read_lines(
    content: str, name: str, parse: Callable[[str, str], tuple[str, Turn] | None]
) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(content.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        parsed = parse(line.strip(), f"{name}:{number}")
        if parsed is not None:
            found.setdefault(parsed[0], []).append(parsed[1])
    return _sorted(found)


def _sorted(found: Mapping[str, Iterable[Turn]]) -> dict[str, list[Turn]]:
    return {session: in_order(turns) for session, turns in found.items()}


def _turn(start: str, end: str, text: str, speaker: str, where: str) -> Turn:
    value: dict[str, Any] = {
        "start": _seconds(start, where),
        "end": _seconds(end, where),
        "text": text,
        "speaker": "" if speaker == _NOBODY else speaker,
    }
    return parse_turn(value, where)


def _seconds(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: {text!r} is not a number of seconds; mend it.") from None


def _time(seconds: float) -> str:
    """Decimal seconds, exact to a microsecond, without trailing zeros."""
    whole, _, rest = f"{seconds:.6f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def _name(name: str) -> str:
    """As one field that does not begin a comment."""
    field = "_".join(name.split())
    return (f"_{field}" if field.startswith(";") else field) or _NOBODY
