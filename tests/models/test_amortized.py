"""The amortized Transformer encoder: what is computed where gates are open equals everything
computed and multiplied by the gates, whole and in streams."""

import dataclasses
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.models import gates as gating
from parley.models.attention import gated_softmax, sinusoids
from parley.models.cost import gated_cost, model_cost
from parley.models.encoders.amortized import AmortizedConfig, AmortizedEncoder
from parley.models.encoders.transformer import TransformerEncoder
from parley.models.frontend import FrontendConfig
from parley.models.gates import (
    Arbitrator,
    ArbitratorConfig,
    Relaxation,
    draw_gates,
    is_open,
    on_active,
)
from parley.models.streaming import assert_streaming_contract, run_in_chunks
from parley.models.transducer import PredictionConfig, TransducerConfig

SIZE = 5
SMALL = AmortizedConfig(
    width=8,
    heads=2,
    blocks=2,
    output=6,
    left=3,
    expansion=2,
    dropout=0.0,
    arbitrator=ArbitratorConfig(projection=4, context=2, hidden=6),
)
LEARNED = SMALL.arbitrator
CONFIGS = {
    "active keys": SMALL,
    "subsampled": dataclasses.replace(SMALL, subsample=2),
    "all keys": dataclasses.replace(SMALL, keys="all"),
    "heads on blocks": dataclasses.replace(
        SMALL, arbitrator=dataclasses.replace(LEARNED, block_hidden=3)
    ),
    "long past": dataclasses.replace(SMALL, left=20),
    "random": dataclasses.replace(
        SMALL, arbitrator=ArbitratorConfig(kind="random", rates=(0.2, 0.9, 0.5, 0.0))
    ),
    "periodic": dataclasses.replace(
        SMALL, arbitrator=ArbitratorConfig(kind="periodic", rates=(1 / 3, 0.4, 0.0, 1.0))
    ),
    "energy": dataclasses.replace(SMALL, arbitrator=ArbitratorConfig(kind="energy")),
}


def make(config: AmortizedConfig = SMALL) -> AmortizedEncoder:
    """An encoder whose learned gates are open about half of the time, each in its own frames."""
    encoder = AmortizedEncoder(config, SIZE, rngs=nnx.Rngs(0))
    if isinstance(encoder.arbitrator, Arbitrator):
        output = encoder.arbitrator.output
        output.kernel[...] = jax.random.normal(jax.random.key(1), output.kernel.shape) / gating.GAIN
        set_bias(encoder, 0.0)
        for i, head in enumerate(encoder.heads):
            kernel = head.output.kernel
            kernel[...] = 0.1 * jax.random.normal(jax.random.key(i), kernel.shape)
    return encoder


def set_bias(encoder: AmortizedEncoder, value: float) -> None:
    assert isinstance(encoder.arbitrator, Arbitrator)
    bias = cast(nnx.Param, encoder.arbitrator.output.bias)
    bias[...] = jnp.full_like(bias[...], value)


def speech(batch: int = 3, frames: int = 26) -> jax.Array:
    return jax.random.normal(jax.random.key(5), (batch, frames, SIZE))


@pytest.mark.parametrize("name", first_is_quick(CONFIGS))
def test_open_parts_alone_give_what_the_masked_form_gives(name: str, monkeypatch):
    monkeypatch.setattr(gating, "CHUNK", 4)
    encoder, x = make(CONFIGS[name]), speech(frames=24)
    masked = jax.jit(encoder.masked)
    lengths = jnp.array([24, 11, 3])
    y, seen = jax.jit(encoder.__call__)(x, lengths)
    expected, lengths, gates = masked(x, lengths)
    np.testing.assert_array_equal(seen, lengths)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    rate = float(gates.sum()) / (float(lengths.sum()) * encoder.components)
    assert 0.05 < rate < 0.95, "the gates of this test decide nothing"
    expected = masked(x, jnp.full(3, 24))[0]
    step = jax.jit(encoder.step)
    for rows, size in ((3, 2), (3, 8), (1, 2)):  # one frame of one stream takes a branch
        state = encoder.init_state(rows)
        y = run_in_chunks(step, state, np.asarray(x[:rows]), (size,), encoder.stride)
        np.testing.assert_allclose(y, expected[:rows], atol=1e-5)
    if encoder.stride == 1:
        state = encoder.init_state(1)
        y = run_in_chunks(step, state, np.asarray(x[:1]), (1,), 1)
        np.testing.assert_allclose(y, expected[:1], atol=1e-5)


