"""What `parley transcribe` is given, as one list of items: files, patterns, folders, corpora.

An item has an id that is the same in every run and every process, so that results can be resumed,
split over processes and merged by it.
"""

import glob
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..data.audio import audio_info, is_audio_name, read_audio
from ..data.cohorts import CohortCorpus
from ..data.corpus import EMBEDDED, Corpus, open_corpus, quarantined
from ..data.errors import InputError, Rejected
from ..data.manifest import Recording, RecordingsCorpus
from ..data.views import SelectedCorpus
from .packing import BUCKET_SECONDS

if TYPE_CHECKING:
    from .transcriber import Transcriber
    from .transcript import Transcript

_MANIFESTS = {".jsonl", ".json", ".csv", ".tsv"}
_SAMPLED = 256
"""Headers that are read to estimate how much audio there is."""
_AHEAD = 32
"""Recordings of a corpus that are read at once; short ones, so 30 MB."""


@dataclass(frozen=True)
class Item:
    """A recording to transcribe."""

    id: str
    """A file's path as given, or the id in its manifest or corpus."""
    audio: str | Callable[[], np.ndarray]
    """A path, or what reads its samples (and raises InputError)."""
    path: str = ""
    """The file that it lies in; '' for a corpus that has no files."""
    offset: float = 0.0
    """Seconds into the file."""
    seconds: float | None = None
    """How long it is, where that is known."""


Audio: TypeAlias = str | np.ndarray


def find_items(inputs: Sequence[str], split: str) -> tuple[list[Item], list[Rejected]]:
    """The recordings that are meant, in the order given, and the manifest rows that are not usable.

    An input is a file, a folder, a pattern (`calls/**/*.flac`), a manifest, or a corpus as
    `open_corpus` and `open_tfds` understand it. A file that is not there is an item too: it is
    rejected when its turn comes. A file given twice is taken once.

    Raises:
      InputError: nothing is given; a folder, pattern or corpus holds nothing; or two recordings
        have one id.
    """
    items: dict[str, Item] = {}
    rejected: list[Rejected] = []
    for text in inputs:
        found, bad = _expand(text, split)
        rejected += bad
        for item in found:
            if items.setdefault(item.id, item) is item:
                continue
            if not isinstance(item.audio, str) or items[item.id].audio != item.audio:
                raise InputError(
                    f"two recordings are called {item.id!r} (the second in {text}): give every "
                    "row an id of its own."
                )
    if not items and not rejected:
        raise InputError("no recordings are given: name files or folders after the model.")
    return list(items.values()), rejected


def each_channel(items: Sequence[Item]) -> list[Item]:
    """Files of several channels as an item for each, `NAME#1` and on; others as they are.

    A channel is read into memory whole: two bytes a sample, 115 MB an hour.
    """
    found: list[Item] = []
    for item in items:
        try:
            info = audio_info(item.audio) if isinstance(item.audio, str) else None
        except InputError:  # it is rejected when its turn comes
            info = None
        if info is None or info.channels < 2:
            found.append(item)
            continue
        for channel in range(info.channels):
            read = partial(read_audio, item.path, channel=channel)
            name = f"{item.id}#{channel + 1}"
            found.append(Item(name, read, item.path, seconds=info.duration))
    return found


def of_process(id: str, index: int, count: int) -> bool:
    """Whether an item is this process's.

    By a hash of the id: also where processes see different lists (a folder that grows, a resumed
    run), no item is done by two.
    """
    return zlib.crc32(id.encode("utf-8", "surrogateescape")) % count == index


def total_seconds(items: Sequence[Item]) -> float:
    """Seconds of audio in all, for a progress bar: unknown lengths are estimated from a sample."""
    known = [item.seconds for item in items if item.seconds is not None]
    unknown = [item for item in items if item.seconds is None and isinstance(item.audio, str)]
    sample = unknown[:: max(1, math.ceil(len(unknown) / _SAMPLED))]
    with ThreadPoolExecutor(8) as pool:  # waiting for a network disk, mostly
        measured = list(pool.map(_header_seconds, sample))
    return sum(known) + sum(measured) * len(unknown) / max(len(sample), 1)


def transcribe_items(
    model: "Transcriber",
    items: Iterable[Item],
    *,
    on_audio: Callable[[float], None] | None = None,
) -> "Iterator[tuple[Item, Transcript | Rejected]]":
    """Every item with its result, as soon as it is done: not in the order given."""
    for single, group in groupby(items, _is_long):
        # A long recording without a path is in memory whole: one at a time.
        for part in ([item] for item in group) if single else [group]:
            yield from _transcribe(model, part, on_audio)


