"""Scorers against plain recursion and against counting by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.data.arpa import estimate
from parley.models.scoring import Chain, NGram, Phrases

PIECES = ["<blank>", "▁", "▁a", "a", "b", "▁b", "ab", "c", "▁c", "▁ca", "bc"]
V = len(PIECES)


def walk(scorer, tokens: list[int]) -> tuple[list[float], float]:
    """What each token gets, and what the end adds."""
    state, gains = scorer.init(1), []
    for token in tokens:
        row = scorer.score(state, jnp.zeros((1, V)))
        assert float(row[0, 0]) == 0.0
        gains.append(float(row[0, token]))
        state = scorer.advance(state, jnp.array([token], jnp.int32))
    return gains, float(scorer.final(state)[0])


@pytest.fixture(scope="module")
def grams():
    rng = np.random.default_rng(0)
    text = [rng.integers(1, V, size=rng.integers(1, 7)).tolist() for _ in range(60)]
    return estimate(text, V, order=4)


def table(model) -> dict[tuple[int, ...], tuple[float, float]]:
    found: dict[tuple[int, ...], tuple[float, float]] = {}
    rows: list[tuple[int, ...]] = [()]
    for parent, token, logp, backoff in model.orders:
        rows = [(*rows[p], int(t)) for p, t in zip(parent, token, strict=True)]
        found |= {g: (p, b) for g, p, b in zip(rows, logp, backoff, strict=True)}
    return found


def log_p(known: dict, context: tuple[int, ...], token: int) -> float:
    if (*context, token) in known:
        return known[(*context, token)][0]
    return known.get(context, (0.0, 0.0))[1] + log_p(known, context[1:], token)


def test_every_token_gets_what_backing_off_gives(grams):
    known = table(grams)
    model = NGram.build(grams.orders, weight=1.0)
    advance, score = jax.jit(model.advance), jax.jit(model.score)
    rng = np.random.default_rng(1)
    for _ in range(25):
        context: tuple[int, ...] = (V + 1,)
        state = model.init(1)
        for token in rng.integers(1, V, size=6).tolist():
            row = np.asarray(score(state, jnp.zeros((1, V))))[0]
            expected = [log_p(known, context, t) for t in range(1, V)]
            np.testing.assert_allclose(row[1:], expected, atol=2e-4)
            context = (*context, token)[-3:]
            state = advance(state, jnp.array([token], jnp.int32))
        assert float(model.final(state)[0]) == pytest.approx(log_p(known, context, V), abs=2e-4)


def test_weight_and_reward(grams):
    plain = walk(NGram.build(grams.orders, weight=1.0), [3, 4])
    scaled = walk(NGram.build(grams.orders, weight=0.5, token_reward=0.25), [3, 4])
    np.testing.assert_allclose(scaled[0], 0.5 * np.array(plain[0]) + 0.25, atol=1e-5)
    assert scaled[1] == pytest.approx(0.5 * plain[1])


def test_sentences_add_up(grams):
    model = NGram.build(grams.orders, weight=1.0)
    tokens = [3, 7, 2]
    gains, end = walk(model, tokens)
    padded = jnp.array([[*tokens, 9, 9], [5, 0, 0, 0, 0]], jnp.int32)
    found = model.sentences(padded, jnp.array([3, 1]))
    assert float(found[0]) == pytest.approx(sum(gains) + end, abs=1e-4)


def total(scorer, text: str) -> set[float]:
    """What a text gets in all, whatever pieces it is cut into."""
    letters = "".join(f"▁{word}" for word in text.split())

    def cuts(rest: str):
        if not rest:
            yield []
        for token in range(1, V):
            if rest.startswith(PIECES[token]):
                yield from ([token, *more] for more in cuts(rest[len(PIECES[token]) :]))

    found = set()
    for tokens in itertools.islice(cuts(letters), 40):
        gains, end = walk(scorer, tokens)
        found.add(round(sum(gains) + end, 4))
    assert found, "cannot be spelt"
    return found


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("ab", 3),
        ("abc", 0),  # the word goes on
        ("cab", 0),  # and does not begin there
        ("ab ab", 6),
        ("a", 0),
        ("b a b", 0),
        ("c ca", 5),  # a phrase of two words
        ("c ca b", 5),
        ("c c ca", 5),
        ("c ca ab c", 8),
        ("c ab", 3),  # the first broke off, the second is whole
        ("ab bc", 6),  # a longer phrase that begins with a whole one
        ("ab b", 3),  # and breaks off: the whole one stays paid
    ],
)
def test_a_text_gets_the_letters_of_its_phrases(text: str, letters: int):
    phrases = Phrases.build(["ab", "c ca", "ab bc"], PIECES, weight=1.0)
    assert total(phrases, text) == {float(letters)}


def test_bonus_comes_at_once_and_goes_when_the_match_breaks():
    phrases = Phrases.build(["ca b"], PIECES, [2.0], weight=0.5)
    ca, b, c = PIECES.index("▁ca"), PIECES.index("▁b"), PIECES.index("c")
    assert walk(phrases, [ca, b]) == ([3.0, 2.0], 0.0)
    assert walk(phrases, [ca, c]) == ([3.0, -3.0], 0.0)
    assert walk(phrases, [ca]) == ([3.0], -3.0)


def test_no_phrases_change_nothing():
    assert walk(Phrases.build([], PIECES), [2, 4, 5]) == ([0.0, 0.0, 0.0], 0.0)


def test_a_chain_adds_up(grams):
    parts = (NGram.build(grams.orders, weight=0.7), Phrases.build(["ab"], PIECES))
    tokens = [PIECES.index("▁a"), PIECES.index("b"), PIECES.index("▁c")]
    gains, end = walk(Chain(parts), tokens)
    each = [walk(part, tokens) for part in parts]
    np.testing.assert_allclose(gains, np.sum([g for g, _ in each], axis=0), atol=1e-5)
    assert end == pytest.approx(sum(e for _, e in each))


def test_scorers_go_into_jit_as_arguments(grams):
    chain = Chain((NGram.build(grams.orders), Phrases.build(["ab"], PIECES)))
    run = jax.jit(lambda scorer, logp: scorer.score(scorer.init(2), logp))
    assert run(chain, jnp.zeros((2, V))).shape == (2, V)


@pytest.mark.parametrize(
    ("phrases", "weights", "message"),
    [([""], None, "empty"), (["ab"], [0.0], "positive"), (["ab"], [float("nan")], "positive")],
)
def test_phrases_that_make_no_sense(phrases: list[str], weights, message: str):
    with pytest.raises(ValueError, match=message):
        Phrases.build(phrases, PIECES, weights)
