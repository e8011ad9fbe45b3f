"""Log-mel features inside jit: Kaldi's definition, causal, the same whole or streamed.

The short-time spectrum is a matrix product with the DFT rather than an FFT: it shards like any
other matmul, and only the bins that a mel filter looks at are computed. A frame is folded about
its centre first: its even part meets only cosines and its odd part only sines. That halves the
work, and with DC and pre-emphasis taken off before the product it rounds ten times less than one
matrix for everything.

Frame `i` sees samples up to `(i + 1) * hop` and none after: the signal is padded on the left with
`window - hop` zeros.

Sources: Kaldi `feature-window.cc`, `mel-computations.cc` (HTK mel scale).
"""

import dataclasses
import functools
import math
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

PREEMPHASIS = 0.97

# XLA's CPU backend multiplies small matrices by another kernel, which adds in another order (below
# 56 rows here, jax 0.10). Filling up to this many makes features of chunks those of the whole to
# the bit, instead of up to 3e-5 apart, for 0.1 ms a step.
_MIN_ROWS = 64


@dataclasses.dataclass(frozen=True)
class FrontendConfig:
    """Log-mel features, stacking and normalisation.

    Attributes:
      sample_rate: Hz.
      bins: mel filters.
      window_s, hop_s: seconds.
      stack: this many consecutive frames are concatenated into one feature vector.
      low_hz, high_hz: the mel filters' range.
      floor: smallest mel energy, for samples on the int16 scale; white noise of one or two steps
        of int16 gives about as much, so exact zeros look like a quiet room and not like a chasm.
      mean_tau_s: time constant, in seconds, of the running mean that is subtracted; it starts at
        the mean of the training data and follows the recording. 0: the mean of the training data.
      tail_s: seconds of silence that follow an utterance, in training, in batches and at the end
        of a stream alike, so that a causal model has time to finish its last word.
      kind: tells front ends apart.
    """

    sample_rate: int = 16000
    bins: int = 64
    window_s: float = 0.025
    hop_s: float = 0.010
    stack: int = 3
    low_hz: float = 20.0
    high_hz: float = 8000.0
    floor: float = 1000.0
    mean_tau_s: float = 3.0
    tail_s: float = 0.24
    kind: Literal["kaldi"] = "kaldi"

    def __post_init__(self):
        if self.window % 2:
            raise ValueError(f"a window holds an even number of samples, not {self.window}")

    @property
    def window(self) -> int:
        """Samples in a frame."""
        return round(self.window_s * self.sample_rate)

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return round(self.hop_s * self.sample_rate)

    @property
    def step(self) -> int:
        """Samples between feature vectors."""
        return self.hop * self.stack

    @property
    def context(self) -> int:
        """Samples of the past that the next frame needs."""
        return self.window - self.hop

    @property
    def size(self) -> int:
        """Width of a feature vector."""
        return self.bins * self.stack

    @property
    def tail(self) -> int:
        """Samples of silence after an utterance."""
        return round(self.tail_s * self.sample_rate)


class FeatureStats(nnx.Variable):
    """Mean and deviation of the training data's log-mels: state, not a trained parameter."""


class FrontendState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    samples: jax.Array  # [B, window - hop] float32, on the int16 scale
    drift: jax.Array  # [B, bins] float32, running mean less the training data's mean


