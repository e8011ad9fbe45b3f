"""LibriCSS (Chen et al., ICASSP 2020, arXiv 2001.11482): replayed conversations of LibriSpeech.

Ten sessions of an hour in six conditions of overlap, recorded by seven microphones in a meeting
room. Read is the layout of its archive `for_release` (github.com/chenzhuo1011/libri_css):

    OV20/overlap_ratio_20.0_sil0.1_1.0_session3_actual20.0/
        record/raw_recording.wav              the session, 7 channels, about ten minutes
        record/segments/segment_0.wav         its pieces of about a minute, the continuous task
        clean/mix.wav                         what the loudspeakers played, without the room
        transcription/meeting_info.txt        start, end (s), speaker, utterance, words; a head line
        transcription/segments/seg_0.scp      start, end (samples of the piece), speaker, words

Times are those at which LibriSpeech's files were played, so they include the silence at either end
of each file.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .audio import SAMPLE_RATE, audio_info
from .corpus import Utterance
from .errors import InputError, Rejected
from .manifest import Recording, RecordingsCorpus
from .turns import Turn, in_order, overlap_share, parse_turn

CONDITIONS = ("0L", "0S", "OV10", "OV20", "OV30", "OV40")
# Session 0 is for development, by custom.
SPLITS = {"dev": {0}, "test": set(range(1, 10)), "all": set(range(10))}
PARTS = ("segments", "sessions", "clean")
_SESSION = re.compile(r"_session(\d+)_")


def open_libricss(
    folder: Path, split: str, *, part: str = "segments", channel: int | None = 0
) -> RecordingsCorpus:
    """The recordings of a split, with their turns in `metadata["turns"]`.

    Args:
      folder: `for_release` or the folder that holds it.
      split: `dev` (session 0), `test` (sessions 1 to 9) or `all`.
      part: `segments` (a minute each), `sessions` (whole), or `clean` (whole, before the room).
      channel: the microphone, from 0 on; None averages them. The clean mix has one channel.

    `metadata` also has `condition` (OV20, ...), `session`, `segment`, `overlap`, `turn_count` and
    `speakers`; `speaker` is the session, which is what resampling may draw.

    Raises:
      InputError: for an unknown split or part, or a folder that holds nothing of it.
    """
    if split not in SPLITS:
        raise InputError(
            f"LibriCSS has no split {split!r}; its splits: dev (session 0), test (1 to 9), all."
        )
    if part not in PARTS:
        raise InputError(f"LibriCSS has no part {part!r}; its parts: {', '.join(PARTS)}.")
    base = next((b for b in (folder, folder / "for_release") if _sessions(b)), None)
    if base is None:
        raise InputError(
            f"libricss:{folder} holds no sessions such as OV20/overlap_ratio_20.0_..._session0_; "
            "give the folder for_release of the archive."
        )
    pieces = [
        piece
        for condition, number, session in _sessions(base)
        if number in SPLITS[split]
        for piece in _pieces(condition, number, session, part)
    ]
    microphone = None if part == "clean" else channel
    with ThreadPoolExecutor(8) as pool:
        parsed = list(pool.map(lambda piece: _recording(piece, microphone), pieces))
    recordings = [item for item in parsed if isinstance(item, Recording)]
    rejected = [item for item in parsed if isinstance(item, Rejected)]
    if not recordings:
        reason = f" (the first: {rejected[0].reason.rstrip('.')})" if rejected else ""
        raise InputError(f"libricss:{folder}: no {part} of the split {split} can be used{reason}.")
    return RecordingsCorpus(f"libricss {split} {part}", recordings, rejected)


_Piece = tuple[str, dict[str, str | int], Path, Path]
"""Id, what is known, audio, transcription."""


def _sessions(base: Path) -> list[tuple[str, int, Path]]:
    found = []
    for condition in CONDITIONS:
        for session in sorted((base / condition).glob("*_session*_*")):
            match = _SESSION.search(session.name)
            if match and session.is_dir():
                found.append((condition, int(match[1]), session))
    return found


def _pieces(condition: str, number: int, session: Path, part: str) -> Iterator[_Piece]:
    key = f"{condition}_session{number}"
    known: dict[str, str | int] = {"condition": condition, "session": number}
    texts = session / "transcription"
    if part == "segments":
        count = len(list((texts / "segments").glob("seg_*.scp")))
        for k in range(count):
            audio = session / "record" / "segments" / f"segment_{k}.wav"
            scp = texts / "segments" / f"seg_{k}.scp"
            yield f"{key}_segment{k}", {**known, "segment": k}, audio, scp
    else:
        audio = "record/raw_recording.wav" if part == "sessions" else "clean/mix.wav"
        yield key, known, session / audio, texts / "meeting_info.txt"


def _recording(piece: _Piece, channel: int | None) -> Recording | Rejected:
    key, known, audio, transcription = piece
    try:
        try:
            lines = transcription.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise InputError(f"{transcription} cannot be read; extract it again.") from None
        info = audio_info(audio)
        if channel is not None and channel >= info.channels:
            raise InputError(
                f"{audio} has no channel {channel}: it has {info.channels}, from 0 on."
            )
        samples = transcription.suffix == ".scp"
        # meeting_info.txt has a line of headings.
        numbered = list(enumerate(lines, 1))[0 if samples else 1 :]
        turns = in_order(
            _turn(line, f"{transcription}:{number}", samples)
            for number, line in numbered
            if line.strip()
        )
        if not turns:
            raise InputError(f"{transcription} has no utterances.")
    except InputError as error:
        return Rejected(key, str(error))
    utterance = Utterance(
        id=key,
        text=" ".join(turn.text for turn in turns),
        duration=info.duration,
        speaker=f"{known['condition']}_session{known['session']}",
        metadata={
            **known,
            "turns": tuple(turns),
            "overlap": round(overlap_share(turns), 4),
            "turn_count": len(turns),
            "speakers": len({turn.speaker for turn in turns}),
        },
    )
    return Recording(utterance, audio, channel=channel)


def _turn(line: str, where: str, samples: bool) -> Turn:
    fields = line.split(maxsplit=3) if samples else line.split("\t")
    if len(fields) != (4 if samples else 5):
        raise InputError(f"{where} does not have start, end, speaker and words; extract it again.")
    start, end, speaker, text = fields[0], fields[1], fields[2], fields[-1]
    try:
        unit = SAMPLE_RATE if samples else 1
        times = {"start": round(float(start) / unit, 7), "end": round(float(end) / unit, 7)}
    except ValueError:
        raise InputError(f"{where}: {start!r} to {end!r} are no times.") from None
    return parse_turn({**times, "text": text.strip().lower(), "speaker": speaker}, where)
