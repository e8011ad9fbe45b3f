"""Squeeze-and-excitation: every mode against a loop in float64, whole and streamed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.squeeze import SqueezeExcite, SqueezeMode
from parley.models.streaming import run_in_chunks

WIDTH, REDUCTION, TAU, WINDOW = 6, 2, 4.0, 5
BATCH, FRAMES = 2, 23
STREAMING: list[SqueezeMode] = ["cumulative", "ema", "window"]


def make(mode: SqueezeMode, width: int = WIDTH, dtype=jnp.float32) -> SqueezeExcite:
    squeeze = SqueezeExcite(
        width, REDUCTION, mode, tau=TAU, window=WINDOW, rngs=nnx.Rngs(0), dtype=dtype
    )
    if mode != "off":
        # Biases that matter, and some of the narrow units cut off by their relu.
        for layer, bias in ((squeeze.reduce, 0.3), (squeeze.expand, 1.0)):
            assert layer.bias is not None
            layer.bias[...] = jnp.linspace(-bias, bias, layer.out_features)
    return squeeze


def linear(layer: nnx.Linear, x: np.ndarray) -> np.ndarray:
    assert layer.bias is not None
    return x @ np.asarray(layer.kernel[...]).astype(np.float64) + np.asarray(layer.bias[...])


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.normal(size=(BATCH, FRAMES, WIDTH)) + 0.5).astype(np.float32)


def gated(squeeze: SqueezeExcite, y: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The definition, in float64, for means that broadcast against y."""
    gate = linear(squeeze.expand, np.maximum(linear(squeeze.reduce, mean), 0.0))
    return y / (1.0 + np.exp(-gate))


def mean_up_to(y: np.ndarray, t: int, mode: SqueezeMode) -> np.ndarray:
    """[B, D]: of frames 0 ... t, float64."""
    age = t - np.arange(t + 1.0)
    weights = {
        "cumulative": np.ones(t + 1),
        "ema": np.exp(-age / TAU),
        "window": np.float64(age < WINDOW),
    }[mode]
    return np.einsum("btd,t->bd", np.float64(y[:, : t + 1]), weights) / weights.sum()


@pytest.mark.parametrize("mode", STREAMING)
def test_causal_modes_are_the_loop_whole_and_in_chunks(mode: SqueezeMode, y: np.ndarray):
    squeeze = make(mode)
    means = np.stack([mean_up_to(y, t, mode) for t in range(FRAMES)], axis=1)
    expected = gated(squeeze, y, means)
    run = jax.jit(lambda y, state: squeeze(y, state))
    start = squeeze.init_state(BATCH)
    whole, end = run(y, start)
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    assert jax.tree.map(jnp.shape, end) == jax.tree.map(jnp.shape, start)
    # Chunks shorter than the window, as long, and longer.
    for sizes in ((1,), (2, 5), (11,)):
        streamed = run_in_chunks(run, start, y, sizes, 1)
        np.testing.assert_allclose(streamed, expected, atol=1e-5)


@pytest.mark.parametrize("mode", STREAMING)
def test_a_chunk_of_no_frames_changes_nothing(mode: SqueezeMode, y: np.ndarray):
    squeeze = make(mode)
    run = jax.jit(lambda y, state: squeeze(y, state))
    _, state = run(y, squeeze.init_state(BATCH))
    empty, same = run(y[:, :0], state)
    assert empty.shape == (BATCH, 0, WIDTH)
    jax.tree.map(np.testing.assert_array_equal, same, state)


@pytest.mark.parametrize("mode", STREAMING)
def test_no_frame_sees_a_later_one(mode: SqueezeMode, y: np.ndarray):
    squeeze = make(mode)
    start = squeeze.init_state(BATCH)
    gradient = jax.jit(jax.grad(lambda y: jnp.sum(squeeze(y, start)[0][:, 9])))(jnp.asarray(y))
    first = 10 - WINDOW if mode == "window" else 0
    depends = np.abs(gradient).max(axis=(0, 2)) > 0
    assert not depends[10:].any()
    assert depends[first:10].all()


def test_global_is_the_mean_of_the_frames_that_count(y: np.ndarray):
    squeeze = make("global")
    lengths = np.array([FRAMES, 7])
    within = np.arange(FRAMES)[None, :] < lengths[:, None]
    run = jax.jit(lambda y: squeeze(y, squeeze.init_state(BATCH), jnp.asarray(within))[0])
    mean = np.stack([np.float64(y[b, :n]).mean(axis=0) for b, n in enumerate(lengths)])
    np.testing.assert_allclose(run(y), gated(squeeze, y, mean[:, None]), atol=1e-5)
    # Padding that is finite is not seen.
    padded = np.where(within[:, :, None], y, np.float32(1e3))
    np.testing.assert_array_equal(np.asarray(run(padded))[within], np.asarray(run(y))[within])


def test_global_of_no_frames_is_finite():
    squeeze = make("global")
    empty = jnp.zeros((BATCH, 4), bool)
    gate, _ = squeeze(jnp.ones((BATCH, 4, WIDTH)), squeeze.init_state(BATCH), empty)
    assert np.isfinite(gate).all()


def test_global_refuses_to_stream(y: np.ndarray):
    squeeze = make("global")
    with pytest.raises(ValueError, match='cannot stream: use squeeze="cumulative"'):
        squeeze(jnp.asarray(y), squeeze.init_state(BATCH))


def test_off_has_no_weights_and_gives_its_input(y: np.ndarray):
    squeeze = make("off")
    assert not jax.tree.leaves(nnx.state(squeeze))
    same, _ = squeeze(jnp.asarray(y), squeeze.init_state(BATCH))
    np.testing.assert_array_equal(same, y)


@pytest.mark.parametrize("chunk", [1_000, 100_000])
def test_an_hour_keeps_its_precision(chunk: int):
    """1e5 frames of 30 ms: sums of float32 that grow to 1e5, whole and in chunks."""
    frames = 100_000
    y = np.random.default_rng(0).uniform(size=(1, frames, 2)).astype(np.float32)
    squeeze = make("cumulative", width=2)
    count = np.arange(1.0, frames + 1.0)[None, :, None]
    expected = gated(squeeze, y, np.cumsum(np.float64(y), axis=1) / count)
    run = jax.jit(lambda y, state: squeeze(y, state))
    streamed = run_in_chunks(run, squeeze.init_state(1), y, (chunk,), 1)
    np.testing.assert_allclose(streamed, expected, atol=1e-5)


def test_sums_of_bfloat16_are_float32(y: np.ndarray):
    squeeze = make("cumulative", dtype=jnp.bfloat16)
    narrow = jnp.asarray(y).astype(jnp.bfloat16)
    out, state = squeeze(narrow, squeeze.init_state(BATCH))
    assert (out.dtype, state.total.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(
        state.total, np.float64(narrow.astype(jnp.float32)).sum(axis=1), rtol=1e-5
    )
