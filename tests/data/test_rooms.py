"""Simulated rooms against geometry and reverberation theory."""

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from parley.data.rooms import SPEED_OF_SOUND, RoomPool, impulse_response, reflection_of

SIZE = np.array([6.0, 5.0, 3.0])
SOURCE = np.array([1.0, 2.0, 1.5])
MICROPHONE = np.array([3.0, 2.0, 1.5])


def peak(response: np.ndarray, metres: float) -> float:
    """The strongest sample within two samples of what comes over a path of `metres`."""
    centre = round(metres / SPEED_OF_SOUND * 16_000)
    return float(response[centre - 2 : centre + 3].max())


def arrival(response: np.ndarray, begin: float) -> float:
    """Metres of the path of the strongest arrival after `begin` metres."""
    first = round(begin / SPEED_OF_SOUND * 16_000)
    return (first + int(np.argmax(response[first:]))) / 16_000 * SPEED_OF_SOUND


def test_the_direct_sound():
    for metres in (0.5, 1.0, 2.0, 3.7):
        microphone = SOURCE + np.array([metres, 0.0, 0.0])
        response = impulse_response(SIZE, SOURCE, microphone, 0.0, 0.05)
        assert arrival(response, 0.0) == pytest.approx(metres, abs=SPEED_OF_SOUND / 32_000)
        # Band-limited, an impulse between two samples still has its area and its energy.
        assert response.sum() == pytest.approx(1 / metres, rel=0.02)
        energy = float(np.dot(response, response))
        assert energy == pytest.approx(1 / metres**2, rel=0.15)


def test_the_first_reflections_are_where_the_mirror_images_are():
    # Floor and ceiling are 1.5 m away: both paths are sqrt(2^2 + 3^2) m and come together. The
    # walls at y = 0 (2 m away) and x = 0 (behind the source) follow.
    wanted = {np.sqrt(4 + 9): 2, np.sqrt(4 + 16): 1, 4.0: 1}
    for metres, images in wanted.items():
        weak = impulse_response(SIZE, SOURCE, MICROPHONE, 0.5, 0.02)
        none = impulse_response(SIZE, SOURCE, MICROPHONE, 0.0, 0.02)
        # To a grid of 1/8 sample; the peak between samples is up to a third lower.
        assert 0.6 <= peak(weak - none, metres) / (images * 0.5 / metres) <= 1.1


def test_twice_reflected_is_weakened_twice():
    one, two = (impulse_response(SIZE, SOURCE, MICROPHONE, r, 0.1) for r in (0.5, 0.25))
    # Floor and ceiling once each, both ways round: 2 m along, 6 m up and down.
    metres = np.sqrt(4 + 36)
    none = impulse_response(SIZE, SOURCE, MICROPHONE, 0.0, 0.1)
    ratio = peak(one - none, metres) / peak(two - none, metres)
    assert ratio == pytest.approx(4.0, rel=0.35)  # a wall's single reflection comes close to it


@pytest.mark.parametrize("size", [(4.0, 4.0, 4.0), (6.0, 5.0, 3.0), (4.0, 3.5, 2.5)])
@pytest.mark.parametrize("rt60", [0.2, 0.4])
def test_reverberation_time_is_eyrings(size, rt60):
    """Within 10 % in a cube, 30 % in a room: Eyring's sound is diffuse, a shoebox's is not, since
    what runs along the longer sides meets fewer walls (Lehmann and Johansson, JASA 124, 2008)."""
    room = np.array(size)
    reflection = reflection_of(room, rt60)
    response = impulse_response(
        room, np.array([1.2, 1.3, 1.5]), np.array([2.5, 1.9, 1.1]), reflection, 1.3 * rt60
    )
    # Below the first modes an image model has a gain that no room has.
    sos = butter(4, 100, "highpass", fs=16_000, output="sos")
    filtered = np.asarray(sosfilt(sos, response.astype(float)))
    decay = 10 * np.log10(np.cumsum(filtered[::-1] ** 2)[::-1] / np.sum(filtered**2) + 1e-12)
    first, last = np.flatnonzero(decay < -5)[0], np.flatnonzero(decay < -25)[0]
    slope = np.polyfit(np.arange(first, last) / 16_000, decay[first:last], 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.1 if len(set(size)) == 1 else 0.3)


def test_eyring_by_hand():
    # 4 x 4 x 4 m: V = 64, S = 96; T = 0.161 * 64 / (-96 ln(1 - a)) = 0.3 at a = 0.30075.
    assert reflection_of(np.array([4.0, 4.0, 4.0]), 0.3) == pytest.approx(
        np.sqrt(1 - 0.30075), abs=1e-4
    )


def test_a_pool_is_a_function_of_its_seed():
    one, two, other = RoomPool(3, 2), RoomPool(3, 2), RoomPool(4, 2)
    assert np.array_equal(one[1].responses[0], two[1].responses[0])
    assert one[1].rt60 != other[1].rt60
    for response in one[0].responses:
        assert float(np.dot(response, response)) == pytest.approx(1.0, abs=1e-4)
        # The direct sound is at the beginning, and the strongest.
        assert np.abs(response).argmax() <= 160
