"""Embeddings of a corpus's speakers, kept in pieces so that an interrupted run goes on.

A piece's name is a hash of the model and of the names and lengths of the recordings in it, so a
folder may hold pieces of several corpora.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..data.corpus import Corpus, quarantined
from ..data.errors import InputError, Rejected
from ..data.files import replace_file
from ..data.pitch import pitch_hz
from ..data.views import SelectedCorpus
from ..fairness.clusters import mean_embeddings
from ..fairness.population import speaker_averages
from .console import audio_progress, remark
from .speakers import SpeakerModel

_PIECE = 512
_READERS = 4
_VERSION = 1


class HeardSpeakers(NamedTuple):
    """What is heard of speakers; nan for one of whom there is too little."""

    embeddings: np.ndarray
    """[S, D], means of unit length."""
    pitch: np.ndarray
    """[S], Hz."""


class Voices(NamedTuple):
    """What is heard of a corpus's utterances; rows of those that could not be read are nan."""

    embeddings: np.ndarray
    """[U, D], unit length."""
    pitch: np.ndarray
    """[U], Hz."""
    quarantine: list[Rejected]


def hear_speakers(
    model: SpeakerModel, corpus: Corpus, speakers: Sequence[str], folder: Path
) -> HeardSpeakers:
    """The voices of these speakers in a corpus, with a bar.

    Args:
      folder: as of `embed_voices`.

    Raises:
      InputError: the corpus has recordings of none of them.
    """
    number = {speaker: i for i, speaker in enumerate(speakers)}
    owner = np.array([number.get(corpus.utterance(i).speaker, -1) for i in range(len(corpus))])
    own = np.flatnonzero(owner >= 0)
    if not len(own):
        raise InputError(f"{corpus.name} has recordings of none of the speakers that were scored.")
    part = SelectedCorpus(corpus, own.tolist(), corpus.name)
    total = sum(part.utterance(i).duration for i in range(len(part)))
    with audio_progress("hearing voices", total) as advance:
        voices = embed_voices(model, part, folder, on_audio=advance)
    for rejected in voices.quarantine:
        remark(f"left out {rejected}")
    means = mean_embeddings(voices.embeddings, owner[own], len(speakers))
    return HeardSpeakers(means, speaker_averages(voices.pitch, owner[own], len(speakers)))


def embed_voices(
    model: SpeakerModel,
    corpus: Corpus,
    folder: Path,
    *,
    on_audio: Callable[[float], None] | None = None,
) -> Voices:
    """Every utterance's embedding and pitch.

    Args:
      folder: where the pieces are and go.
      on_audio: told of seconds that are done, those of an earlier run too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    embeddings = np.full((len(corpus), model.width), np.nan, np.float32)
    pitch = np.full(len(corpus), np.nan, np.float32)
    quarantine = quarantined(corpus).copy()
    for first in range(0, len(corpus), _PIECE):
        items = range(first, min(first + _PIECE, len(corpus)))
        path = folder / f"{_key(model, corpus, items)}.safetensors"
        known = _read(path, len(items), model.width)
        if known is None:
            known, rejected = _embed(model, corpus, items)
            quarantine += rejected
            if not rejected:  # else the next run would not say what is wrong
                replace_file(path, save(known))
        embeddings[items], pitch[items] = known["embeddings"], known["pitch"]
        if on_audio is not None:
            on_audio(sum(corpus.utterance(i).duration for i in items))
    return Voices(embeddings, pitch, quarantine)


def _embed(
    model: SpeakerModel, corpus: Corpus, items: range
) -> tuple[dict[str, np.ndarray], list[Rejected]]:
    def read(i: int) -> tuple[np.ndarray, float] | Rejected:
        try:
            samples = corpus.samples(i)
        except InputError as error:
            return Rejected(corpus.utterance(i).id, str(error))
        return samples, pitch_hz(samples)

    with ThreadPoolExecutor(_READERS) as pool:
        heard = list(pool.map(read, items))
    found = {
        "embeddings": np.full((len(items), model.width), np.nan, np.float32),
        "pitch": np.full(len(items), np.nan, np.float32),
    }
    fine = [(row, h) for row, h in enumerate(heard) if not isinstance(h, Rejected)]
    if fine:
        rows = [row for row, _ in fine]
        found["embeddings"][rows] = model.embed_samples([samples for _, (samples, _) in fine])
        found["pitch"][rows] = [hz for _, (_, hz) in fine]
    return found, [h for h in heard if isinstance(h, Rejected)]


def _key(model: SpeakerModel, corpus: Corpus, items: range) -> str:
    digest = hashlib.sha256(f"{_VERSION}\n{model.package.fingerprint}\n{corpus.name}\n".encode())
    for i in items:
        u = corpus.utterance(i)
        line = f"{u.speaker}\t{u.id}\t{u.duration:.4f}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _read(path: Path, count: int, width: int) -> dict[str, np.ndarray] | None:
    """A piece; None where it is not there or damaged."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError):
        return None
    shapes = {name: array.shape for name, array in found.items()}
    return found if shapes == {"embeddings": (count, width), "pitch": (count,)} else None
