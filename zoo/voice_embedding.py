"""A voice as a vector of length one, of which the cosine tells two voices apart.

`CepstralVoice` needs no training: what is left of the long-term spectrum without its tilt. A
speaker verification model does better; anything with `embed` and the two thresholds can stand in
its place.
"""

import functools
from typing import Protocol

import jax
import numpy as np

from ..data.audio import SAMPLE_RATE
from ..models.frontend import FrontendConfig, log_mel

_FEATURES = FrontendConfig(bins=40, low_hz=100.0, high_hz=3800.0)
_HOP = _FEATURES.hop
_LONGEST = 30 * SAMPLE_RATE
_SHORTEST = 1 << 13  # samples that a program is compiled for; each doubling is another

_FIRST = 3
# Mean and deviation of each cepstral coefficient from `_FIRST` on, over 1,000 recordings of
# `assistant?limit=1000`, train: `python -m parley.benchmarks.attribution --statistics`.
_MEAN = np.array(
    [
        -2.27,
        -1.75,
        -2.13,
        -1.35,
        0.11,
        -0.39,
        -0.15,
        0.18,
        -0.77,
        -0.12,
        -1.0,
        -0.49,
        -0.85,
        -0.63,
        -0.53,
        -0.28,
        -0.11,
        0.01,
        0.08,
        0.08,
        0.02,
        0.02,
        -0.02,
        -0.01,
        -0.04,
        -0.01,
        -0.02,
    ]
)
_DEVIATION = np.array(
    [
        1.88,
        1.58,
        1.21,
        1.19,
        1.14,
        0.96,
        1.16,
        1.08,
        1.04,
        1.04,
        1.12,
        1.04,
        1.34,
        0.9,
        1.11,
        0.79,
        0.7,
        0.59,
        0.47,
        0.42,
        0.37,
        0.3,
        0.26,
        0.24,
        0.24,
        0.23,
        0.21,
    ]
)


class VoiceEmbedding(Protocol):
    """What tells voices apart."""

    same: float
    """Cosine from which two embeddings are taken for one speaker's."""
    undivided: float
    """Cosine of the two halves that a recording's windows fall into, below which it holds two
    voices."""

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """16 kHz int16 [N], N at least 1 -> [D] float of length one."""
        ...


class CepstralVoice:
    """The mean cepstrum of the louder frames, each coefficient whitened by a corpus's deviation.

    Cepstra are the cosine transform of 40 log-mels. The first ones go with the channel and are left
    out, as is what lies above a telephone's band: with it 8 kHz recordings would all look alike.
    """

    same = 0.35
    undivided = 0.35

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """See `VoiceEmbedding`; what lies behind 30 s is not heard."""
        cepstrum = mean_cepstrum(samples)
        vector = (cepstrum - _MEAN) / _DEVIATION
        return vector / max(float(np.linalg.norm(vector)), 1e-9)


def mean_cepstrum(samples: np.ndarray) -> np.ndarray:
    """Coefficients `_FIRST` to 29 [D] of the frames that are less than 70 % of the way down from
    the loudest (95th percentile) to the faintest (5th)."""
    from scipy.fft import dct

    samples = samples[:_LONGEST]
    count = max(1, len(samples) // _HOP)
    size = max(_SHORTEST, 1 << (len(samples) - 1).bit_length())
    padded = np.zeros(size, np.int16)
    padded[: len(samples)] = samples
    mels = np.asarray(_log_mels()(padded[None]))[0, :count].astype(np.float64)
    level = mels.mean(axis=1)
    low, high = np.percentile(level, [5, 95])
    loud = mels[level >= low + 0.3 * (high - low)]
    return np.asarray(dct(loud.mean(axis=0), norm="ortho"))[_FIRST:30]


@functools.cache
def _log_mels():
    return jax.jit(functools.partial(log_mel, config=_FEATURES))