def load(item: Item) -> Audio | Rejected:
    """What the model takes: the path, or the samples."""
    if isinstance(item.audio, str):
        return item.audio
    try:
        return item.audio()
    except InputError as error:
        return Rejected(item.id, str(error))
    except OSError as error:
        return Rejected(item.id, f"{item.id} cannot be read ({error.strerror}); try again.")


def _transcribe(
    model: "Transcriber", items: Iterable[Item], on_audio: Callable[[float], None] | None
) -> "Iterator[tuple[Item, Transcript | Rejected]]":
    sent: list[Item | None] = []
    rejected: list[tuple[Item, Rejected]] = []

    def audio() -> Iterator[Audio]:
        for item, loaded in _loaded(iter(items)):
            if isinstance(loaded, Rejected):
                rejected.append((item, loaded))
            else:
                sent.append(item)
                yield loaded

    for position, result in model.transcribe_each(audio(), on_audio=on_audio):
        yield from _drain(rejected)
        item, sent[position] = sent[position], None  # a million items need not be held twice
        assert item is not None
        yield item, result
    yield from _drain(rejected)


def _drain(waiting: list[tuple[Item, Rejected]]) -> Iterator[tuple[Item, Rejected]]:
    while waiting:
        yield waiting.pop(0)


def _loaded(items: Iterator[Item]) -> Iterator[tuple[Item, Audio | Rejected]]:
    with ThreadPoolExecutor(4) as pool:
        while part := list(islice(items, _AHEAD)):
            yield from zip(part, pool.map(load, part), strict=True)


def _is_long(item: Item) -> bool:
    return not isinstance(item.audio, str) and (item.seconds or 0.0) > BUCKET_SECONDS[-1]


def _expand(text: str, split: str) -> tuple[list[Item], list[Rejected]]:
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder(path), []
    if path.is_file():
        return _file(path, split)
    if _is_corpus(text):
        return _specs(text, split)
    if glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))
        # A pattern says which files, so a folder that it meets is not gone into.
        found = [_file(Path(match), split) for match in matches if not os.path.isdir(match)]
        if not found:
            raise InputError(f"no file matches {text!r}: check the pattern.")
        return [i for items, _ in found for i in items], [r for _, bad in found for r in bad]
    return [_whole_file(path)], []


def _file(path: Path, split: str) -> tuple[list[Item], list[Rejected]]:
    if path.suffix.lower() in _MANIFESTS:
        return _specs(str(path), split)
    return [_whole_file(path)], []


def _whole_file(path: Path) -> Item:
    return Item(str(path), str(path), str(path))


def _folder(path: Path) -> list[Item]:
    found = sorted(p for p in path.rglob("*") if is_audio_name(p) and p.is_file())
    if not found:
        raise InputError(f"{path} holds no recordings (.wav, .flac, .mp3, .ogg, ...).")
    return [_whole_file(p) for p in found]


def _is_corpus(text: str) -> bool:
    """Whether this names a corpus; a question mark may also be a pattern's."""
    source, _, query = text.partition("?")
    return (
        " + " in text
        or source in EMBEDDED
        or source.startswith(("librispeech:", "librispeechmix:", "libricss:", "tfds:"))
        or ("=" in query and not glob.glob(text))
    )


def _specs(text: str, split: str) -> tuple[list[Item], list[Rejected]]:
    items: list[Item] = []
    rejected: list[Rejected] = []
    for part in text.split(" + "):
        corpus = open_corpus(part.strip(), split, require_text=False)
        rejected += quarantined(corpus)
        items += (_corpus_item(corpus, i) for i in range(len(corpus)))
    return items, rejected


def _corpus_item(corpus: Corpus, i: int) -> Item:
    utterance = corpus.utterance(i)
    recording = _recording(corpus, i)
    read = partial(corpus.samples, i)
    if recording is None:
        return Item(utterance.id, read, seconds=utterance.duration)
    path = str(recording.path)
    whole = recording.whole and not recording.offset and recording.channel is None
    # A whole file goes by its path, and so through memory in pieces, however long it is.
    return Item(utterance.id, path if whole else read, path, recording.offset, utterance.duration)


def _recording(corpus: Corpus, i: int) -> Recording | None:
    """The file that an utterance lies in as it is; None where it is made or packed."""
    if isinstance(corpus, SelectedCorpus):
        return _recording(corpus.base, int(corpus.indices[i]))
    if isinstance(corpus, CohortCorpus):
        return _recording(corpus.base, i)
    return corpus.recordings[i] if isinstance(corpus, RecordingsCorpus) else None


def _header_seconds(item: Item) -> float:
    try:
        return audio_info(item.path).duration
    except InputError:
        return 0.0
