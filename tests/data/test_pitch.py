"""Pitch of voices that are made of a known one."""

import numpy as np
import pytest

from parley.data.pitch import pitch_hz

RATE = 16_000


def voice(hz: float, seconds: float = 1.5, *, tilt: float = 1.0, first: int = 1) -> np.ndarray:
    """Harmonics from the `first` on, falling with their number to the power `tilt`."""
    t = np.arange(round(seconds * RATE)) / RATE
    numbers = range(first, int(3500 / hz) + 1)
    sound = sum(np.sin(2 * np.pi * k * hz * t + k) / k**tilt for k in numbers)
    return sound / np.abs(sound).max()


@pytest.mark.parametrize("hz", [75, 110, 163, 220, 310])
@pytest.mark.parametrize("shape", [{}, {"tilt": 0.3}, {"first": 2}])
def test_harmonics_have_their_pitch(hz: float, shape: dict[str, float]):
    samples = (8000 * voice(hz, **shape)).astype(np.int16)  # pyright: ignore[reportArgumentType]
    assert pitch_hz(samples) == pytest.approx(hz, rel=0.02)


def test_noise_and_pauses_do_not_move_it():
    rng = np.random.default_rng(0)
    sound = np.concatenate([np.zeros(RATE // 2), voice(140), np.zeros(RATE // 2)])
    noisy = 8000 * sound + rng.normal(0, 400, len(sound))
    assert pitch_hz(noisy.astype(np.int16)) == pytest.approx(140, rel=0.02)


def test_what_has_none():
    rng = np.random.default_rng(0)
    assert np.isnan(pitch_hz(np.zeros(RATE, np.int16)))
    assert np.isnan(pitch_hz(np.zeros(100, np.int16)))
    assert np.isnan(pitch_hz(rng.normal(0, 3000, RATE).astype(np.int16)))
