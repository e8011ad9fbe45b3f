"""Results on disk: appended line by line, resumed after a crash, merged from many processes.

Beside `results.jsonl` lie `results.run.json`, which says what made it, and, where something could
not be used, `results.rejected.jsonl`. A line is written when its recording is done, so a process
that is killed loses nothing that it had finished. It is on the disk (fsync) within about a second:
a machine that crashes loses at most what was finished since, and none of it had been reported.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from ..data.errors import InputError
from ..data.files import replace_file
from .formats import SUBTITLES, SUFFIXES, Format, Record, file_names, json_line, render

_SYNC_SECONDS = 1.0


@dataclass(frozen=True)
class Run:
    """What made a results file; `model`, `weights` and `options` decide what may join it."""

    model: str
    weights: str
    """A hash of the model's files."""
    options: dict[str, Any]
    """All that changes a line."""
    input: str
    """A hash of the ids of all that was given, to all processes."""
    items: int
    """How many of them are this process's."""
    process: tuple[int, int] = (0, 1)
    """Its index and the number of processes."""
    command: str = field(default="", compare=False)

    def conflict(self, other: "Run") -> str:
        """Why results of `other` do not belong with this run's; '' if they do."""
        if other.weights != self.weights:
            return (
                f"holds results of {other.model} (weights {other.weights[:8]}), not of "
                f"{self.model} (weights {self.weights[:8]})"
            )
        for key in sorted(self.options | other.options):
            this, that = self.options.get(key), other.options.get(key)
            if this != that:
                return f"was made with {key} = {json.dumps(that)}, not {json.dumps(this)}"
        return ""


def hash_model(folder: Path) -> str:
    """Of weights, tokenizer and recipe: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    # An exported folder has no recipe.
    for name in ("recipe.json", "tokenizer.model", "weights.safetensors", "calibration.json"):
        if (folder / name).exists():
            digest.update(hash_file(folder / name).encode())
    return digest.hexdigest()[:16]


def hash_file(path: Path) -> str:
    """16 hexadecimal digits. Raises InputError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from None


