"""The LSTM against its formulas, and its own gradient against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.layers import LSTM, dropout, lstm_scan


@pytest.fixture(scope="module")
def lstm() -> LSTM:
    return LSTM(5, 4, rngs=nnx.Rngs(0))


def reference(lstm: LSTM, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Textbook LSTM, float64, one row: x [T, D] -> (y [T, H], last c [H])."""
    kernel, recurrent, bias = (
        np.asarray(p[...], np.float64) for p in (lstm.kernel, lstm.recurrent, lstm.bias)
    )
    h = c = np.zeros(lstm.width)
    outputs = []
    for frame in x:
        i, f, g, o = np.split(frame @ kernel + h @ recurrent + bias, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), c


def test_lstm_is_the_textbooks(lstm: LSTM):
    x = np.random.default_rng(0).normal(size=(2, 6, 5))
    y, state = lstm(jnp.asarray(x, jnp.float32))
    for row in range(2):
        expected, cell = reference(lstm, x[row])
        np.testing.assert_allclose(y[row], expected, atol=1e-6)
        np.testing.assert_allclose(state.c[row], cell, atol=1e-6)
        np.testing.assert_allclose(state.h[row], expected[-1], atol=1e-6)


def test_lstm_goes_on_from_its_state(lstm: LSTM):
    x = jax.random.normal(jax.random.key(0), (2, 7, 5))
    whole, _ = lstm(x)
    first, state = lstm(x[:, :3])
    second, _ = lstm(x[:, 3:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, atol=1e-6)


def test_initial_weights(lstm: LSTM):
    gates = np.asarray(lstm.bias[...]).reshape(4, 4).mean(axis=1)
    np.testing.assert_allclose(gates, [0, 1, 0, 0], atol=0.25)
    assert (np.asarray(lstm.bias[...]) != 0).all(), "see ENTRY_BIAS"
    for gate in np.split(np.asarray(lstm.recurrent[...]), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-5)


def test_gradient_is_autodiffs_in_float64():
    """All four gradients, with cotangents on every output, where rounding cannot hide an error."""

    def plain(projected, recurrent, h, c):
        def step(carry, projected_t):
            h, c = carry
            i, f, g, o = jnp.split(projected_t + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        (h, c), hidden = jax.lax.scan(step, (h, c), projected)
        return hidden, h, c

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 7)
        shapes = [(5, 3, 16), (4, 16), (3, 4), (3, 4)]
        inputs = [
            jax.random.normal(key, shape, jnp.float64)
            for key, shape in zip(keys, shapes, strict=False)
        ]
        cotangents = tuple(
            jax.random.normal(key, shape, jnp.float64)
            for key, shape in zip(keys[4:], [(5, 3, 4), (3, 4), (3, 4)], strict=True)
        )
        ours, our_pull = jax.vjp(lstm_scan, *inputs)
        autodiff, pull = jax.vjp(plain, *inputs)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), ours, autodiff)
        for actual, expected in zip(our_pull(cotangents), pull(cotangents), strict=True):
            assert actual.dtype == jnp.float64
            np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


def test_bfloat16_keeps_cell_and_parameters_wide():
    narrow = LSTM(5, 4, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    wide = LSTM(5, 4, rngs=nnx.Rngs(0))
    graphdef, parameters = nnx.split(narrow)
    x = jax.random.normal(jax.random.key(0), (2, 6, 5))

    @jax.jit
    def run(parameters):
        y, state = nnx.merge(graphdef, parameters)(x)
        return y.astype(jnp.float32).sum(), (y, state)

    gradients, (y, state) = jax.grad(run, has_aux=True)(parameters)
    assert (y.dtype, state.h.dtype, state.c.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((parameters, gradients)))
    np.testing.assert_allclose(y.astype(jnp.float32), wide(x)[0], atol=0.02)


def test_dropout_needs_a_key_and_keeps_the_mean():
    x = jnp.ones((200, 100))
    assert dropout(x, 0.3, None) is x
    dropped = dropout(x, 0.3, jax.random.key(0))
    assert float((dropped == 0).mean()) == pytest.approx(0.3, abs=0.02)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
