"""FastConformer: streaming contract with look-ahead, attention by chunks against a plain reference,
and the front end that goes with it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.models.centred_frontend import CentredFrontendConfig, CentredLogMel, slaney_filters
from parley.models.chunked_attention import ChunkedAttention
from parley.models.encoders.fastconformer import FastConformerConfig, FastConformerEncoder
from parley.models.streaming import assert_streaming_contract, run_in_chunks

SMALL = FastConformerConfig(
    width=16, heads=2, blocks=2, output=6, chunk=2, left=4, kernel=3, channels=4, expansion=2
)
CONFIGS = {
    "chunks of two": dataclasses.replace(SMALL, norm="layer"),
    "no look-ahead": dataclasses.replace(SMALL, blocks=1, chunk=1, left=3),
    "left in part": dataclasses.replace(SMALL, blocks=1, chunk=3, left=7),
}


@pytest.mark.parametrize("name", first_is_quick(CONFIGS))
def test_streaming_contract(name: str):
    config = CONFIGS[name]
    encoder = FastConformerEncoder(config, 16, rngs=nnx.Rngs(0))
    chunk = config.chunk or 1
    assert encoder.lookahead == max(0, 8 * (chunk - 1) - 6)
    frames = 8 * chunk * 4 + 5
    assert_streaming_contract(encoder, 16, frames=frames, chunks=((7,), (30, 40), (500,)))


def test_the_lookahead_is_reached():
    encoder = FastConformerEncoder(SMALL, 16, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 48, 16))

    @jax.jit
    def gradient(x: jax.Array) -> jax.Array:
        weights = jnp.arange(1.0, 7.0)
        return jax.grad(lambda x: encoder(x, jnp.array([48]))[0][0, 2] @ weights)(x)

    depends = np.abs(gradient(x)[0]).max(axis=-1) > 0
    assert np.flatnonzero(depends)[-1] == 3 * 8 - 1 + encoder.lookahead


def test_whole_recordings_have_a_frame_for_each_beginning_of_eight():
    config = dataclasses.replace(SMALL, blocks=1, chunk=None)
    encoder = FastConformerEncoder(config, 16, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (3, 33, 16))
    lengths = jnp.array([33, 17, 8])
    padding = (jnp.arange(33)[None, :] >= lengths[:, None])[:, :, None]
    run = jax.jit(encoder.__call__)
    y, frames = run(x, lengths)
    assert (y.shape, frames.tolist()) == ((3, 5, 6), [5, 3, 1])
    filled, _ = run(jnp.where(padding, jnp.nan, x), lengths)
    np.testing.assert_array_equal(filled, y)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = run(x[row : row + 1, :length], lengths[row : row + 1])
        count = int(frames[row])
        np.testing.assert_allclose(alone[0, :count], y[row, :count], atol=1e-5)
    with pytest.raises(ValueError, match="cannot stream"):
        encoder.init_state(1)


@pytest.mark.parametrize(("chunk", "left"), [(3, 6), (1, 4), (None, 0)])
def test_attention_by_chunks_is_the_sum_over_what_is_seen(chunk: int | None, left: int):
    frames, width, heads = 12, 8, 2
    attention = ChunkedAttention(width, heads, left, chunk=chunk, rngs=nnx.Rngs(0))
    attention.content_bias[...] = jax.random.normal(jax.random.key(1), (width,))
    attention.position_bias[...] = jax.random.normal(jax.random.key(2), (width,))
    x = jax.random.normal(jax.random.key(3), (1, frames, width))
    found, _ = jax.jit(attention.__call__)(x, attention.init_state(1))

    def numbers(value) -> np.ndarray:
        return np.asarray(value, np.float64)

    layers = attention.query, attention.key, attention.value
    q, k, v = (numbers(x[0]) @ numbers(layer.kernel[...]) for layer in layers)
    u, w = numbers(attention.content_bias[...]), numbers(attention.position_bias[...])
    rates = 10_000.0 ** (-np.arange(width // 2) / (width // 2))
    wanted = np.zeros((frames, width))
    size = width // heads
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for t in range(frames):
            own = 0 if chunk is None else t // chunk * chunk
            end = frames if chunk is None else own + chunk
            seen = range(max(0, own - left), end)
            scores = []
            for s in seen:
                angle = (t - s) * rates
                sines = np.concatenate([np.sin(angle), np.cos(angle)])
                position = (sines @ numbers(attention.position[...]))[part]
                content = (q[t, part] + u[part]) @ k[s, part]
                scores.append((content + (q[t, part] + w[part]) @ position) / np.sqrt(size))
            weights = np.exp(np.array(scores) - max(scores))
            wanted[t, part] = weights / weights.sum() @ v[list(seen), part]
    kernel, bias = attention.output.kernel, attention.output.bias
    assert bias is not None
    wanted = wanted @ numbers(kernel[...]) + numbers(bias[...])
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_features_against_an_fft_in_float64():
    config = CentredFrontendConfig(normalize="none")
    samples = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
    found, lengths = jax.jit(CentredLogMel(config).__call__)(samples[None], jnp.array([3900]))
    x = samples[:3900].astype(np.float64) / 32768
    x = np.concatenate([x[:1], x[1:] - 0.97 * x[:-1]])
    x = np.pad(x, 400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    used, weights = slaney_filters(config)
    for i in range(24):
        frame = x[200 + i * 160 : 600 + i * 160] * window
        power = np.abs(np.fft.rfft(frame, 512)) ** 2
        np.testing.assert_allclose(found[0, i], np.log(power[used] @ weights + 2.0**-24), atol=1e-4)
    assert lengths.tolist() == [24]
    assert not np.asarray(found[0, 24:]).any()


def test_a_stream_of_features_is_the_whole_a_hop_late():
    config = CentredFrontendConfig(normalize="none", delay=True)
    frontend = CentredLogMel(config)
    samples = np.random.default_rng(0).integers(-9000, 9000, (2, 160 * 40)).astype(np.int16)
    whole, lengths = jax.jit(frontend.__call__)(samples, jnp.array([6400, 6400]))
    step = jax.jit(frontend.step)
    for sizes in ([160], [500, 37, 2000]):
        parts = run_in_chunks(step, frontend.init_state(2), samples, sizes, 160)
        np.testing.assert_allclose(parts, whole, atol=1e-4)
    centred = CentredLogMel(dataclasses.replace(config, delay=False))
    x, _ = jax.jit(centred.__call__)(samples, lengths * 160)
    np.testing.assert_allclose(whole[:, 1:], x[:, :-1], atol=1e-4)
    assert not np.asarray(whole[:, 0]).any()


def test_normalised_features_cannot_be_streamed():
    with pytest.raises(ValueError, match="cannot be streamed"):
        CentredFrontendConfig(delay=True)
    frontend = CentredLogMel(CentredFrontendConfig())
    with pytest.raises(ValueError, match="cannot be streamed"):
        frontend.step(jnp.zeros((1, 160)), frontend.init_state(1))
