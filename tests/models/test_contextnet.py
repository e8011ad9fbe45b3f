"""ContextNet: streaming contract, field of the convolutions, batch statistics, sizes by hand."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.configs.contextnet import PRESETS
from parley.models.encoders.contextnet import (
    ContextNetBlock,
    ContextNetConfig,
    ContextNetEncoder,
)
from parley.models.keys import weight_keys
from parley.models.normalization import RunningStats
from parley.models.streaming import assert_streaming_contract
from parley.models.transducer import Transducer, parameter_count
from parley.train.recipe import recipe_from_dict, recipe_to_dict

SMALL = ContextNetConfig(
    widths=(8, 16, 8), output=6, layers=2, kernel=3, strided=(1,), squeeze_window=4
)
CONFIGS = {
    "stride 1": dataclasses.replace(SMALL, strided=()),
    "strided, ema": dataclasses.replace(SMALL, squeeze="ema", squeeze_tau=3.0),
    "no squeeze": dataclasses.replace(SMALL, squeeze="off", strided=(1, 2)),
    "strided at the ends": dataclasses.replace(SMALL, strided=(0, 2)),
    "window, one layer": dataclasses.replace(SMALL, squeeze="window", layers=1, kernel=4),
}


def make(config: ContextNetConfig = SMALL, dtype=jnp.float32, **changes) -> ContextNetEncoder:
    """An encoder whose batch norms do something without training."""
    config = dataclasses.replace(config, **changes)
    encoder = ContextNetEncoder(config, 5, rngs=nnx.Rngs(0), dtype=dtype)
    random = np.random.default_rng(0)
    for _, stats in nnx.iter_graph(encoder):
        if isinstance(stats, RunningStats):
            stats[...] = jnp.asarray(random.uniform(0.5, 1.5, stats.shape), jnp.float32)
    return encoder


def trained_call(encoder: ContextNetEncoder):
    """Jitted `(x, lengths, key) -> (y, the encoder's running statistics after the call)`."""
    graphdef, variables = nnx.split(encoder)

    @jax.jit
    def call(variables, x, lengths, key):
        encoder = nnx.merge(graphdef, variables)
        y, _ = encoder(x, lengths, key=key)
        return y, nnx.state(encoder, RunningStats)

    return lambda x, lengths, key: call(variables, x, jnp.asarray(lengths), key)


@pytest.mark.parametrize("name", first_is_quick(CONFIGS))
def test_streaming_contract(name: str):
    assert_streaming_contract(make(CONFIGS[name]), 5)


@pytest.mark.parametrize(
    ("strided", "field"),
    # Kernels of 3: two frames more for each of the 1 + 2 + 1 layers, times the stride before it.
    [((), 1 + 2 * 4), ((1,), 1 + 2 * (1 + 2 + 2)), ((0, 2), 1 + 2 * (1 + 2 * 2 + 2))],
)
def test_field_of_the_convolutions_is_reached_and_not_passed(strided: tuple[int, ...], field: int):
    encoder = make(squeeze="off", strided=strided)
    assert encoder.convolutional_field == encoder.receptive_field == field
    assert make(strided=strided).receptive_field is None
    frames = field + 5
    frames += -frames % encoder.stride

    @jax.jit
    def gradient(x: jax.Array) -> jax.Array:
        weights = jnp.arange(1.0, 7.0)
        return jax.grad(lambda x: encoder(x, jnp.array([frames]))[0][0, -1] @ weights)(x)

    x = jax.random.normal(jax.random.key(0), (1, frames, 5))
    depends = np.abs(gradient(x)[0]).max(axis=-1) > 0
    assert np.flatnonzero(depends)[0] == frames - field


def test_shapes_and_lengths():
    encoder = make(strided=(1, 2))
    y, lengths = jax.jit(encoder.__call__)(jnp.ones((3, 11, 5)), jnp.array([11, 4, 3]))
    assert (encoder.stride, encoder.lookahead) == (4, 0)
    assert y.shape == (3, 2, 6)
    assert lengths.tolist() == [2, 1, 0]
    assert not np.asarray(y[1, 1:]).any()
    assert not np.asarray(y[2]).any()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_its_diagram(stride: int):
    block = ContextNetBlock(SMALL, 5, 8, layers=2, stride=stride, rngs=nnx.Rngs(0))
    x, state = jax.random.normal(jax.random.key(0), (2, 8, 5)), block.init_state(2)

    @jax.jit
    def diagram(x):
        y = x
        for layer, before in zip(block.layers, state.convolutions, strict=True):
            y = layer.pointwise(layer.depthwise(y, before)[0])
            y = jax.nn.swish(layer.norm(y))
        y = block.squeeze(y, state.squeeze)[0]
        # Of a pair of frames, the residual is of the second.
        z = x.reshape(2, 8 // stride, stride, 5)[:, :, -1]
        assert block.shortcut is not None
        assert block.shortcut_norm is not None
        return jax.nn.swish(y + block.shortcut_norm(block.shortcut(z)))

    y, _ = jax.jit(lambda x: block(x, state))(x)
    np.testing.assert_allclose(y, diagram(x), atol=1e-6)


def test_training_leaves_padding_out():
    """Behind strides too: however far the batch is padded, outputs and statistics stay."""
    call = trained_call(make(strided=(1, 2), dropout=0.0))
    x = np.random.default_rng(0).normal(size=(2, 20, 5)).astype(np.float32)
    x[0, 12:], x[1, 9:] = np.nan, 1e3
    y, stats = call(x[:, :12], [12, 9], jax.random.key(0))
    padded, padded_stats = call(x, [12, 9], jax.random.key(0))
    np.testing.assert_allclose(padded[:, :3], y, atol=1e-5)
    assert not np.asarray(padded)[:, 3:].any()
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), padded_stats, stats
    )


def test_a_pair_of_frames_counts_in_the_statistics_if_it_is_whole():
    block = ContextNetBlock(SMALL, 5, 8, layers=1, stride=2, rngs=nnx.Rngs(0))
    x, state = jax.random.normal(jax.random.key(0), (2, 6, 5)), block.init_state(2)
    within = jnp.arange(6)[None, :] < jnp.array([6, 5])[:, None]
    assert block.shortcut is not None
    assert block.shortcut_norm is not None
    layer = block.layers[0]
    before = {
        layer.norm: layer.pointwise(layer.depthwise(x, state.convolutions[0])[0]),
        block.shortcut_norm: block.shortcut(x[:, 1::2]),
    }
    block(x, state, within, jax.random.key(0))
    for norm, activations in before.items():
        counted = np.concatenate([activations[0, :3], activations[1, :2]])
        moved = norm.mean[...] / (1.0 - norm.momentum)
        np.testing.assert_allclose(moved, counted.mean(axis=0), atol=1e-5)


def test_training_follows_the_key_and_moves_the_running_statistics():
    encoder = make(dropout=0.5)
    call = trained_call(encoder)
    x = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)
    first, again, other = (call(x, [8, 6], jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], again[0])
    assert float(jnp.abs(first[0] - other[0]).max()) > 1e-3
    before = jax.tree.leaves(nnx.state(encoder, RunningStats))
    assert len(before) == 2 * (1 + 2 + 1 + 1)  # of every layer and the shortcut
    for old, new in zip(before, jax.tree.leaves(first[1]), strict=True):
        assert float(jnp.abs(old - new).max()) > 0


def test_every_parameter_has_a_gradient():
    graphdef, params, rest = nnx.split(make(), nnx.Param, ...)
    x = jax.random.normal(jax.random.key(0), (2, 12, 5))

    @jax.jit
    def loss(params, rest):
        encoder = nnx.merge(graphdef, params, rest)
        y, _ = encoder(x, jnp.array([12, 9]), key=jax.random.key(1))
        return jnp.sum(jnp.sin(y))

    for path, value in nnx.to_flat_state(jax.jit(jax.grad(loss))(params, rest)):
        assert np.isfinite(value[...]).all(), path
        assert np.abs(value[...]).max() > 1e-6, path


def test_bfloat16_is_close_to_float32():
    x, lengths = jax.random.normal(jax.random.key(0), (2, 40, 5)), jnp.array([40, 30])
    narrow, wide = (
        jax.jit(make(dtype=dtype).__call__)(x, lengths)[0] for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), wide, atol=0.1)


def test_a_chunk_is_a_multiple_of_the_stride():
    encoder = make(strided=(1, 2))
    with pytest.raises(ValueError, match="multiple of 4 frames, not 6"):
        encoder.step(jnp.ones((1, 6, 5)), encoder.init_state(1))


def test_a_global_squeeze_refuses_to_stream_but_encodes():
    encoder = make(squeeze="global")
    y, _ = jax.jit(encoder.__call__)(jnp.ones((1, 6, 5)), jnp.array([6]))
    assert np.isfinite(y).all()
    with pytest.raises(ValueError, match="cannot stream"):
        encoder.step(jnp.ones((1, 6, 5)), encoder.init_state(1))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"widths": (8,)}, "needs two blocks"),
        ({"layers": 0}, "needs two blocks and a layer"),
        ({"strided": (1, 3)}, r"strided blocks \(1, 3\) are not all among 0 ... 2"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict, fault: str):
    with pytest.raises(ValueError, match=fault):
        make(**changes)


def encoder_size(inputs: int, widths: tuple[int, ...], layers: int, output: int) -> int:
    """Parameters of an encoder with kernels of 5 and a reduction of 8."""
    total, size = 0, inputs
    for index, width in enumerate(widths):
        inner = 0 < index < len(widths) - 1
        norm, narrow = 2 * width, width // 8
        total += 5 * size + size * width + norm  # the first layer
        total += (layers - 1 if inner else 0) * (5 * width + width**2 + norm)
        total += (width * narrow + narrow) + (narrow * width + width)  # squeeze and excitation
        total += size * width + norm if inner else 0  # shortcut
        size = width
    return total + (size * output + output)


# Inputs, channels in runs of blocks, layers, output; the golden count of the encoder; its stride.
ENCODERS = {
    "contextnet-tiny": (192, ((144, 4), (208, 3), (256, 1)), 3, 128, 953_142, 2),
    "contextnet-30m": (192, ((256, 11), (504, 11), (632, 1)), 5, 512, 22_431_612, 2),
    "contextnet-0.5": (64, ((128, 11), (256, 11), (320, 1)), 5, 512, 5_906_744, 8),
    "contextnet-1": (64, ((256, 11), (512, 11), (640, 1)), 5, 512, 22_964_016, 8),
}
WHOLE = {"contextnet-tiny": 1_109_686, "contextnet-30m": 31_554_369}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_parameters_of_the_presets(name: str):
    inputs, runs, layers, output, golden, stride = ENCODERS[name]
    widths = tuple(width for width, blocks in runs for _ in range(blocks))
    assert encoder_size(inputs, widths, layers, output) == golden
    model = nnx.eval_shape(lambda: Transducer(PRESETS[name].model, rngs=weight_keys(0)))
    assert isinstance(model.encoder, ContextNetEncoder)
    assert parameter_count(model.encoder) == golden
    assert model.encoder.stride == stride
    assert model.frame_s == pytest.approx(0.08 if stride == 8 else 0.06)
    if name in WHOLE:
        assert parameter_count(model) == WHOLE[name]


def test_matched_size_is_within_five_percent():
    assert abs(WHOLE["contextnet-30m"] / 31_500_000 - 1.0) < 0.05


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str):
    recipe = PRESETS[name]
    assert recipe.name == name
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe
