"""Pairing of events against brute force, latencies by hand, and the cost of early ends."""

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.metrics.turn_events import (
    ConversationScore,
    Emissions,
    emissions,
    endpointed_words,
    match_events,
    score_conversation,
    times_of,
    words_of,
)
from parley.metrics.wer import WordErrors

# Eighths are exact, so that equal totals are equal.
seconds = st.integers(0, 40).map(lambda x: x / 8)
events = st.lists(seconds, max_size=5)


@dataclass(frozen=True)
class Turn:
    start: float
    end: float
    text: str = ""
    speaker: str = ""


def best_by_trying_all(reference: list[float], emitted: list[float], within: float):
    """(-pairs, total) over every choice of as many of either, paired in order."""
    a, b = sorted(reference), sorted(emitted)
    return min(
        (-k, sum(abs(x - y) for x, y in zip(xs, ys, strict=True)))
        for k in range(min(len(a), len(b)) + 1)
        for xs in itertools.combinations(a, k)
        for ys in itertools.combinations(b, k)
        if all(abs(x - y) <= within for x, y in zip(xs, ys, strict=True))
    )


@settings(deadline=None)
@given(events, events, st.sampled_from([0.0, 0.5, 2.0, math.inf]))
def test_pairing_is_the_best_there_is(reference: list[float], emitted: list[float], within: float):
    pairs = match_events(reference, emitted, within=within)
    total = sum(abs(reference[i] - emitted[j]) for i, j in pairs)
    assert (-len(pairs), total) == best_by_trying_all(reference, emitted, within)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    for (i, j), (k, m) in itertools.pairwise(pairs):
        assert reference[i] <= reference[k]
        assert emitted[j] <= emitted[m]


def test_pairing_by_hand():
    # The nearest of 3.0 is 2.9, but then 2.0 would have no partner.
    assert match_events([2.0, 3.0], [2.9, 7.0]) == [(0, 0), (1, 1)]
    # One has to go, and without 9.0 the rest is near.
    assert match_events([1.0, 2.0], [1.1, 2.2, 9.0]) == [(0, 0), (1, 1)]
    assert match_events([1.0, 2.0], [1.5], within=0.1) == []
    assert match_events([], [1.0]) == match_events([1.0], []) == []


def test_latencies_are_signed_and_rates_have_their_denominators():
    found = emissions([1.0, 2.0, 3.0], [0.75, 2.5])
    assert found == Emissions((-0.25, 0.5), missed=1)
    assert found.miss_rate == pytest.approx(1 / 3)
    assert found.early_rate == 0.5
    assert found.false_alarm_rate == 0.0
    assert found.percentile(50) == pytest.approx(0.125)
    extra = emissions([1.0], [1.0, 5.0, 6.0])
    assert extra == Emissions((0.0,), false_alarms=2)
    assert extra.early_rate == 0.0
    assert extra.false_alarm_rate == pytest.approx(2 / 3)
    assert found + extra == Emissions((-0.25, 0.5, 0.0), missed=1, false_alarms=2)


def test_events_of_silence():
    nothing = emissions([], [])
    assert (nothing.miss_rate, nothing.early_rate, nothing.false_alarm_rate) == (0, 0, 0)
    assert math.isnan(nothing.percentile(50))
    assert emissions([], [1.0]).false_alarm_rate == 1.0
    assert emissions([1.0], []).miss_rate == 1.0


STREAM = [
    ("<sot>", 0.5),
    ("a", 0.8),
    ("<eot>", 1.0),
    ("b", 1.2),
    ("<sot>", 2.0),
    ("c", 2.5),
    ("<eot>", 3.0),
    ("d", 3.5),
]


def test_words_after_a_found_end_are_dropped_until_the_next_start():
    assert words_of(STREAM) == "a b c d"
    assert times_of(STREAM, "<sot>") == [0.5, 2.0]
    assert endpointed_words(STREAM, {0, 1}) == "a c"
    assert endpointed_words(STREAM, {0}) == "a c d"
    assert endpointed_words(STREAM, {1}) == "a b c"
    assert endpointed_words(STREAM, set()) == "a b c d"
    # Words that no start announced are words all the same, and a separator is none.
    assert endpointed_words([("a", 0.0), ("<st>", 0.1), ("b", 0.2)], set()) == "a b"


def test_a_conversation_by_hand():
    pytest.importorskip("meeteval", reason="meeteval is not here: no C++ compiler could build it")
    reference = [Turn(0.0, 1.5, "a b"), Turn(1.0, 2.0, "x y"), Turn(1.75, 3.0, "c d")]
    other = [("<sot>", 1.25), ("x", 1.5), ("y", 1.75), ("<eot>", 2.5), ("<sot>", 4.0)]
    score = score_conversation(reference, [STREAM, other], turns_found=4)
    assert score.words == WordErrors(words=6)
    assert score.endpointed == WordErrors(deletions=2, words=6)
    assert score.starts == Emissions((0.5, 0.25, 0.25), false_alarms=1)
    # `a b` ends at 1.5 and was ended at 1.0, half a second early.
    assert score.ends == Emissions((-0.5, 0.0, 0.5))
    assert score.ends.early_rate == pytest.approx(1 / 3)
    assert score.turns.bias == pytest.approx(1 / 3)
    twice = score + score
    assert twice.words.words == 12
    assert twice.turns.recordings == 2
    assert score + ConversationScore() == score


def test_a_silent_conversation():
    pytest.importorskip("meeteval", reason="meeteval is not here: no C++ compiler could build it")
    score = score_conversation([], [[], []], turns_found=0)
    assert (score.words.wer, score.endpointed.wer, score.starts.miss_rate) == (0, 0, 0)
    assert score.turns.exact_share == 1.0
    babble = score_conversation([], [STREAM, []], turns_found=2)
    assert babble.words == WordErrors(insertions=4)
    assert babble.starts == Emissions(false_alarms=2)
