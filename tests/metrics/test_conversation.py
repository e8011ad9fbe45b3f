"""ORC-WER and cpWER against brute force and meeteval, turn counts, and what silence gives."""

import importlib.util
import itertools
import math
import sys
from dataclasses import dataclass
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.metrics.bootstrap import speaker_bootstrap
from parley.metrics.conversation import (
    TurnCounts,
    count_turns,
    orc_errors,
    speaker_errors,
    strip_markers,
)
from parley.metrics.wer import WordErrors, total_errors, word_errors

needs_meeteval = pytest.mark.skipif(
    importlib.util.find_spec("meeteval") is None,
    reason="meeteval is not here: no C++ compiler could build it",
)


@dataclass(frozen=True)
class Turn:
    start: float
    end: float
    text: str = ""
    speaker: str = ""


texts = st.lists(st.sampled_from("abc"), max_size=4).map(" ".join)
times = st.integers(0, 6).map(float)
turns = st.builds(Turn, times, times, texts, st.sampled_from("ABC"))


def in_order(reference: list[Turn]) -> list[Turn]:
    return sorted(reference, key=lambda turn: (turn.start, turn.end))


def fewest_by_trying_all(reference: list[Turn], channels: list[str]) -> int:
    spoken = [turn.text for turn in in_order(reference)]
    return min(
        sum(
            word_errors(" ".join(t for t, a in zip(spoken, own, strict=True) if a == c), text).total
            for c, text in enumerate(channels)
        )
        for own in itertools.product(range(len(channels)), repeat=len(spoken))
    )


@needs_meeteval
@settings(deadline=None)
@given(st.lists(turns, max_size=5), st.lists(texts, min_size=1, max_size=3))
def test_orc_is_the_best_of_all_assignments(reference: list[Turn], channels: list[str]):
    found = orc_errors(reference, channels)
    assert found.errors.total == fewest_by_trying_all(reference, channels)
    assert found.errors.words == sum(len(turn.text.split()) for turn in reference)
    # The assignment told is one that makes these errors.
    assert len(found.assignment) == len(reference)
    pairs = list(zip(reference, found.assignment, strict=True))
    expected = [in_order([t for t, own in pairs if own == c]) for c in range(len(channels))]
    assert found.errors == total_errors(
        word_errors(" ".join(t.text for t in own), text)
        for own, text in zip(expected, channels, strict=True)
    )


@needs_meeteval
def test_orc_by_hand():
    reference = [Turn(2, 4, "c d"), Turn(0, 3, "a b"), Turn(5, 6, "e")]
    found = orc_errors(reference, ["a x e", "<sot> c d <eot> <sot> d <eot>"])
    assert found.errors == WordErrors(substitutions=1, insertions=1, words=5)
    assert found.assignment == (1, 0, 0)


@needs_meeteval
@pytest.mark.parametrize("channels", [[""], ["", ""], ["<sot> <eot>", ""]])
def test_orc_of_silent_channels(channels: list[str]):
    assert orc_errors([], channels).errors == WordErrors()
    assert orc_errors([Turn(0, 1)], channels).assignment == (0,)
    lost = orc_errors([Turn(0, 1, "a b"), Turn(1, 2, "c")], channels)
    assert lost.errors == WordErrors(deletions=3, words=3)
    assert orc_errors([], ["a b", *channels]).errors == WordErrors(insertions=2)


def test_orc_needs_a_channel():
    with pytest.raises(ValueError, match="no channel"):
        orc_errors([Turn(0, 1, "a")], [])


def test_without_meeteval_one_sentence_tells_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    for name in ("meeteval", "meeteval.wer.wer.orc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*meeteval") as caught:
        orc_errors([Turn(0, 1, "a")], ["a"])
    assert str(caught.value).count("\n") == 0


@settings(deadline=None)
@given(st.lists(turns, max_size=5), st.lists(turns, max_size=5))
def test_speaker_errors_are_the_best_of_all_mappings(reference: list[Turn], recognized: list[Turn]):
    def words(turns: list[Turn]) -> list[str]:
        return [
            " ".join(t.text for t in in_order([t for t in turns if t.speaker == name]))
            for name in dict.fromkeys(t.speaker for t in in_order(turns))
        ]

    expected, heard = words(reference), words(recognized)
    side = max(len(expected), len(heard))
    expected += [""] * (side - len(expected))
    heard += [""] * (side - len(heard))
    found = speaker_errors(reference, recognized).errors
    assert found.total == min(
        sum(word_errors(a, b).total for a, b in zip(expected, other, strict=True))
        for other in itertools.permutations(heard)
    )
    assert found.words == sum(len(text.split()) for text in expected)


