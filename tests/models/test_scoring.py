"""Scorers against plain recursion and against counting by hand."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.data.arpa import estimate
from parley.models import scoring
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


def test_a_pruned_model_may_lack_suffixes(grams):
    """Half of the bigrams and trigrams that are no context are taken out; the 4-grams stay."""
    orders = list(grams.orders)
    for n in (1, 2):
        context = np.isin(np.arange(len(orders[n][0])), orders[n + 1][0])
        kept = context | (np.arange(len(context)) % 2 == 0)
        parent, token, logp, backoff = (x[kept] for x in orders[n])
        orders[n] = (parent, token, logp, backoff)
        longer, *rest = orders[n + 1]
        orders[n + 1] = ((np.cumsum(kept) - 1)[longer], rest[0], rest[1], rest[2])
    known = table(SimpleNamespace(orders=orders))
    lacking = [g for g in known if len(g) > 2 and g[1:] not in known]
    assert len(lacking) > 20
    model = NGram.build(orders, weight=1.0)
    follow, score = jax.jit(model.follow), jax.jit(model.score)
    for gram in lacking:
        state, context = model.init(1), (V + 1,)
        for token in (t for t in (*gram, 4, 2) if t <= V):
            row = np.asarray(score(state, jnp.zeros((1, V))))[0, 1:]
            np.testing.assert_allclose(
                row, [log_p(known, context, t) for t in range(1, V)], atol=2e-4
            )
            if token == V:
                break
            state = follow(state, jnp.array([token], jnp.int32))[1]
            context = (*context, token)[-3:]


def test_a_model_of_unigrams_alone():
    model = NGram.build(estimate([[1, 2], [2, 3, 2]], V, order=1).orders, weight=1.0)
    gains, end = walk(model, [2, 3, 2])
    assert gains[0] == gains[2] > gains[1]
    found = model.sentences(jnp.array([[2, 3, 2]]), jnp.array([3]))
    assert float(found[0]) == pytest.approx(sum(gains) + end, abs=1e-5)


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


def by_hand(text: str, phrases: dict[str, float], *, ended: bool) -> float:
    """Every occurrence of every phrase, and at the end of an unfinished text the longest match."""
    paid = [0.0] * len(text)
    for phrase, weight in phrases.items():
        for i in range(len(text) - len(phrase) + 1):
            end = i + len(phrase)
            over = text[end] == "▁" if end < len(text) else ended
            if text[i:end] == phrase and over:
                paid[i:end] = [max(x, weight) for x in paid[i:end]]
    if ended:
        return sum(paid)
    for i in range(len(text)):
        if weights := [w for p, w in phrases.items() if p.startswith(text[i:])]:
            return sum(paid[:i]) + sum(max(x, *weights, 0.0) for x in paid[i:])
    return sum(paid)


@pytest.mark.parametrize("seed", range(6))
def test_letters_are_paid_once_however_phrases_overlap(seed: int):
    rng = np.random.default_rng(seed)

    def draw(words: int) -> str:
        return "".join("▁" + str(rng.choice(["a", "b", "ab", "c"])) for _ in range(words))

    known = {draw(int(rng.integers(1, 5))): float(rng.choice([0.5, 1.0, 2.0])) for _ in range(6)}
    spelt = [phrase.replace("▁", " ").strip() for phrase in known]
    phrases = Phrases.build(spelt, PIECES, list(known.values()), weight=1.0)
    after, gain, ending = (np.asarray(x) for x in (phrases.next, phrases.gain, phrases.ending))
    by_length = sorted(range(1, V), key=lambda t: -len(PIECES[t]))
    for _ in range(60):
        text = draw(10)
        state, given, at = 0, 0.0, 0
        while at < len(text):
            fits = [t for t in by_length if text.startswith(PIECES[t], at)]
            token = int(rng.choice(fits))
            given += gain[state, token]
            state, at = after[state, token], at + len(PIECES[token])
            assert given == pytest.approx(by_hand(text[:at], known, ended=False), abs=1e-4)
            whole = by_hand(text[:at], known, ended=True)
            assert given + ending[state] == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize(
    ("phrases", "weights", "text", "letters"),
    [
        (["b", "a b c"], None, "a b b", 4),  # inside a longer phrase that broke off
        (["b", "a b c"], None, "a b", 2),
        (["a b", "b c"], None, "a b c", 6),  # the letter between is paid once
        (["a b", "b", "b c"], None, "a b ab", 4),
        (["a b", "a b c"], [1.0, 10.0], "a b", 4),  # a whole phrase gets its own weight
    ],
)
def test_phrases_within_phrases(phrases: list[str], weights, text: str, letters: int):
    assert total(Phrases.build(phrases, PIECES, weights), text) == {float(letters)}


def test_phrases_too_many_for_the_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoring, "MOST_CELLS", 7 * V)  # of which a power of two is used
    Phrases.build(["ab"], PIECES)
    with pytest.raises(ValueError, match="more than 4 states"):
        Phrases.build(["abc"], PIECES)


def test_lists_of_about_one_size_are_one_program():
    lists: list[list[str]] = [[], ["a"], ["ca b", "abc"]]
    shapes = [Phrases.build(phrases, PIECES).next.shape for phrases in lists]
    assert shapes[0] == shapes[1] == shapes[2]


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