class _Masked:
    """The masked form as an encoder: it has a gradient."""

    def __init__(self, encoder: AmortizedEncoder):
        self.stride, self.lookahead, self.chunk = encoder.stride, encoder.lookahead, encoder.chunk
        self.receptive_field = encoder.receptive_field
        self.init_state, self.step = encoder.init_state, encoder.step
        self._encoder = encoder

    def __call__(self, x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._encoder.masked(x, lengths)[:2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["active keys", "all keys", "heads on blocks"])
def test_streaming_contract(name: str):
    assert_streaming_contract(_Masked(make(CONFIGS[name])), SIZE)


@pytest.mark.slow
def test_with_all_gates_open_it_is_the_dense_encoder():
    for keys in ("active", "all"):
        config = dataclasses.replace(SMALL, keys=keys)
        encoder, dense = make(config), TransformerEncoder(config.dense, SIZE, rngs=nnx.Rngs(0))
        set_bias(encoder, 50.0)
        x, lengths = speech(), jnp.array([26, 11, 3])
        expected = jax.jit(dense.__call__)(x, lengths)[0]
        for form in (encoder.__call__, encoder.masked):
            np.testing.assert_allclose(jax.jit(form)(x, lengths)[0], expected, atol=1e-5)


def test_dense_parameters_lie_where_the_dense_encoder_has_them():
    own = nnx.to_flat_state(nnx.state(make(), nnx.Param))
    dense = TransformerEncoder(SMALL.dense, SIZE, rngs=nnx.Rngs(0))
    theirs = {path: leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(dense, nnx.Param))}
    rest = {path: leaf.shape for path, leaf in own if path[0] != "arbitrator"}
    assert rest == theirs


def test_closed_gates_give_zeros_and_open_ones_the_part():
    encoder, x = make(), speech(1, 12)
    block = encoder.blocks[0]
    gates = np.array([1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 0], np.float32)
    h = encoder.input(x)
    update, _ = encoder._masked_attention(
        block.attention, h, jnp.asarray(gates)[None], encoder.init_state(1).blocks[0], None
    )
    assert not np.asarray(update)[0, gates == 0].any()
    # By hand: an open frame sees the open ones among itself and the last three.
    at, keys = 9, [6, 9]
    attention, normed = block.attention.attention, block.attention.norm(h)[0]
    u, v = (b[:, 0] for b in attention.query_biases())
    q = attention.query(normed[at]).reshape(2, 4)
    table = sinusoids(SMALL.left + 1, 8)
    w = attention.position[...].reshape(8, 2, 4)
    found = []
    for head in range(2):
        k = attention.key(normed)[:, 4 * head : 4 * head + 4]
        value = attention.value(normed)[:, 4 * head : 4 * head + 4]
        scores = [
            float((q[head] + u[head]) @ k[t] + (q[head] + v[head]) @ (table[at - t] @ w[:, head]))
            for t in keys
        ]
        weights = jax.nn.softmax(jnp.array(scores) / 2.0)
        found.append(sum(p * value[t] for p, t in zip(weights, keys, strict=True)))
    np.testing.assert_allclose(update[0, at], attention.output(jnp.concatenate(found)), atol=1e-5)


def test_gates_of_training_follow_their_probability_and_have_its_gradient():
    logits = jnp.full((20_000,), 0.8)
    relaxation = Relaxation(0.5, 1.0, False)
    gates = draw_gates(logits, jax.random.key(0), relaxation, 0.5)
    assert set(np.unique(gates)) == {0.0, 1.0}
    assert float(gates.mean()) == pytest.approx(float(jax.nn.sigmoid(0.8)), abs=0.01)
    slope = jax.grad(lambda x: draw_gates(x, None, Relaxation(2.0, 1.0, False), 0.5))(0.8)
    p = float(jax.nn.sigmoid(0.4))
    assert float(slope) == pytest.approx(p * (1 - p) / 2.0, rel=1e-5)


def test_logits_beyond_their_bounds_feel_what_leads_back():
    x = jnp.array([-9.0, -1.0, 1.0, 9.0])
    np.testing.assert_array_equal(gating.bounded(x), [-gating.BOUND, -1, 1, gating.BOUND])
    slope = jax.grad(lambda x, d: (gating.bounded(x) * d).sum())
    np.testing.assert_array_equal(slope(x, jnp.ones(4)), [0, 1, 1, 1])
    np.testing.assert_array_equal(slope(x, -jnp.ones(4)), [-1, -1, -1, 0])


def test_an_open_start_opens_all_and_moves_no_gate():
    def total(logits: jax.Array) -> jax.Array:
        return draw_gates(logits, jax.random.key(0), Relaxation(1.0, 1.0, True), 0.5).sum()

    logits = jnp.full(9, -5.0)
    assert float(total(logits)) == 9.0
    assert not np.asarray(jax.grad(total)(logits)).any()


