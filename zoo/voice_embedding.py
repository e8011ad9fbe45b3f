"""A voice as a vector of length one, of which the cosine tells two voices apart."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..data.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from .speakers import SpeakerModel

SPEAKER_MODEL = "speaker-tiny"
_TURNS = 0.8
"""Of the model's own threshold, at which whole recordings are told apart: turns are shorter."""
_SHORTEST = SAMPLE_RATE // 10


class VoiceEmbedding(Protocol):
    """What tells voices apart."""

    same: float
    """Cosine from which two turns are taken for one speaker's."""
    undivided: float
    """Cosine of the two halves that a recording's windows fall into, below which it holds two
    voices."""

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """16 kHz int16 [N], N at least 1 -> [D] float of length one."""
        ...


class SpeakerVoice:
    """The embedding of a speaker verification model; the zoo's own where none is given.

    `same` is eight tenths of its threshold (chosen on development speakers, `python -m
    parley.benchmarks.attribution --split dev`).
    """

    def __init__(self, model: "SpeakerModel | None" = None):
        if model is None:
            from .speakers import load_speaker_model

            model = load_speaker_model(SPEAKER_MODEL)
        self._model = model
        self.same = _TURNS * model.threshold
        self.undivided = model.threshold

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """See `VoiceEmbedding`."""
        missing = max(0, _SHORTEST - len(samples))
        return self._model.embed_samples([np.pad(samples, (0, missing))])[0]
