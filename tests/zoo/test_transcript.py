"""Tokens into words: text, times, confidence, whole or piece by piece."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.zoo.transcript import Assembler, Token

PIECES = ["", "▁he", "llo", "▁", "▁wor", "ld", "'s"]


class Toy:
    def decode(self, ids) -> str:
        return "".join(PIECES[i] for i in ids).replace("▁", " ").strip()

    def starts_word(self, id: int) -> bool:
        return PIECES[id].startswith("▁")


def assemble(tokens: list[Token], cuts: list[int], calibrator=None) -> Assembler:
    assembler = Assembler(Toy(), 0.1, calibrator)
    edges = [0, *sorted(cuts), len(tokens)]
    for a, b in itertools.pairwise(edges):
        assembler.push(tokens[a:b])
    return assembler


def test_words_have_times_and_confidence():
    tokens = [Token(1, 2, 0.5), Token(2, 4, 1.0), Token(4, 7, 0.25), Token(5, 9, 0.75)]
    result = assemble(tokens, []).finish(duration=0.95)
    assert str(result) == result.text == "hello world"
    first, second = result.words
    assert (first.start, first.end, first.confidence) == pytest.approx((0.2, 0.5, 0.5))
    # The last token came in the silence after the recording: the word ends with the recording.
    assert (second.start, second.end, second.confidence) == pytest.approx((0.7, 0.95, 0.1875))


def test_a_calibrator_moves_confidence_and_nothing_else():
    tokens = [Token(1, 2, 0.5), Token(2, 4, 0.5), Token(4, 7, 0.75)]
    raw = assemble(tokens, []).finish(2.0)
    moved = assemble(tokens, [], calibrator=lambda p: 1 - p).finish(2.0)
    assert [w.confidence for w in raw.words] == [0.25, 0.75]
    assert [w.confidence for w in moved.words] == [0.75, 0.25]
    assert [(w.text, w.start, w.end) for w in moved.words] == [
        (w.text, w.start, w.end) for w in raw.words
    ]


def test_a_bare_word_mark_spells_no_word():
    tokens = [Token(3, 0, 0.9), Token(1, 1, 0.9), Token(2, 1, 0.9), Token(3, 5, 0.9)]
    result = assemble(tokens, []).finish(1.0)
    assert [w.text for w in result.words] == ["hello"]


tokens_of = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3)), max_size=12).map(
    lambda pairs: [
        Token(id, sum(step for _, step in pairs[: i + 1]), 0.5) for i, (id, _) in enumerate(pairs)
    ]
)


@given(tokens_of, st.lists(st.integers(0, 12), max_size=3))
def test_pieces_give_what_the_whole_gives(tokens: list[Token], cuts: list[int]):
    whole = assemble(tokens, []).finish(10.0)
    assert assemble(tokens, [min(c, len(tokens)) for c in cuts]).finish(10.0) == whole
    assert whole.text == " ".join(Toy().decode([t.id for t in tokens]).split())
    assert assemble(tokens, []).preview() == whole.text
    assert whole.text == " ".join(w.text for w in whole.words)
    times = [t for w in whole.words for t in (w.start, w.end)]
    assert times == sorted(times)


def test_json_rounds_to_the_millisecond():
    record = assemble([Token(1, 1, 1 / 3)], []).finish(2.0, "a.wav").as_dict()
    assert record["audio_filepath"] == "a.wav"
    assert record["words"] == [{"text": "he", "start": 0.1, "end": 0.2, "confidence": 0.333}]
    assert "words" not in assemble([], []).finish(2.0).as_dict(words=False)
