"""`parley transcribe`."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from ..data.audio import SAMPLE_RATE, read_audio, stream_audio
from ..data.errors import InputError, Rejected
from .arguments import parse
from .console import amount, audio_progress, remark
from .decoding import GREEDY, Decoding
from .formats import OF_TURNS, SUBTITLES, Format, Record, json_line, record, render
from .inputs import (
    Item,
    each_channel,
    find_items,
    load,
    of_process,
    total_seconds,
    transcribe_items,
)
from .results import (
    Destination,
    Run,
    Syncing,
    destination,
    hash_file,
    hash_ids,
    hash_model,
    is_folder,
)
from .transcript import Transcript
from .voice_embedding import SPEAKER_MODEL, SpeakerVoice

if TYPE_CHECKING:
    from .attribution import Attributor
    from .transcriber import Transcriber

_STREAM_SECONDS = 0.32
_LAUNCHERS = (
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # mpirun
)


@dataclass(frozen=True)
class TranscribeArguments:
    """Recordings to text.

    One recording gives its text; several give lines of name, tab, text, in the order given. A
    recording that cannot be used is named on stderr with the reason, the others are done, and the
    exit status is 2.

    * parley transcribe rnnt-tiny a.wav
    * parley transcribe rnnt-tiny a.wav --stream --words
    * parley transcribe rnnt-tiny recordings/ "more/**/*.flac" --out results.jsonl --resume
    * parley transcribe rnnt-tiny my.jsonl --out captions/ --format srt
    * parley transcribe rnnt-tiny "assistant?limit=50" --split dev --format json
    * parley transcribe rnnt-tiny a.wav --beam 4 --nbest 3 --phrases names.txt
    * parley transcribe sts-tiny meeting.wav --speakers --enrol ann=ann.wav bob=bob.wav
    * parley transcribe sts-tiny meetings/ --speakers --out who/ --format rttm
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    audio: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="INPUT...")]
    """Files, folders (all recordings in them), quoted patterns, manifests (.jsonl, .json, .csv,
    .tsv), corpora as `parley evaluate` takes them, tfds:NAME/CONFIG."""
    split: str = "test"
    """Of a corpus that has splits."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE|FOLDER/")] = None
    """Also write here: .jsonl (each line as soon as its recording is done), .ctm, .txt; .srt or
    .vtt for one recording; or a folder for a file of each. What could not be used is listed beside
    it, in a file ending in rejected.jsonl."""
    resume: bool = False
    """Go on with what --out FILE.jsonl holds, or begin it. What it holds is not done again."""
    format: Format = "text"
    """Of stdout, or of the files in a folder."""
    words: bool = False
    """Text and JSON with every word's start and end in seconds and its confidence."""
    each_channel: bool = False
    """Take the channels of a file one by one, as NAME#1, NAME#2, ..., and not their mean."""
    stream: bool = False
    """Take each recording in small pieces, as it would arrive, and print what is known so far (to
    stderr; as JSON lines to stdout)."""
    speakers: bool = False
    """Say who speaks each turn, by the voice: speaker 1, speaker 2, ... For models that hear turns,
    as sts-tiny does."""
    enrol: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FILE...")] = ()
    """Speakers who are known by name, each with a recording of that voice alone; for --speakers."""
    max_speakers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """How many speakers there can be in a recording, with the enrolled ones."""
    speaker_model: str = SPEAKER_MODEL
    """What tells voices apart: a speaker model's name, or its folder; for --speakers."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = GREEDY
    process_index: Annotated[int | None, tyro.conf.arg(metavar="I")] = None
    """This is process I, from 0, of several that share the work: each writes a file of its own, and
    `parley merge` makes one of them. Known without saying under srun and mpirun."""
    process_count: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """How many there are."""


def transcribe_command(argv: list[str]) -> int:
    given = parse(TranscribeArguments, argv, "parley transcribe")
    index, count = which_process(given)
    items, unusable = find_items(given.audio, given.split)
    if given.each_channel:
        items = each_channel(items)
    several = len(items) + len(unusable) > 1
    if given.format in SUBTITLES and several and not is_folder(given.out):
        raise InputError(
            f"{given.format} is a file of one recording: give a folder for them (--out FOLDER/)."
        )
    from . import load as load_model

    attributor = make_attributor(given)
    model = load_model(given.model, decoding=given.decoding)
    require_turns(given, model)
    ids = [*(item.id for item in items), *(row.where for row in unusable)]
    items = [item for item in items if of_process(item.id, index, count)]
    unusable = [row for row in unusable if of_process(row.where, index, count)]
    sink = None
    if given.out:
        run = Run(
            model=model.name,
            weights=hash_model(model.folder),
            options=decoding_options(given),
            input=hash_ids(ids),
            items=len(items) + len(unusable),
            process=(index, count),
            command=shlex.join(["parley", "transcribe", *argv]),
        )
        sink = destination(given.out, given.format, run, ids, resume=given.resume, several=several)
    if count > 1:
        remark(f"process {index} of {count}: {len(items):,} of {len(ids):,} recordings")
    return _run(model, items, unusable, Output(given, sink, several=several, attributor=attributor))


def make_attributor(given: TranscribeArguments) -> "Attributor | None":
    """Who names speakers; None where they are not asked for.

    Raises InputError where a name or a file cannot be used, and where an option stands alone that
    is one of --speakers.
    """
    of_speakers = (given.enrol, given.max_speakers, given.speaker_model)
    if not given.speakers and of_speakers != ((), None, SPEAKER_MODEL):
        raise InputError(
            "--enrol, --max-speakers and --speaker-model belong to --speakers: give it as well."
        )
    if not given.speakers:
        return None
    enrolled: dict[str, np.ndarray] = {}
    for entry in given.enrol:
        name, equals, file = entry.partition("=")
        if not (name.strip() and equals and file):
            raise InputError(f"--enrol {entry}: give NAME=FILE, for example ann=ann.wav.")
        if name in enrolled:
            raise InputError(f"--enrol: {name} is given twice; each name takes one file.")
        enrolled[name] = read_audio(file)
    from .attribution import Attributor
    from .speakers import load_speaker_model

    voice = SpeakerVoice(load_speaker_model(given.speaker_model))
    return Attributor(voice, enrolled=enrolled, max_speakers=given.max_speakers)


def require_turns(given: TranscribeArguments, model: "Transcriber") -> None:
    """Raises InputError where turns are asked for and the model hears none."""
    wanted = "--speakers" if given.speakers else ""
    if given.format in OF_TURNS:
        wanted = f"--format {given.format}"
    if wanted and model.recognizer.channels == 1 and not model.tokenizer.markers:
        raise InputError(
            f"{given.model} hears one talker and no turns: {wanted} is for models such as sts-tiny."
        )


def decoding_options(given: TranscribeArguments) -> dict[str, Any]:
    """All that changes a line of the results: they are not resumed or merged with other ones."""
    files = {"lm": given.decoding.lm}
    files |= {f"enrol {e.partition('=')[0]}": Path(e.partition("=")[2]) for e in given.enrol}
    if isinstance(given.decoding.phrases, Path):
        files["phrases"] = given.decoding.phrases
    fields = asdict(given.decoding)
    contents = {key: hash_file(path) for key, path in files.items() if path is not None}
    # As it is read back from a file.
    who = {"speakers": True, "max_speakers": given.max_speakers} if given.speakers else {}
    return json.loads(json.dumps({"words": given.words, **who, **fields, **contents}, default=str))


def which_process(given: TranscribeArguments) -> tuple[int, int]:
    """(index, count): as given, or as a launcher says.

    Raises InputError for numbers that do not fit, and for several processes without `out`.
    """
    index, count = given.process_index, given.process_count
    if index is None and count is None:
        for rank, size in _LAUNCHERS:
            if rank in os.environ and size in os.environ:
                index, count = int(os.environ[rank]), int(os.environ[size])
                break
        else:
            return 0, 1
    if index is None or count is None or not 0 <= index < count:
        raise InputError(
            "--process-index and --process-count go together: 0 of 4 to 3 of 4, for example, not "
            f"{index} of {count}."
        )
    if count > 1 and not given.out:
        raise InputError(
            f"{count} processes need a place for their results: give --out FILE.jsonl."
        )
    return index, count


def _run(
    model: "Transcriber", items: Sequence[Item], unusable: Sequence[Rejected], output: "Output"
) -> int:
    left = [item for item in items if item.id not in output.known]
    if output.known:
        remark(f"{len(items) - len(left):,} of {len(items):,} recordings were done before")
    began, audio = monotonic(), 0.0
    try:
        for row in unusable:
            if row.where not in output.known:
                output.reject(row)
        if output.given.stream:
            for n, item in enumerate(left):
                output.take(n, item, _stream(model, item, output.given))
        else:
            numbers = {item.id: n for n, item in enumerate(left)}
            with audio_progress("transcribing", total_seconds(left)) as advance:

                def on_audio(seconds: float) -> None:
                    nonlocal audio
                    audio += seconds
                    advance(seconds)
                    output.tick()

                for item, result in transcribe_items(model, left, on_audio=on_audio):
                    output.take(numbers[item.id], item, result)
    finally:
        output.close()
    if output.reason and not output.several:
        raise InputError(output.reason)
    if output.several and audio:
        taken = monotonic() - began
        remark(
            f"{amount(audio)} of audio in {amount(taken)}: {audio / taken:,.0f} times real time, "
            "compilation included"
        )
    if output.rejected:
        remark(
            f"{output.rejected:,} of {len(items) + len(unusable):,} recordings could not be used"
            + (f"; see {output.sink.rejects.path}" if output.sink else "")
        )
    return 2 if output.rejected else 0


class Output:
    """Where results go: JSON lines as they are done, all else in the order given.

    Where there is a file, stdout shows what is on the disk, and nothing that a crash could lose.
    """

    def __init__(
        self,
        given: TranscribeArguments,
        sink: Destination | None,
        *,
        several: bool,
        attributor: "Attributor | None" = None,
    ):
        self.given = given
        self._attributor = attributor
        self.sink = sink
        self.several = several
        self.reason = ""
        """Why the last one was rejected."""
        self.known: set[str] = set()
        """Ids that an earlier run has dealt with."""
        self.rejected = 0
        self._form: Format = given.format
        self._waiting: dict[int, Record | None] = {}
        self._ready: list[Record] = []
        self._next = 0
        self._sync = Syncing(sink) if sink else None
        if sink:
            self.known = sink.done | sink.rejects.ids
            self.rejected = len(sink.rejects.ids)
            if is_folder(given.out):
                self._form = "text"  # `format` is that of the files

    def take(self, number: int, item: Item, result: Transcript | Rejected) -> None:
        """A result; `number` is its place in the order given."""
        fields = None
        if self._attributor is not None and isinstance(result, Transcript):
            result = self._named(self._attributor, item, result)
        if isinstance(result, Rejected):
            self.reject(Rejected(item.id, result.reason), path=item.path)
        else:
            fields = record(item, result)
            if self.sink and not self.sink.in_order:
                self.sink.add(fields)
        self._waiting[number] = fields
        while self._next in self._waiting:
            self._pop(self._next)
        self.tick()

    def _named(
        self, attributor: "Attributor", item: Item, result: Transcript
    ) -> Transcript | Rejected:
        """The transcript with a speaker for each turn; reads the recording once more."""
        audio = load(item)
        if isinstance(audio, Rejected):
            return audio
        samples = read_audio(audio) if isinstance(audio, str) else audio
        pairs = zip(result.turns, attributor.attribute(samples, result.turns), strict=True)
        return replace(result, turns=tuple(replace(t, speaker=name) for t, name in pairs))

    def reject(self, rejected: Rejected, *, path: str = "") -> None:
        self.rejected += 1
        inside = rejected.where in rejected.reason  # most reasons name the file themselves
        self.reason = rejected.reason if inside else str(rejected)
        if self.several:
            remark(f"left out {self.reason}")
        if self.sink:
            self.sink.rejects.add(rejected.where, rejected.reason, path=path)

    def tick(self) -> None:
        """Shows what is on the disk."""
        if self._sync is None or self._sync():
            self._show()

    def close(self) -> None:
        """Whatever ends the command, what is done is written and shown."""
        for number in sorted(self._waiting):
            self._pop(number)
        if self.sink:
            self.sink.close()
        self._show()

    def _pop(self, number: int) -> None:
        fields = self._waiting.pop(number)
        self._next = number + 1
        if fields is not None:
            if self.sink and self.sink.in_order:
                self.sink.add(fields)
            self._ready.append(fields)

    def _show(self) -> None:
        try:
            for fields in self._ready:
                text = render(self._form, fields, words=self.given.words, named=self.several)
                # Names of files need not be UTF-8.
                sys.stdout.write(text.encode(errors="backslashreplace").decode())
            sys.stdout.flush()
        except BrokenPipeError:
            if self.sink is None:
                raise
            # `| head` has seen enough, and the file is still to be finished.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self._ready.clear()


def _stream(model: "Transcriber", item: Item, given: TranscribeArguments) -> Transcript | Rejected:
    stream = model.stream(source=item.path)
    before = ""
    try:
        for block in _blocks(item):
            text = stream.feed(block)
            if text != before:
                before = text
                if given.format == "json":
                    where = {"audio_filepath": item.path} if item.path else {}
                    fields = {"id": item.id, **where, "time": round(stream.seconds, 3)}
                    print(json_line({**fields, "partial": text}), end="", flush=True)
                else:
                    print(f"{stream.seconds:8.2f} s  {text}", file=sys.stderr, flush=True)
    except InputError as error:
        return Rejected(item.id, str(error))
    return stream.finish()


def _blocks(item: Item) -> Iterator[np.ndarray]:
    audio = load(item)
    if isinstance(audio, Rejected):
        raise InputError(audio.reason)
    if isinstance(audio, str):
        yield from stream_audio(audio, _STREAM_SECONDS)
    else:
        size = round(_STREAM_SECONDS * SAMPLE_RATE)
        yield from (audio[at : at + size] for at in range(0, len(audio), size))
