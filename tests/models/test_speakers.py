"""Speaker encoders: their papers' sizes, and what stands behind a recording changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.frontend import FrontendConfig
from parley.models.speakers.ecapa import EcapaConfig
from parley.models.speakers.layers import TimeConv
from parley.models.speakers.network import (
    SpeakerConfig,
    SpeakerNet,
    normalized,
    speaker_cost,
)
from parley.models.speakers.pooling import AttentiveStatistics, weighted_statistics
from parley.models.speakers.resnet import ResNetConfig


def front(bins: int, stack: int = 1) -> FrontendConfig:
    return FrontendConfig(bins=bins, stack=stack, mean_tau_s=0.0, tail_s=0.0)


TINY = {
    "ecapa": SpeakerConfig(
        EcapaConfig(width=16, scale=4, squeeze=4, aggregated=24, attention=8, output=10),
        front(16, 2),
    ),
    "resnet": SpeakerConfig(
        ResNetConfig(channels=(4, 8), blocks=(1, 1), squeeze_reduction=2, attention=4, output=6),
        front(16),
    ),
}


@pytest.fixture(scope="module", params=list(TINY))
def tiny(request: pytest.FixtureRequest):
    """(config, model with statistics of its own, the model as a compiled function)."""
    config = TINY[request.param]
    model = SpeakerNet(config, rngs=nnx.Rngs(1))
    # Statistics, scales and biases away from 0 and 1, so that padding would show.
    rng = np.random.default_rng(0)
    graphdef, variables = nnx.split(model)
    variables = jax.tree.map(
        lambda x: x + jnp.asarray(np.abs(rng.normal(0, 0.3, x.shape)), x.dtype), variables
    )
    run = jax.jit(lambda samples, lengths: nnx.merge(graphdef, variables)(samples, lengths))
    return config, nnx.merge(graphdef, variables), run


def noise(rows: int, seconds: float = 0.9) -> np.ndarray:
    rng = np.random.default_rng(rows)
    return rng.normal(0, 3000, (rows, int(16_000 * seconds))).astype(np.float32) / 32768


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        # Desplanques et al. 2020, table 1: 6.2 M and 14.7 M, over 80 bins.
        (SpeakerConfig(EcapaConfig(width=512), front(80)), 6_191_360),
        (SpeakerConfig(EcapaConfig(width=1024), front(80)), 14_657_728),
        # Heo et al. 2020, H / ASP: 8.0 M, over 64 bins.
        (SpeakerConfig(ResNetConfig(), front(64)), 8_028_460),
    ],
)
def test_the_papers_sizes(config: SpeakerConfig, parameters: int):
    assert speaker_cost(config).parameters == parameters


def test_what_stands_behind_the_end_changes_nothing(tiny):
    _, _, run = tiny
    samples = noise(3)
    lengths = np.array([14_400, 9_000, 5_111], np.int32)
    whole = run(samples, lengths)
    assert np.isfinite(whole).all()
    spoilt = samples.copy()
    for row, length in zip(spoilt, lengths, strict=True):
        row[length:] = np.nan
    np.testing.assert_array_equal(run(spoilt, lengths), whole)


def test_a_short_recording_in_a_long_batch_is_what_it_is_alone(tiny):
    config, _, run = tiny
    samples, step = noise(3), config.frontend.step
    lengths = np.array([14_400, 9_600, 4_800], np.int32) // step * step
    whole = np.asarray(run(samples, lengths))
    alone = run(samples[2:, : lengths[2]], lengths[2:])
    np.testing.assert_allclose(alone[0], whole[2], rtol=2e-4, atol=2e-4)


def test_no_gradient_comes_from_behind_the_end(tiny):
    _, model, _ = tiny
    samples, lengths = jnp.asarray(noise(2)), jnp.array([14_400, 8_000])
    x, frames = jax.jit(model.features)(samples, lengths)
    gradient = jax.jit(jax.grad(lambda x: (model.embed(x, frames) ** 2).sum()))(x)
    assert np.abs(gradient[1, : int(frames[1])]).max() > 0
    np.testing.assert_array_equal(gradient[1, int(frames[1]) :], 0.0)


def test_loudness_does_not_matter(tiny):
    _, _, run = tiny
    samples, lengths = noise(3), np.array([14_400, 8_000, 8_000], np.int32)
    np.testing.assert_allclose(
        run(samples / 3, lengths), run(samples, lengths), rtol=1e-3, atol=1e-3
    )


def test_training_moves_the_running_statistics_over_frames_that_count(tiny):
    config, _, _ = tiny
    samples, lengths = noise(3), np.array([14_400, 8_000, 3_200], np.int32)
    graphdef, variables = nnx.split(SpeakerNet(config, rngs=nnx.Rngs(1)))

    @jax.jit
    def step(variables, samples):
        model = nnx.merge(graphdef, variables)
        model(samples, jnp.asarray(lengths), train=True)
        return nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    spoilt = np.where(np.arange(14_400)[None, :] < lengths[:, None], samples, np.nan)
    after = step(variables, samples)
    jax.tree.map(np.testing.assert_array_equal, after, step(variables, spoilt))
    fresh = nnx.to_pure_dict(nnx.state(nnx.merge(graphdef, variables), nnx.Not(nnx.Param)))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), after, fresh)
    del moved["frontend"]  # its statistics are measured before training
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (3, 1), (5, 2)])
def test_a_time_convolution_is_a_loop_over_taps(taps: int, dilation: int):
    layer = TimeConv(3, 4, taps, dilation=dilation, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    lengths = np.array([9, 6], np.int32)
    kernel, side = np.asarray(layer.kernel[...]), (taps - 1) // 2
    wanted = np.zeros((2, 9, 4))
    for b in range(2):
        for t in range(9):
            for k in range(taps):
                at = t + (k - side) * dilation
                if 0 <= at < lengths[b]:
                    wanted[b, t] += x[b, at] @ kernel[k]
    found = np.asarray(layer(jnp.asarray(x), jnp.asarray(lengths)))
    for row, length in zip(range(2), lengths, strict=True):
        np.testing.assert_allclose(found[row, :length], wanted[row, :length], rtol=1e-4, atol=1e-5)


def test_pooling_with_equal_weights_is_mean_and_deviation():
    layer = AttentiveStatistics(3, 4, context=True, rngs=nnx.Rngs(0))
    layer.output.kernel[...] = jnp.zeros_like(layer.output.kernel[...])
    x = np.random.default_rng(0).normal(2.0, 1.5, size=(2, 12, 3)).astype(np.float32)
    found = layer(jnp.asarray(x), jnp.array([12, 7]))
    for row, length in enumerate((12, 7)):
        part = x[row, :length].astype(np.float64)
        wanted = np.concatenate([part.mean(0), part.std(0)])
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4)


def test_a_constant_channel_has_a_finite_gradient():
    x = jnp.ones((1, 5, 2))
    gradient = jax.grad(lambda x: weighted_statistics(x, jnp.full((1, 5, 1), 0.2))[1].sum())(x)
    assert np.isfinite(gradient).all()


def test_normalized():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(normalized(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: normalized(x).sum())(x)).all()


def test_an_empty_row_is_finite(tiny):
    _, _, run = tiny
    assert np.isfinite(run(noise(3), np.array([14_400, 0, 0], np.int32))).all()
