"""ConvRNN-T: streaming contract of every option, sizes, receptive field, batch statistics."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.configs import presets
from parley.models.encoders.conv_rnnt import ConvRNNTConfig, ConvRNNTEncoder
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.keys import weight_keys
from parley.models.normalization import RunningStats
from parley.models.streaming import assert_streaming_contract
from parley.models.transducer import parameter_count

BINS, STACK = 8, 3
SMALL = ConvRNNTConfig(
    lstm=LSTMEncoderConfig(width=6, layers=1, output=5),
    width=8,
    bins=BINS,
    channels=(4, 3),
    frequency_strides=(2, 1),
    global_blocks=2,
    squeeze_reduction=4,
    squeeze_tau=5.0,
    squeeze_window=4,
)
# Each option of the configuration in some case; together where they do not meet in the code.
OPTIONS = {
    "shortcut": {"shortcut": True, "subsample": 2},
    "default": {},
    "one-dimensional, ema, layer norm": {"local": "1d", "squeeze": "ema", "norm": "layer"},
    "global only, window": {"local": "off", "squeeze": "window"},
    "local only, every second frame": {"global_blocks": 0, "subsample": 2},
    "no convolutions": {"local": "off", "global_blocks": 0},
    "parallel, no squeeze": {"global_input": "parallel", "merge": "sum", "squeeze": "off"},
    "neither dilated nor residual": {"dilated": False, "residual": False},
}


def make(dtype=jnp.float32, **options) -> ConvRNNTEncoder:
    config = dataclasses.replace(SMALL, **options)
    encoder = ConvRNNTEncoder(config, STACK * BINS, rngs=nnx.Rngs(0), dtype=dtype)
    # Fresh statistics would hide that they are used at all.
    rng = np.random.default_rng(0)
    for _, variable in nnx.iter_graph(encoder):
        if isinstance(variable, RunningStats):
            variable[...] = jnp.asarray(rng.uniform(0.5, 1.5, variable.shape), jnp.float32)
    return encoder


@pytest.mark.parametrize("name", first_is_quick(OPTIONS))
def test_streaming_contract(name: str):
    assert_streaming_contract(make(**OPTIONS[name]), STACK * BINS)


@pytest.mark.slow
def test_a_global_squeeze_runs_whole_and_refuses_to_stream():
    encoder = make(squeeze="global")
    y, lengths = encoder(jnp.ones((2, 6, STACK * BINS)), jnp.array([6, 3]))
    assert y.shape == (2, 6, 5)
    assert lengths.tolist() == [6, 3]
    with pytest.raises(ValueError, match="cannot stream"):
        encoder.step(jnp.ones((2, 2, STACK * BINS)), encoder.init_state(2))


@pytest.mark.slow
def test_a_global_squeeze_leaves_padding_out():
    encoder = make(squeeze="global")
    x = jax.random.normal(jax.random.key(0), (1, 7, STACK * BINS))
    padded = jnp.concatenate([x, jnp.full((1, 4, STACK * BINS), jnp.nan)], axis=1)
    alone, _ = encoder(x, jnp.array([7]))
    together, _ = encoder(padded, jnp.array([7]))
    np.testing.assert_allclose(together[:, :7], alone, atol=1e-5)


def test_the_convolutional_field_is_what_the_convolutions_reach():
    """Without squeeze and LSTM, gradients reach exactly `convolutional_field` frames back."""
    encoder = make(squeeze="off", global_blocks=2)
    frames = encoder.convolutional_field + 6
    x = jax.random.normal(jax.random.key(1), (1, frames, STACK * BINS))

    @jax.jit
    def last(x: jax.Array) -> jax.Array:
        local, _ = encoder.local(x, encoder.local.init_state(1))
        z = local
        for block in encoder.blocks:
            z, _ = block(z, block.init_state(1))
        # Products, since relu passes nothing on where a sum happens to be negative.
        return jnp.sum(jnp.sin(z[0, -1]) + jnp.sin(local[0, -1]))

    reached = np.flatnonzero(np.abs(np.asarray(jax.grad(last)(x))[0]).max(axis=-1))
    assert frames - reached[0] == encoder.convolutional_field == 1 + 2 * 4 + 2 * (2 + 4)


def test_the_paper_sizes():
    """The global branch of six blocks sees 253 frames, in series with the local encoder 269."""
    config = presets()["conv-rnnt-30m"].model.encoder
    assert isinstance(config, ConvRNNTConfig)
    encoder = nnx.eval_shape(lambda: ConvRNNTEncoder(config, 192, rngs=weight_keys(0)))
    assert encoder.convolutional_field == 269
    assert [block.depthwise.dilation for block in encoder.blocks] == [2, 4, 8, 16, 32, 64]

    def linear(n: int, m: int) -> int:
        return n * m + m

    channels = (3, 100, 100, 64, 64)
    local = sum(25 * n * m + m for n, m in itertools.pairwise(channels))
    local += linear(8 * 64, 320)
    squeeze = linear(320, 20) + linear(20, 320)
    block = linear(320, 640) + 3 * 640 + linear(640, 320) + 2 * (640 + 640 + 320) + squeeze
    fusion = linear(640, 320)
    first, rest = 4 * 640 * (320 + 192 + 640 + 1), 4 * 640 * (640 + 640 + 1)
    lstm = first + 5 * rest + 6 * 2 * 640 + linear(640, 512)
    assert parameter_count(encoder) == local + 6 * block + fusion + lstm == 23_146_780


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("conv-rnnt-tiny", 1_236_100),
        ("conv-rnnt-30m", 32_269_537),
        ("conv-rnnt-large", 119_125_729),
        ("conv-rnnt-paper", 41_780_137),
    ],
)
def test_golden_parameter_counts(name: str, whole: int):
    from parley.models.transducer import Transducer

    config = presets()[name].model
    assert parameter_count(nnx.eval_shape(lambda: Transducer(config, rngs=weight_keys(0)))) == whole


def test_training_moves_the_running_statistics_and_evaluation_does_not():
    encoder = make(dropout=0.0)
    x = jax.random.normal(jax.random.key(2), (3, 9, STACK * BINS))
    lengths = jnp.array([9, 5, 0])

    @jax.jit
    def run(variables, key):
        model = nnx.merge(graphdef, variables)
        y, _ = model(x, lengths, key=key)
        return y, nnx.state(model, RunningStats)

    graphdef, variables = nnx.split(encoder)
    before = nnx.to_pure_dict(nnx.state(encoder, RunningStats))
    still, kept = run(variables, None)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(kept), before)
    moving, moved = run(variables, jax.random.key(0))
    changed = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
        nnx.to_pure_dict(moved),
        before,
    )
    assert all(jax.tree.leaves(changed))
    assert float(jnp.abs(moving - still).max()) > 1e-3


def test_bfloat16_is_close_to_float32():
    x, lengths = jax.random.normal(jax.random.key(0), (2, 8, STACK * BINS)), jnp.array([8, 6])
    narrow, wide = (
        jax.jit(make(dtype).__call__)(x, lengths)[0] for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), wide, atol=0.1)
