"""Where in a recording something is said: by energy, for recordings of moderate noise.

A frame counts as speech where it is within `RANGE_DB` of the recording's loud frames and above
`FLOOR_DB` below full scale. Steady noise without speech therefore counts as speech, if it is loud.
"""

import numpy as np

from .audio import SAMPLE_RATE

FRAME = SAMPLE_RATE // 100
RANGE_DB = 30.0
FLOOR_DB = -60.0
HANGOVER = 10
"""Frames after the last loud one that still belong to it: consonants are soft."""


def speech_mask(samples: np.ndarray) -> np.ndarray:
    """[N // FRAME] bool, a frame of 10 ms each, of int16 samples [N]."""
    count = len(samples) // FRAME
    if not count:
        return np.zeros(0, bool)
    frames = samples[: count * FRAME].reshape(count, FRAME).astype(np.float64) / 32768.0
    # Without the mean: an offset of the converter is no sound.
    power = frames.var(axis=1)
    level = 10 * np.log10(np.maximum(power, 1e-12))
    loud = np.percentile(level, 95)
    above = level > max(loud - RANGE_DB, FLOOR_DB)
    # A frame belongs to speech if any of the last HANGOVER frames was loud.
    sums = np.cumsum(np.concatenate([np.zeros(HANGOVER + 1), above]))
    return sums[HANGOVER + 1 :] - sums[:count] > 0


def speech_only(samples: np.ndarray) -> np.ndarray:
    """The frames that hold speech, put together: int16 [M], M a multiple of `FRAME`."""
    mask = speech_mask(samples)
    return samples[: len(mask) * FRAME].reshape(-1, FRAME)[mask].reshape(-1)


def speech_seconds(samples: np.ndarray) -> float:
    """How long something is said."""
    return float(speech_mask(samples).sum()) * FRAME / SAMPLE_RATE
