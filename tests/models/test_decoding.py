"""Greedy search against a plain loop, its bounds, and chunks against the whole."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.decoding import DecoderState, Hypotheses, greedy, init_decoder
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.transducer import (
    BLANK,
    JointConfig,
    PredictionConfig,
    Transducer,
    TransducerConfig,
)

CONFIG = TransducerConfig(
    vocab_size=9,
    encoder=LSTMEncoderConfig(width=16, layers=2, output=8, reduce_after=1),
    prediction=PredictionConfig(embedding=6, width=8, layers=1, output=8),
)


def make(blank: float, model_class: type[Transducer] = Transducer) -> Transducer:
    """A random model whose joint is sharp, with a bias towards blank."""
    model = model_class(CONFIG, rngs=nnx.Rngs(0))
    output = model.joiner.output
    assert output.bias is not None
    output.kernel[...] = output.kernel[...] * 4.0
    output.bias[...] = jnp.zeros(9).at[BLANK].set(blank)
    return model


@pytest.fixture(scope="module")
def model() -> Transducer:
    return make(blank=2.5)


@pytest.fixture(scope="module")
def encoded() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (4, 23, 8))


LENGTHS = jnp.array([23, 14, 1, 0])


@functools.partial(jax.jit, static_argnames=("graphdef", "options"))
def _search(graphdef, parameters, encoded, lengths, state, options):
    return greedy(nnx.merge(graphdef, parameters), encoded, lengths, state=state, **dict(options))


def search(
    model: Transducer, encoded, lengths, state: DecoderState | None = None, **options
) -> tuple[Hypotheses, DecoderState]:
    graphdef, parameters = nnx.split(model)
    return _search(graphdef, parameters, encoded, lengths, state, tuple(options.items()))


def rows(hypotheses: Hypotheses) -> list[list[tuple[int, int]]]:
    """Of each row: (token, frame) pairs."""
    tokens, frames, _, counts = map(np.asarray, hypotheses)
    return [
        list(zip(tokens[b, :n].tolist(), frames[b, :n].tolist(), strict=True))
        for b, n in enumerate(counts)
    ]


def plain_search(model: Transducer, encoded: jax.Array, max_symbols: int):
    """One row, frame by frame and symbol by symbol: [(token, frame)], [log-probability]."""
    predict, joint = jax.jit(model.predict_step), jax.jit(model.joint)
    predicted, state = predict(jnp.array([BLANK]), model.init_prediction(1))
    found, logps = [], []
    for t, frame in enumerate(encoded):
        for _ in range(max_symbols):
            logp = jax.nn.log_softmax(joint(frame[None], predicted)[0])
            token = int(logp.argmax())
            if token == BLANK:
                break
            found.append((token, t))
            logps.append(float(logp[token]))
            predicted, state = predict(jnp.array([token]), state)
    return found, logps


@pytest.mark.parametrize("max_symbols", [1, 2, 8])
def test_greedy_is_the_plain_loop(model: Transducer, encoded: jax.Array, max_symbols: int):
    hypotheses, _ = search(model, encoded, LENGTHS, max_symbols=max_symbols)
    emitted = rows(hypotheses)
    assert 5 < len(emitted[0]) < 23 * max_symbols
    for b, length in enumerate(LENGTHS.tolist()):
        expected, logps = plain_search(model, encoded[b, :length], max_symbols)
        assert emitted[b] == expected
        np.testing.assert_allclose(hypotheses.logp[b, : len(logps)], logps, atol=1e-5)
        assert not np.asarray(hypotheses.tokens[b, len(logps) :]).any()


def test_a_frame_may_emit_several(model: Transducer, encoded: jax.Array):
    """The comparison with the plain loop means little if no frame ever does."""
    frames = [frame for _, frame in rows(search(model, encoded, LENGTHS)[0])[0]]
    assert len(set(frames)) < len(frames)


@pytest.mark.parametrize("window", [1, 3, 64])
def test_window_changes_speed_only(model: Transducer, encoded: jax.Array, window: int):
    expected, _ = search(model, encoded, LENGTHS)
    assert rows(search(model, encoded, LENGTHS, window=window)[0]) == rows(expected)


def test_a_batch_equals_its_rows(model: Transducer, encoded: jax.Array):
    together = rows(search(model, encoded, LENGTHS)[0])
    for b in range(4):
        alone, _ = search(model, encoded[b : b + 1], LENGTHS[b : b + 1])
        assert rows(alone)[0] == together[b]


def test_padding_changes_nothing(model: Transducer, encoded: jax.Array):
    padding = jnp.arange(23)[None, :] >= LENGTHS[:, None]
    filled = jnp.where(padding[:, :, None], jnp.nan, encoded)
    clean, clean_state = search(model, encoded, LENGTHS)
    actual, state = search(model, filled, LENGTHS)
    jax.tree.map(np.testing.assert_array_equal, (actual, state), (clean, clean_state))


@pytest.mark.parametrize("size", [1, 5, 23])
def test_chunks_give_the_whole(model: Transducer, encoded: jax.Array, size: int):
    whole, end = search(model, encoded, LENGTHS)
    graphdef, parameters = nnx.split(model)
    state = init_decoder(nnx.merge(graphdef, parameters), 4)
    found = [[] for _ in range(4)]
    for start in range(0, 23, size):
        lengths = jnp.clip(LENGTHS - start, 0, min(size, 23 - start))
        hypotheses, state = search(model, encoded[:, start : start + size], lengths, state)
        for b, row in enumerate(rows(hypotheses)):
            found[b] += row
    assert found == rows(whole)
    assert state.frames.tolist() == LENGTHS.tolist()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, end)


@pytest.mark.parametrize("chunk", [1, 3, 7, 50])
def test_text_of_a_stream_is_text_of_the_file(chunk: int):
    """From samples to tokens, chunk by chunk, with a last chunk filled up with silence."""
    model = make(blank=1.0)
    samples = (np.random.default_rng(0).normal(size=(2, 960 * 53)) * 2000).astype(np.int16)
    envelope = 10 ** np.sin(np.arange(samples.shape[1]) / 4000)
    samples = (samples * envelope / 10).astype(np.int16)
    lengths = jnp.full((2,), samples.shape[1])
    graphdef, parameters = nnx.split(model)

    @jax.jit
    def whole(parameters, samples):
        model = nnx.merge(graphdef, parameters)
        return greedy(model, *model.encode(*model.features(samples, lengths)))[0]

    @jax.jit
    def step(parameters, samples, stream, decoder):
        model = nnx.merge(graphdef, parameters)
        encoded, stream = model.stream_step(samples, stream)
        counts = jnp.full((2,), encoded.shape[1])
        hypotheses, decoder = greedy(model, encoded, counts, state=decoder)
        return hypotheses, stream, decoder

    expected = rows(whole(parameters, jnp.asarray(samples)))
    stream, decoder = model.init_stream(2), init_decoder(model, 2)
    size = chunk * model.samples_per_step
    filled = np.pad(samples, ((0, 0), (0, -samples.shape[1] % size)))
    found = [[], []]
    for start in range(0, filled.shape[1], size):
        piece = jnp.asarray(filled[:, start : start + size])
        hypotheses, stream, decoder = step(parameters, piece, stream, decoder)
        for b, row in enumerate(rows(hypotheses)):
            found[b] += [pair for pair in row if pair[1] < 53]
    assert min(map(len, expected)) > 10
    assert found == expected


def test_without_blank_the_bounds_hold(encoded: jax.Array):
    hypotheses, _ = search(make(blank=-1e9), encoded, LENGTHS, max_symbols=3)
    assert hypotheses.counts.tolist() == [69, 42, 3, 0]
    assert [frame for _, frame in rows(hypotheses)[1]] == np.repeat(np.arange(14), 3).tolist()

    cut, _ = search(make(blank=-1e9), encoded, LENGTHS, max_symbols=3, max_tokens=10)
    assert cut.tokens.shape == (4, 10)
    assert cut.counts.tolist() == [10, 10, 3, 0]
    np.testing.assert_array_equal(cut.tokens[0], hypotheses.tokens[0, :10])
    assert not search(make(blank=-1e9), encoded, LENGTHS, max_tokens=0)[0].counts.any()


def test_only_blanks_leave_the_prediction_network_where_it_is(encoded: jax.Array):
    model = make(blank=1e9)
    start = init_decoder(model, 4)
    hypotheses, state = search(model, encoded, LENGTHS, start)
    assert not hypotheses.counts.any()
    jax.tree.map(np.testing.assert_array_equal, state.prediction, start.prediction)


class Counting(Transducer):
    """Counts how often the prediction network runs."""

    steps = 0

    def predict_step(self, tokens, state):
        def count():
            Counting.steps += 1

        jax.debug.callback(count)
        return super().predict_step(tokens, state)


def test_the_prediction_network_runs_only_after_an_emission(encoded: jax.Array):
    for blank in (2.5, 1e9):
        model = make(blank, Counting)
        start = jax.block_until_ready(init_decoder(model, 1))
        jax.effects_barrier()
        Counting.steps = 0
        hypotheses, _ = search(model, encoded[:1], LENGTHS[:1], start)
        jax.effects_barrier()
        assert int(hypotheses.counts[0]) == Counting.steps


def test_no_frames_no_tokens(model: Transducer):
    start = init_decoder(model, 2)
    hypotheses, state = search(model, jnp.zeros((2, 0, 8)), jnp.zeros(2, jnp.int32), start)
    assert not hypotheses.counts.any()
    jax.tree.map(np.testing.assert_array_equal, state, start)


def test_bfloat16_decodes():
    narrow = Transducer(CONFIG, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    hypotheses, state = search(narrow, jnp.ones((2, 6, 8), jnp.bfloat16), jnp.array([6, 3]))
    assert hypotheses.logp.dtype == jnp.float32
    assert state.predicted.dtype == jnp.bfloat16
    assert np.isfinite(hypotheses.logp).all()


def test_a_hat_model_decodes_by_its_own_distribution(encoded):
    """Blank by a sigmoid, labels by a softmax among themselves, written out in float64."""
    plain = make(blank=0.5)
    config = dataclasses.replace(CONFIG, joint=JointConfig(hat=True))
    model = Transducer(config, rngs=nnx.Rngs(0))
    nnx.update(model, nnx.state(plain, nnx.Param))
    predict, joint = jax.jit(model.predict_step), jax.jit(model.joint_logits)
    predicted, state = predict(jnp.array([BLANK]), model.init_prediction(1))
    found, logps = [], []
    for frame in range(encoded.shape[1]):
        for _ in range(3):
            z = np.asarray(joint(encoded[:1, frame], predicted)[0], np.float64)
            p_blank = 1 / (1 + np.exp(-z[BLANK]))
            p = (1 - p_blank) * np.exp(z) / np.delete(np.exp(z), BLANK).sum()
            p[BLANK] = p_blank
            if p.argmax() == BLANK:
                break
            found.append((int(p.argmax()), frame))
            logps.append(np.log(p.max()))
            predicted, state = predict(jnp.array([found[-1][0]]), state)
    hypotheses, _ = search(model, encoded, LENGTHS, max_symbols=3)
    assert len(found) > 5
    assert rows(hypotheses)[0] == found
    np.testing.assert_allclose(hypotheses.logp[0, : len(found)], logps, rtol=1e-4)
    assert rows(hypotheses) != rows(search(plain, encoded, LENGTHS, max_symbols=3)[0])
