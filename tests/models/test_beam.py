"""Beam search against brute force over alignments, against greedy, and chunks against the whole."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.beam import Beams, beam_search, beam_step, best, commit
from parley.models.beam_state import init_beam
from parley.models.decoding import greedy
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.transducer import BLANK, JointConfig, PredictionConfig, Transducer
from parley.models.transducer import TransducerConfig as Config

pytestmark = pytest.mark.slow

VOCAB = 5
CONFIG = Config(
    vocab_size=VOCAB,
    encoder=LSTMEncoderConfig(width=16, layers=2, output=8, reduce_after=1),
    prediction=PredictionConfig(embedding=6, width=8, layers=1, output=8),
)


def make(blank: float, config: Config = CONFIG, sharp: float = 4.0) -> Transducer:
    model = Transducer(config, rngs=nnx.Rngs(0))
    output = model.joiner.output
    assert output.bias is not None
    output.kernel[...] = output.kernel[...] * sharp
    output.bias[...] = jnp.zeros(config.vocab_size).at[BLANK].set(blank)
    return model


@pytest.fixture(scope="module")
def model() -> Transducer:
    return make(blank=2.0)


@functools.partial(jax.jit, static_argnames=("graphdef", "options"))
def _search(graphdef, parameters, encoded, lengths, scorer, options):
    model = nnx.merge(graphdef, parameters)
    return beam_search(model, encoded, lengths, scorer=scorer, **dict(options))


def search(model, encoded, lengths, scorer=None, **options) -> Beams:
    graphdef, parameters = nnx.split(model)
    return _search(graphdef, parameters, encoded, lengths, scorer, tuple(sorted(options.items())))


def labels(beams: Beams, row: int, k: int = 0) -> tuple[int, ...]:
    count = int(beams.hypotheses.counts[row, k])
    return tuple(np.asarray(beams.hypotheses.tokens[row, k, :count]).tolist())


def probabilities(model: Transducer, encoded: jax.Array, longest: int) -> dict[tuple, float]:
    """log P of every label sequence of at most `longest` labels, by the forward recursion."""
    found = {}
    time = len(encoded)
    for length in range(longest + 1):
        sequences = list(itertools.product(range(1, VOCAB), repeat=length))
        predicted = model.predict(jnp.array(sequences, jnp.int32).reshape(len(sequences), length))
        logits = model.joint(encoded[None, :, None], predicted[:, None])
        logp = np.asarray(jax.nn.log_softmax(logits, axis=-1), np.float64)
        alpha = np.full((len(sequences), time + 1, length + 1), -np.inf)
        alpha[:, 0, 0] = 0.0
        for t in range(time):
            for u in range(length):
                label = logp[np.arange(len(sequences)), t, u, [s[u] for s in sequences]]
                alpha[:, t, u + 1] = np.logaddexp(alpha[:, t, u + 1], alpha[:, t, u] + label)
            alpha[:, t + 1] = alpha[:, t] + logp[:, t, :, BLANK]
        found |= zip(sequences, alpha[:, time, length].tolist(), strict=True)
    return found


# Two frames of two labels each at most: 341 sequences, all of which the beam holds.
ALL = {"width": 341, "prune": 1e9, "max_symbols": 2}
SHORT = jax.random.normal(jax.random.key(1), (1, 2, 8))


def check_all(beams: Beams, expected: dict[tuple, float]) -> None:
    """Scores of all sequences that no bound cuts short: those of at most two labels."""
    found = {labels(beams, 0, k): float(beams.scores[0, k]) for k in range(ALL["width"])}
    short = [sequence for sequence in expected if len(sequence) <= 2]
    assert len(short) == 21
    for sequence in short:
        assert found[sequence] == pytest.approx(expected[sequence], abs=2e-4)


def test_a_wide_beam_finds_the_probability_of_every_label_sequence(model: Transducer):
    check_all(search(model, SHORT, jnp.array([2]), **ALL), probabilities(model, SHORT[0], 2))


def test_a_beam_of_four_finds_more_of_the_likeliest_than_greedy_search():
    model = make(blank=4.5)
    encoded = jax.random.normal(jax.random.key(2), (24, 4, 8))
    lengths = jnp.full(24, 4)
    beams = search(model, encoded, lengths, prune=20.0)
    graphdef, parameters = nnx.split(model)
    run = jax.jit(lambda p, x: greedy(nnx.merge(graphdef, p), x, lengths)[0])
    plain = run(parameters, encoded)
    by_beam = by_greedy = 0
    for row in range(24):
        oracle = probabilities(model, encoded[row], longest=4)
        top = max(oracle, key=lambda s: oracle[s])
        count = int(plain.counts[row])
        by_greedy += top == tuple(np.asarray(plain.tokens[row, :count]).tolist())
        by_beam += top == labels(beams, row)
        if labels(beams, row) in oracle:  # else longer, and perhaps likelier still
            found = oracle[labels(beams, row)]
            assert found > oracle[top] - 0.5
            # A beam adds up some of the alignments, each of them once.
            assert float(beams.scores[row, 0]) <= found + 1e-4
    assert by_beam >= 15 > 2 * by_greedy


ENCODED = jax.random.normal(jax.random.key(3), (4, 23, 8))
LENGTHS = jnp.array([23, 14, 1, 0])


def test_a_beam_of_one_without_merging_partners_is_never_likelier_than_four(model: Transducer):
    one = search(model, ENCODED, LENGTHS, width=1)
    four = search(model, ENCODED, LENGTHS, width=4)
    assert (four.scores[:, 0] >= one.scores[:, 0] - 1e-4).all()


@pytest.mark.parametrize("window", [1, 3, 8])
def test_the_window_changes_nothing(model: Transducer, window: int):
    expected, got = (search(model, ENCODED, LENGTHS, window=w) for w in (4, window))
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
    for row in range(4):
        assert labels(got, row) == labels(expected, row)


def test_rows_do_not_know_of_each_other_nor_of_padding(model: Transducer):
    whole = search(model, ENCODED, LENGTHS)
    spoiled = ENCODED.at[1, 14:].set(jnp.nan)
    got = search(model, spoiled, LENGTHS)
    for row in range(4):
        alone = search(model, ENCODED[row : row + 1], LENGTHS[row : row + 1])
        assert labels(alone, 0) == labels(whole, row) == labels(got, row)
        np.testing.assert_allclose(alone.scores[0], whole.scores[row], atol=1e-4)


def test_a_batch_that_is_gathered_gives_what_its_rows_give(model: Transducer):
    # Large enough that hypotheses are gathered before joint and prediction network.
    rows = 16
    encoded = jax.random.normal(jax.random.key(4), (rows, 9, 8))
    lengths = jnp.arange(rows) % 10
    whole = search(model, encoded, lengths)
    for first in range(0, rows, 2):
        few = slice(first, first + 2)
        alone = search(model, encoded[few], lengths[few])
        np.testing.assert_allclose(alone.scores, whole.scores[few], atol=1e-4)
        for row in range(2):
            for k in range(4):
                assert labels(alone, row, k) == labels(whole, first + row, k)


def test_hypotheses_are_distinct_ranked_and_carry_frames_in_order(model: Transducer):
    beams = search(model, ENCODED, LENGTHS, width=6, prune=30.0)
    for row, length in enumerate([23, 14, 1, 0]):
        real = [k for k in range(6) if beams.scores[row, k] > -jnp.inf]
        assert len({labels(beams, row, k) for k in real}) == len(real)
        assert (np.diff(np.asarray(beams.scores[row])[real]) <= 0).all()
        for k in real:
            count = int(beams.hypotheses.counts[row, k])
            frames = np.asarray(beams.hypotheses.frames[row, k, :count])
            assert (np.diff(frames) >= 0).all()
            assert (frames < length).all()
            assert (np.asarray(beams.hypotheses.logp[row, k, :count]) <= 0).all()
    assert [labels(beams, 3, k) for k in range(6) if beams.scores[3, k] > -jnp.inf] == [()]


def test_a_model_that_always_speaks_is_bounded():
    beams = search(make(blank=-20.0), ENCODED, LENGTHS, max_symbols=3)
    assert beams.hypotheses.counts[:, 0].tolist() == [69, 42, 3, 0]


@functools.partial(jax.jit, static_argnames=("graphdef", "size"))
def _step(graphdef, parameters, encoded, lengths, state, size):
    state = beam_step(nnx.merge(graphdef, parameters), encoded, lengths, state)
    return commit(state, size)


@pytest.mark.parametrize(("cuts", "size"), [((5, 6, 23), 40), ((1, 9, 10, 23), 40), ((12, 23), 4)])
def test_chunks_give_what_the_whole_gives(model: Transducer, cuts: tuple[int, ...], size: int):
    whole = search(model, ENCODED, LENGTHS)
    graphdef, parameters = nnx.split(model)
    state = init_beam(model, 4, 4, pending=size)
    heard: list[list[int]] = [[] for _ in range(4)]
    frames: list[list[int]] = [[] for _ in range(4)]
    tentative = None
    for start, end in itertools.pairwise((0, *cuts)):
        lengths = jnp.clip(LENGTHS - start, 0, end - start)
        done, tentative, state = _step(
            graphdef, parameters, ENCODED[:, start:end], lengths, state, size
        )
        for row in range(4):
            count = int(done.counts[row])
            heard[row] += np.asarray(done.tokens[row, :count]).tolist()
            frames[row] += np.asarray(done.frames[row, :count]).tolist()
    assert tentative is not None
    last = best(state)
    crowded = size < 10
    for row in range(4):
        rest = labels(last, row)
        count = int(tentative.counts[row])
        assert rest == tuple(np.asarray(tentative.tokens[row, :count]).tolist())
        assert len(rest) <= size
        if not crowded:  # with little room hypotheses are given up early, as documented
            assert tuple(heard[row]) + rest == labels(whole, row)
            assert frames[row] == sorted(frames[row])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Wish:
    """Adds to one label as long as it has not been taken, and at the end if it has been."""

    label: jax.Array
    bonus: jax.Array

    def init(self, rows: int) -> jax.Array:
        return jnp.zeros((rows,), bool)

    def score(self, state: jax.Array, logp: jax.Array) -> jax.Array:
        wished = (jnp.arange(logp.shape[1]) == self.label)[None, :] & ~state[:, None]
        return logp + jnp.where(wished, self.bonus, 0.0)

    def advance(self, state: jax.Array, tokens: jax.Array) -> jax.Array:
        return state | (tokens == self.label)

    def final(self, state: jax.Array) -> jax.Array:
        return jnp.where(state, 0.5, 0.0)


def test_a_scorer_is_added_once_for_each_label_sequence(model: Transducer):
    oracle = probabilities(model, SHORT[0], longest=2)
    wish = Wish(jnp.array(2), jnp.array(1.5))
    expected = {s: p + (1.5 + 0.5 if 2 in s else 0.0) for s, p in oracle.items()}
    check_all(search(model, SHORT, jnp.array([2]), wish, **ALL), expected)


def test_the_internal_language_model_comes_off_a_hat_joint():
    config = dataclasses.replace(CONFIG, joint=JointConfig(hat=True))
    model = make(blank=0.5, config=config, sharp=2.0)

    def expectation(sequence: tuple[int, ...]) -> float:
        predicted = model.predict(jnp.array([sequence], jnp.int32).reshape(1, len(sequence)))[0]
        logits = np.asarray(model.joint_logits(jnp.zeros_like(predicted), predicted), np.float64)
        logits = logits[:, 1:]
        logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return sum(logp[u, label - 1] for u, label in enumerate(sequence))

    oracle = probabilities(model, SHORT[0], longest=2)
    expected = {s: p - 0.7 * expectation(s) for s, p in oracle.items()}
    check_all(search(model, SHORT, jnp.array([2]), internal_lm=0.7, **ALL), expected)


def test_the_internal_language_model_needs_hat(model: Transducer):
    with pytest.raises(ValueError, match="HAT"):
        search(model, ENCODED, LENGTHS, internal_lm=0.3)
