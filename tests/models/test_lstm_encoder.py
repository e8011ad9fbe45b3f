"""The LSTM encoder: streaming contract, sizes, dropout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.models.encoders.lstm import LSTMEncoder, LSTMEncoderConfig
from parley.models.streaming import assert_streaming_contract

CONFIGS = {
    "plain": LSTMEncoderConfig(width=8, layers=2, output=6),
    "reduced": LSTMEncoderConfig(width=8, layers=2, output=6, reduce_after=1),
    "normed": LSTMEncoderConfig(width=8, layers=2, output=6, reduce_after=1, norm=True),
}


def make(name: str, dtype=jnp.float32, **changes) -> LSTMEncoder:
    config = dataclasses.replace(CONFIGS[name], **changes)
    return LSTMEncoder(config, 5, rngs=nnx.Rngs(0), dtype=dtype)


@pytest.mark.parametrize("name", first_is_quick(CONFIGS))
def test_streaming_contract(name: str):
    assert_streaming_contract(make(name), 5)


@pytest.mark.parametrize(("name", "stride"), [("plain", 1), ("reduced", 2)])
def test_shapes_and_lengths(name: str, stride: int):
    encoder = make(name)
    y, lengths = encoder(jnp.ones((3, 9, 5)), jnp.array([9, 4, 1]))
    assert encoder.stride == stride
    assert (encoder.lookahead, encoder.receptive_field) == (0, None)
    assert y.shape == (3, 9 // stride, 6)
    assert lengths.tolist() == [9 // stride, 4 // stride, 1 // stride]
    assert not np.asarray(y[1, 4 // stride :]).any()


def test_dropout_follows_the_key():
    encoder = make("normed", dropout=0.5)
    x, lengths = jnp.ones((2, 8, 5)), jnp.array([8, 8])
    run = jax.jit(lambda key: encoder(x, lengths, key=key)[0])
    still = run(None)
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.abs(first - still).max()) > 1e-3
    assert float(jnp.abs(first - other).max()) > 1e-3


def test_bfloat16_is_close_to_float32():
    x, lengths = jax.random.normal(jax.random.key(0), (2, 8, 5)), jnp.array([8, 6])
    narrow, wide = (
        jax.jit(make("normed", dtype).__call__)(x, lengths)[0]
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), wide, atol=0.1)


def test_a_chunk_is_a_multiple_of_the_stride():
    encoder = make("reduced")
    with pytest.raises(ValueError, match="multiple of 2"):
        encoder.step(jnp.ones((1, 3, 5)), encoder.init_state(1))


@pytest.mark.parametrize("after", [0, 2])
def test_reduction_lies_between_two_layers(after: int):
    with pytest.raises(ValueError, match="reduce_after"):
        make("reduced", reduce_after=after)
