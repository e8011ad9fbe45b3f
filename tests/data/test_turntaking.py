"""What holds of every placing of turns, whatever is drawn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.data.turns import Turn, assign_channels, most_at_once, overlap_share
from parley.data.turntaking import (
    START_DISTANCE,
    draw_gaps,
    draw_talkers,
    natural_overlap,
    place,
    place_with_share,
    share,
)

LIMIT, RESERVE = 1950, 400


def turns_from(starts: list[int], lengths: list[int], talkers: list[int]) -> list[Turn]:
    return [
        Turn(s / 100, (s + n) / 100, "w", f"t{t}")
        for s, n, t in zip(starts, lengths, talkers, strict=False)
    ]


@st.composite
def conversations(draw):
    count = draw(st.integers(1, 8))
    lengths = draw(st.lists(st.integers(1, RESERVE), min_size=count, max_size=count))
    talkers = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    gaps = draw(st.lists(st.integers(0, 400), min_size=count, max_size=count))
    wishes = draw(st.lists(st.integers(0, 500), min_size=count, max_size=count))
    return lengths, talkers, gaps, wishes


@settings(max_examples=300)
@given(conversations(), st.integers(1, 4), st.integers(20, 100))
def test_placing(drawn, needed, lead):
    lengths, talkers, gaps, wishes = drawn
    starts = place(
        lengths, talkers, lead, gaps, lambda turn, longest: min(wishes[turn], longest),
        limit=LIMIT, needed=needed, reserve=RESERVE,
    )  # fmt: skip
    assert len(starts) >= min(needed, len(lengths))
    assert all(b - a >= START_DISTANCE for a, b in itertools.pairwise(starts))
    ends = [start + length for start, length in zip(starts, lengths, strict=False)]
    assert max(ends) <= LIMIT
    turns = turns_from(starts, lengths, talkers)
    assert most_at_once([Turn(t.start, t.end, "") for t in turns]) <= 2
    for i, turn in enumerate(turns):  # nobody overlaps himself
        assert all(
            other.start >= turn.end for other in turns[i + 1 :] if other.speaker == turn.speaker
        )
    for rule in ("first_free", "stay_unless_overlap"):
        assert not assign_channels(turns, rule)[1]
    assert share(starts, lengths) == pytest.approx(overlap_share(turns), abs=1e-9)


def test_natural_overlaps_are_truncated_exponentials():
    rng = np.random.default_rng(0)
    overlap = natural_overlap(rng, 20_000)
    drawn = np.array([overlap(i, 200) for i in range(20_000)])
    chosen = drawn[drawn > 0]
    assert len(chosen) / 20_000 == pytest.approx(0.6, abs=0.02)
    assert chosen.max() <= 200
    # Of an exponential of mean m, cut off at b: m - b / (exp(b / m) - 1); half a grain by rounding.
    expected = 150 - 200 / (np.exp(200 / 150) - 1)
    assert chosen.mean() == pytest.approx(expected + 0.5, rel=0.03)
    assert all(overlap(i, 0) == 0 for i in range(50))


def test_talkers_and_gaps():
    rng = np.random.default_rng(0)
    drawn = [draw_talkers(rng, 6, 4) for _ in range(2000)]
    counts = np.bincount([len(set(t)) for t in drawn], minlength=5)[1:]
    assert counts[0] == pytest.approx(500, abs=80)  # U{1..4} of whom some may not get a word in
    assert (counts > 100).all()
    for talkers in drawn:
        firsts = list(dict.fromkeys(talkers))
        assert firsts == list(range(len(firsts)))
    assert all(len(set(draw_talkers(rng, 2, 4, least=2))) == 2 for _ in range(200))
    assert draw_talkers(rng, 1, 4) == [0]
    gaps = np.array(draw_gaps(rng, 20_000))
    assert ((gaps >= 0) & (gaps < 400)).all()
    assert (gaps < 100).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("target", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_a_share_of_overlap_is_met(target):
    rng = np.random.default_rng(1)
    failed = 0
    for _ in range(150):
        count = int(rng.integers(2, 7))
        lengths = rng.integers(100, RESERVE, count).tolist()
        talkers = draw_talkers(rng, count, 4, least=2)
        starts = place_with_share(
            target, 0.015, rng, lengths, talkers, 50, draw_gaps(rng, count),
            limit=LIMIT, needed=2, reserve=RESERVE,
        )  # fmt: skip
        if starts is None:
            failed += 1
            continue
        assert len(starts) >= 2
        turns = turns_from(starts, lengths, talkers)
        assert overlap_share(turns) == pytest.approx(target, abs=0.015)
        assert most_at_once(turns) <= 2
    assert failed <= 150 * 0.4  # the corpus then draws other turns
