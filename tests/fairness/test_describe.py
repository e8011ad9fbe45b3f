"""What speakers of a cohort have in common."""

import json

import numpy as np
import pytest

from parley.fairness.describe import describe
from parley.fairness.population import population_of
from parley.fairness.scores import Scores


def test_descriptions():
    rows = [
        ("ann", {"accent": "rp", "snr": 10.0, "text": "one"}),
        ("ann", {"accent": "rp", "snr": 20.0, "text": "two"}),
        ("bob", {"accent": "us", "snr": None, "text": "three"}),
        ("bob", {"accent": "us", "text": "four"}),
        ("cy", {"accent": "us", "snr": 30, "text": "five"}),
        ("di", {"accent": "", "snr": 2.0, "text": "six"}),
    ]
    counts = np.zeros((6, 4), np.int64)
    counts[:, 3] = [4, 6, 3, 3, 8, 5]
    seconds = np.array([2.0, 3.0, 1.0, 2.0, 4.0, 1.0])
    scores = Scores("test", population_of(rows), tuple("abcdef"), counts, seconds)
    index = np.array([0, 0, 1, -1])
    first, second, third = describe(
        scores, index, 3, measured={"pitch": np.array([100, 200, 0, 0])}
    )
    assert (first.speakers, first.utterances) == (2, 4)
    assert first.seconds == 2.0
    assert first.words_per_second == 2.0
    assert first.means["snr"] == 15.0  # bob has none
    assert first.means["pitch"] == 150.0
    assert first.profile["accent"] == ("rp", 0.5, pytest.approx(1 / 3))
    assert second.profile["accent"] == ("us", 1.0, pytest.approx(2 / 3))
    assert "text" not in first.profile  # of recordings
    assert third.speakers == 0
    assert np.isnan(third.means["snr"])
    json.dumps([d.as_dict() for d in (first, second, third)], allow_nan=False)
