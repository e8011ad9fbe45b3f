"""Speakers of turns, with voices that are told apart for sure."""

from dataclasses import dataclass

import numpy as np
import pytest

from parley.data.audio import SAMPLE_RATE
from parley.data.errors import InputError
from parley.zoo.attribution import Attributor, alone, attribute, enrol, likeness_of_halves


@dataclass(frozen=True)
class Turn:
    start: float
    end: float
    channel: int = 0


class Level:
    """A voice is its loudness: samples of the value v are a vector at the angle v in degrees."""

    same = 0.9  # 26 degrees
    undivided = 0.8

    def embed(self, samples: np.ndarray) -> np.ndarray:
        angle = np.deg2rad(samples.mean())
        return np.array([np.cos(angle), np.sin(angle)])


def said(degrees: float, seconds: float) -> np.ndarray:
    return np.full(round(seconds * SAMPLE_RATE), degrees, np.int16)


def conversation(*parts: tuple[float, float]) -> tuple[np.ndarray, list[Turn]]:
    """One after another: (angle of the voice, seconds)."""
    ends = np.cumsum([seconds for _, seconds in parts])
    turns = [Turn(float(end - s), float(end)) for end, (_, s) in zip(ends, parts, strict=True)]
    return np.concatenate([said(*part) for part in parts]), turns


def test_speakers_are_numbered_as_they_appear():
    samples, turns = conversation((0, 2), (90, 2), (5, 2), (45, 2), (85, 2))
    names = ["speaker 1", "speaker 2", "speaker 1", "speaker 3", "speaker 2"]
    assert attribute(samples, turns, Level()) == names
    # In whatever order the turns are given.
    assert attribute(samples, turns[::-1], Level()) == names[::-1]
    assert attribute(samples, [], Level()) == []


def test_a_mean_follows_its_speaker_by_the_seconds_heard():
    drifting = [(10.0 * i, 2.0) for i in range(5)]
    samples, turns = conversation(*drifting)
    # 40 degrees are far from where he began and near to the mean of 0 to 30.
    assert set(attribute(samples, turns, Level())) == {"speaker 1"}
    samples, turns = conversation((0, 20), *drifting[1:])
    assert attribute(samples, turns, Level())[-1] == "speaker 2"


def test_a_short_turn_founds_no_speaker_and_moves_no_mean():
    samples, turns = conversation((0, 2), (90, 0.6), (90, 2))
    assert attribute(samples, turns, Level()) == ["speaker 1", "speaker 1", "speaker 2"]
    # It still goes to the nearer of those who are known.
    samples, turns = conversation((0, 2), (90, 2), (20, 0.6), (70, 0.6))
    assert attribute(samples, turns, Level())[2:] == ["speaker 1", "speaker 2"]


def test_a_turn_too_short_to_embed_goes_to_its_channels_latest_speaker():
    samples = np.concatenate([said(0, 2), said(90, 2), said(0, 0.2)])
    turns = [Turn(0, 2, 0), Turn(2, 4, 1), Turn(4, 4.2, 0)]
    assert attribute(samples, turns, Level())[-1] == "speaker 1"
    elsewhere = [*turns[:2], Turn(4, 4.2, 2)]
    assert attribute(samples, elsewhere, Level())[-1] == "speaker 2"


def test_a_word_too_short_at_the_beginning_is_the_first_speakers():
    samples, turns = conversation((0, 0.2), (90, 2), (0, 2))
    assert attribute(samples, turns, Level()) == ["speaker 1", "speaker 1", "speaker 2"]


def test_who_talks_at_the_same_time_is_somebody_else():
    # By voice both are the same; by the clock they cannot be.
    samples = said(0, 6)
    turns = [Turn(0, 4, 0), Turn(2, 6, 1)]
    assert attribute(samples, turns, Level()) == ["speaker 1", "speaker 2"]
    # An end that is told a little late is no overlap.
    assert attribute(samples, [Turn(0, 4.2, 0), Turn(4, 6, 1)], Level()) == ["speaker 1"] * 2
    # Hardly anything of the last turn is heard alone. Its channel's latest speaker talks just then.
    samples, turns = conversation((0, 2), (90, 2), (90, 4), (0, 0.1))
    turns = [turns[0], Turn(2, 4, 1), turns[2], Turn(7.6, 8.1, 1)]
    assert attribute(samples, turns, Level())[2:] == ["speaker 2", "speaker 1"]


def test_no_more_speakers_than_there_can_be():
    samples, turns = conversation((0, 2), (90, 2), (60, 2), (30, 2))
    names = attribute(samples, turns, Level(), max_speakers=2)
    assert names == ["speaker 1", "speaker 2", "speaker 2", "speaker 1"]
    # Three at once, and two there can be: still somebody.
    crowd = [Turn(0, 3, 0), Turn(0, 3, 1), Turn(0, 3, 2)]
    names = attribute(said(0, 3), crowd, Level(), max_speakers=2)
    assert set(names) == {"speaker 1", "speaker 2"}
    with pytest.raises(InputError, match="allow one or more"):
        Attributor(Level(), max_speakers=0)


def test_the_enrolled_are_named():
    enrolled = {"Ann": said(0, 6), "speaker 1": said(90, 6)}
    samples, turns = conversation((88, 2), (180, 2), (3, 2))
    names = attribute(samples, turns, Level(), enrolled=enrolled)
    assert names == ["speaker 1", "speaker 2", "Ann"]
    names = attribute(samples, turns, Level(), enrolled=enrolled, max_speakers=2)
    assert names == ["speaker 1", "speaker 1", "Ann"]
    with pytest.raises(InputError, match="2 are enrolled"):
        Attributor(Level(), enrolled=enrolled, max_speakers=1)


def test_an_enrolment_is_of_one_voice_and_long_enough():
    with pytest.raises(InputError, match=r"enrolment of Ann has 2\.0 s"):
        enrol("Ann", said(0, 2), Level())
    two = np.concatenate([said(0, 4), said(90, 4)])
    with pytest.raises(InputError, match="enrolment of Ann seems to hold two voices"):
        Attributor(Level(), enrolled={"Ann": two})
    between = np.concatenate([said(x, 2) for x in (0, 90, 0, 90, 0, 90)])
    assert likeness_of_halves(between, Level()) < Level.undivided
    assert likeness_of_halves(said(10, 8), Level()) == 1.0
    # A cough is no second voice.
    cough = np.concatenate([said(0, 20), said(90, 2), said(0, 20)])
    assert likeness_of_halves(cough, Level()) == 1.0


def test_what_is_alone():
    samples = np.arange(10 * SAMPLE_RATE, dtype=np.int32)
    turn, others = Turn(2, 6, 0), [Turn(0, 3, 1), Turn(4, 5, 1), Turn(0, 9, 0)]
    seconds = [3 * SAMPLE_RATE, 5 * SAMPLE_RATE]
    expected = np.concatenate([samples[at : at + SAMPLE_RATE] for at in seconds])
    assert np.array_equal(alone(samples, turn, others), expected)
    assert np.array_equal(alone(samples, Turn(9, 12), []), samples[9 * SAMPLE_RATE :])
    assert len(alone(samples, Turn(12, 13), [])) == 0
    assert len(alone(samples, Turn(-3, -1), [])) == 0
    assert len(alone(samples, Turn(3, 4), [Turn(0, 9, 1)])) == 0
