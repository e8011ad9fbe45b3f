"""Noise at a signal-to-noise ratio: fresh for evaluation, from a pool for training.

The ratio is of mean powers over the whole utterance. Drawing normals costs more than decoding FLAC,
so training adds random pieces of a pool that is made once; evaluation draws its own.
"""

from collections.abc import Sequence

import numpy as np

from .audio import SAMPLE_RATE, to_int16


def noisy(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """`samples` (int16 `[N]`) with coloured noise at `snr_db`, as int16 `[N]`.

    Each call draws a colour between white (power ~ f^0) and brown (f^-2). Silence stays silence:
    a ratio to nothing is not defined.
    """
    noise = coloured_noise(len(samples), rng.uniform(0.0, 2.0), rng)
    mixed = samples.astype(np.float32)
    add_noise(mixed, noise, snr_db)
    return to_int16(mixed)


def add_noise(signal: np.ndarray, noise: np.ndarray, snr_db: float) -> None:
    """Adds `noise` to `signal` in place (both float32 `[N]`), scaled to `snr_db`."""
    signal_power = float(np.dot(signal, signal))
    noise_power = float(np.dot(noise, noise))
    if signal_power > 0.0 and noise_power > 0.0:
        scale = np.sqrt(signal_power / noise_power * 10.0 ** (-snr_db / 10.0))
        signal += noise * np.float32(scale)


def coloured_noise(count: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with power ~ f^-exponent above 50 Hz, unit mean power, float32 `[count]`."""
    spectrum = np.fft.rfft(rng.standard_normal(count, dtype=np.float32))
    frequencies = np.fft.rfftfreq(count, 1.0 / SAMPLE_RATE)
    shaped = spectrum * np.maximum(frequencies, 50.0) ** (-exponent / 2.0)
    return _unit_power(np.fft.irfft(shaped, count).astype(np.float32))


def cut_noise(pool: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """A random piece of one of the noises, float32 `[count]`; a short noise is repeated."""
    noise = pool[int(rng.integers(len(pool)))]
    start = int(rng.integers(len(noise)))
    if start + count <= len(noise):
        return noise[start : start + count]
    return np.take(noise, np.arange(start, start + count), mode="wrap")


def noise_pool(
    seed: int, voices: Sequence[np.ndarray] = (), *, seconds: float = 20.0
) -> list[np.ndarray]:
    """Unit-power noises, float32 `[seconds * 16000]` each, to cut random pieces from.

    White, pink and brown noise; pink noise that swells and fades as traffic does; and, where
    `voices` (int16 recordings) are given, a babble of six of them at a time.
    """
    rng = np.random.default_rng((seed, 0x6E6F6973))
    count = round(seconds * SAMPLE_RATE)
    pool = [coloured_noise(count, exponent, rng) for exponent in (0.0, 1.0, 1.0, 2.0)]
    knots = np.arange(0, count + 4000, 4000)
    swell = np.interp(np.arange(count), knots, rng.uniform(-9.0, 9.0, len(knots)))
    pool[2] = _unit_power(pool[2] * (10.0 ** (swell / 20.0)).astype(np.float32))
    if len(voices):
        pool.extend(_babble(voices, count, rng) for _ in range(2))
    return pool


def recorded_pool(
    recordings: Sequence[np.ndarray], *, seconds: float = 20.0, limit: int = 50
) -> list[np.ndarray]:
    """Unit-power noises made of recordings (int16): repeated or cut to `seconds`."""
    count = round(seconds * SAMPLE_RATE)
    pool = []
    for samples in recordings[:limit]:
        if samples.any():
            pool.append(_unit_power(np.resize(samples, count).astype(np.float32)))
    return pool


def _babble(voices: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    mixed = np.zeros(count, np.float32)
    for _ in range(6):
        pieces, length = [], 0
        while length < count:
            piece = voices[int(rng.integers(len(voices)))].astype(np.float32)
            pieces.append(_unit_power(piece))
            length += len(piece)
        start = int(rng.integers(length - count + 1))
        mixed += np.concatenate(pieces)[start : start + count]
    return _unit_power(mixed)


def _unit_power(noise: np.ndarray) -> np.ndarray:
    power = float(np.mean(np.square(noise, dtype=np.float64)))
    return noise * np.float32(1.0 / np.sqrt(power)) if power > 0.0 else noise
