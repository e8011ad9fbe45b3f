"""Labels of conversations: markers with their times, channels, and what cannot be spelled."""

import numpy as np
import pytest

from parley.data.corpus import Utterance
from parley.data.errors import InputError
from parley.data.targets import Speller, label_arrays
from parley.data.tokenizer import MARKERS, Tokenizer
from parley.data.turns import Rule, Turn

TURNS = (
    Turn(0.5, 2.0, "one two", "ann"),
    Turn(1.5, 3.0, "three", "bob"),
    Turn(3.5, 4.0, "four", "ann"),
)


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return Tokenizer.train(["one two three four"] * 3, kind="char")


def conversation(*turns: Turn) -> Utterance:
    return Utterance("c", " ".join(t.text for t in turns), 5.0, metadata={"turns": turns})


def spelled(tokenizer: Tokenizer, channels: int = 2, rule: Rule = "first_free"):
    target = Speller(tokenizer, channels, rule)(conversation(*TURNS))
    pieces = [[tokenizer.pieces[i] for i in labels] for labels in target.labels]
    return target, ["".join(row).replace("▁", " ").strip() for row in pieces]


def test_start_and_end_of_turns(plain):
    target, texts = spelled(plain.with_markers(MARKERS["turns"]))
    assert texts == ["<sot> one two<eot><sot> four<eot>", "<sot> three<eot>"]
    first, second = target.times
    np.testing.assert_allclose(first[~np.isnan(first)], [0.5, 2.0, 3.5, 4.0])
    np.testing.assert_allclose(second[[0, -1]], [1.5, 3.0])
    assert np.isnan(second[1:-1]).all()
    np.testing.assert_allclose(target.spans[0], [[0.5, 2.0], [3.5, 4.0]])
    assert target.count == len(target.labels[0])


def test_starts_without_times(plain):
    marked = plain.with_markers(MARKERS["turns"])
    first, second = Speller(marked, 2, timed_starts=False)(conversation(*TURNS)).times
    np.testing.assert_allclose(first[~np.isnan(first)], [2.0, 4.0])
    np.testing.assert_allclose(second[~np.isnan(second)], [3.0])


def test_the_rule_places_turns(plain):
    marked = plain.with_markers(MARKERS["turns"])
    _, texts = spelled(marked, rule="stay_unless_overlap")
    assert texts == ["<sot> one two<eot>", "<sot> three<eot><sot> four<eot>"]


def test_a_separator_parts_turns_and_none_joins_them(plain):
    assert spelled(plain.with_markers(MARKERS["separator"]))[1] == ["one two<st> four", "three"]
    assert spelled(plain)[1] == ["one two four", "three"]


def test_one_channel_takes_turns_as_they_begin(plain):
    assert spelled(plain, channels=1)[1] == ["one two three four"]
    marked = plain.with_markers(MARKERS["turns"])
    assert spelled(marked, channels=1)[1][0].startswith("<sot> one two<eot><sot> three<eot>")


def test_speed_moves_times(plain):
    target, _ = spelled(plain.with_markers(MARKERS["turns"]))
    fast = target.at_speed(2.0)
    np.testing.assert_allclose(fast.spans[1], [[0.75, 1.5]])
    np.testing.assert_array_equal(fast.times[0], target.times[0] / 2)
    assert fast.labels is target.labels


def test_what_cannot_be_spelled(plain):
    speller = Speller(plain, 2)
    with pytest.raises(InputError, match="has no turns"):
        speller(Utterance("u", "one", 1.0))
    three = (*TURNS[:2], Turn(1.6, 2.5, "four", "cid"))
    with pytest.raises(InputError, match="more than 2 talkers"):
        speller(conversation(*three))
    with pytest.raises(InputError, match="does not know"):
        speller(conversation(Turn(0.0, 1.0, "ß")))
    with pytest.raises(InputError, match="no text"):
        Speller(plain)(Utterance("u", "", 1.0))


def test_arrays_of_a_batch(plain):
    marked = plain.with_markers(MARKERS["turns"])
    alone = Speller(marked, 2)(conversation(TURNS[0]))
    batch = label_arrays([spelled(marked)[0], alone], 20, by_turns=True)
    shapes = {name: array.shape for name, array in batch.items()}
    assert shapes == {
        "labels": (2, 2, 20),
        "label_lengths": (2, 2),
        "label_times": (2, 2, 20),
        "turn_spans": (2, 2, 20, 2),
    }
    assert batch["label_lengths"][1].tolist() == [alone.count, 0]
    assert np.isnan(batch["turn_spans"][1, 1]).all()
    assert batch["labels"][1, 0, : alone.count].tolist() == alone.labels[0].tolist()
    single = label_arrays([Speller(plain)(Utterance("u", "one", 1.0))], 4, by_turns=False)
    assert {name: array.shape for name, array in single.items()} == {
        "labels": (1, 4),
        "label_lengths": (1,),
    }
