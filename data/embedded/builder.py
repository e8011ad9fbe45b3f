"""The embedded corpus as a TFDS builder, without TensorFlow.

Files are array_record: random access, which shuffling, resuming and bucketing need. Audio is an
int16 tensor kept as bytes. Measured on 2,100 utterances (3,826 s of audio, one core):

| audio as | on disk | write all | read one |
|---|---|---|---|
| int16, bytes | 91 MB (24 kB a second) | 0.8 s | 0.09 ms |
| FLAC | 66 MB (17 kB a second) | 1.2 s | 0.39 ms |

array_record compresses by itself, so FLAC saves but a quarter, and reading it takes four times as
long: 19 ms of a batch of 48, beside a training step on the same cores. int16 it is. (Without the
encoding as bytes TFDS stores every sample as a varint: 5.1 s to write 1,000, a third larger.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from .draw import Draw

VERSION = "1.0.0"

# Of a part: 190 MB of `words`, 340 MB of `assistant`.
PART_UTTERANCES = 4000


class EmbeddedSpeech(tfds.core.GeneratorBasedBuilder):
    """Builds one draw, in parts (`train_000`, `train_001`, ...) that together are its split.

    TFDS keeps a split in memory until it is complete, and beyond 1 GB it needs TensorFlow to put it
    into temporary files; so there are parts of a few hundred MB, and memory does not grow with the
    size of the draw. Each part is written in an order that its keys' hashes give.

    Args:
      draw: what it is called and how large it is.
      spoken: the examples of each of its sessions, in order.
      data_dir: the data root.
      tick: called after each utterance.
    """

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self,
        draw: Draw,
        spoken: Iterator[list[dict[str, Any]]],
        *,
        data_dir: Path,
        tick: Callable[[], None] = lambda: None,
    ):
        self._draw, self._spoken, self._tick = draw, spoken, tick
        config = tfds.core.BuilderConfig(name=draw.name, version=VERSION)
        super().__init__(config=config, data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        text, number = tfds.features.Text, lambda: tfds.features.Scalar(np.float32)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Synthetic speech of a voice assistant, by espeak-ng.",
            features=tfds.features.FeaturesDict(
                {
                    "id": text(),
                    "text": text(),
                    "speaker": text(),
                    "audio": tfds.features.Tensor(
                        shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
                    ),
                    "accent": text(),
                    "gender": text(),
                    "voice": text(),
                    "place": text(),
                    "zip": text(),
                    "longitude": number(),
                    "latitude": number(),
                    "snr": number(),  # dB; infinite without noise
                    "rt60": number(),  # seconds; 0 without a room
                    "level": number(),  # dB below full scale
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict]]]:
        sessions = self._draw.sessions()
        per_part = max(1, PART_UTTERANCES // len(sessions[0][1]))
        # TFDS writes one part after the other, so they can share what goes on being spoken.
        return {
            f"{self._draw.split}_{number:03d}": self._generate_examples(part)
            for number, part in enumerate(
                islice(self._spoken, per_part) for _ in range(0, len(sessions), per_part)
            )
        }

    def _generate_examples(
        self, spoken: Iterable[list[dict[str, Any]]]
    ) -> Iterator[tuple[str, dict]]:
        for examples in spoken:
            for example in examples:
                yield example["id"], example
                self._tick()