@needs_meeteval
@settings(deadline=None)
@given(st.lists(turns, max_size=6), st.lists(turns, max_size=6))
def test_speaker_errors_are_those_of_meeteval(reference: list[Turn], recognized: list[Turn]):
    def words(turns: list[Turn]) -> dict[str, str]:
        names = sorted({t.speaker for t in turns})
        return {n: " ".join(t.text for t in in_order(turns) if t.speaker == n) for n in names}

    theirs = import_module("meeteval.wer.wer.cp").cp_word_error_rate(
        words(reference), words(recognized), reference_sort=False, hypothesis_sort=False
    )
    assert speaker_errors(reference, recognized).errors.total == theirs.errors


def test_speaker_errors_by_hand():
    reference = [Turn(0, 1, "a b", "ann"), Turn(2, 3, "c", "ann"), Turn(1, 2, "d", "bob")]
    recognized = [Turn(2, 3, "c", "speaker 1"), Turn(0, 1, "a b", "speaker 1")]
    found = speaker_errors(reference, recognized)
    assert found.errors == WordErrors(deletions=1, words=4)
    assert found.mapping == {"ann": "speaker 1"}
    # Both turns by one speaker are told as by two: the shorter is lost, and found too often.
    split = [Turn(0, 1, "a b", "1"), Turn(2, 3, "c", "2"), Turn(1, 2, "d", "3")]
    assert speaker_errors(reference, split).errors == WordErrors(deletions=1, insertions=1, words=4)
    assert speaker_errors([], []).errors == WordErrors()
    assert speaker_errors([], split).errors == WordErrors(insertions=4)
    assert speaker_errors(reference, []).errors == WordErrors(deletions=4, words=4)


def test_more_speakers_than_anyone_would_map_by_hand():
    crowd = [Turn(i, i + 1, f"w{i}", f"s{i}") for i in range(40)]
    strangers = [Turn(t.start, t.end, t.text, f"speaker {t.speaker}") for t in reversed(crowd)]
    found = speaker_errors(crowd, strangers)
    assert found.errors == WordErrors(words=40)
    assert found.mapping == {f"s{i}": f"speaker s{i}" for i in range(40)}


def test_markers_are_stripped_wherever_they_stand():
    assert strip_markers("<sot>a  b<eot><sot> c <st> d") == "a b c d"
    assert strip_markers(" <sot> <eot> ") == ""
    assert strip_markers("<unk> a") == "<unk> a"


def test_turns_are_counted():
    counts = count_turns([(3, 3), (4, 2), (1, 2), (0, 0)])
    assert counts == TurnCounts(4, exact=2, reference=8, difference=-1, distance=3)
    assert counts.exact_share == 0.5
    assert counts.soft_accuracy == pytest.approx(5 / 8)
    assert counts.bias == pytest.approx(-1 / 8)
    assert counts == count_turns([(3, 3), (4, 2)]) + count_turns([(1, 2), (0, 0)])


def test_turns_of_silence():
    quiet, noisy = count_turns([(0, 0)]), count_turns([(0, 2)])
    assert (quiet.exact_share, quiet.soft_accuracy, quiet.bias) == (1.0, 1.0, 0.0)
    assert (noisy.exact_share, noisy.soft_accuracy, noisy.bias) == (0.0, -math.inf, math.inf)
    nothing = count_turns([])
    assert (nothing.exact_share, nothing.soft_accuracy, nothing.bias) == (1.0, 1.0, 0.0)


@needs_meeteval
def test_recordings_add_up_and_have_an_interval():
    spoken = [Turn(0, 1, "a b c"), Turn(1, 2, "d")]
    heard = [["a b c d", ""], ["a b", "d"], ["a", "x"], ["", ""]]
    scores = [orc_errors(spoken, channels).errors for channels in heard]
    total = total_errors(scores)
    assert (total.total, total.words) == (0 + 1 + 3 + 4, 16)
    names = [f"recording {i}" for i in range(len(heard))]
    low, high = speaker_bootstrap([s.total for s in scores], [s.words for s in scores], names)
    assert 0 <= low < total.wer < high