def hash_ids(ids: Iterable[str]) -> str:
    """Of a set of ids, in whatever order."""
    digest = hashlib.sha256()
    for id in sorted(ids):
        digest.update(id.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def run_path(path: Path) -> Path:
    return path.with_name(f"{_stem(path)}.run.json")


def rejected_path(path: Path) -> Path:
    return path.with_name(f"{_stem(path)}.rejected.jsonl")


def _stem(path: Path) -> str:
    """So that what belongs to r.ctm is not taken for what belongs to r.jsonl."""
    return path.stem if path.suffix == ".jsonl" else path.name


def write_run(path: Path, run: Run) -> None:
    replace_file(run_path(path), json.dumps(asdict(run), indent=1) + "\n")


def read_run(path: Path) -> Run:
    """What made the results at `path`. Raises InputError where nothing says so."""
    beside = run_path(path)
    try:
        fields = json.loads(beside.read_text())
        return Run(**{**fields, "process": tuple(fields["process"])})
    except FileNotFoundError:
        raise InputError(
            f"{path} has no {beside.name} beside it, so what made it is not known: put it back, or "
            "write to another file."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{beside} is damaged: restore it, or write to another file.") from None


def read_lines(path: Path) -> Iterator[tuple[Record, int]]:
    """(record, position of the byte after it); a torn last line is not given.

    Raises InputError for a broken line that others follow.
    """
    end = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            end += len(line)
            record = _parse(line)
            if record is not None:
                yield record, end
            elif file.read(1):
                raise InputError(f"{path}:{number} is no result: mend this line or take it out.")


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("id"), str) else None


class LinesFile:
    """A file that whole lines are appended to, by one process at a time.

    Raises InputError where another process holds it, and where a line cannot be written; what was
    there before stays.
    """

    def __init__(self, path: Path):
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a regular file: give --out a file's name.")
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._synced = True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise InputError(
                f"{path} is being written by another process: wait for it, or give another --out."
            ) from None
        except OSError:  # a file system without locks
            pass
        self.size = os.fstat(self._fd).st_size
        _sync_folder(path.parent)

    def cut(self, size: int) -> None:
        """Takes away what lies behind the first `size` bytes."""
        os.ftruncate(self._fd, size)
        self.size = size

    def append(self, text: str) -> None:
        data = memoryview(text.encode())
        written = 0
        self._synced = False
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except BaseException as error:
            with contextlib.suppress(OSError):  # half a line is no use to anyone
                os.ftruncate(self._fd, self.size)
            if isinstance(error, OSError):
                raise _cannot_write(self.path, error) from None
            raise
        self.size += written

    def sync(self) -> None:
        """Returns when all that was appended is on the disk."""
        if self._synced:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        self._synced = True

    def close(self) -> None:
        try:
            self.sync()
        finally:
            os.close(self._fd)


def _cannot_write(path: Path, error: OSError) -> InputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "free some space" if full else "see to the disk"
    reason = (error.strerror or str(error)).lower()
    return InputError(
        f"{path}: {reason}; what was done is kept: {advice} and run the command again, with "
        "--resume where it writes .jsonl."
    )


def _sync_folder(folder: Path) -> None:
    """Without it, a crash may leave a file's content and lose its name."""
    with contextlib.suppress(OSError):  # not every file system can
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Destination(Protocol):
    """Where the results of a command go."""

    done: set[str]
    """Ids that need not be done again."""
    rejects: "Rejects"
    in_order: bool
    """Whether results are added in the order given, as opposed to as they are done."""

    def add(self, fields: Record) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...
    def remove(self) -> None: ...


class Rejects:
    """The quarantine list; the file is made when something enters it."""

    def __init__(self, path: Path, *, resume: bool = False):
        self.path = path
        self.ids: set[str] = set()
        self._file: LinesFile | None = None
        if not resume:
            # An earlier run's rejects beside this run's results would be believed.
            path.unlink(missing_ok=True)
        elif path.exists():
            self._file = LinesFile(path)
            self.ids = resumed(self._file)

    def add(self, id: str, reason: str, *, path: str = "") -> None:
        where = {"audio_filepath": path} if path else {}
        if self._file is None:
            self._file = LinesFile(self.path)
        self._file.append(json_line({"id": id, **where, "reason": reason}))
        self.ids.add(id)

    def sync(self) -> None:
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def resumed(
    file: LinesFile, name: Callable[[Record], str] = lambda record: record["id"]
) -> set[str]:
    """The names of its lines, by default the ids; what is torn at its end is cut off."""
    names: set[str] = set()
    end = 0
    for record, after in read_lines(file.path):
        names.add(name(record))
        end = after
    file.cut(end)
    return names


class _File:
    """What the destinations that are one file have in common."""

    rejects: Rejects

    def __init__(self, path: Path):
        self.done: set[str] = set()
        self._file = LinesFile(path)

    def sync(self) -> None:
        self._file.sync()
        self.rejects.sync()

    def close(self) -> None:
        self._file.close()
        self.rejects.close()

    def remove(self) -> None:
        """Takes away all that belongs to it."""
        for path in (self._file.path, run_path(self._file.path), self.rejects.path):
            path.unlink(missing_ok=True)


class JsonLines(_File):
    """`results.jsonl`: a line as soon as it is done; can be resumed."""

    in_order = False

    def __init__(self, path: Path, run: Run, *, resume: bool):
        """Opens it and, to resume, reads what is there and drops a torn last line.

        Raises:
          InputError: it holds results and `resume` is false, or they are of another model or of
            other options; another process writes it.
        """
        super().__init__(path)
        try:
            begun = self._file.size > 0
            if begun and not resume:
                raise InputError(
                    f"{path} holds results already: go on with --resume, or give another --out."
                )
            if begun and (conflict := run.conflict(read_run(path))):
                raise InputError(f"{path} {conflict}: give another --out.")
            self.rejects = Rejects(rejected_path(path), resume=begun)
            self.done = resumed(self._file)
            write_run(path, run)
        except BaseException:
            self._file.close()
            raise
        self._words = bool(run.options.get("words"))

    def add(self, fields: Record) -> None:
        self._file.append(render("json", fields, words=self._words))
        self.done.add(fields["id"])


class OneFile(_File):
    """A file of another format, in the order given; refuses to overwrite one."""

    in_order = True

    def __init__(self, path: Path, form: Format, *, named: bool, words: bool):
        super().__init__(path)
        self._form: Format = form
        self._named, self._words = named, words
        if self._file.size:
            self._file.close()
            raise InputError(f"{path} exists already: remove it, or give another --out.")
        self.rejects = Rejects(rejected_path(path))

    def add(self, fields: Record) -> None:
        self._file.append(render(self._form, fields, words=self._words, named=self._named))


class Folder:
    """A file for each recording, whole or not there; refuses to overwrite one."""

    in_order = False

    def __init__(
        self, folder: Path, form: Format, names: dict[str, Path], *, words: bool, mark: str = ""
    ):
        """`names`: of `file_names`; `mark`: of this process, in its list of rejects."""
        for name in names.values():
            if (folder / name).exists():
                raise InputError(
                    f"{folder / name} exists already: remove it, or give --out another folder."
                )
        self.done: set[str] = set()
        self._form: Format = form
        self._folder, self._names, self._words = folder, names, words
        folder.mkdir(parents=True, exist_ok=True)
        self.rejects = Rejects(folder / f"rejected{mark}.jsonl")

    def add(self, fields: Record) -> None:
        path = self._folder / self._names[fields["id"]]
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, render(self._form, fields, words=self._words))

    def sync(self) -> None:
        self.rejects.sync()

    def close(self) -> None:
        self.rejects.close()

    def remove(self) -> None:
        for path in (*(self._folder / name for name in self._names.values()), self.rejects.path):
            path.unlink(missing_ok=True)


