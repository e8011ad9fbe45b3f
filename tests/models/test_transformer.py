"""The Transformer encoder: streaming contract, receptive field, sizes counted by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.configs.transformer import PRESETS
from parley.models.encoders.transformer import (
    TransformerBlock,
    TransformerConfig,
    TransformerEncoder,
)
from parley.models.keys import weight_keys
from parley.models.streaming import assert_streaming_contract
from parley.models.transducer import Transducer, parameter_count

SMALL = TransformerConfig(width=8, heads=2, blocks=2, output=6, left=3, expansion=2)
CONFIGS = {
    "small": SMALL,
    "subsampled": dataclasses.replace(SMALL, subsample=2),
    "by threes": dataclasses.replace(SMALL, blocks=1, subsample=3, heads=4),
    "longer past than input": dataclasses.replace(SMALL, blocks=3, left=64),
}


def make(config: TransformerConfig = SMALL, dtype=jnp.float32, **changes) -> TransformerEncoder:
    config = dataclasses.replace(config, **changes)
    return TransformerEncoder(config, 5, rngs=nnx.Rngs(0), dtype=dtype)


@pytest.mark.parametrize("name", first_is_quick(CONFIGS))
def test_streaming_contract(name: str):
    assert_streaming_contract(make(CONFIGS[name]), 5)


@pytest.mark.parametrize(("subsample", "field"), [(1, 2 * 3 + 1), (2, 2 * (2 * 3 + 1))])
def test_receptive_field_is_reached_and_not_passed(subsample: int, field: int):
    encoder = make(subsample=subsample)
    assert (encoder.stride, encoder.lookahead, encoder.receptive_field) == (subsample, 0, field)
    frames = field + 4

    @jax.jit
    def gradient(x: jax.Array) -> jax.Array:
        weights = jnp.arange(1.0, 7.0)
        return jax.grad(lambda x: encoder(x, jnp.array([frames]))[0][0, -1] @ weights)(x)

    x = jax.random.normal(jax.random.key(0), (1, frames, 5))
    depends = np.abs(gradient(x)[0]).max(axis=-1) > 0
    assert np.flatnonzero(depends)[0] == frames - field


def test_shapes_and_lengths():
    encoder = make(subsample=2)
    run = jax.jit(encoder.__call__)
    y, lengths = run(jnp.ones((3, 9, 5)), jnp.array([9, 4, 1]))
    assert y.shape == (3, 4, 6)
    assert lengths.tolist() == [4, 2, 0]
    assert not np.asarray(y[1, 2:]).any()
    y, lengths = run(jnp.ones((1, 1, 5)), jnp.array([1]))
    assert y.shape == (1, 0, 6)
    assert lengths.tolist() == [0]


def test_a_block_is_its_diagram():
    block = TransformerBlock(SMALL, rngs=nnx.Rngs(0))
    x, state = jax.random.normal(jax.random.key(0), (2, 7, 8)), block.init_state(2)

    @jax.jit
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, _ = block(x, state)
        x = x + block.attention(x, state)[0]
        return y, x + block.feed_forward(x)

    np.testing.assert_allclose(*both(x), atol=1e-6)


def test_dropout_follows_the_key():
    encoder = make(dropout=0.5)
    x, lengths = jax.random.normal(jax.random.key(9), (2, 8, 5)), jnp.array([8, 8])
    run = jax.jit(lambda key: encoder(x, lengths, key=key)[0])
    still = run(None)
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.abs(first - still).max()) > 1e-3
    assert float(jnp.abs(first - other).max()) > 1e-3


def test_bfloat16_is_close_to_float32():
    x, lengths = jax.random.normal(jax.random.key(0), (2, 40, 5)), jnp.array([40, 30])
    narrow, wide = (
        jax.jit(make(dtype=dtype).__call__)(x, lengths)[0] for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), wide, atol=0.2)


def test_what_cannot_be():
    encoder = make(subsample=2)
    with pytest.raises(ValueError, match="multiple of 2"):
        encoder.step(jnp.ones((1, 3, 5)), encoder.init_state(1))
    with pytest.raises(ValueError, match="subsample"):
        make(subsample=0)


def encoder_size(config: TransformerConfig, inputs: int) -> int:
    """A linear layer n -> m has n m + m."""
    width, hidden = config.width, config.expansion * config.width
    norm = 2 * width
    # Query, key, value, position and output; two biases of the query, one of the output.
    attention = norm + 5 * width**2 + 3 * width
    feed_forward = norm + (width * hidden + hidden) + (hidden * width + width)
    first = config.subsample * inputs * width + width
    last = norm + width * config.output + config.output
    return first + config.blocks * (attention + feed_forward) + last


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoder_parameters", "parameters"),
    [
        ("tt-tiny", 1_044_304, 1_200_848),
        ("tt-30m", 22_922_432, 32_045_189),
        ("tt-large", 110_172_992, 119_295_749),
    ],
)
def test_parameters_of_the_presets(name: str, encoder_parameters: int, parameters: int):
    config = PRESETS[name].model
    assert isinstance(config.encoder, TransformerConfig)
    assert encoder_size(config.encoder, 192) == encoder_parameters
    model = nnx.eval_shape(lambda: Transducer(config, rngs=weight_keys(0)))
    assert isinstance(model.encoder, TransformerEncoder)
    assert parameter_count(model.encoder) == encoder_parameters
    assert parameter_count(model) == parameters
    assert model.frame_s == pytest.approx(0.03 * config.encoder.subsample)
