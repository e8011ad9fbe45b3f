"""The front end: Kaldi's numbers, causal, the same whole or streamed."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import kaldi_native_fbank as knf
import numpy as np
import pytest
import soundfile

from parley.models.frontend import FrontendConfig, LogMel, _moving_average, log_mel, mel_filters
from parley.models.streaming import assert_streaming_contract, run_in_chunks


def sounds(seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz like a voice's, gliding, that comes and goes over noise, with DC: [N] int16."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16000)) / 16000
    phase = 2 * np.pi * (110 + 10 * t) * t
    buzz = sum(np.sin(k * phase + k * k) / k for k in range(1, 60))
    loudness = np.sin(2 * np.pi * 1.5 * t) ** 2
    return (3000 * buzz * loudness + random.normal(size=t.size) * 40 + 150).astype(np.int16)


@pytest.fixture(scope="module")
def frontend() -> LogMel:
    """A front end with statistics like those of speech."""
    frontend = LogMel(FrontendConfig())
    frontend.mean[...] = jnp.linspace(9.0, 12.0, 64)
    frontend.std[...] = jnp.linspace(3.0, 4.0, 64)
    return frontend


@pytest.mark.parametrize("bins", [64, 80])
def test_log_mel_is_kaldis(bins: int):
    samples = sounds(1.0)
    config = FrontendConfig(bins=bins)
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.window_type = "hamming"
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = bins
    options.mel_opts.low_freq = config.low_hz
    options.mel_opts.high_freq = config.high_hz
    kaldi = knf.OnlineFbank(options)
    padded = np.concatenate([np.zeros(config.context), samples]).astype(np.float32)
    kaldi.accept_waveform(config.sample_rate, padded.tolist())
    kaldi.input_finished()
    expected = np.stack([kaldi.get_frame(i) for i in range(kaldi.num_frames_ready)])

    actual = log_mel(jnp.asarray(samples)[None], config)[0]

    assert actual.shape == (100, bins)
    difference = np.abs(actual - np.maximum(expected, np.log(config.floor)))
    # Kaldi computes its filters in float32, and a tone at a filter's edge shows it: 4e-4 from the
    # float64 value, where ours is 4e-5 from it (next test).
    assert difference.max() < 5e-4
    assert difference.mean() < 1e-5


def test_log_mel_is_the_formulas_in_float64():
    samples, config = sounds(1.0), FrontendConfig()
    padded = np.concatenate([np.zeros(config.context), samples])
    frames = padded[np.arange(100)[:, None] * config.hop + np.arange(config.window)]
    frames -= frames.mean(axis=1, keepdims=True)
    frames -= 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(frames * np.hamming(config.window), 512)) ** 2
    bins, weights = mel_filters(config)
    expected = np.log(np.maximum(power[:, bins] @ weights, config.floor))
    actual = log_mel(jnp.asarray(samples)[None], config)[0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


def test_every_filter_has_a_bin():
    _, weights = mel_filters(FrontendConfig(bins=80))
    assert (weights.sum(axis=0) > 0).all()


def test_silence_is_the_floor():
    features = log_mel(jnp.full((1, 16000), 0, jnp.int16), FrontendConfig(floor=2.0))
    np.testing.assert_allclose(features, np.log(2.0), rtol=1e-6)


def test_floats_are_fractions_of_full_scale(frontend: LogMel):
    samples = sounds(0.5)[None]
    lengths = jnp.array([samples.shape[1]])
    run = jax.jit(frontend.__call__)
    as_recorded, _ = run(samples, lengths)
    as_fractions, _ = run(samples / np.float32(32768), lengths)
    np.testing.assert_allclose(as_fractions, as_recorded, atol=1e-6)


def test_whole_normalisation_is_affine():
    frontend = LogMel(FrontendConfig(mean_tau_s=0.0))
    frontend.mean[...] = jnp.arange(64.0)
    frontend.std[...] = jnp.full(64, 2.0)
    samples = jnp.asarray(sounds(0.3))[None]
    x, lengths = jax.jit(frontend.__call__)(samples, jnp.array([4800]))
    expected = (log_mel(samples, frontend.config) - jnp.arange(64.0)[None, None]) / 2.0
    assert lengths.tolist() == [10]
    np.testing.assert_allclose(x, expected.reshape(1, 10, 192), atol=1e-6)


def test_running_mean_forgets_the_level(frontend: LogMel):
    """Ten times as loud adds log(100) to every feature; after five time constants it is gone."""
    tone = np.random.default_rng(0).normal(size=16000 * 16) * 100
    pair = jnp.asarray(np.stack([tone, 10 * tone]).astype(np.int16))
    x, _ = jax.jit(frontend.__call__)(pair, jnp.array([pair.shape[1]] * 2))
    difference = np.abs(np.asarray(x[1] - x[0]) * np.tile(np.asarray(frontend.std[...]), 3))
    assert difference[0].mean() > 4.0
    assert difference[-10:].mean() < 0.05


def test_running_mean_holds_its_value_over_hours():
    """Chunks equal the whole, and both equal float64, after 200,000 feature vectors."""
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(1, 200_000, 2)).astype(np.float32)
    start = jnp.zeros((1, 2))
    whole, _ = _moving_average(jnp.asarray(x), start, 0.99)
    halves, at = [], start
    for half in np.split(x, 2, axis=1):
        means, at = _moving_average(jnp.asarray(half), at, 0.99)
        halves.append(means)
    np.testing.assert_allclose(np.concatenate(halves, axis=1), whole, atol=1e-6)
    exact = np.zeros(2)
    for frame in x[0, -5000:].astype(np.float64):
        exact = 0.99 * exact + 0.01 * frame
    np.testing.assert_allclose(whole[0, -1], exact, atol=1e-5)


@pytest.mark.parametrize("cycle", [(480,), (480 * 7, 480), (333, 1, 5000)])
def test_stream_equals_whole(frontend: LogMel, cycle: tuple[int, ...]):
    samples = np.stack([sounds(2.0, seed) for seed in range(2)])
    whole, _ = jax.jit(frontend.__call__)(samples, jnp.array([32000, 32000]))
    step = jax.jit(lambda chunk, state: frontend.step(chunk, state))
    streamed = run_in_chunks(step, frontend.init_state(2), samples, cycle, 480)
    assert streamed.shape == whole.shape
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-5)


def test_stream_equals_whole_on_a_recording(frontend: LogMel):
    repository = Path(__file__).resolve().parents[2]
    speech = Path(os.environ.get("PARLEY_SPEECH", repository.parent / "shared" / "speech"))
    recordings = sorted(speech.glob("sentences/**/*.flac")) + sorted(speech.glob("digits/*.flac"))
    if not recordings:
        pytest.skip(f"no recordings in {speech}: set PARLEY_SPEECH")
    samples, _ = soundfile.read(recordings[0], dtype="int16", always_2d=True)
    samples = np.resize(samples[:, 0], (1, 32000))
    whole, _ = jax.jit(frontend.__call__)(samples, jnp.array([32000]))
    step = jax.jit(lambda chunk, state: frontend.step(chunk, state))
    streamed = run_in_chunks(step, frontend.init_state(1), samples, (480,), 480)
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-5)


class FramedFrontend:
    """The front end as an encoder whose input frames are blocks of samples."""

    stride, lookahead, chunk = 1, 0, 1
    receptive_field: int | None = None

    def __init__(self, frontend: LogMel):
        self.frontend = frontend
        self.init_state = frontend.init_state

    def __call__(self, x, lengths):
        return self.frontend(x.reshape(x.shape[0], -1), lengths * x.shape[2])

    def step(self, chunk, state):
        return self.frontend.step(chunk.reshape(chunk.shape[0], -1), state)


def test_streaming_contract(frontend: LogMel):
    assert_streaming_contract(FramedFrontend(frontend), 480, frames=12, tolerance=1e-5)


def test_lengths_count_whole_vectors_only(frontend: LogMel):
    samples = jnp.asarray(np.stack([sounds(0.5)] * 3))
    x, lengths = jax.jit(frontend.__call__)(samples, jnp.array([8000, 1439, 0]))
    assert x.shape == (3, 16, 192)
    assert lengths.tolist() == [16, 2, 0]
    assert not np.asarray(x[1, 2:]).any()
    assert not np.asarray(x[2]).any()
    np.testing.assert_allclose(x[1, :2], x[0, :2], atol=1e-6)
