"""Session effects: what lies between a voice and the recording of it.

espeak-ng says the same thing the same way every time; people and rooms do not. Each utterance draws
(`U` uniform, all independent):

| effect | distribution |
|---|---|
| pitch | U{-3..3} steps of 1.7 % on the speaker's own |
| pace | U(-10, 10) % on the speaker's own |
| pauses around | U(0.05, 0.30) s before, U(0.08, 0.30) s after |
| room | half of the recordings: RT60 U(0.08, 0.35) s, direct sound U(3, 15) dB above the echoes |
| channel | tilt U(-3, 3) dB an octave about 1 kHz to at most 15 dB; three bends of U(-4, 4) dB; |
| | a low cut at U(40, 250) Hz; 30 % a high cut at U(3400, 7500) Hz |
| level | U(-38, -18) dB below full scale, root mean square over the speech |
| noise | `noisy` splits, 75 % of the recordings: U(15, 40) dB under the speech, its spectrum |
| | f^-U(0, 2) in power; a third of them with a mains hum at a fifth of the noise's power |

Everything linear happens in one pass through the spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

SAMPLE_RATE = 16000
_FULL_SCALE = 32767.0


@dataclass(frozen=True)
class Manner:
    """How the speaker talks this time: handed to the synthesiser."""

    pitch_steps: int
    pace: float  # factor on the words a minute


def draw_manner(rng: np.random.Generator) -> Manner:
    """Draw pitch and pace of one utterance."""
    return Manner(int(rng.integers(-3, 4)), float(rng.uniform(0.9, 1.1)))


def record(
    speech: np.ndarray, rate: int, rng: np.random.Generator, *, noisy: bool
) -> tuple[np.ndarray, dict[str, float]]:
    """Make a recording of what the synthesiser said.

    Args:
      speech: [N] int16 at `rate` Hz.
      rate: in Hz.
      rng: every effect is drawn from it.
      noisy: whether background noise may be added.

    Returns:
      [M] int16 at 16 kHz, and what was drawn: `snr` (dB; infinite without noise), `rt60` (s; 0
      without a room), `level` (dB below full scale).
    """
    x = soxr.resample(_trim(speech).astype(np.float32), rate, SAMPLE_RATE, quality="MQ")
    before, after = rng.uniform((0.05, 0.08), (0.30, 0.30)) * SAMPLE_RATE
    start, length = int(before), int(before) + x.size + int(after)
    rt60_s = float(rng.uniform(0.08, 0.35))
    direct_db = rng.uniform(3, 15)
    room = rng.random() < 0.5
    echoes = _echoes(rng, rt60_s, direct_db)

    # The room's tail must not wrap round into the start.
    size = _fast_size(length + echoes.size)
    signal = np.zeros(size, np.float32)
    signal[start : start + x.size] = x
    spectrum = np.fft.rfft(signal)
    hz = np.arange(spectrum.size, dtype=np.float32) * (SAMPLE_RATE / size)
    if room:
        spectrum *= 1 + np.fft.rfft(echoes, size)
    spectrum *= _channel(rng, hz)
    signal = np.fft.irfft(spectrum, size)[:length]

    spoken = signal[start : start + x.size]
    rms = float(np.sqrt(np.mean(spoken * spoken))) + 1e-9
    level_db = float(rng.uniform(-38, -18))
    # Speech may peak 20 dB above its mean: rather quieter than clipped.
    gain = min(_FULL_SCALE * 10 ** (level_db / 20) / rms, 0.97 * _FULL_SCALE / np.abs(signal).max())
    signal *= np.float32(gain)

    snr_db = float(rng.uniform(15, 40))
    with_noise = rng.random() < 0.75
    noise_seed = rng.integers(2**63)
    if noisy and with_noise:
        noise = _noise(np.random.default_rng(noise_seed), length)
        signal += noise * np.float32(gain * rms * 10 ** (-snr_db / 20))
    else:
        snr_db = float("inf")
    samples = np.clip(np.rint(signal), -32768, 32767).astype(np.int16)
    drawn_db = 20 * np.log10(gain * rms / _FULL_SCALE)
    return samples, {
        "snr": round(snr_db, 1),
        "rt60": round(rt60_s, 3) if room else 0.0,
        "level": round(float(drawn_db), 1),
    }


def _fast_size(length: int) -> int:
    """A length that transforms fast: the next power of two, or three quarters of it."""
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= length else power


def _trim(speech: np.ndarray) -> np.ndarray:
    """Cut the silence that the synthesiser puts around what it says."""
    loud = np.flatnonzero(np.abs(speech) > 60)
    return speech[loud[0] : loud[-1] + 1] if loud.size else speech


def _echoes(rng: np.random.Generator, rt60_s: float, direct_db: float) -> np.ndarray:
    """Exponentially dying noise, from 2 ms after the direct sound on, of a given energy."""
    time_s = np.arange(int(rt60_s * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(time_s.size, dtype=np.float32)
    tail *= np.exp(-6.9078 * time_s / rt60_s) * (time_s > 0.002)  # 60 dB is a factor of e^6.9078
    return tail * np.float32(10 ** (-direct_db / 20) / np.sqrt(np.sum(tail * tail)))


def _channel(rng: np.random.Generator, hz: np.ndarray) -> np.ndarray:
    """A microphone's gain at each frequency, [F], with zero phase."""
    octave = np.log2(np.maximum(hz, 31.25) / 1000)
    gain_db = np.clip(rng.uniform(-3, 3) * octave, -15, 15)
    for bend_db, centre, width in zip(
        rng.uniform(-4, 4, 3), rng.uniform(-3, 3, 3), rng.uniform(0.4, 1.5, 3), strict=True
    ):
        gain_db = gain_db + bend_db * np.exp(-0.5 * ((octave - centre) / width) ** 2)
    low_hz, high_hz = rng.uniform(40, 250), rng.uniform(3400, 7500)
    gain = 10 ** (gain_db / 20) / np.sqrt(1 + (low_hz / np.maximum(hz, 1)) ** 4)
    if rng.random() < 0.3:
        gain = gain / np.sqrt(1 + (hz / high_hz) ** 12)
    return gain.astype(np.float32)


def _noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Coloured noise of unit power, some of it with hum: [length] float32."""
    size = _fast_size(length)
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    hz = np.arange(spectrum.size, dtype=np.float32) * (SAMPLE_RATE / size)
    spectrum *= np.maximum(hz, 40.0) ** np.float32(-rng.uniform(0, 2) / 2)
    noise = np.fft.irfft(spectrum, size)[:length]
    noise /= np.sqrt(np.mean(noise * noise))
    if rng.random() < 1 / 3:
        mains = rng.choice([50.0, 60.0])
        phase = 2 * np.pi * mains / SAMPLE_RATE * np.arange(length, dtype=np.float32)
        hum = sum(np.sin(k * phase + rng.uniform(0, 2 * np.pi)) / k for k in (1, 2, 3, 5))
        noise += hum * np.float32(np.sqrt(0.2 / np.mean(hum * hum)))
        noise /= np.sqrt(np.mean(noise * noise))
    return noise.astype(np.float32)