def test_without_noise_gates_of_training_are_those_of_inference():
    logits = jnp.linspace(-3, 3, 41)
    for theta in (0.2, 0.5, 0.9):
        drawn = draw_gates(logits, jax.random.key(0), Relaxation(0.5, 0.0, False), theta)
        np.testing.assert_array_equal(drawn > 0, is_open(logits, theta))


def test_gated_softmax_against_a_sum_over_open_gates():
    random = np.random.default_rng(0)
    scores, gates = random.normal(size=(4, 7)) * 3, random.integers(0, 2, (4, 7))
    gates[:, 2] = 1
    weights = np.exp(scores) * gates
    expected = weights / weights.sum(axis=1, keepdims=True)
    found = gated_softmax(jnp.asarray(scores), jnp.asarray(gates, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_huge_score_behind_a_closed_gate_is_harmless():
    def value(gate: jax.Array) -> jax.Array:
        gates = jnp.stack([gate, jnp.ones(())])
        return gated_softmax(jnp.array([1e4, 0.0]), gates)[0]

    found, slope = jax.value_and_grad(value)(jnp.zeros(()))
    assert float(found) == 0.0
    assert np.isfinite(slope)


@pytest.mark.parametrize("active", [[], [6], list(range(7)), [0, 2, 3, 5, 6]])
@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_on_active_rows(active: list[int], chunk: int):
    x = jax.random.normal(jax.random.key(0), (7, 4))
    mask = np.isin(np.arange(7), active)
    calls = []

    def double(rows: jax.Array) -> jax.Array:
        calls.append(rows.shape)
        return 2 * rows[:, :3]

    y = on_active(double, x, jnp.asarray(mask), 3, chunk)
    np.testing.assert_allclose(y, np.where(mask[:, None], 2 * x[:, :3], 0))
    assert all(shape == (chunk, 4) for shape in calls)


@pytest.mark.slow
def test_no_frames_and_no_active_ones():
    encoder = make()
    y, _ = encoder(jnp.ones((2, 0, SIZE)), jnp.array([0, 0]))
    assert y.shape == (2, 0, 6)
    set_bias(encoder, -50.0)
    y, _ = encoder(speech(2, 5), jnp.array([5, 0]))
    expected, _, gates = encoder.masked(speech(2, 5), jnp.array([5, 0]))
    assert not np.asarray(gates).any()
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_periodic_gates_keep_their_rate():
    config = ArbitratorConfig(kind="periodic", rates=(1 / 3, 0.4))
    gates = gating.ScheduledGates(config, 2)
    logits, state = gates(jnp.zeros((1, 3000, 1)), gates.init_state(1))
    assert (np.asarray(logits)[0] > 0).mean(axis=0) == pytest.approx([1 / 3, 0.4])
    assert state.tolist() == [3000]


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="theta"):
        make(dataclasses.replace(SMALL, theta=1.0))
    with pytest.raises(ValueError, match="a rate for each of 4"):
        make(dataclasses.replace(SMALL, arbitrator=ArbitratorConfig(kind="random", rates=(0.5,))))


@pytest.mark.parametrize("keys", ["active", "all"])
def test_cost_by_hand(keys: Literal["active", "all"]):
    width, left, heads, blocks, hidden = 8, 3, 2, 2, 16
    encoder = dataclasses.replace(SMALL, keys=keys, subsample=2)
    config = TransducerConfig(
        vocab_size=5,
        frontend=FrontendConfig(bins=16, stack=2),
        encoder=encoder,
        prediction=PredictionConfig(embedding=4, width=4, layers=1, output=6),
    )
    cost, size, per_second = gated_cost(config), 2 * 32, 1 / 0.04
    seen = left + 1
    of_keys = 2 * width * width  # keys and values
    attention = 4 * width * width + 2 * seen * width  # projections, scores, weighted sum
    attention += width * width + heads * seen * width  # position scores, of a single query
    feed_forward = 2 * width * hidden
    arbitrator = size * 4 + 2 * 4 * 6 + 6 * 2 * blocks
    ends = size * width + width * 6
    every = of_keys if keys == "all" else 0
    assert cost.gated == (per_second * (attention - every), per_second * feed_forward)
    assert cost.arbitrator == per_second * arbitrator
    assert cost.fixed == per_second * (ends + arbitrator + blocks * every)
    assert cost.dense == per_second * (ends + blocks * (attention + feed_forward))
    whole = model_cost(config)
    assert cost.rest == whole.total - whole.encoder
    with pytest.raises(ValueError, match="no gates"):
        gated_cost(dataclasses.replace(config, encoder=encoder.dense))
