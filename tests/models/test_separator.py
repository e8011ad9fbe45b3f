"""The separator encoder: streaming contract, channels, what it shares with a plain LSTM encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.models.encoders.lstm import LSTMEncoder, LSTMEncoderConfig
from parley.models.encoders.separator import SeparatorConfig, SeparatorEncoder
from parley.models.layers import LSTM
from parley.models.streaming import assert_streaming_contract

TIED = SeparatorConfig(width=8, mixture=1, separation=1, recognition=1, output=6)
CONFIGS = {
    "tied": TIED,
    "untied": dataclasses.replace(TIED, tied=False, separation=2),
    "reduced": dataclasses.replace(TIED, recognition=3, reduce_after=1, channels=3),
    "one channel": dataclasses.replace(TIED, channels=1, norm=False),
}


def make(config: SeparatorConfig, seed: int = 0) -> SeparatorEncoder:
    return SeparatorEncoder(config, 5, rngs=nnx.Rngs(seed))


@pytest.mark.parametrize("name", first_is_quick(CONFIGS))
def test_streaming_contract(name: str):
    assert_streaming_contract(make(CONFIGS[name]), 5)


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_channels_differ_and_lie_in_turn(name: str):
    encoder = make(CONFIGS[name])
    x = jax.random.normal(jax.random.key(0), (2, 7, 5))
    y, lengths, activity = encoder.separate(x, jnp.array([7, 4]))
    assert y.shape == (4, 7, 6)
    assert activity.shape == (4, 7)
    assert lengths.tolist() == [7, 7, 4, 4]
    assert float(jnp.abs(y[0] - y[1]).max()) > 1e-3
    # Rows 2 and 3 are the second recording's: the first one's do not change them.
    again = encoder.separate(x.at[0].set(0.0), jnp.array([7, 4])).encoded
    np.testing.assert_array_equal(again[2:], y[2:])
    assert float(jnp.abs(again[:2] - y[:2]).max()) > 1e-3


def test_a_label_is_a_one_hot_input():
    """The layer with `added` = rows of a larger kernel for inputs that say the channel."""
    layer = LSTM(5, 8, rngs=nnx.Rngs(0))
    wide = LSTM(7, 8, rngs=nnx.Rngs(1))
    label = wide.kernel[...][5:]
    wide.kernel[...] = jnp.concatenate([layer.kernel[...], label])
    wide.recurrent[...], wide.bias[...] = layer.recurrent[...], layer.bias[...]
    x = jax.random.normal(jax.random.key(0), (2, 6, 5))
    one_hot = jnp.broadcast_to(jnp.eye(2)[:, None, :], (2, 6, 2))
    expected, _ = wide(jnp.concatenate([x, one_hot], axis=-1))
    np.testing.assert_allclose(layer(x, None, label)[0], expected, atol=1e-6)


def test_one_channel_is_an_lstm_encoder():
    """And two tied ones, their label set to zero, are that encoder twice."""
    plain = LSTMEncoder(
        LSTMEncoderConfig(width=8, layers=3, output=6, norm=True), 5, rngs=nnx.Rngs(3)
    )
    x, lengths = jax.random.normal(jax.random.key(0), (2, 7, 5)), jnp.array([7, 3])
    expected, _ = plain(x, lengths)
    for channels in (1, 2):
        encoder = make(dataclasses.replace(TIED, channels=channels))
        encoder.layers, encoder.norms, encoder.output = plain.layers, plain.norms, plain.output
        if channels > 1:
            encoder.label[...] = jnp.zeros_like(encoder.label[...])
        y, _ = encoder(x, lengths)
        np.testing.assert_allclose(y, jnp.repeat(expected, channels, axis=0), atol=1e-6)


def test_untied_channels_have_their_own_weights():
    encoder = make(CONFIGS["untied"])
    counts = [
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(part, nnx.Param)))
        for part in (encoder.untied, encoder.untied_norms)
    ]
    lstm = 8 * 32 + 8 * 32 + 32
    assert counts == [2 * lstm, 2 * 16]
    assert not hasattr(encoder, "label")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"separation": 0}, "at least one layer"),
        ({"channels": 0}, "at least one layer"),
        ({"reduce_after": 1}, "reduce_after"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        make(dataclasses.replace(TIED, **change))
