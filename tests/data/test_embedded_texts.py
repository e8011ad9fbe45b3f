"""The texts of the embedded corpus: words, grammar, splits."""

import hashlib

import numpy as np
import pytest

from parley.data.embedded.assistant import assistant
from parley.data.embedded.draw import Draw, split_of
from parley.data.embedded.grammar import Grammar, spell
from parley.data.embedded.words import DIGITS, MINIMAL_PAIRS, WORDS, count_strings, draw_words
from parley.data.errors import InputError
from parley.data.text import normalize


def draws(config: str, split: str, count: int) -> list[str]:
    draw = Draw(config, split, 1, count)
    return [draw.spoken(draw.rng(0, number)) for number in range(count)]


def test_there_are_sixty_words_with_digits_and_minimal_pairs():
    assert len(WORDS) == len(set(WORDS)) == 60
    assert list(DIGITS) == [spell(n) for n in range(10)]
    assert set(DIGITS) < set(WORDS)
    assert len(MINIMAL_PAIRS) >= 15
    assert all(a != b and {a, b} < set(WORDS) for a, b in MINIMAL_PAIRS)


def test_word_strings_are_uniform_and_one_to_four_long():
    rng = np.random.default_rng(0)
    strings = [normalize(draw_words(rng)).split() for _ in range(6000)]
    lengths = np.bincount([len(string) for string in strings], minlength=5)
    assert lengths[0] == 0
    np.testing.assert_allclose(lengths[1:5] / 6000, 0.25, atol=0.03)
    counts = np.unique([word for string in strings for word in string], return_counts=True)[1]
    assert len(counts) == 60
    # 15,000 words: 250 of each, give or take 16.
    assert abs(counts - 250).max() < 6 * 16
    assert count_strings() == 60 + 60**2 + 60**3 + 60**4


def test_a_grammar_counts_what_it_draws():
    grammar = Grammar({"sentence": ["a[ {x}]", "b {x} {x} @3"], "x": ["one", "two", "three"]})
    rng = np.random.default_rng(0)
    sentences = [grammar.draw(rng) for _ in range(2000)]
    assert len(set(sentences)) == grammar.count() == 1 + 3 + 9
    assert np.mean([s.startswith("b") for s in sentences]) == pytest.approx(0.75, abs=0.04)
    assert grammar.words() == {"a", "b", "one", "two", "three"}


def test_a_grammar_names_a_rule_that_is_not_there():
    with pytest.raises(ValueError, match=r"'sentence' uses 'nobody'"):
        Grammar({"sentence": ["call {nobody}"]})


def test_numbers_are_spelled():
    assert [spell(n) for n in (0, 7, 13, 20, 42, 100, 110, 342)] == [
        "zero",
        "seven",
        "thirteen",
        "twenty",
        "forty two",
        "one hundred",
        "one hundred and ten",
        "three hundred and forty two",
    ]
    assert len({spell(n) for n in range(1000)}) == 1000
    with pytest.raises(ValueError, match="1000"):
        spell(1000)


def test_the_assistant_knows_hundreds_of_words_and_millions_of_sentences():
    grammar = assistant()
    assert len(grammar.words()) >= 300
    assert grammar.count() >= 10**9
    sentences = [normalize(text) for text in draws("assistant", "train", 4000)]
    assert {word for s in sentences for word in s.split()} <= grammar.words()
    # Were there only a few hundred thousand alike, this many would repeat far more often.
    assert len(set(sentences)) > 0.93 * len(sentences)
    assert 6 < np.mean([len(s.split()) for s in sentences]) < 9


def test_hard_to_guess_slots_take_most_words():
    """Entropy of the single words, in bits: uniform over 240 words would be 7.9."""
    text = " ".join(normalize(text) for text in draws("assistant", "train", 3000))
    counts = np.unique(text.split(), return_counts=True)[1]
    share = counts / counts.sum()
    assert -(share * np.log2(share)).sum() > 7.5


@pytest.mark.parametrize("config", ["words", "assistant"])
def test_splits_share_no_text(config: str):
    said = {split: set(map(normalize, draws(config, split, 500))) for split in ("train", "dev")}
    said["test"] = set(map(normalize, draws(config, "test", 500)))
    assert not said["train"] & said["dev"]
    assert not said["train"] & said["test"]
    assert not said["dev"] & said["test"]
    # The split hangs on the words alone, not on how they are written.
    assert split_of("Call, Ada!") == split_of("call ada")


def test_a_larger_draw_begins_like_a_smaller_one():
    small, large = Draw("assistant", "train", 2, 3), Draw("assistant", "train", 20, 30)
    assert small.spoken(small.rng(1, 2)) == large.spoken(large.rng(1, 2))


def test_texts_are_those_of_version_1():
    """If this fails, what the corpus says has changed: raise `builder.VERSION`, then the digest."""
    texts = [t for c in ("words", "assistant") for s in ("train", "test") for t in draws(c, s, 50)]
    digest = hashlib.blake2b("\n".join(texts).encode(), digest_size=8).hexdigest()
    assert digest == "8e88379336127e76"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("digits", "train", 1, 1), "digits"),
        (("words", "valid", 1, 1), "valid"),
        (("words", "train", 0, 1), "speakers"),
        (("words", "train", 1, 0), "utterances"),
        (("words", "train", 1, 1, -1), "seed"),
    ],
)
def test_a_draw_that_makes_no_sense_is_refused(arguments: tuple, named: str):
    with pytest.raises(InputError, match=named):
        Draw(*arguments)
