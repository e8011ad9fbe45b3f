"""`parley verify`, `parley enrol` and `parley identify`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .console import remark, stdout, table

_MODEL = "speaker-tiny"


@dataclass(frozen=True)
class VerifyArguments:
    """Whether two recordings are of one speaker: the cosine of their embeddings, and whether it
    reaches the threshold. Status 0 where it does, 1 where it does not.

    * parley verify a.wav b.wav
    * parley verify a.wav b.wav --model runs/mine --threshold 0.7 --json
    """

    first: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="A")]
    """A recording with at least a second of speech."""
    second: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="B")]
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")] = _MODEL
    """A speaker model: a name that `parley list` shows, or a model's folder."""
    threshold: float | None = None
    """The least cosine of one speaker; by default where both errors were equally frequent on the
    model's development set. Higher: fewer strangers are accepted, and fewer of the same."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class EnrolArguments:
    """Makes a speaker known by recordings. Of the same name twice, the later one counts.

    * parley enrol ann ann1.wav ann2.wav
    * parley enrol bob bob.flac --to home.json
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    recordings: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    """Of this speaker alone; each with at least a second of speech."""
    to: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("speakers.json")
    """The list of enrolled speakers; made where it is not there."""
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")] = _MODEL
    """A speaker model: a name that `parley list` shows, or a model's folder."""
    any_voices: bool = False
    """Take recordings that seem to hold several voices."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class IdentifyArguments:
    """Who of the enrolled speakers is heard in each recording, or nobody of them.

    * parley identify who.wav
    * parley identify *.wav --speakers home.json --json
    """

    recordings: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    """Each with at least a second of speech, of one speaker."""
    speakers: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("speakers.json")
    """The list of enrolled speakers that `parley enrol` wrote."""
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")] = _MODEL
    """The model that they were enrolled with."""
    threshold: float | None = None
    """The least cosine; below it, a speaker is nobody who is known."""
    json: bool = False
    """Print JSON: of every recording all speakers and scores, the likeliest first."""


def verify_command(argv: list[str]) -> int:
    given = parse(VerifyArguments, argv, "parley verify")
    from .enrolment import check_speech
    from .speakers import load_speaker_model

    # What is wrong with a recording is found before the model is loaded.
    checked = [check_speech(path) for path in (given.first, given.second)]
    model = load_speaker_model(given.model)
    first, second = model.embed_samples([c.samples for c in checked])
    score = float(first @ second)
    threshold = model.threshold if given.threshold is None else given.threshold
    same = score >= threshold
    if given.json:
        record = {
            "first": str(given.first),
            "second": str(given.second),
            "score": round(score, 4),
            "threshold": threshold,
            "same": same,
            "speech_s": [round(c.speech_s, 2) for c in checked],
            "model": model.name,
        }
        print(json.dumps(record, indent=1))
    else:
        verdict = "one speaker" if same else "two speakers"
        print(f"{verdict}: cosine {score:.3f}, threshold {threshold:.3f}")
    return 0 if same else 1


def enrol_command(argv: list[str]) -> int:
    given = parse(EnrolArguments, argv, "parley enrol")
    from .enrolment import SpeakerBook
    from .speakers import load_speaker_model

    if not given.recordings:
        raise InputError(f"nothing to enrol {given.name} by: give recordings.")
    book = SpeakerBook.open(given.to, load_speaker_model(given.model))
    known = given.name in book.speakers
    made = book.enrol(given.name, list(given.recordings), any_voices=given.any_voices)
    book.save()
    if given.json:
        record = {
            "name": made.name,
            "recordings": list(made.recordings),
            "speech_s": made.speech_s,
            "speakers": sorted(book.speakers),
            "file": str(given.to),
        }
        print(json.dumps(record, indent=1))
    else:
        verb = "enrolled anew" if known else "enrolled"
        print(
            f"{made.name} is {verb} by {made.speech_s:.1f} s of speech; {given.to} knows "
            f"{len(book.speakers)} speaker{'s' if len(book.speakers) > 1 else ''}"
        )
    return 0


def identify_command(argv: list[str]) -> int:
    given = parse(IdentifyArguments, argv, "parley identify")
    from .enrolment import SpeakerBook
    from .speakers import load_speaker_model

    if not given.recordings:
        raise InputError("nobody to identify: give recordings.")
    book = SpeakerBook.open(given.speakers, load_speaker_model(given.model), must_exist=True)
    records, status = [], 0
    rows = table("recording", "speaker", "cosine", "next", right=("cosine",))
    for path in given.recordings:
        try:
            matches = book.identify(path, threshold=given.threshold)
        except InputError as error:
            remark(f"left out {error}")
            records.append({"recording": str(path), "error": str(error)})
            status = 2
            continue
        best, after = matches[0], matches[1:2]
        records.append(
            {
                "recording": str(path),
                "speaker": best.name if best.accepted else None,
                "matches": [{"name": m.name, "score": round(m.score, 4)} for m in matches],
            }
        )
        following = f"{after[0].name} {after[0].score:.3f}" if after else ""
        who = best.name if best.accepted else f"nobody known (nearest {best.name})"
        rows.add_row(str(path), who, f"{best.score:.3f}", following)
    if given.json:
        print(json.dumps(records, indent=1))
    else:
        stdout().print(rows)
    return status
