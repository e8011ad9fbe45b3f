"""`parley transcribe`."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import tyro

from ..data.errors import InputError, Rejected
from .arguments import parse
from .console import audio_progress, remark
from .transcript import Transcript

if TYPE_CHECKING:
    from .transcriber import Transcriber

_STREAM_SECONDS = 0.32


@dataclass(frozen=True)
class TranscribeArguments:
    """Recordings to text.

    One recording gives its text; several give lines of path, tab, text, in the order given. A
    recording that cannot be used is named on stderr with the reason, the others are done, and the
    exit status is 2.

    * parley transcribe rnnt-tiny a.wav
    * parley transcribe rnnt-tiny recordings/ --out results.jsonl
    * parley transcribe rnnt-tiny a.wav --stream --words
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    audio: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="AUDIO...")]
    """Files, and folders whose recordings are all taken."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write JSON lines here, each as soon as its recording is done; what could not be used
    goes to a file of the same name ending in .rejected.jsonl."""
    format: Literal["text", "json"] = "text"
    """Of stdout: text, or JSON lines."""
    words: bool = False
    """With every word's start and end in seconds and its confidence."""
    stream: bool = False
    """Take each recording in small pieces, as it would arrive, and print what is known so far (to
    stderr; as JSON lines to stdout)."""


def transcribe_command(argv: list[str]) -> int:
    given = parse(TranscribeArguments, argv, "parley transcribe")
    paths = collect(given.audio)
    from . import load

    model = load(given.model)
    with ExitStack() as stack:
        output = Output(given, stack, several=len(paths) > 1)
        if given.stream:
            for index, path in enumerate(paths):
                output.take(index, _stream(model, path, given))
        else:
            with audio_progress("transcribing", _seconds(paths)) as advance:
                for index, result in model.transcribe_each(paths, on_audio=advance):
                    output.take(index, result)
    if output.rejected and not output.several:
        raise InputError(output.reason)
    if output.rejected:
        remark(
            f"{output.rejected} of {len(paths)} recordings could not be used"
            + (f"; see {output.rejected_path}" if given.out else "")
        )
    return 2 if output.rejected else 0


def collect(given: Sequence[Path]) -> list[Path]:
    """Files as they are, folders by their recordings in order of name.

    Raises InputError for nothing at all, and for a folder without recordings.
    """
    from ..data.audio import is_audio_name

    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and is_audio_name(p))
            if not found:
                raise InputError(f"{path} holds no recordings (.wav, .flac, .mp3, .ogg, ...).")
            paths += found
        else:
            paths.append(path)
    if not paths:
        raise InputError("no recordings are given: name files or folders after the model.")
    return paths


class Output:
    """Where results go: the file at once and in any order, stdout in the order given."""

    def __init__(self, given: TranscribeArguments, stack: ExitStack, *, several: bool):
        self.given = given
        self.several = several
        self.rejected = 0
        self.reason = ""
        """Why the last one was rejected."""
        self._stack = stack
        self._waiting: dict[int, Transcript | Rejected] = {}
        self._next = 0
        self._file: TextIO | None = None
        self._rejects: TextIO | None = None
        if given.out:
            self.rejected_path = given.out.with_name(f"{given.out.stem}.rejected.jsonl")
            # An earlier run's rejects beside this run's results would be believed.
            self.rejected_path.unlink(missing_ok=True)
            self._file = stack.enter_context(given.out.open("w", encoding="utf-8"))
        # Whatever ends the command, what is done is printed.
        stack.callback(self._print, final=True)

    def take(self, index: int, result: Transcript | Rejected) -> None:
        if isinstance(result, Rejected):
            self.rejected += 1
            self.reason = _once(result)
            if self.several:
                remark(f"left out {self.reason}")
            if self.given.out:
                if self._rejects is None:
                    self._rejects = self._stack.enter_context(
                        self.rejected_path.open("w", encoding="utf-8")
                    )
                _line(self._rejects, {"audio_filepath": result.where, "reason": result.reason})
        elif self._file is not None:
            _line(self._file, result.as_dict(words=self.given.words))
        self._waiting[index] = result
        self._print()

    def _print(self, *, final: bool = False) -> None:
        while self._waiting and (final or self._next in self._waiting):
            index = min(self._waiting)
            result = self._waiting.pop(index)
            self._next = index + 1
            if isinstance(result, Transcript):
                self._show(result)

    def _show(self, result: Transcript) -> None:
        if self.given.format == "json":
            print(json.dumps(result.as_dict(words=self.given.words), ensure_ascii=False))
        else:
            print(f"{result.source}\t{result.text}" if self.several else result.text)
            if self.given.words:
                for w in result.words:
                    print(f"  {w.start:7.2f} {w.end:7.2f}  {w.confidence:4.2f}  {w.text}")
        sys.stdout.flush()


def _stream(model: "Transcriber", path: Path, given: TranscribeArguments) -> Transcript | Rejected:
    from ..data.audio import stream_audio

    stream = model.stream(source=str(path))
    before = ""
    try:
        for block in stream_audio(path, _STREAM_SECONDS):
            text = stream.feed(block)
            if text != before:
                before = text
                if given.format == "json":
                    record = {
                        "audio_filepath": str(path),
                        "time": round(stream.seconds, 3),
                        "partial": text,
                    }
                    _line(sys.stdout, record)
                else:
                    print(f"{stream.seconds:8.2f} s  {text}", file=sys.stderr, flush=True)
    except InputError as error:
        return Rejected(str(path), str(error))
    return stream.finish()


def _seconds(paths: Iterable[Path]) -> float:
    """Audio in all, by the headers; what cannot be read counts nothing."""
    from ..data.audio import audio_info

    total = 0.0
    for path in paths:
        try:
            total += audio_info(path).duration
        except InputError:
            continue
    return total


def _once(rejected: Rejected) -> str:
    """Where and why; most reasons name the file themselves."""
    inside = rejected.where in rejected.reason
    return rejected.reason if inside else str(rejected)


def _line(file: TextIO, record: dict) -> None:
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    file.flush()
