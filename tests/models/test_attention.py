"""Attention to a limited past: its formula, its blocks, its stream, its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.attention import (
    AttentionState,
    FeedForward,
    RelativeAttention,
    SelfAttention,
    sinusoids,
)

WIDTH, HEADS, LEFT = 8, 2, 3


def make(left: int = LEFT, dtype=jnp.float32) -> RelativeAttention:
    """With biases that are not zero, so that they count."""
    attention = RelativeAttention(WIDTH, HEADS, left, rngs=nnx.Rngs(0), dtype=dtype)
    keys = jax.random.split(jax.random.key(1))
    attention.content_bias[...] = jax.random.normal(keys[0], (WIDTH,))
    attention.position_bias[...] = jax.random.normal(keys[1], (WIDTH,))
    return attention


def by_the_formula(attention: RelativeAttention, x: np.ndarray) -> np.ndarray:
    """Frame by frame, head by head, in float64: [T, D] -> [T, D]."""

    def matrix(layer: nnx.Linear) -> np.ndarray:
        return np.asarray(layer.kernel[...], np.float64)

    q, k, v = (x @ matrix(layer) for layer in (attention.query, attention.key, attention.value))
    table = sinusoids(attention.left + 1, WIDTH) @ np.asarray(attention.position[...], np.float64)
    content = np.asarray(attention.content_bias[...], np.float64)
    position = np.asarray(attention.position_bias[...], np.float64)
    y = np.zeros_like(x)
    for t in range(len(x)):
        past = range(max(0, t - attention.left), t + 1)
        for head in np.split(np.arange(WIDTH), HEADS):
            scores = np.array(
                [
                    (q[t] + content)[head] @ k[s][head]
                    + (q[t] + position)[head] @ table[t - s][head]
                    for s in past
                ]
            ) / np.sqrt(len(head))
            weights = np.exp(scores - scores.max())
            y[t, head] = weights / weights.sum() @ np.stack([v[s][head] for s in past])
    bias = attention.output.bias
    assert bias is not None
    return y @ matrix(attention.output) + np.asarray(bias[...])


def inputs(frames: int, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, frames, WIDTH)).astype(np.float32)


# Fewer frames than reach to the left, one block, several blocks with an end that is not full.
@pytest.mark.parametrize(("left", "frames"), [(3, 2), (3, 9), (3, 40), (20, 47), (0, 5)])
def test_blocks_follow_the_formula(left: int, frames: int):
    attention, x = make(left), inputs(frames)
    y, state = jax.jit(lambda x: attention(x, attention.init_state(2)))(x)
    for row in range(2):
        np.testing.assert_allclose(y[row], by_the_formula(attention, x[row]), atol=1e-5)
    assert state.keys.shape == (2, left, WIDTH)
    assert state.count.tolist() == [min(frames, left)] * 2


def test_a_stream_of_single_frames_follows_the_formula():
    """One row of one frame: here W is multiplied into the query instead of the sinusoids."""
    attention, x = make(), inputs(7, batch=1)
    step = jax.jit(lambda x, state: attention(x, state))
    state, streamed = attention.init_state(1), []
    for t in range(7):
        y, state = step(jnp.asarray(x[:, t : t + 1]), state)
        streamed.append(np.asarray(y[0, 0]))
    np.testing.assert_allclose(streamed, by_the_formula(attention, x[0]), atol=1e-5)


def test_what_is_not_a_frame_yet_is_not_attended_to():
    attention, x = make(), jnp.asarray(inputs(20))
    run = jax.jit(lambda state: attention(x, state)[0])
    clean = attention.init_state(2)
    dirty = AttentionState(clean.keys + 1e3, clean.values + 1e3, clean.count)
    expected = run(clean)
    np.testing.assert_array_equal(run(dirty), expected)
    # The rows of a batch may have begun at different times.
    mixed = AttentionState(dirty.keys, dirty.values, jnp.array([0, LEFT]))
    y = run(mixed)
    np.testing.assert_array_equal(y[0], expected[0])
    assert float(jnp.abs(y[1] - expected[1]).max()) > 1.0


def test_memory_grows_with_the_length_and_not_with_its_square():
    attention = make(left=16)

    def memory(frames: int) -> int:
        def loss(x: jax.Array) -> jax.Array:
            return attention(x, attention.init_state(1))[0].sum()

        shape = jax.ShapeDtypeStruct((1, frames, WIDTH), jnp.float32)
        analysis = jax.jit(jax.grad(loss)).lower(shape).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert memory(4096) < 2.5 * memory(2048)
    assert memory(4096) < 4096 * 4096  # a quarter of one [T, T] of float32


def test_bfloat16_is_close_and_its_softmax_is_float32():
    x = jnp.asarray(inputs(40))

    def run(dtype):
        attention = make(dtype=dtype)

        def loss(x: jax.Array):
            y = attention(x.astype(dtype), attention.init_state(2))[0]
            return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

        jaxpr = str(jax.make_jaxpr(lambda x: loss(x)[1])(x))
        exponentials = [line for line in jaxpr.splitlines() if "= exp " in line]
        assert exponentials
        assert all(":f32[" in line for line in exponentials)
        return jax.jit(jax.grad(loss, has_aux=True))(x)

    (narrow_gradient, narrow), (gradient, wide) = run(jnp.bfloat16), run(jnp.float32)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), wide, atol=0.1)
    np.testing.assert_allclose(narrow_gradient, gradient, atol=0.3)


def test_sinusoids_of_an_offset():
    table = sinusoids(5, 4)
    np.testing.assert_allclose(table[3], [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)], 1e-6)
    assert table.shape == (5, 4)


@pytest.mark.parametrize(("width", "heads", "left"), [(8, 3, 1), (9, 3, 1), (8, 2, -1)])
def test_shapes_that_cannot_be(width: int, heads: int, left: int):
    with pytest.raises(ValueError, match=r"width|left"):
        RelativeAttention(width, heads, left, rngs=nnx.Rngs(0))


def test_parts_are_what_is_added_to_their_input():
    """dropout(f(norm(x))): the residual itself is the block's."""
    x = jnp.asarray(inputs(6))
    part = SelfAttention(WIDTH, HEADS, LEFT, dropout=0.5, rngs=nnx.Rngs(0))
    state = part.init_state(2)
    y, _ = part(x, state)
    np.testing.assert_allclose(y, part.attention(part.norm(x), state)[0], atol=1e-6)
    dropped, _ = part(x, state, key=jax.random.key(0))
    kept = np.asarray(dropped != 0)
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped[kept], 2 * y[kept], rtol=1e-6)

    feed_forward = FeedForward(WIDTH, 16, dropout=0.5, rngs=nnx.Rngs(0))
    y = feed_forward(x)
    hidden = jax.nn.relu(feed_forward.widen(feed_forward.norm(x)))
    np.testing.assert_allclose(y, feed_forward.narrow(hidden), atol=1e-6)
    dropped = feed_forward(x, key=jax.random.key(0))
    kept = np.asarray(dropped != 0)
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped[kept], 2 * y[kept], rtol=1e-6)
