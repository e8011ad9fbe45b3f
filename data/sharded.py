"""A corpus as shards of array_record, in the form of TensorFlow Datasets: `tfds:FOLDER` reads it.

Recordings are decoded, resampled and stored as int16, so that a training host reads one at any
place in a tenth of a millisecond. A shard is a function of the corpus and of its number; shards are
written side by side by as many workers as there are (`prepare_beam`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .audio import SAMPLE_RATE
from .corpus import Corpus
from .errors import InputError, Rejected
from .files import replace_file

SHARD_SECONDS = 2 * 3600.0
"""Of audio in a shard, about: 230 MB."""
QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True)
class Shard:
    """A shard that lies on the disk."""

    number: int
    count: int
    bytes: int
    seconds: float
    rejected: tuple[Rejected, ...]


def shard_count(corpus: Corpus) -> int:
    """Shards of about `SHARD_SECONDS`. Raises InputError for a corpus that has no end."""
    if getattr(corpus, "endless", False):
        raise InputError(
            f"{corpus.name} is drawn anew in every epoch: prepare what it draws from instead."
        )
    seconds = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    return max(1, min(len(corpus), round(seconds / SHARD_SECONDS)))


def members(count: int, shard: int, shards: int) -> range:
    """The items of a shard: every `shards`-th, so that each holds a bit of everything."""
    return range(shard, count, shards)


def write_shard(
    corpus: Corpus, folder: Path, name: str, split: str, shard: int, shards: int
) -> Shard:
    """Writes one shard, whole or not at all. Recordings that cannot be read are left out."""
    from array_record.python import (
        array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
    )

    serialize = _serializer()
    path = folder / file_name(name, split, shard, shards)
    partial = path.with_name(f".{path.name}.partial")
    rejected: list[Rejected] = []
    count = size = 0
    seconds = 0.0
    writer = array_record_module.ArrayRecordWriter(str(partial), "group_size:1")
    try:
        for index in members(len(corpus), shard, shards):
            utterance = corpus.utterance(index)
            try:
                samples = np.asarray(corpus.samples(index), np.int16)
            except (InputError, OSError) as error:
                rejected.append(Rejected(utterance.id, str(error)))
                continue
            record = serialize(
                {
                    "id": utterance.id,
                    "text": utterance.text,
                    "speaker": utterance.speaker,
                    "metadata": json.dumps(utterance.metadata, sort_keys=True),
                    "audio": samples,
                }
            )
            writer.write(record)
            count, size = count + 1, size + len(record)
            seconds += len(samples) / SAMPLE_RATE
    finally:
        writer.close()
    partial.replace(path)
    return Shard(shard, count, size, seconds, tuple(rejected))


def file_name(name: str, split: str, shard: int, shards: int) -> str:
    return f"{name}-{split}.array_record-{shard:05d}-of-{shards:05d}"


def finish(folder: Path, name: str, split: str, shards: Sequence[Shard]) -> list[Rejected]:
    """Writes the dataset's description over all of its shards; returns what was left out.

    Raises InputError when nothing could be read.
    """
    import tensorflow_datasets as tfds
    from etils import epath
    from tensorflow_datasets.core import dataset_info, splits

    ordered = sorted(shards, key=lambda shard: shard.number)
    rejected = [r for shard in ordered for r in shard.rejected]
    if not any(shard.count for shard in ordered):
        raise InputError(f"no recording of {name} could be read (the first: {rejected[0]}).")
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(folder),
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        dataset_name=name,
        split=split,
        filetype_suffix="array_record",
    )
    info = tfds.core.SplitInfo(
        name=split,
        shard_lengths=[shard.count for shard in ordered],
        num_bytes=sum(shard.bytes for shard in ordered),
        filename_template=template,
    )
    identity = dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    described = tfds.core.DatasetInfo(builder=identity, features=_features())
    described.set_file_format("array_record")
    described.set_splits(splits.SplitDict([info]))
    described.write_to_directory(folder)
    if rejected:
        rows = [json.dumps({"where": r.where, "reason": r.reason}) for r in rejected]
        replace_file(folder / QUARANTINE, "\n".join(rows) + "\n")
    return rejected


def write_report(folder: Path, shard: Shard) -> None:
    """What a shard holds, for whoever finishes the dataset."""
    replace_file(folder / f"{shard.number}.json", json.dumps(asdict(shard)))


def read_reports(folder: Path, shards: int) -> list[Shard]:
    """What all shards hold. Raises InputError where one was not written."""
    found = []
    for number in range(shards):
        path = folder / f"{number}.json"
        if not path.exists():
            raise InputError(f"shard {number} of {shards} was not written: run the command again.")
        values = json.loads(path.read_text())
        rejected = tuple(Rejected(**row) for row in values.pop("rejected"))
        found.append(Shard(**values, rejected=rejected))
    return found


def _features() -> Any:
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            "id": text(),
            "text": text(),
            "speaker": text(),
            "metadata": text(),
            "audio": tfds.features.Tensor(
                shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
            ),
        }
    )


def _serializer() -> Any:
    from tensorflow_datasets.core import example_serializer

    features = _features()
    made = example_serializer.ExampleSerializer(features.get_serialized_info())
    return lambda example: made.serialize_example(features.encode_example(example))
