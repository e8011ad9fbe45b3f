"""Impulse responses of simulated rooms, by the image method.

Allen and Berkley, Image method for efficiently simulating small-room acoustics, JASA 65 (1979): a
shoebox room's echoes are what image sources send through free space, each mirrored in the walls a
number of times and weakened by every reflection.
"""

import math
import threading
from dataclasses import dataclass

import numpy as np

from .audio import SAMPLE_RATE

SPEED_OF_SOUND = 343.0  # m/s at 20 degrees
# Arrivals are rounded on a grid so many times finer than the samples (7.8 us, 2.7 mm of path) and
# band-limited together: one filter for all images costs less than a windowed sinc for each.
_FINE = 8
_HIGH_PASS_HZ = 50.0
_ROOMS, _POSITIONS = 16, 4


@dataclass(frozen=True)
class Room:
    """One room: the responses from a few places to one microphone."""

    rt60: float  # seconds
    responses: tuple[np.ndarray, ...]  # float32 [N] each, from the direct sound on, unit energy


def reflection_of(size: np.ndarray, rt60: float) -> float:
    """The walls' reflection coefficient (of pressure) that gives a room `rt60`, by Eyring.

    T = 0.161 V / (-S ln(1 - a)) with absorption a, and sqrt(1 - a) of the pressure comes back.
    """
    volume = float(np.prod(size))
    surface = 2.0 * float(size[0] * size[1] + size[1] * size[2] + size[2] * size[0])
    return math.exp(-0.5 * 0.161 * volume / (surface * rt60))


def impulse_response(
    size: np.ndarray,
    source: np.ndarray,
    microphone: np.ndarray,
    reflection: float,
    seconds: float,
) -> np.ndarray:
    """What arrives at the microphone of a unit impulse: float32 `[seconds * 16000]`.

    Args:
      size: `[3]` of the room in metres, from the origin.
      source: `[3]` in metres.
      microphone: `[3]` in metres.
      reflection: coefficient of all walls, 0 to 1.
      seconds: later arrivals are left out.

    The direct sound at r metres has the amplitude 1 / r and comes after r / 343 seconds.
    """
    reach = SPEED_OF_SOUND * seconds
    squares, bounces = [], []
    for axis in range(3):
        most = math.ceil(reach / (2.0 * size[axis])) + 1
        m = np.arange(-most, most + 1)[:, None]
        q = np.array([0, 1])
        offset = (1 - 2 * q) * source[axis] + 2.0 * m * size[axis] - microphone[axis]
        count = np.abs(m - q) + np.abs(m)
        near = np.abs(offset) <= reach
        squares.append(offset[near] ** 2)
        bounces.append(count[near])
    plane = squares[0][:, None] + squares[1]
    inside = plane <= reach * reach
    plane, plane_bounces = plane[inside], (bounces[0][:, None] + bounces[1])[inside]
    weight = reflection ** np.arange(sum(int(b.max()) for b in bounces) + 1)
    fine = np.zeros(round(seconds * SAMPLE_RATE) * _FINE)
    for square, count in zip(squares[2], bounces[2], strict=True):
        distance = np.sqrt(plane + square)
        arrival = np.rint(distance * (SAMPLE_RATE * _FINE / SPEED_OF_SOUND)).astype(np.int64)
        kept = arrival < len(fine)
        # A source at the microphone would be infinitely loud.
        amplitude = weight[plane_bounces[kept] + count] / np.maximum(distance[kept], 0.1)
        fine += np.bincount(arrival[kept], amplitude, len(fine))
    from scipy.signal import resample_poly

    return (_FINE * resample_poly(fine, 1, _FINE)).astype(np.float32)


def draw_room(rng: np.random.Generator, positions: int = _POSITIONS) -> Room:
    """A room of 3 to 8 by 3 to 6 by 2.4 to 3.2 m with an RT60 of 0.15 to 0.5 s.

    The microphone stands near the middle, 0.7 to 1.5 m high; talkers sit or stand (1.1 to 1.7 m)
    0.5 to 2.5 m away from it, and 0.3 m from the walls.
    """
    from scipy.signal import butter, sosfilt

    size = rng.uniform((3.0, 3.0, 2.4), (8.0, 6.0, 3.2))
    rt60 = float(rng.uniform(0.15, 0.5))
    microphone = np.append(size[:2] * rng.uniform(0.3, 0.7, 2), rng.uniform(0.7, 1.5))
    reflection = reflection_of(size, rt60)
    # Walls that reflect in phase at every frequency give a room a gain at 0 Hz that none has.
    high_pass = butter(2, _HIGH_PASS_HZ, "highpass", fs=SAMPLE_RATE, output="sos")
    responses = []
    for _ in range(positions):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 2.5)
        place = microphone + away * np.array([math.cos(angle), math.sin(angle), 0.0])
        place[:2] = np.clip(place[:2], 0.3, size[:2] - 0.3)
        place[2] = rng.uniform(1.1, 1.7)
        direct = float(np.linalg.norm(place - microphone)) / SPEED_OF_SOUND
        response = impulse_response(size, place, microphone, reflection, direct + rt60)
        response = np.asarray(sosfilt(high_pass, response))[int(direct * SAMPLE_RATE) :]
        response /= math.sqrt(float(np.dot(response, response)))
        responses.append(response.astype(np.float32))
    return Room(rt60, tuple(responses))


class RoomPool:
    """A few rooms, made when first asked for; a function of the seed. Safe from several threads."""

    def __init__(self, seed: int, count: int = _ROOMS):
        self.seed, self.count = seed, count
        self._rooms: dict[int, Room] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[int, int]:
        return self.seed, self.count

    def __setstate__(self, state: tuple[int, int]) -> None:
        self.__init__(*state)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Room:
        """Room `number`, from 0 to `count` - 1."""
        with self._lock:
            if number not in self._rooms:
                rng = np.random.default_rng((self.seed, number, 0x726F6F6D))
                self._rooms[number] = draw_room(rng)
            return self._rooms[number]
