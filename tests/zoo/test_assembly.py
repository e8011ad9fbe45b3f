"""Tokens of channels put together to turns: times, order, and any sequence at all."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.data.tokenizer import MARKERS, Tokenizer
from parley.zoo.assembly import Assembly
from parley.zoo.conversations import stream_of
from parley.zoo.transcript import Token

FRAME = 0.1
PLAIN = Tokenizer.train(["one two three four"] * 3, kind="char")
TURNS = PLAIN.with_markers(MARKERS["turns"])
SOT, EOT = TURNS.markers["<sot>"], TURNS.markers["<eot>"]


def recognizer(tokenizer: Tokenizer = TURNS, channels: int = 2) -> Any:
    return SimpleNamespace(tokenizer=tokenizer, frame_s=FRAME, calibrator=None, channels=channels)


def tokens(*parts: tuple[int | str, int]) -> list[Token]:
    """(marker or word, frame of its first token), a frame for each character."""
    found = []
    for part, frame in parts:
        ids = TURNS.encode(part) if isinstance(part, str) else [part]
        found += [Token(i, frame + n, 0.5) for n, i in enumerate(ids)]
    return found


def test_turns_with_their_times():
    assembly = Assembly(recognizer())
    first = tokens((SOT, 2), ("one", 3), (EOT, 9), (SOT, 20), ("four", 21))
    second = tokens((SOT, 5), ("two", 6), (EOT, 12))
    assembly.push([first, second])
    assert [turn.text for turn in assembly.turns] == ["one", "two"]
    assert assembly.preview([]) == "one two four"
    assert assembly.spoke_at() == pytest.approx(2.6)
    transcript = assembly.finish(2.4)
    assert transcript.text == "one two four"
    assert [(t.channel, t.marked) for t in transcript.turns] == [
        (0, (True, True)),
        (1, (True, True)),
        (0, (True, False)),
    ]
    times = [(t.start, t.end) for t in transcript.turns]
    assert times == [pytest.approx(p) for p in [(0.2, 1.0), (0.5, 1.3), (2.0, 2.4)]]
    assert [w.text for w in transcript.words] == ["one", "two", "four"]
    assert transcript.as_dict(words=False)["turns"][1] == {
        "start": 0.5,
        "end": 1.3,
        "channel": 1,
        "text": "two",
    }


def test_pieces_give_what_the_whole_gives():
    rows = [
        tokens((SOT, 2), ("one", 3), (EOT, 9), (SOT, 20), ("two", 21), (EOT, 30)),
        tokens(("three", 4), (EOT, 15), (EOT, 16)),
    ]
    whole = Assembly(recognizer())
    whole.push(rows)
    pieces = Assembly(recognizer())
    for frame in range(40):
        pieces.push([[t for t in row if t.frame == frame] for row in rows])
    assert pieces.finish(4.0) == whole.finish(4.0)


def test_a_separator_parts_turns():
    tokenizer = PLAIN.with_markers(MARKERS["separator"])
    part = tokenizer.markers["<st>"]
    assembly = Assembly(recognizer(tokenizer, channels=1))
    assembly.push([tokens(("one", 1), ("two", 6), (part, 11), ("three", 12))])
    turns = assembly.finish(5.0).turns
    assert [turn.text for turn in turns] == ["one two", "three"]
    assert all(turn.marked == (False, False) for turn in turns)
    assert stream_of(turns, 0, FRAME)[0] == ("one", pytest.approx(0.5))


def test_channels_without_markers_are_a_turn_each():
    assembly = Assembly(recognizer(PLAIN))
    assembly.push([tokens(("one", 1)), []])
    assert [t.text for t in assembly.finish(5.0).turns] == ["one"]


def test_markers_are_known_when_their_frame_has_been_heard():
    assembly = Assembly(recognizer(channels=1))
    assembly.push([tokens((SOT, 2), ("one", 3), (EOT, 9))])
    stream = stream_of(assembly.finish(3.0).turns, 0, FRAME)
    assert [text for text, _ in stream] == ["<sot>", "one", "<eot>"]
    assert [time for _, time in stream] == [pytest.approx(x) for x in (0.3, 0.7, 1.0)]


@given(
    st.lists(st.lists(st.integers(1, TURNS.vocab_size - 1), max_size=30), min_size=2, max_size=2)
)
def test_any_tokens_can_be_read(rows: list[list[int]]):
    assembly = Assembly(recognizer())
    assembly.push([[Token(i, n, 0.5) for n, i in enumerate(row)] for row in rows])
    transcript = assembly.finish(2.0)
    assert transcript.text.split() == [w for t in transcript.turns for w in t.text.split()]
    for turn in transcript.turns:
        assert 0.0 <= turn.start <= turn.end <= 2.0
        assert turn.text or all(turn.marked)
    for channel, row in enumerate(rows):
        spoken = " ".join(t.text for t in transcript.turns if t.channel == channel)
        assert spoken.split() == TURNS.decode(row).split()
