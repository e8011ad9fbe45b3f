"""The attribution benchmark's own arithmetic, on voices that are angles."""

from dataclasses import dataclass

import numpy as np
import pytest

from parley.benchmarks.attribution import enrolments, pairs
from parley.data.audio import SAMPLE_RATE
from parley.data.corpus import Utterance
from parley.metrics.verification import equal_error, error_curve


@dataclass
class Speakers:
    """Three speakers of two recordings each, whose samples are their number."""

    name: str = "speakers"

    def __len__(self) -> int:
        return 6

    def utterance(self, i: int) -> Utterance:
        return Utterance(f"u{i}", "", 2.5, f"s{i % 3}")

    def samples(self, i: int) -> np.ndarray:
        return np.full(int(2.5 * SAMPLE_RATE), i % 3, np.int16)


def test_enrolments_are_of_one_speaker_and_of_two_by_turns():
    made = list(enrolments(Speakers(), 6.0))
    assert {len(x) for x in made} == {6 * SAMPLE_RATE}
    for single, double in zip(made[::2], made[1::2], strict=True):
        assert len(set(single.tolist())) == 1
        first, second = double[: 3 * SAMPLE_RATE], double[3 * SAMPLE_RATE :]
        assert len(set(first.tolist())) == len(set(second.tolist())) == 1
        assert first[0] != second[0]
    assert {int(x[0]) for x in made} == {0, 1, 2}


def test_every_pair_comes_once():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    scores, same = pairs(vectors, ["a", "b", "a"])
    assert scores == pytest.approx([0.0, 0.6, 0.8])
    assert same.tolist() == [False, True, False]


def test_equal_error():
    same = np.array([True, True, True, True, False, False, False, False])
    scores = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1, 0.0])
    # Between 0.6 and 0.7 one of four is missed, and none accepted; at 0.6 one of four each.
    assert equal_error(error_curve(scores, same)) == pytest.approx((0.25, 0.6))
    assert equal_error(error_curve(scores, scores > 0.5)).rate == 0.0
