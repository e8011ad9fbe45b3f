"""Turns: channels by rule, overlap, and what a manifest says of them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.data.corpus import Utterance
from parley.data.errors import InputError
from parley.data.turns import (
    Turn,
    assign_channels,
    in_order,
    most_at_once,
    overlap_share,
    to_json,
    turns_of,
)


def said(*times: tuple[float, float], speakers: str = "") -> list[Turn]:
    names = speakers or "abcdefgh"
    return [Turn(a, b, f"w{i}", names[i]) for i, (a, b) in enumerate(times)]


@pytest.mark.parametrize(
    ("times", "first_free", "stay"),
    [
        ([(0, 1), (2, 3), (4, 5)], [0, 0, 0], [0, 0, 0]),
        # A turn that overlaps goes to the other channel; only one rule comes back from there.
        ([(0, 2), (1, 4), (5, 6), (7, 8)], [0, 1, 0, 0], [0, 1, 1, 1]),
        ([(0, 3), (1, 2), (2.5, 5)], [0, 1, 1], [0, 1, 1]),
        # Ending as another starts is free.
        ([(0, 1), (1, 2), (1.5, 3)], [0, 0, 1], [0, 0, 1]),
        ([(0, 2), (1, 4), (3, 6)], [0, 1, 0], [0, 1, 0]),
    ],
)
def test_channels_by_hand(times, first_free, stay):
    assert assign_channels(said(*times), "first_free") == (first_free, False)
    assert assign_channels(said(*times), "stay_unless_overlap") == (stay, False)


@pytest.mark.parametrize("rule", ["first_free", "stay_unless_overlap"])
def test_a_third_talker_is_flagged_and_takes_the_channel_that_ends_first(rule):
    turns = said((0, 5), (1, 3), (2, 9), (4, 6))
    # The third takes channel 1 (ends at 3), the fourth channel 0 (ends at 5 before 9).
    assert assign_channels(turns, rule) == ([0, 1, 1, 0], True)
    assert assign_channels(turns, rule, channels=3)[1] is False
    # What was overwritten does not become free early.
    assert assign_channels(said((0, 9), (1, 8), (2, 3), (4, 5)), rule)[1] is True


def test_no_other_rule():
    with pytest.raises(ValueError, match="no rule 'random'"):
        assign_channels([], "random")  # pyright: ignore[reportArgumentType]


times = st.integers(0, 60).flatmap(
    lambda start: st.tuples(st.just(start / 10), st.integers(start + 1, start + 30))
)
turn_lists = st.lists(
    st.tuples(times, st.sampled_from("abc")).map(lambda x: Turn(x[0][0], x[0][1] / 10, "w", x[1])),
    max_size=7,
)


@given(turn_lists, st.sampled_from(["first_free", "stay_unless_overlap"]))
def test_flagged_means_that_a_channel_overlaps_itself(turns, rule):
    channels, flagged = assign_channels(turns, rule)
    ordered = in_order(turns)
    clash = any(
        a.end > b.start
        for i, a in enumerate(ordered)
        for j, b in enumerate(ordered[i + 1 :], i + 1)
        if channels[i] == channels[j]
    )
    assert flagged == clash


@given(turn_lists)
def test_overlap_against_a_grid(turns):
    grid = np.zeros((3, 1000), bool)
    for turn in turns:
        grid[ord(turn.speaker) - 97, round(turn.start * 10) : round(turn.end * 10)] = True
    talkers = grid.sum(axis=0)
    active = (talkers > 0).sum()
    expected = (talkers > 1).sum() / active if active else 0.0
    assert overlap_share(turns) == pytest.approx(expected, abs=1e-9)
    assert most_at_once(turns) == talkers.max()


def test_nameless_turns_are_different_talkers():
    assert most_at_once([Turn(0, 2, "x"), Turn(1, 3, "y")]) == 2
    assert overlap_share([Turn(0, 2, "x"), Turn(1, 3, "y")]) == pytest.approx(1 / 3)
    assert overlap_share([]) == 0.0
    assert most_at_once([]) == 0


def test_from_a_manifest_and_back():
    turns = (Turn(0.25, 1.5, "good morning", "ann"), Turn(1.0, 2.0, "hi", ""))
    rows = json.loads(json.dumps(to_json(reversed(turns))))
    assert turns_of(Utterance("x", "", 3.0, metadata={"turns": rows})) == turns
    assert turns_of(Utterance("x", "", 3.0, metadata={"turns": turns})) == turns
    assert turns_of(Utterance("x", "", 3.0)) == ()


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ("0-1", "rec: turns is not a list"),
        ([3], "rec: 3 is not a turn"),
        ([{"start": 0, "text": ""}], "rec: a turn has no end"),
        ([{"start": 0, "end": 1}], "rec: a turn has no text"),
        ([{"start": "0", "end": 1, "text": ""}], "rec: a turn's start or end is not a number"),
        ([{"start": None, "end": 1, "text": ""}], "rec: a turn's start or end is not a number"),
        ([{"start": 2, "end": 1, "text": ""}], "from 2 to 1 s; it must start"),
        ([{"start": -1, "end": 1, "text": ""}], "from -1 to 1 s"),
        ([{"start": 0, "end": float("nan"), "text": ""}], "it must start at 0 or later"),
        ([{"start": 0, "end": 1, "text": 5}], "text or speaker is not a string"),
        ([{"start": 0, "end": 1, "text": "", "speaker": 5}], "text or speaker is not a string"),
    ],
)
def test_a_turn_that_is_none_is_explained(turns, message):
    with pytest.raises(InputError, match=message) as caught:
        turns_of(Utterance("rec", "", 3.0, metadata={"turns": turns}))
    assert "\n" not in str(caught.value)
