"""The pitch of a voice, by the autocorrelation of short frames."""

import numpy as np

from .audio import SAMPLE_RATE

LOW_HZ, HIGH_HZ = 60.0, 400.0
_FRAME = SAMPLE_RATE * 40 // 1000
_HOP = SAMPLE_RATE * 20 // 1000
_VOICED = 0.5
"""Autocorrelation, of 1, from which a frame is taken for a voiced one."""
_NEARLY = 0.9
"""Of the highest peak: the first peak as high as this counts, not its octave below."""


def pitch_hz(samples: np.ndarray) -> float:
    """The median fundamental frequency, in Hz, of the voiced frames among the louder half.

    A frame's autocorrelation is divided by that of its window, so that a periodic frame reaches 1
    at every period, and the first high peak is chosen (Boersma 1993, Proc. Institute of Phonetic
    Sciences 17, without its path through the frames).

    Args:
      samples: 16 kHz int16 [N].

    Returns:
      nan where no frame is voiced.
    """
    count = (len(samples) - _FRAME) // _HOP + 1
    if count < 1:
        return float("nan")
    at = np.arange(count)[:, None] * _HOP + np.arange(_FRAME)
    frames = samples[at].astype(np.float64)
    frames -= frames.mean(axis=1, keepdims=True)
    energy = (frames**2).sum(axis=1)
    frames = frames[(energy > 0) & (energy >= np.median(energy))]
    if not len(frames):
        return float("nan")
    window = np.hanning(_FRAME)
    shape = _autocorrelation(window[None])[0]
    first, last = int(SAMPLE_RATE / HIGH_HZ), int(SAMPLE_RATE / LOW_HZ)
    found = _autocorrelation(frames * window) / np.maximum(shape, 1e-3)
    found = found[:, first : last + 1]
    highest = found.max(axis=1)
    voiced = found[highest >= _VOICED]
    if not len(voiced):
        return float("nan")
    inner = voiced[:, 1:-1]
    peak = (inner >= voiced[:, :-2]) & (inner >= voiced[:, 2:])
    high = peak & (inner >= _NEARLY * voiced.max(axis=1, keepdims=True))
    lags = first + 1 + np.argmax(high, axis=1)[high.any(axis=1)]
    return float(np.median(SAMPLE_RATE / lags)) if len(lags) else float("nan")


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """[F, n] -> [F, n], 1 at lag zero."""
    size = 2 * frames.shape[1]
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    found = np.fft.irfft(power, size)[:, : frames.shape[1]]
    return found / np.maximum(found[:, :1], 1e-12)
