"""Batch normalisation: statistics of the frames that count, the same on any number of devices.

Padding must be finite and may then hold anything, and comes out as zeros.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from parley.models.normalization import EPSILON, BatchNorm

BATCH, FRAMES, WIDTH = 16, 7, 3
LENGTHS = np.arange(BATCH) % (FRAMES + 1)
WITHIN = np.arange(FRAMES)[None, :] < LENGTHS[:, None]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Channels of different means and scales."""
    random = np.random.default_rng(0)
    scales, means = np.array([1.0, 30.0, 0.1]), np.array([0.0, 100.0, -5.0])
    x = random.normal(size=(BATCH, FRAMES, WIDTH)) * scales + means
    return x.astype(np.float32)


def layer(**options) -> BatchNorm:
    norm = BatchNorm(WIDTH, **options)
    norm.scale[...] = jnp.array([1.0, 2.0, 3.0])
    norm.bias[...] = jnp.array([0.5, -0.5, 0.0])
    return norm


GRAPHDEF, VARIABLES = nnx.split(layer(momentum=0.75))


@jax.jit
def train(variables, x, within):
    """One training call -> (output, the variables after it)."""
    norm = nnx.merge(GRAPHDEF, variables)
    y = norm(x, within, train=True)
    return y, nnx.state(norm)


def normalised(x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    scale, bias = np.array([1.0, 2.0, 3.0]), np.array([0.5, -0.5, 0.0])
    return (np.float64(x) - mean) / np.sqrt(var + EPSILON) * scale + bias


def test_training_normalises_by_the_frames_that_count(x: np.ndarray):
    counted = np.float64(x[WITHIN])
    mean, var = counted.mean(axis=0), counted.var(axis=0)
    y, after = train(VARIABLES, x, WITHIN)
    expected = np.where(WITHIN[:, :, None], normalised(x, mean, var), 0.0)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    np.testing.assert_allclose(after["mean"][...], 0.25 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after["var"][...], 0.75 + 0.25 * var, rtol=1e-5)


def test_finite_padding_changes_nothing(x: np.ndarray):
    expected, after = train(VARIABLES, np.where(WITHIN[:, :, None], x, np.float32(0.0)), WITHIN)
    y, after_noise = train(VARIABLES, np.where(WITHIN[:, :, None], x, np.float32(1e4)), WITHIN)
    np.testing.assert_array_equal(np.asarray(y)[WITHIN], np.asarray(expected)[WITHIN])
    jax.tree.map(np.testing.assert_array_equal, after_noise, after)


def test_without_a_mask_all_frames_count(x: np.ndarray):
    y, after = train(VARIABLES, x, None)
    all_y, all_after = train(VARIABLES, x, np.ones((BATCH, FRAMES), bool))
    np.testing.assert_allclose(y, all_y, atol=1e-4)
    np.testing.assert_allclose(after["mean"][...], all_after["mean"][...], rtol=1e-6)


def test_a_batch_without_frames_leaves_the_running_statistics(x: np.ndarray):
    y, after = train(VARIABLES, x, np.zeros_like(WITHIN))
    assert np.isfinite(y).all()
    jax.tree.map(np.testing.assert_array_equal, after, VARIABLES)


def test_running_statistics_reach_the_data_and_are_what_evaluation_uses(x: np.ndarray):
    variables = VARIABLES
    for _ in range(60):  # 0.75^60 = 3e-8 of the start is left
        _, variables = train(variables, x, WITHIN)
    norm = nnx.merge(GRAPHDEF, variables)
    counted = np.float64(x[WITHIN])
    expected = normalised(x, counted.mean(axis=0), counted.var(axis=0))
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, atol=1e-4)
    # One frame alone, as in a stream: no statistics of its own.
    alone = norm(jnp.asarray(x[:1, :1]), jnp.zeros((1, 1), bool))
    np.testing.assert_allclose(alone, expected[:1, :1], atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(norm), variables)


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_a_large_mean_costs_the_variance_little(offset: float):
    """Squares of what is left of the mean, not the difference of two large squares."""
    x = np.random.default_rng(1).normal(size=(BATCH, FRAMES, WIDTH)) + offset
    x = x.astype(np.float32)
    _, after = train(VARIABLES, x, WITHIN)
    expected = np.float64(x[WITHIN]).var(axis=0)
    np.testing.assert_allclose((after["var"][...] - 0.75) / 0.25, expected, rtol=1e-3)


