"""Utterances packed into a few large files: archives and record files, read at byte offsets.

An index beside the corpora (one JSON line for each utterance) is made in one pass and used again
as long as the files are the same.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .audio import read_audio
from .corpus import Utterance
from .errors import InputError, Rejected

_VERSION = 2


@dataclass(frozen=True)
class Entry:
    """Where an utterance lies."""

    id: str
    text: str
    speaker: str
    seconds: float
    file: int  # number of the file
    offset: int  # bytes
    size: int  # bytes
    metadata: dict[str, Any] = field(default_factory=dict)


class PackedCorpus:
    """Utterances at byte ranges of `files`, each an encoded recording or what `decode` makes one.

    Reads with `pread`, which moves no shared position, so threads need no lock.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        entries: Sequence[Entry],
        *,
        metadata: dict[str, dict[str, Any]] | None = None,
        decode: Callable[[bytes, str], np.ndarray] | None = None,
        quarantine: Sequence[Rejected] = (),
    ):
        """`metadata` is by speaker; `decode(bytes, name) -> int16` is `read_audio` by default."""
        self.name = name
        self.files = list(files)
        self.entries = list(entries)
        self.metadata = metadata or {}
        self.quarantine = list(quarantine)
        self._decode = decode or _read_encoded
        self._handles: dict[int, int] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}, "_lock": None}  # each process opens its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __del__(self) -> None:
        for handle in getattr(self, "_handles", {}).values():
            os.close(handle)

    def __len__(self) -> int:
        return len(self.entries)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        entry = self.entries[i]
        known = {**self.metadata.get(entry.speaker, {}), **entry.metadata}
        return Utterance(entry.id, entry.text, entry.seconds, entry.speaker, known)

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        entry = self.entries[i]
        path = self.files[entry.file]
        packed = os.pread(self._handle(entry.file), entry.size, entry.offset)
        if len(packed) < entry.size:
            raise InputError(f"{path} has become shorter since it was indexed; copy it again.")
        return self._decode(packed, f"{path}:{entry.id}")

    def _handle(self, file: int) -> int:
        with self._lock:
            if file not in self._handles:
                try:
                    self._handles[file] = os.open(self.files[file], os.O_RDONLY)
                except OSError as error:
                    raise InputError(
                        f"{self.files[file]} cannot be read ({error.strerror})."
                    ) from None
            return self._handles[file]


def indexed(path: Path, files: Sequence[Path], build: Callable[[], Iterable[Entry]]) -> list[Entry]:
    """The index at `path` if it describes these files as they are now; else builds and writes it.

    A data root that cannot be written to costs the next run the same pass, and nothing else.
    """
    state = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    header = json.dumps({"version": _VERSION, "files": state})
    try:
        return list(_read_index(path, header))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # none yet, of other files, or damaged
    entries = list(build())
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w", encoding="utf-8") as out:
            out.write(header + "\n")
            out.writelines(json.dumps(asdict(entry)) + "\n" for entry in entries)
            out.write("end\n")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
    return entries


def _read_index(path: Path, header: str) -> Iterator[Entry]:
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines[:1] != [header] or lines[-1] != "end":
        raise ValueError("index of other files")
    for line in lines[1:-1]:
        yield Entry(**json.loads(line))


def _read_encoded(packed: bytes, name: str) -> np.ndarray:
    return read_audio(packed, name=name)
