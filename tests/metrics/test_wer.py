"""Word errors against brute force, against jiwer, and their algebra."""

import functools
import math

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.metrics.wer import WordErrors, total_errors, word_errors

sentences = st.lists(st.sampled_from(["one", "two", "three", "it's"]), max_size=6).map(" ".join)


def distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Levenshtein's definition, with nothing clever about it."""

    @functools.cache
    def cost(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = a[i - 1] == b[j - 1]
        return min(cost(i - 1, j) + 1, cost(i, j - 1) + 1, cost(i - 1, j - 1) + (not same))

    return cost(len(a), len(b))


@given(sentences, sentences)
def test_the_total_is_the_edit_distance(reference: str, hypothesis: str):
    errors = word_errors(reference, hypothesis)
    a, b = tuple(reference.split()), tuple(hypothesis.split())
    assert errors.total == distance(a, b)
    assert errors.words == len(a)
    assert errors.insertions - errors.deletions == len(b) - len(a)


@given(sentences.filter(bool), sentences)
def test_kinds_are_those_of_jiwer(reference: str, hypothesis: str):
    ours, theirs = word_errors(reference, hypothesis), jiwer.process_words(reference, hypothesis)
    assert ours.substitutions == theirs.substitutions
    assert ours.deletions == theirs.deletions
    assert ours.insertions == theirs.insertions
    assert ours.wer == pytest.approx(theirs.wer)


def test_kinds_are_told_apart():
    assert word_errors("a b c", "a x c") == WordErrors(substitutions=1, words=3)
    assert word_errors("a b c", "a c") == WordErrors(deletions=1, words=3)
    assert word_errors("a c", "a b c") == WordErrors(insertions=1, words=2)


def test_a_sum_weighs_utterances_by_their_words():
    total = total_errors([word_errors("a b c d", "a b c d"), word_errors("a", "b")])
    assert total.wer == pytest.approx(1 / 5)


def test_without_words():
    assert word_errors("", "").wer == 0.0
    assert word_errors("", "a").wer == math.inf
    assert total_errors([]) == WordErrors()