@functools.lru_cache(maxsize=8)
def mel_filters(config: FrontendConfig) -> tuple[np.ndarray, np.ndarray]:
    """Kaldi's triangular filters, and the DFT bins on which any of them is not zero.

    Returns:
      `(bins [K], weights [K, mels])`, the weights float64.
    """
    n_fft = _fft_size(config)

    def mel(hz: np.ndarray) -> np.ndarray:
        return 1127.0 * np.log1p(hz / 700.0)

    low, high = mel(np.array([config.low_hz, config.high_hz]))
    edges = np.linspace(low, high, config.bins + 2)
    at = mel(np.arange(n_fft // 2) * config.sample_rate / n_fft)[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    used = np.flatnonzero(weights.any(axis=1))
    return used, weights[used]


def _fft_size(config: FrontendConfig) -> int:
    return 1 << (config.window - 1).bit_length()


@functools.lru_cache(maxsize=8)
def _folded_dft(config: FrontendConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hamming window [half], cosines and sines [half, K], outwards from a frame's centre."""
    n = config.window
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(n) / (n - 1))
    used, _ = mel_filters(config)
    phase = 2 * np.pi * np.outer(np.arange(n // 2) + 0.5, used) / _fft_size(config)
    outwards = window[n // 2 :].astype(np.float32)
    return outwards, np.cos(phase).astype(np.float32), np.sin(phase).astype(np.float32)


def log_mel(samples: jax.Array, config: FrontendConfig) -> jax.Array:
    """Log-mel energies of whole signals.

    Args:
      samples: [B, N]; integers as recorded, floats in [-1, 1].

    Returns:
      [B, N // hop, bins] float32, natural logarithm.
    """
    padded = jnp.pad(_on_int16_scale(samples), ((0, 0), (config.context, 0)))
    return _log_mel_of_padded(padded, config)


class WithTail(Protocol):
    """What `append_tail` needs of a front end's configuration."""

    @property
    def tail(self) -> int: ...


def append_tail(
    samples: jax.Array, lengths: jax.Array, config: WithTail
) -> tuple[jax.Array, jax.Array]:
    """Silence of `config.tail_s` after the end of every utterance.

    Whole utterances go through this wherever they are heard: in training, in validation, in
    batches. A stream is fed as many zeros when it ends.

    Args:
      samples: [B, N].
      lengths: [B], samples that count; what lies after them changes nothing.

    Returns:
      `(samples [B, N + tail], lengths [B])`; a row of no samples stays empty.
    """
    within = jnp.arange(samples.shape[1])[None, :] < lengths[:, None]
    samples = jnp.where(within, samples, jnp.zeros_like(samples))
    samples = jnp.pad(samples, ((0, 0), (0, config.tail)))
    return samples, jnp.where(lengths > 0, lengths + config.tail, 0)


def _on_int16_scale(samples: jax.Array) -> jax.Array:
    scale = 1.0 if jnp.issubdtype(samples.dtype, jnp.integer) else 32768.0
    return samples.astype(jnp.float32) * scale


def _log_mel_of_padded(padded: jax.Array, config: FrontendConfig) -> jax.Array:
    """[B, window - hop + N] -> [B, N // hop, bins]."""
    window, cosines, sines = _folded_dft(config)
    _, filters = mel_filters(config)
    late, early = _folded_frames(padded, config)
    batch, count, half = late.shape
    rows = batch * count
    fill = ((0, max(0, _MIN_ROWS - rows)), (0, 0))
    even = jnp.pad(((late + early) * window[None, None, :]).reshape(rows, half), fill)
    odd = jnp.pad(((late - early) * window[None, None, :]).reshape(rows, half), fill)
    multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    power = multiply(even, cosines) ** 2 + multiply(odd, sines) ** 2
    energy = multiply(power, filters.astype(np.float32))[:rows].reshape(batch, count, config.bins)
    return jnp.log(jnp.maximum(energy, config.floor))


def _folded_frames(padded: jax.Array, config: FrontendConfig) -> tuple[jax.Array, jax.Array]:
    """Halves of each frame [B, F, half], outwards from its centre, without DC, pre-emphasised.

    Kaldi takes a frame's mean m off and then replaces x[n] by x[n] - 0.97 x[n - 1], with x[0] as
    its own predecessor. All is linear, so the signal is emphasised once for all frames and the
    mean comes off as (1 - 0.97) m; only x[0] differs from frame to frame.
    """
    window, hop, half = config.window, config.hop, config.window // 2
    count = (padded.shape[1] - config.context) // hop
    start = jnp.arange(count)[:, None] * hop
    before, after = padded[:, :-1], padded[:, 1:]
    # after - 0.97 before, of which the larger term is exact on integers: it rounds far less.
    emphasised = (after - before) + (1.0 - PREEMPHASIS) * before
    # Of sample n it lies at n - 1.
    late = emphasised[:, start + np.arange(half - 1, window - 1)[None, :]]
    early = emphasised[:, start + np.arange(half - 2, -1, -1)[None, :]]
    early = jnp.concatenate([early, (1.0 - PREEMPHASIS) * padded[:, start]], axis=-1)

    block = math.gcd(window, hop)
    used = config.context + count * hop
    sums = padded[:, :used].reshape(padded.shape[0], used // block, block).sum(axis=-1)
    blocks = jnp.arange(count)[:, None] * (hop // block) + np.arange(window // block)[None, :]
    mean = sums[:, blocks].sum(axis=-1, keepdims=True) / window
    offset = (1.0 - PREEMPHASIS) * mean
    return late - offset, early - offset


class LogMel(nnx.Module):
    """Stacked, normalised log-mels of int16 audio, for batches and for streams.

    `mean` and `std` [bins] are the statistics of the training data. The running mean is an
    exponential moving average over feature vectors (one update for the `stack` frames of a vector,
    which the vector itself already sees). It forgets, so rounding does not build up in a
    long stream.
    """

    def __init__(self, config: FrontendConfig):
        self.config = config
        self.mean = FeatureStats(jnp.zeros(config.bins, jnp.float32))
        self.std = FeatureStats(jnp.ones(config.bins, jnp.float32))

    def __call__(self, samples: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Features of whole utterances.

        Args:
          samples: [B, N]; integers as recorded, floats in [-1, 1].
          lengths: [B], samples that count; what lies after them changes nothing.

        Returns:
          `(x [B, T, size] float32, lengths [B])` with T = N // step; x is 0 after its length.
        """
        within = jnp.arange(samples.shape[1])[None, :] < lengths[:, None]
        # Zero before arithmetic: padding may hold NaN.
        samples = jnp.where(within, samples, jnp.zeros_like(samples))
        x, _ = self.step(samples, self.init_state(samples.shape[0]))
        lengths = lengths // self.config.step
        within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
        return jnp.where(within[:, :, None], x, 0.0), lengths

    def init_state(self, batch: int) -> FrontendState:
        """The state before the first sample."""
        return FrontendState(
            samples=jnp.zeros((batch, self.config.context), jnp.float32),
            drift=jnp.zeros((batch, self.config.bins), jnp.float32),
        )

    def step(self, samples: jax.Array, state: FrontendState) -> tuple[jax.Array, FrontendState]:
        """Features of the next samples of a stream.

        Args:
          samples: [B, k * step]; a remainder of less than one step is dropped.

        Returns:
          `(x [B, k, size] float32, state)`.
        """
        config = self.config
        batch, length = samples.shape
        steps = length // config.step
        samples = _on_int16_scale(samples[:, : steps * config.step])
        padded = jnp.concatenate([state.samples, samples], axis=1)
        x = _log_mel_of_padded(padded, config) - self.mean[...][None, None, :]
        x = x.reshape(batch, steps, config.stack, config.bins)
        drift = state.drift
        if config.mean_tau_s > 0 and steps > 0:
            keep = float(np.exp(-config.step / (config.mean_tau_s * config.sample_rate)))
            means, drift = _moving_average(x.mean(axis=2), drift, keep)
            x = x - means[:, :, None, :]
        x = x / self.std[...][None, None, None, :]
        samples = padded[:, padded.shape[1] - config.context :]
        return x.reshape(batch, steps, config.size), FrontendState(samples, drift)


def _moving_average(x: jax.Array, start: jax.Array, keep: float) -> tuple[jax.Array, jax.Array]:
    """`m[t] = keep m[t-1] + (1 - keep) x[t]` for x [B, T, D] from m[-1] = start [B, D]."""

    def update(mean: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = keep * mean + (1.0 - keep) * x_t
        return mean, mean

    last, means = jax.lax.scan(update, start, x.swapaxes(0, 1))
    return means.swapaxes(0, 1), last
