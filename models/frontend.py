"""Log-mel features inside jit: Kaldi's definition, causal, the same whole or streamed.

Frame `i` sees samples up to `(i + 1) * hop` and none after: the signal is padded on the left with
`window - hop` zeros.

Sources: Kaldi `feature-window.cc`, `mel-computations.cc` (HTK mel scale).
"""

import dataclasses
import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .layers import mask_frames
from .mel import (
    FoldedDFT,
    Framing,
    emphasise,
    folded_dft,
    mask_samples,
    mel_energies,
    triangles,
    used_bins,
)

PREEMPHASIS = 0.97


@dataclasses.dataclass(frozen=True)
class FrontendConfig(Framing):
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
    def context(self) -> int:
        """Samples of the past that the next frame needs."""
        return self.window - self.hop


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
    at = mel(np.arange(n_fft // 2) * config.sample_rate / n_fft)
    return used_bins(triangles(at, edges))


def _fft_size(config: FrontendConfig) -> int:
    return 1 << (config.window - 1).bit_length()


@functools.lru_cache(maxsize=8)
def _folded_dft(config: FrontendConfig) -> FoldedDFT:
    return folded_dft(config.window, 0.54, _fft_size(config), mel_filters(config)[0])


def log_mel(samples: jax.Array, config: FrontendConfig) -> jax.Array:
    """Log-mel energies of whole signals.

    Args:
      samples: [B, N]; integers as recorded, floats in [-1, 1].

    Returns:
      [B, N // hop, bins] float32, natural logarithm.
    """
    padded = jnp.pad(_on_int16_scale(samples), ((0, 0), (config.context, 0)))
    return _log_mel_of_padded(padded, config)


def append_tail(
    samples: jax.Array, lengths: jax.Array, config: Framing
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
    samples = jnp.pad(mask_samples(samples, lengths), ((0, 0), (0, config.tail)))
    return samples, jnp.where(lengths > 0, lengths + config.tail, 0)


def _on_int16_scale(samples: jax.Array) -> jax.Array:
    scale = 1.0 if jnp.issubdtype(samples.dtype, jnp.integer) else 32768.0
    return samples.astype(jnp.float32) * scale


def _log_mel_of_padded(padded: jax.Array, config: FrontendConfig) -> jax.Array:
    """[B, window - hop + N] -> [B, N // hop, bins]."""
    energy = mel_energies(
        *_folded_frames(padded, config), _folded_dft(config), mel_filters(config)[1]
    )
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
    # Of sample n it lies at n - 1.
    emphasised = emphasise(padded, PREEMPHASIS)
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
        samples = mask_samples(samples, lengths)
        x, _ = self.step(samples, self.init_state(samples.shape[0]))
        lengths = lengths // self.config.step
        return mask_frames(x, lengths), lengths

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