def test_gradient_goes_through_the_statistics(x: np.ndarray):
    """Against the closed form, in float64."""
    weights = np.random.default_rng(2).normal(size=x.shape) * WITHIN[:, :, None]

    def loss(x):
        y, _ = train(VARIABLES, x, WITHIN)
        return jnp.sum(y * weights)

    counted, upstream = np.float64(x[WITHIN]), weights[WITHIN] * np.array([1.0, 2.0, 3.0])
    deviation = np.sqrt(counted.var(axis=0) + EPSILON)
    unit = (counted - counted.mean(axis=0)) / deviation
    expected = np.zeros_like(weights)
    expected[WITHIN] = (
        upstream - upstream.mean(axis=0) - unit * (upstream * unit).mean(axis=0)
    ) / deviation
    gradient = np.asarray(jax.jit(jax.grad(loss))(x))
    # Channels of different scales have gradients of different sizes.
    np.testing.assert_allclose(gradient * deviation, expected * deviation, atol=1e-4)


def test_sharded_over_the_batch_it_is_the_same(x: np.ndarray):
    """Rows on eight devices: each has other lengths, so statistics by device would differ."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())

    # Sums as users' programs make them: the tolerance is of a few last digits of float32.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})
    def step(variables, x, within):
        def loss(x):
            y, after = train(variables, x, within)
            return jnp.sum(jnp.sin(y)), (y, after)

        gradient, (y, after) = jax.grad(loss, has_aux=True)(x)
        return gradient, y, after

    expected = step(VARIABLES, x, WITHIN)
    sharded = step(
        jax.device_put(VARIABLES, everywhere), jax.device_put(x, rows), jax.device_put(WITHIN, rows)
    )
    assert len(sharded[1].sharding.device_set) == len(jax.devices()) == 8
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4),
        sharded,
        expected,
    )


def test_statistics_of_bfloat16_are_float32(x: np.ndarray):
    narrow = layer(momentum=0.0, dtype=jnp.bfloat16)
    rounded = jnp.asarray(x).astype(jnp.bfloat16)
    y = narrow(rounded, jnp.asarray(WITHIN), train=True)
    assert (y.dtype, narrow.mean.dtype) == (jnp.bfloat16, jnp.float32)
    counted = np.asarray(rounded).astype(np.float64)[WITHIN]
    np.testing.assert_allclose(narrow.mean[...], counted.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(narrow.var[...], counted.var(axis=0), rtol=1e-4)


def test_running_statistics_are_not_parameters():
    trained, rest = nnx.split_state(nnx.state(layer()), nnx.Param, ...)
    assert set(trained) == {"scale", "bias"}
    assert set(rest) == {"mean", "var"}


def test_padding_does_not_grow_from_layer_to_layer(x: np.ndarray):
    """A channel that is the same in all frames that count, and not in the others, is normalised by
    a deviation of nearly nothing: what padding holds grew by 300 in every layer, until padding was
    infinite and 0 times it no number."""
    silent = np.where(WITHIN[:, :, None], np.float32(1.0), x)

    @jax.value_and_grad
    def loss(x):
        for _ in range(20):
            x, _ = train(VARIABLES, x, WITHIN)
        return jnp.sum(jnp.where(WITHIN[:, :, None], x, 0.0) ** 2)

    value, gradient = loss(silent)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~WITHIN].any()