def destination(
    out: str, form: Format, run: Run, ids: Sequence[str], *, resume: bool, several: bool
) -> Destination:
    """What `--out` names: a folder by its slash or because it is one, a file by its suffix.

    Raises:
      InputError: a format of one recording for several, a suffix of no format, or `resume` for
        another than JSON lines.
    """
    path = Path(out).expanduser()
    index, count = run.process
    mark = f".{index:02d}-of-{count:02d}" if count > 1 else ""
    words = bool(run.options.get("words"))
    folder = is_folder(out)
    kinds: dict[str, Format] = {suffix: kind for kind, suffix in SUFFIXES.items()}
    kind = kinds.get(path.suffix.lower(), "json")
    if not folder and path.suffix.lower() not in {*kinds, ".json", ""}:
        raise InputError(
            f"--out {out}: results are written as {', '.join(kinds)}, or into a folder (FOLDER/)."
        )
    if kind == "json" and not folder:
        return JsonLines(path.with_name(f"{path.stem}{mark}{path.suffix}"), run, resume=resume)
    if resume:
        raise InputError(
            f"--resume goes on with JSON lines: give --out FILE.jsonl instead of {out}, and "
            "convert it with parley merge."
        )
    if folder:
        return Folder(path, form, file_names(ids, SUFFIXES[form]), words=words, mark=mark)
    if mark:
        raise InputError(
            f"several processes do not write one {path.suffix}: give --out FILE.jsonl, and convert "
            "it with parley merge."
        )
    if kind in SUBTITLES and several:
        raise InputError(
            f"--out {out}: {path.suffix} is a file of one recording; give a folder for them "
            f"(--out captions/ --format {kind})."
        )
    return OneFile(path, kind, named=several, words=words)


def is_folder(out: str | None) -> bool:
    """Whether `--out` names a folder."""
    if not out:
        return False
    return out.endswith(("/", os.sep)) or Path(out).expanduser().is_dir()


class Syncing:
    """Syncs a destination at most once a second."""

    def __init__(self, destination: Destination | LinesFile):
        self._destination = destination
        self._last = -_SYNC_SECONDS

    def __call__(self) -> bool:
        """Whether it has just been synced."""
        if monotonic() - self._last < _SYNC_SECONDS:
            return False
        self._destination.sync()
        self._last = monotonic()
        return True
