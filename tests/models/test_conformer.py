"""The Conformer: streaming contract, receptive field, sizes counted by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.configs.conformer import PRESETS
from parley.models.encoders.conformer import ConformerBlock, ConformerConfig, ConformerEncoder
from parley.models.keys import weight_keys
from parley.models.streaming import assert_streaming_contract
from parley.models.transducer import Transducer, parameter_count

SMALL = ConformerConfig(width=8, heads=2, blocks=2, output=6, left=2, kernel=3, expansion=2)
CONFIGS = {
    "small": SMALL,
    "subsampled": dataclasses.replace(SMALL, subsample=2),
    "longer past than input": dataclasses.replace(SMALL, blocks=1, left=64, kernel=15, heads=1),
}


def make(config: ConformerConfig = SMALL, dtype=jnp.float32, **changes) -> ConformerEncoder:
    config = dataclasses.replace(config, **changes)
    return ConformerEncoder(config, 5, rngs=nnx.Rngs(0), dtype=dtype)


@pytest.mark.parametrize("name", first_is_quick(CONFIGS))
def test_streaming_contract(name: str):
    assert_streaming_contract(make(CONFIGS[name]), 5)


@pytest.mark.parametrize(("subsample", "field"), [(1, 2 * (2 + 2) + 3), (2, 2 * 2 * (2 + 2) + 3)])
def test_receptive_field_is_reached_and_not_passed(subsample: int, field: int):
    encoder = make(subsample=subsample)
    assert (encoder.stride, encoder.lookahead, encoder.receptive_field) == (subsample, 0, field)
    frames = field + 5
    frames += -frames % subsample

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
    block = ConformerBlock(SMALL, rngs=nnx.Rngs(0))
    x, state = jax.random.normal(jax.random.key(0), (2, 7, 8)), block.init_state(2)

    @jax.jit
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, _ = block(x, state)
        x = x + 0.5 * block.first(x)
        x = x + block.attention(x, state.attention)[0]
        x = x + block.convolution(x, state.convolution)[0]
        x = x + 0.5 * block.second(x)
        return y, block.norm(x)

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


def test_a_chunk_is_a_multiple_of_the_stride():
    encoder = make(subsample=2)
    with pytest.raises(ValueError, match="multiple of 2"):
        encoder.step(jnp.ones((1, 3, 5)), encoder.init_state(1))


def encoder_size(width: int, blocks: int, kernel: int, expansion: int, output: int) -> int:
    """Parameters of an encoder of 192 inputs; a linear layer n -> m has n m + m."""
    norm = 2 * width
    hidden = expansion * width
    feed_forward = norm + (width * hidden + hidden) + (hidden * width + width)
    # Query, key, value, position and output; two biases of the query, one of the output.
    attention = norm + 5 * width**2 + 3 * width
    convolution = (
        norm + (width * 2 * width + 2 * width) + kernel * width + norm + (width**2 + width)
    )
    block = 2 * feed_forward + attention + convolution + norm
    first = (3 * 192 * width + width) + (width**2 + width)
    return first + blocks * block + (width * output + output)


@pytest.mark.slow
# The papers' sizes count another input, a kernel of 32 and a label encoder.
@pytest.mark.parametrize(
    ("name", "width", "blocks", "encoder_parameters", "parameters"),
    [
        ("conformer-s", 144, 16, 8_239_904, 17_362_661),
        ("conformer-m", 256, 16, 25_687_040, 34_809_797),
        ("conformer-30m", 256, 14, 22_519_296, 31_642_053),
        ("conformer-large", 512, 17, 108_149_760, 117_272_517),
    ],
)
def test_parameters_of_the_presets(
    name: str, width: int, blocks: int, encoder_parameters: int, parameters: int
):
    assert encoder_size(width, blocks, 15, 4, 512) == encoder_parameters
    config = PRESETS[name].model
    assert isinstance(config.encoder, ConformerConfig)
    heads = 8 if name == "conformer-large" else 4
    assert (config.encoder.heads, config.encoder.left, config.encoder.subsample) == (heads, 64, 1)
    model = nnx.eval_shape(lambda: Transducer(config, rngs=weight_keys(0)))
    assert isinstance(model.encoder, ConformerEncoder)
    assert parameter_count(model.encoder) == encoder_parameters
    assert parameter_count(model) == parameters


def test_the_tiny_preset():
    config = PRESETS["conformer-tiny"].model
    model = nnx.eval_shape(lambda: Transducer(config, rngs=weight_keys(0)))
    assert isinstance(model.encoder, ConformerEncoder)
    assert parameter_count(model.encoder) == encoder_size(96, 4, 15, 4, 128) == 978_368
    assert parameter_count(model) == 1_134_912
    assert model.frame_s == pytest.approx(0.06)
