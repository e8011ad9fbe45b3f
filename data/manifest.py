"""A user's own recordings: manifests (JSON lines, JSON, CSV) and plain folders.

A row names `audio_filepath` (relative to the manifest, or absolute) and `text`; optional are
`duration` and `offset` (seconds), `speaker` and `id`; every further field is kept as metadata.
This is the convention of NVIDIA NeMo. A bad row is put into quarantine and the others are used.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .audio import audio_info, is_audio_name, read_audio
from .corpus import Utterance
from .errors import InputError, Rejected
from .text import normalize

_FIELDS = ("audio_filepath", "text", "duration", "offset", "speaker", "id")


@dataclass(frozen=True)
class Recording:
    """An utterance and the part of a file where it lies."""

    utterance: Utterance
    path: Path
    offset: float = 0.0
    whole: bool = True  # the file's whole length, as opposed to `duration` seconds of it
    channel: int | None = None  # None: their mean


@dataclass
class RecordingsCorpus:
    """Recordings in files. `quarantine` lists the rows that were left out, and why."""

    name: str
    recordings: Sequence[Recording]
    quarantine: list[Rejected] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.recordings)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        return self.recordings[i].utterance

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        recording = self.recordings[i]
        duration = None if recording.whole else recording.utterance.duration
        return read_audio(
            recording.path, offset=recording.offset, duration=duration, channel=recording.channel
        )


def open_manifest(path: Path, *, require_text: bool = True) -> RecordingsCorpus:
    """Reads a manifest; headers of recordings only where a row states no duration.

    Raises:
      InputError: when the manifest cannot be read, or no row of it can be used (the message
        gives the first row's reason).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"manifest {path} cannot be read ({error.strerror}); check the path."
        ) from None
    rows = _csv_rows if path.suffix.lower() in (".csv", ".tsv") else _json_rows

    def parse(item: tuple[str, dict[str, Any] | str]) -> Recording | Rejected:
        where, row = item
        try:
            if isinstance(row, str):
                raise InputError(row)
            return _recording(row, path.parent, require_text)
        except InputError as error:
            return Rejected(where, str(error))

    with ThreadPoolExecutor(8) as pool:  # waiting for a network disk, mostly
        parsed = list(pool.map(parse, rows(path, content)))
    return _corpus(str(path), parsed, "rows")


def open_folder(path: Path) -> RecordingsCorpus:
    """Every recording in a folder and its subfolders, in the order of their names, without text.

    Raises:
      InputError: when there is no recording, or none can be read.
    """
    files = sorted(file for file in path.rglob("*") if is_audio_name(file) and file.is_file())
    if not files:
        raise InputError(f"{path} holds no recordings (.wav, .flac, .ogg, .mp3, ...).")

    def parse(file: Path) -> Recording | Rejected:
        name = str(file.relative_to(path))
        try:
            return Recording(Utterance(name, "", audio_info(file).duration), file)
        except InputError as error:
            return Rejected(name, str(error))

    with ThreadPoolExecutor(8) as pool:
        parsed = list(pool.map(parse, files))
    return _corpus(str(path), parsed, "recordings")


def _corpus(name: str, parsed: list[Recording | Rejected], what: str) -> RecordingsCorpus:
    recordings = [item for item in parsed if isinstance(item, Recording)]
    quarantine = [item for item in parsed if isinstance(item, Rejected)]
    if not recordings:
        reason = f" (the first: {quarantine[0].reason.rstrip('.')})" if quarantine else ""
        raise InputError(f"{name}: none of its {len(quarantine)} {what} can be used{reason}.")
    return RecordingsCorpus(name, recordings, quarantine)


def _json_rows(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(file:line, row or what is wrong with it) of JSON lines, or of one JSON array."""
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        try:
            array = json.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"manifest {path} is broken JSON ({error}); mend it.") from None
        for number, row in enumerate(array, 1):
            yield f"{path}[{number}]", row if isinstance(row, dict) else "is not a JSON object."
        return
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            yield where, "is not UTF-8 text."
        except (ValueError, RecursionError):
            yield where, "is broken JSON."
        else:
            yield where, row if isinstance(row, dict) else "is not a JSON object."


def _csv_rows(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(file:line, row or what is wrong with it); the separator is the header's commonest one."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"manifest {path} is not UTF-8 text; save it as UTF-8.") from None
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    columns = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    if "audio_filepath" not in columns:
        raise InputError(
            f"manifest {path} has no column audio_filepath; its columns: {', '.join(columns)}."
        )
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"{path}:{reader.line_num}", f"is broken CSV ({error})."
            continue
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            yield where, f"does not have {len(columns)} columns."
        else:
            yield where, {key: value for key, value in row.items() if value != ""}


def _recording(row: dict[str, Any], folder: Path, require_text: bool) -> Recording:
    name = row.get("audio_filepath")
    if not isinstance(name, str) or not name:
        raise InputError("has no audio_filepath.")
    text = row.get("text")
    if text is None and not require_text:
        text = ""
    if not isinstance(text, str) or (require_text and not normalize(text)):
        raise InputError(f"has no text for {name}.")
    path = folder / name  # an absolute name stays as it is
    offset = _seconds(row.get("offset")) or 0.0
    stated = _seconds(row.get("duration"))
    if stated:
        if not path.is_file():
            raise InputError(f"{path} is missing; check audio_filepath.")
        duration = stated
    else:
        duration = audio_info(path).duration - offset
        if duration <= 0:
            raise InputError(f"its offset of {offset:g} s lies beyond the end of {path}.")
    utterance = Utterance(
        id=str(row.get("id") or (f"{name}@{offset:g}" if offset else name)),
        text=text,
        duration=duration,
        speaker=str(row.get("speaker") or ""),
        metadata={key: value for key, value in row.items() if key not in _FIELDS},
    )
    # Without an offset, the stated duration describes the file: all of it is read.
    return Recording(utterance, path, offset, whole="offset" not in row or not stated)


def _seconds(value: Any) -> float | None:
    """A finite positive number, also from a CSV cell; otherwise None: not stated."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
