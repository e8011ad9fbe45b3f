"""Segmentation of meetings whose words nobody has written down: turns, speech, and who speaks.

    python -m parley.benchmarks.meetings sts-tiny MEETINGS/

MEETINGS holds `reference.rttm` and a recording for each of its sessions. Each is heard as
`parley transcribe --speakers` hears it. The error of activity is that of when anybody speaks; DER
says who as well. Both count missed and false time, and confusion, over the time of speech.
"""

import argparse
from pathlib import Path

from ..data.audio import is_audio_name, read_audio
from ..data.errors import InputError
from ..data.segments import read_rttm
from ..data.turns import Turn, most_at_once
from ..metrics.conversation import count_turns
from ..metrics.diarization import DiarizationErrors, activity_errors, diarization_errors
from ..zoo import load
from ..zoo.attribution import attribute
from ..zoo.console import stdout, table

COLLAR = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.meetings",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-speakers", type=int)
    given = parser.parse_args()
    rttm = given.folder / "reference.rttm"
    if not rttm.is_file():
        raise SystemExit(f"{rttm} is missing: give a folder that holds it and the recordings.")
    try:
        sessions = read_rttm(rttm.read_text(encoding="utf-8"), str(rttm))
        print_table(given.model, given.folder, sessions, given.max_speakers)
    except InputError as error:
        raise SystemExit(str(error)) from None


def print_table(
    name: str, folder: Path, sessions: dict[str, list[Turn]], max_speakers: int | None
) -> None:
    model = load(name)
    files = {path.stem: path for path in folder.iterdir() if is_audio_name(path)}
    columns = ("turns", "found", "at once", "activity", "DER", f"DER, collar {COLLAR:g} s")
    rows = table("recording", *columns, right=columns)
    pairs: list[tuple[int, int]] = []
    totals = [DiarizationErrors()] * 3
    for session, reference in sorted(sessions.items()):
        if session not in files:
            raise InputError(f"{folder} holds no recording of session {session}.")
        samples = read_audio(files[session])
        turns = model.transcribe(samples).turns
        names = attribute(samples, turns, max_speakers=max_speakers)
        found = [
            Turn(turn.start, turn.end, turn.text, who)
            for turn, who in zip(turns, names, strict=True)
            if turn.end > turn.start
        ]
        errors = [
            activity_errors(reference, found),
            diarization_errors(reference, found),
            diarization_errors(reference, found, collar=COLLAR),
        ]
        totals = [a + b for a, b in zip(totals, errors, strict=True)]
        pairs.append((len(reference), len(found)))
        rates = (f"{100 * e.rate:.1f} %" for e in errors)
        rows.add_row(session, *map(str, pairs[-1]), str(most_at_once(reference)), *rates)
    counts = count_turns(pairs)
    rows.add_section()
    rates = (f"{100 * e.rate:.1f} %" for e in totals)
    rows.add_row("all", str(counts.reference), f"{counts.bias:+.0%}", "", *rates)
    stdout().print(rows)


if __name__ == "__main__":
    main()
