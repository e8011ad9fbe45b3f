"""LibriSpeech as TensorFlow Datasets prepared it, read without TensorFlow.

The shards are TFRecord files: 8 bytes of length, 4 of its checksum, the record, 4 of its checksum.
A record is a `tf.train.Example` whose `speech` is a list of int64 samples, or, in the
`lazy_decode` configuration, the FLAC file.
"""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .audio import MIN_SECONDS, SAMPLE_RATE, audio_info, read_audio
from .corpus import Corpus
from .errors import InputError
from .packed import Entry, PackedCorpus, indexed

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


def find_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split in the newest version under `folder`; none if there are none.

    Raises:
      InputError: when some of them are missing.
    """
    name = split.replace("clean-", "clean").replace("other-", "other").replace("-", "_")
    shards = [
        path
        for path in sorted(folder.rglob(f"librispeech-{name}.tfrecord-*-of-*"))
        if _SHARD.search(path.name)
    ]
    if not shards:
        return []
    newest = max(shards, key=lambda path: str(path.parent)).parent
    shards = [path for path in shards if path.parent == newest]
    match = _SHARD.search(shards[0].name)
    count = int(match[2]) if match else 0
    if len(shards) != count:
        raise InputError(f"{newest} has {len(shards)} of {count} files of {split}; copy the rest.")
    return shards


def open_shards(shards: Sequence[Path], split: str, work: Path, progress: bool) -> Corpus:
    """A corpus over the shards. The first time, one pass over all of them makes an index."""
    from .librispeech import work_file

    index = work_file(work, shards[0], ".index.jsonl")
    entries = indexed(index, shards, lambda: _scan(shards, progress))
    if not entries:
        raise InputError(f"{shards[0].parent} holds no recordings of {split}.")
    return PackedCorpus(f"librispeech {split}", shards, entries, decode=_decode)


def _scan(shards: Sequence[Path], progress: bool) -> Iterator[Entry]:
    from rich.progress import track

    bar = track(shards, "indexing LibriSpeech", disable=not progress, transient=True)
    for number, shard in enumerate(bar):
        for offset, record in _records(shard):
            feature = _example(record, str(shard))
            speech = feature["speech"]
            if len(speech.bytes_list.value):
                name = f"{shard} at byte {offset}"
                seconds = audio_info(speech.bytes_list.value[0], name=name).duration
            else:
                seconds = len(speech.int64_list.value) / SAMPLE_RATE
            yield Entry(
                id=feature["id"].bytes_list.value[0].decode(),
                text=feature["text"].bytes_list.value[0].decode().lower(),
                speaker=str(feature["speaker_id"].int64_list.value[0]),
                seconds=seconds,
                file=number,
                offset=offset,
                size=len(record),
            )


def _records(shard: Path) -> Iterator[tuple[int, bytes]]:
    """(byte offset, record) of a TFRecord file."""
    size = os.path.getsize(shard)
    with open(shard, "rb") as file:
        position = 0
        while position < size:
            head = file.read(12)
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if position + 16 + length > size:
                raise InputError(f"{shard} is cut short; copy it again.")
            yield position + 12, file.read(length)
            file.seek(4, os.SEEK_CUR)
            position += 16 + length


def _example(record: bytes, name: str) -> Any:
    """The features of an Example, by name."""
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        example.ParseFromString(record)
    except DecodeError:
        raise InputError(f"{name} holds a damaged record; copy it again.") from None
    return example.features.feature


def _decode(record: bytes, name: str) -> np.ndarray:
    speech = _example(record, name)["speech"]
    if len(speech.bytes_list.value):
        return read_audio(speech.bytes_list.value[0], name=name)
    samples = np.asarray(speech.int64_list.value, np.int16)
    if len(samples) < MIN_SECONDS * SAMPLE_RATE:
        raise InputError(f"{name} lasts less than one window; leave it out.")
    return samples
