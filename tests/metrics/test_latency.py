"""Latencies of words against cases by hand."""

import math

import numpy as np
import pytest

from parley.metrics.latency import end_of_speech, summarize, word_latencies


def test_words_are_paired_in_their_places():
    reference = [("a", 1.0), ("b", 2.0), ("a", 3.0)]
    assert word_latencies(reference, [("a", 1.2), ("b", 2.5), ("a", 3.1)]) == pytest.approx(
        [0.2, 0.5, 0.1]
    )
    assert word_latencies(reference, [("a", 1.2), ("x", 1.9), ("a", 3.3)]) == [
        pytest.approx(0.2),
        None,
        pytest.approx(0.3),
    ]
    assert word_latencies(reference, []) == [None] * 3
    assert word_latencies([], [("a", 1.0)]) == []


def test_percentiles_leave_missing_words_out():
    found = summarize([0.1 * i for i in range(101)] + [None] * 7)
    assert (found.p50, found.p90, found.p99) == pytest.approx((5.0, 9.0, 9.9))
    assert (found.words, found.missing) == (108, 7)
    assert math.isnan(summarize([None]).p50)


def test_speech_ends_where_its_energy_does():
    t = np.arange(16_000) / 16_000
    speech = 5000 * np.sin(2 * np.pi * 200 * t) + 300
    tail = np.random.default_rng(0).normal(300, 5, 8_000)  # noise and an offset
    samples = np.concatenate([speech, tail]).astype(np.int16)
    assert end_of_speech(samples, 16_000) == pytest.approx(1.0, abs=0.011)
    assert end_of_speech(np.zeros(10, np.int16), 16_000) == pytest.approx(10 / 16_000)
    assert end_of_speech(np.zeros(16_000, np.int16), 16_000) == 0.0
