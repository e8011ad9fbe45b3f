"""A split of any dataset that TensorFlow Datasets has prepared, read without TensorFlow.

Asked of it: files in array_record, which can be read at any place, and a feature `audio` or
`speech` that is an int16 tensor (16 kHz) or an encoded file as bytes. `tfds.features.Audio` itself
needs TensorFlow to be read.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .audio import SAMPLE_RATE, audio_info, read_audio
from .corpus import Utterance, data_root
from .errors import InputError
from .packed import Entry, indexed

_AUDIO = ("audio", "speech")
_TEXT = ("text", "transcript", "transcription", "sentence")
_SPEAKER = ("speaker", "speaker_id")
_METADATA = "metadata"
"""What `parley prepare` wrote of an utterance's other fields: an object of JSON."""


class TfdsCorpus:
    """A prepared split; a `Corpus`.

    Ids are the examples' feature `id`, or SPLIT/NUMBER where they have none. The first time, one
    pass over the split makes an index of ids, texts and durations in the data root.
    """

    def __init__(self, builder: Any, split: str, *, root: Path | None = None):
        """Args:
        builder: a `tfds.core.DatasetBuilder` whose files are there.
        split: `test`, `train[:10%]`, ...

        Raises InputError for a split that is not there, or features that cannot be read.
        """
        info = builder.info
        self.name = f"{info.full_name} {split}"
        self._split = split
        self._audio = _feature(info.features, _AUDIO)
        if not self._audio:
            raise InputError(
                f"tfds:{info.full_name} has no feature {' or '.join(_AUDIO)}; it has "
                f"{', '.join(sorted(info.features))}."
            )
        self._text, self._speaker = (_feature(info.features, n) for n in (_TEXT, _SPEAKER))
        try:
            self._source = builder.as_data_source(split)
        except NotImplementedError:
            raise InputError(
                f"tfds:{info.full_name} is stored as {info.file_format.value}, which cannot be "
                "read at any place: prepare it with file_format='array_record'."
            ) from None
        except (ValueError, KeyError):
            raise InputError(
                f"tfds:{info.full_name} has no split {split!r}: it has {', '.join(info.splits)}."
            ) from None
        files = [Path(part.filename) for part in info.splits[split].file_instructions]
        mark = hashlib.sha256(f"{files} {split}".encode()).hexdigest()[:12]
        index = data_root(root) / "tfds" / f"{info.name}-{mark}.index.jsonl"
        self._entries = indexed(index, files, self._scan)

    def __len__(self) -> int:
        return len(self._entries)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        entry = self._entries[i]
        known = dict(entry.metadata)
        return Utterance(entry.id, entry.text, entry.seconds, entry.speaker, known)

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        audio = self._source[i][self._audio]
        if isinstance(audio, bytes):
            return read_audio(audio, name=self._entries[i].id)
        return self._tensor(audio)

    def _scan(self) -> Iterator[Entry]:
        for i in range(len(self._source)):
            example = self._source[i]
            audio = example[self._audio]
            name = _string(example.get("id", "")) or f"{self._split}/{i:06d}"
            try:
                if isinstance(audio, bytes):
                    seconds = audio_info(audio, name=name).duration
                else:
                    seconds = len(self._tensor(audio)) / SAMPLE_RATE
            except InputError:
                seconds = 0.0  # said when the recording's turn comes
            text, speaker = (
                _string(example[key]) if key else "" for key in (self._text, self._speaker)
            )
            known = _object(example.get(_METADATA, ""))
            yield Entry(name, text, speaker, seconds, 0, offset=i, size=0, metadata=known)

    def _tensor(self, audio: Any) -> np.ndarray:
        samples = np.asarray(audio)
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise InputError(
                f"{self.name}: its {self._audio} is {samples.dtype} {list(samples.shape)}, not "
                "int16 [N] or an encoded file: prepare it as one of these."
            )
        return samples


def open_tfds(name: str, split: str, *, root: Path | None = None) -> TfdsCorpus:
    """Opens `NAME`, `NAME/CONFIG` or `NAME/CONFIG:VERSION`, or a prepared dataset's own folder.

    Looked for in TFDS's data folders (~/tensorflow_datasets, $TFDS_DATA_DIR) and in the data root.
    Nothing is downloaded, and no code of the dataset is run.

    Raises:
      InputError: it is not there, or cannot be read.
    """
    import tensorflow_datasets as tfds

    folder = Path(name).expanduser()
    try:
        if folder.is_dir():
            builder = tfds.builder_from_directory(folder)
        else:
            builder = _find(name, data_root(root))
    except InputError:
        raise
    except ImportError:
        raise InputError(
            f"tfds:{name} cannot be read without TensorFlow: prepare its audio as an int16 tensor "
            "or as encoded bytes."
        ) from None
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "damaged"
        raise InputError(f"tfds:{name} cannot be opened ({reason.rstrip('.')}).") from None
    return TfdsCorpus(builder, split, root=root)


def _find(name: str, root: Path) -> Any:
    from tensorflow_datasets.core import read_only_builder, registered

    for folder in (None, root):
        try:
            return read_only_builder.builder_from_files(name, data_dir=folder)
        except registered.DatasetNotFoundError:
            continue
    raise InputError(
        f"no prepared dataset tfds:{name}: looked in ~/tensorflow_datasets, $TFDS_DATA_DIR and "
        f"{root}; give its folder, or prepare it with file_format='array_record'."
    )


def _feature(features: Any, names: tuple[str, ...]) -> str:
    """The first of the names that is a feature; '' if none is."""
    return next((name for name in names if name in features), "")


def _object(value: Any) -> dict[str, Any]:
    """An object of JSON; empty where a dataset of others means something else by the feature."""
    try:
        known = json.loads(_string(value))
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _string(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
