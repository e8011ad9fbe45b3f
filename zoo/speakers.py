"""Who speaks: embeddings of recordings, and how alike they are.

model = zoo.load("speaker-tiny")
a, b = model.embed(["a.wav", "b.wav"])      # unit length: the cosine is a @ b
print(model.score("a.wav", "b.wav") >= model.threshold)
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, overload

import jax
import numpy as np
from flax import nnx

from ..data.audio import SAMPLE_RATE, as_samples, read_audio
from ..data.corpus import Corpus
from ..data.errors import InputError, Rejected
from ..data.loader import evaluation_batches
from ..models.speakers.layers import within_lengths
from ..models.speakers.network import normalized
from .packing import BUCKET_SECONDS, pack
from .speaker_package import SpeakerPackage

Audio: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray
"""A path, an encoded file, or mono samples (int16, or floats in [-1, 1])."""

_READERS = 4
_PIECE_SECONDS = float(BUCKET_SECONDS[-1])
"""A longer recording is embedded in equal pieces, whose embeddings are averaged."""


class CorpusEmbeddings(NamedTuple):
    """Of a corpus's utterances, unit length; rows of those that could not be read are NaN."""

    embeddings: np.ndarray
    """[U, D]."""
    floor: np.ndarray
    """[U, bins], mean log-mels: what can be told without any model."""
    quarantine: list[Rejected]


class SpeakerModel:
    """A model that is ready to tell speakers apart. Made by `zoo.load`.

    Attributes:
      name: of the recipe that it was trained by.
      folder: where it was read from.
      threshold: the cosine from which two recordings are taken for one speaker.
      width: of an embedding.
    """

    def __init__(self, package: SpeakerPackage):
        self.package = package
        self.name = package.recipe.name
        self.folder = package.folder
        self.threshold = package.threshold.cosine
        self.width = package.recipe.model.encoder.output
        self._params = jax.device_put((package.params, package.frozen))
        config, graphdef = package.recipe.model, package.graphdef

        def embed(weights: Any, samples: jax.Array, lengths: jax.Array):
            model = nnx.merge(graphdef, *weights)
            x, frames = model.frontend(samples, lengths)
            frontend = config.frontend
            within = within_lengths(x.shape[1], frames)[:, :, None]
            mean = jax.numpy.where(within, x, 0.0).sum(axis=1)
            mean = mean.reshape(-1, frontend.stack, frontend.bins).sum(axis=1)
            return normalized(model(samples, lengths)), normalized(mean)

        self._embed = jax.jit(embed)

    @overload
    def embed(self, audio: Audio, *, rate: int = ...) -> np.ndarray: ...
    @overload
    def embed(self, audio: Sequence[Audio], *, rate: int = ...) -> np.ndarray: ...

    def embed(self, audio: Audio | Sequence[Audio], *, rate: int = SAMPLE_RATE) -> np.ndarray:
        """Embeddings of unit length.

        Args:
          audio: one recording, or a list of them; files may be of any rate and channel count.
          rate: Hz, of samples given as arrays.

        Returns:
          [D] float32; of a list [U, D] in its order.

        Raises:
          InputError: a recording cannot be used.
        """
        if isinstance(audio, str | os.PathLike | bytes | np.ndarray):
            return self.embed_samples([load_samples(audio, rate)])[0]
        with ThreadPoolExecutor(_READERS) as pool:
            return self.embed_samples(list(pool.map(lambda a: load_samples(a, rate), audio)))

    def embed_samples(self, recordings: Sequence[np.ndarray]) -> np.ndarray:
        """[U, D] of int16 recordings [N] at 16 kHz, of whatever lengths."""
        pieces: list[np.ndarray] = []
        owner: list[int] = []
        for i, samples in enumerate(recordings):
            count = max(1, -(-len(samples) // round(_PIECE_SECONDS * SAMPLE_RATE)))
            pieces += np.array_split(samples, count)
            owner += [i] * count
        total = np.zeros((len(recordings), self.width))
        for batch in pack([len(piece) for piece in pieces], SAMPLE_RATE):
            samples = np.zeros((batch.rows, batch.length), np.int16)
            lengths = np.zeros(batch.rows, np.int32)
            for row, item in enumerate(batch.items):
                samples[row, : len(pieces[item])] = pieces[item]
                lengths[row] = len(pieces[item])
            found = np.asarray(self._embed(self._params, samples, lengths)[0])
            for row, item in enumerate(batch.items):
                total[owner[item]] += len(pieces[item]) * found[row].astype(np.float64)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return (total / np.maximum(length, 1e-12)).astype(np.float32)

    def score(self, first: Audio, second: Audio, *, rate: int = SAMPLE_RATE) -> float:
        """The cosine of two recordings, from -1 to 1. Raises InputError as `embed`."""
        a, b = self.embed([first, second], rate=rate)
        return float(a @ b)

    def embed_corpus(
        self, corpus: Corpus, *, on_audio: Callable[[float], None] | None = None
    ) -> CorpusEmbeddings:
        """Every utterance's embedding; `on_audio(seconds)` is told of progress."""
        quarantine: list[Rejected] = []
        embeddings = np.full((len(corpus), self.width), np.nan, np.float32)
        bins = self.package.recipe.model.frontend.bins
        floor = np.full((len(corpus), bins), np.nan, np.float32)
        batches = evaluation_batches(corpus, quarantine=quarantine)
        waiting: tuple[Mapping[str, np.ndarray], Any] | None = None

        def settle(batch: Mapping[str, np.ndarray], found: Any) -> None:
            read = batch["index"] >= 0
            for rows, target in zip(found, (embeddings, floor), strict=True):
                target[batch["index"][read]] = np.asarray(rows)[read]
            if on_audio is not None:
                on_audio(float(batch["sample_lengths"].sum()) / SAMPLE_RATE)

        for batch in batches:
            found = self._embed(self._params, batch["samples"], batch["sample_lengths"])
            if waiting is not None:
                settle(*waiting)  # while the device is at work on this one
            waiting = batch, found
        if waiting is not None:
            settle(*waiting)
        return CorpusEmbeddings(embeddings, floor, quarantine)


def load_samples(audio: Audio, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Mono int16 [N] at 16 kHz, at least one window long. Raises InputError as `read_audio`."""
    if not isinstance(audio, np.ndarray):
        return read_audio(audio)
    samples = as_samples(audio, rate)
    if len(samples) < SAMPLE_RATE // 10:
        raise InputError(
            f"{len(samples)} samples are less than a tenth of a second: give more speech."
        )
    return samples


def load_speaker_model(name_or_path: str | Path) -> SpeakerModel:
    """A speaker model by its registered name or from a folder.

    Raises:
      InputError: as `zoo.load`; and for a model that writes text.
    """
    from .registry import folder_of
    from .runtime import set_up
    from .speaker_package import read_speaker_model

    set_up()
    return SpeakerModel(read_speaker_model(folder_of(name_or_path)))
