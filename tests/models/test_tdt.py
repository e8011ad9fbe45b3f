"""Searches with durations: greedy against a plain loop, the beam against all alignments, and chunks
against the whole."""

import functools
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.beam import beam_search, beam_step, best
from parley.models.beam_state import init_beam
from parley.models.decoding import Hypotheses, greedy, init_decoder
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.transducer import (
    BLANK,
    JointConfig,
    PredictionConfig,
    Transducer,
    TransducerConfig,
)

DURATIONS = (0, 1, 2, 4)
CONFIG = TransducerConfig(
    vocab_size=4,
    encoder=LSTMEncoderConfig(width=16, layers=2, output=8, reduce_after=1),
    prediction=PredictionConfig(embedding=6, width=8, layers=1, output=8),
    joint=JointConfig(durations=DURATIONS),
)
LENGTHS = jnp.array([23, 14, 1, 0])


@pytest.fixture(scope="module")
def model() -> Transducer:
    model = Transducer(CONFIG, rngs=nnx.Rngs(0))
    output = model.joiner.output
    assert output.bias is not None
    output.kernel[...] = output.kernel[...] * 4.0
    output.bias[...] = output.bias[...].at[BLANK].set(-0.5)
    return model


@pytest.fixture(scope="module")
def encoded() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (4, 23, 8))


def run(function, model: Transducer, *args):
    graphdef, parameters = nnx.split(model)
    call = jax.jit(lambda parameters, *args: function(nnx.merge(graphdef, parameters), *args))
    return call(parameters, *args)


def rows(hypotheses: Hypotheses) -> list[list[tuple[int, int]]]:
    tokens, frames, _, counts = map(np.asarray, hypotheses)
    return [
        list(zip(tokens[b, :n].tolist(), frames[b, :n].tolist(), strict=True))
        for b, n in enumerate(counts)
    ]


@functools.lru_cache
def _stepper(graphdef):
    @jax.jit
    def step(parameters, frame, token, state):
        model = nnx.merge(graphdef, parameters)
        predicted, state = model.predict_step(token, state)
        return predicted, state, *model.joiner.with_durations(frame, predicted)

    return step


def plain_greedy(model: Transducer, encoded: jax.Array, length: int, max_symbols: int):
    graphdef, parameters = nnx.split(model)
    step = _stepper(graphdef)
    said, t, here = [], 0, 0
    before, spoken = model.init_prediction(1), BLANK
    while t < length:
        _, after, tokens, durations = step(
            parameters, encoded[t : t + 1], jnp.array([spoken]), before
        )
        token, d = int(tokens.argmax()), DURATIONS[int(durations.argmax())]
        if token == BLANK:
            t, here = t + max(d, 1), 0
            continue
        said.append((token, t))
        before, spoken, here = after, token, here + 1
        if d == 0 and here >= max_symbols:
            d = 1
        if d:
            t, here = t + d, 0
    return said


@pytest.mark.parametrize("window", [1, 4])
def test_greedy_is_the_plain_loop(model, encoded, window: int):
    found, _ = run(
        lambda m, e, n: greedy(m, e, n, max_symbols=3, window=window), model, encoded, LENGTHS
    )
    wanted = [plain_greedy(model, encoded[b], int(n), 3) for b, n in enumerate(LENGTHS)]
    assert rows(found) == wanted
    assert sum(map(len, wanted)) > 10


def test_greedy_in_chunks_is_the_whole(model, encoded):
    graphdef, parameters = nnx.split(model)

    @jax.jit
    def go_on(parameters, encoded, lengths, state):
        return greedy(nnx.merge(graphdef, parameters), encoded, lengths, state=state)

    begun = run(lambda m: init_decoder(m, 4), model)
    whole, _ = go_on(parameters, encoded, jnp.full(4, 23), begun)
    for sizes in ([1] * 23, [5, 2, 16]):
        state = begun
        at, said = 0, [[] for _ in range(4)]
        for size in sizes:
            found, state = go_on(parameters, encoded[:, at : at + size], jnp.full(4, size), state)
            at += size
            said = [a + b for a, b in zip(said, rows(found), strict=True)]
        assert said == rows(whole)


def test_greedy_stops_at_max_tokens(model, encoded):
    found, _ = run(lambda m, e, n: greedy(m, e, n, max_tokens=2), model, encoded, LENGTHS)
    assert found.tokens.shape == (4, 2)
    assert max(found.counts.tolist()) == 2


def probabilities(model: Transducer, encoded: jax.Array, max_symbols: int) -> dict[tuple, float]:
    """log P of every label sequence, over all ways from the first frame to the end or beyond."""
    graphdef, parameters = nnx.split(model)
    step = _stepper(graphdef)
    total: dict[tuple, float] = defaultdict(lambda: -np.inf)

    def onwards(t: int, here: int, said: tuple, spoken: int, before, score: float) -> None:
        if t >= len(encoded):
            total[said] = np.logaddexp(total[said], score)
            return
        _, after, tokens, durations = step(
            parameters, encoded[t : t + 1], jnp.array([spoken]), before
        )
        p = np.asarray(jax.nn.log_softmax(tokens[0]), np.float64)
        q = np.asarray(jax.nn.log_softmax(durations[0]), np.float64)
        for i, d in enumerate(DURATIONS):
            for token in range(4):
                if d == 0 and (token == BLANK or here >= max_symbols):
                    continue
                now = here + 1 if d == 0 else 0
                score_now = score + p[token] + q[i]
                if token == BLANK:
                    onwards(t + d, 0, said, spoken, before, score_now)
                else:
                    onwards(t + d, now, (*said, token), token, after, score_now)

    onwards(0, 0, (), BLANK, model.init_prediction(1), 0.0)
    return dict(total)


@pytest.mark.slow
def test_a_beam_without_end_adds_up_all_ways(model, encoded):
    part = encoded[:1, :2]
    wanted = probabilities(model, part[0], 1)
    beams = run(
        lambda m, e, n: beam_search(m, e, n, width=400, prune=1e9, max_symbols=1),
        model,
        part,
        jnp.array([2]),
    )
    found = {}
    for k, score in enumerate(np.asarray(beams.scores[0])):
        if score > -np.inf:
            count = int(beams.hypotheses.counts[0, k])
            said = tuple(np.asarray(beams.hypotheses.tokens[0, k, :count]).tolist())
            found[said] = np.logaddexp(found.get(said, -np.inf), score)
    assert found.keys() == wanted.keys()
    for said, score in wanted.items():
        assert found[said] == pytest.approx(score, abs=1e-4)


@pytest.mark.slow
def test_the_beam_in_chunks_is_the_whole(model, encoded):
    full = jnp.full(4, 23)
    whole = run(lambda m, e, n: beam_search(m, e, n, width=4), model, encoded, full)
    narrow = run(lambda m, e, n: beam_search(m, e, n, width=1), model, encoded, full)
    assert (np.asarray(whole.scores[:, 0]) >= np.asarray(narrow.scores[:, 0]) - 1e-3).all()
    state, at = run(lambda m: init_beam(m, 4, 4), model), 0
    for size in (5, 18):
        state = run(
            lambda m, e, n, s: beam_step(m, e, n, s),
            model,
            encoded[:, at : at + size],
            jnp.full(4, size),
            state,
        )
        at += size
    parts = best(state)
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-4)
    for k in range(4):
        first, second = (
            rows(Hypotheses(*(x[:, k] for x in beams.hypotheses))) for beams in (parts, whole)
        )
        assert first == second
