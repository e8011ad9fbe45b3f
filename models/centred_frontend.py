"""Log-mel features as NVIDIA NeMo defines them: Slaney's filters over frames about their centres.

A frame is a Hann window of 25 ms about the time `i * hop`, of a signal that is pre-emphasised as a
whole; the logarithm is taken of the energy plus 2^-24. Two ways to use them:

* whole recordings, normalised: every mel's mean and deviation over the recording become 0 and 1.
  That cannot be streamed.
* `delay`: not normalised, for streams. Half a window lies ahead of a frame's centre, so that what a
  stream gives for the samples up to `(j + 1) * hop` is the frame about `(j - 1) * hop`. The first
  one, about a time before the beginning, is zeros.

Sources: the preprocessor of NVIDIA NeMo's FastConformer models; Slaney 1998, "Auditory toolbox",
for the filters.
"""

import dataclasses
import functools
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .frontend import FrontendConfig, log_mel
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

_GUARD = 2.0**-24
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class CentredFrontendConfig(Framing):
    """Log-mel features about the centres of frames.

    Attributes:
      sample_rate: Hz.
      bins: mel filters, from 0 Hz to half the sample rate.
      window_s, hop_s: seconds.
      n_fft: points of the DFT.
      preemphasis: share of the sample before that is taken off each sample.
      normalize: "per_feature" or "none".
      delay: a hop of delay, with which they can be streamed.
      tail_s: seconds of silence that follow an utterance, see `FrontendConfig`.
      kind: tells front ends apart.
    """

    sample_rate: int = 16000
    bins: int = 80
    window_s: float = 0.025
    hop_s: float = 0.010
    n_fft: int = 512
    preemphasis: float = 0.97
    normalize: Literal["per_feature", "none"] = "per_feature"
    delay: bool = False
    tail_s: float = 0.0
    kind: Literal["centred"] = "centred"
    stack: ClassVar[int] = 1

    def __post_init__(self):
        if self.window % 2 or self.window > self.n_fft:
            raise ValueError(
                f"a window holds an even number of samples and at most {self.n_fft}, "
                f"not {self.window}"
            )
        if self.delay and self.normalize != "none":
            raise ValueError("what is normalised over the whole recording cannot be streamed")
        if self.delay and self.window // 2 > 2 * self.hop:
            raise ValueError("a hop of delay is not enough for so long a window")

    @property
    def low_hz(self) -> float:
        return 0.0

    @property
    def high_hz(self) -> float:
        return self.sample_rate / 2

    @property
    def context(self) -> int:
        """Samples of the past that a stream's next frame needs: it begins half a window before the
        hop before, and pre-emphasis looks one further back."""
        return self.window // 2 + self.hop + 1


class CentredState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    samples: jax.Array  # [B, context] float32 in [-1, 1]
    begun: jax.Array  # [B] bool, whether a frame has been given


@functools.lru_cache(maxsize=8)
def slaney_filters(config: CentredFrontendConfig) -> tuple[np.ndarray, np.ndarray]:
    """Triangles in Hz of equal area, and the DFT bins on which any of them is not zero.

    Returns:
      `(bins [K], weights [K, mels])`, the weights float64.
    """

    def hz(mel: np.ndarray) -> np.ndarray:
        """Linear below 1 kHz, logarithmic above."""
        return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))

    top = 15.0 + 27.0 * np.log(config.high_hz / 1000.0) / np.log(6.4)
    edges = hz(np.linspace(0.0, top, config.bins + 2))
    at = np.arange(config.n_fft // 2 + 1) * config.sample_rate / config.n_fft
    return used_bins(triangles(at, edges) * 2.0 / (edges[2:] - edges[:-2]))


@functools.lru_cache(maxsize=8)
def _folded_dft(config: CentredFrontendConfig) -> FoldedDFT:
    return folded_dft(config.window, 0.5, config.n_fft, slaney_filters(config)[0])


def centred_log_mel(samples: jax.Array, config: CentredFrontendConfig) -> jax.Array:
    """Log-mel energies of whole signals, neither normalised nor delayed.

    Args:
      samples: [B, N]; integers as recorded, floats in [-1, 1].

    Returns:
      [B, N // hop, bins] float32, natural logarithm.
    """
    return _about_centres(_emphasised(samples, config), config)


def _about_centres(emphasised: jax.Array, config: CentredFrontendConfig) -> jax.Array:
    """[B, N] -> [B, N // hop, bins]: frames about 0, hop, ..."""
    half = config.window // 2
    padded = jnp.pad(emphasised, ((0, 0), (half, half)))
    return _log_mel(padded, emphasised.shape[1] // config.hop, config)


def spectrogram(samples: jax.Array, config: FrontendConfig | CentredFrontendConfig) -> jax.Array:
    """Log-mel energies of whole signals [B, N] by either front end, as they are: [B, T, bins]."""
    if isinstance(config, FrontendConfig):
        return log_mel(samples, config)
    return centred_log_mel(samples, config)


def _in_unit_range(samples: jax.Array) -> jax.Array:
    scale = 1.0 / 32768.0 if jnp.issubdtype(samples.dtype, jnp.integer) else 1.0
    return samples.astype(jnp.float32) * scale


def _emphasised(samples: jax.Array, config: CentredFrontendConfig) -> jax.Array:
    """Whole signals [B, N], before which there is silence."""
    return emphasise(jnp.pad(_in_unit_range(samples), ((0, 0), (1, 0))), config.preemphasis)


def _log_mel(padded: jax.Array, count: int, config: CentredFrontendConfig) -> jax.Array:
    """The `count` frames that begin at 0, hop, ... of [B, n] -> [B, count, bins]."""
    half = config.window // 2
    start = jnp.arange(count)[:, None] * config.hop
    late = padded[:, start + np.arange(half, config.window)[None, :]]
    early = padded[:, start + np.arange(half - 1, -1, -1)[None, :]]
    energy = mel_energies(late, early, _folded_dft(config), slaney_filters(config)[1])
    return jnp.log(energy + _GUARD)


class CentredLogMel(nnx.Module):
    """Log-mels about the centres of frames, for batches and, with a delay, for streams."""

    def __init__(self, config: CentredFrontendConfig):
        self.config = config

    def __call__(self, samples: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Features of whole utterances.

        Args:
          samples: [B, N]; integers as recorded, floats in [-1, 1].
          lengths: [B], samples that count; what lies after them changes nothing.

        Returns:
          `(x [B, N // hop, bins] float32, lengths [B])`; x is 0 after its length.
        """
        config = self.config
        samples = mask_samples(samples, lengths)
        frames = lengths // config.hop
        if config.delay:
            x, _ = self.step(samples, self.init_state(samples.shape[0]))
        else:
            # Not what pre-emphasis makes of the step from the last sample to padding.
            x = _about_centres(mask_samples(_emphasised(samples, config), lengths), config)
        if config.normalize == "per_feature":
            x = _normalised(x, frames)
        return mask_frames(x, frames), frames

    def init_state(self, batch: int) -> CentredState:
        """The state before the first sample."""
        return CentredState(
            samples=jnp.zeros((batch, self.config.context), jnp.float32),
            begun=jnp.zeros(batch, bool),
        )

    def step(self, samples: jax.Array, state: CentredState) -> tuple[jax.Array, CentredState]:
        """Features of the next samples of a stream.

        Args:
          samples: [B, k * hop]; a remainder of less than one hop is dropped.

        Returns:
          `(x [B, k, bins] float32, state)`.

        Raises:
          ValueError: without a delay there are no streams.
        """
        config = self.config
        if not config.delay:
            raise ValueError("these features are of whole recordings, they cannot be streamed")
        count = samples.shape[1] // config.hop
        samples = _in_unit_range(samples[:, : count * config.hop])
        padded = jnp.concatenate([state.samples, samples], axis=1)
        x = _log_mel(emphasise(padded, config.preemphasis), count, config)
        first = jnp.arange(count)[None, :] == 0
        x = jnp.where((first & ~state.begun[:, None])[:, :, None], 0.0, x)
        begun = state.begun | (count > 0)
        return x, CentredState(padded[:, padded.shape[1] - config.context :], begun)


def _normalised(x: jax.Array, frames: jax.Array) -> jax.Array:
    """Mean 0 and deviation 1 over the frames that count, for each mel of [B, T, D]."""
    count = frames[:, None, None].astype(jnp.float32)
    mean = mask_frames(x, frames).sum(axis=1, keepdims=True) / jnp.maximum(count, 1.0)
    squares = mask_frames((x - mean) ** 2, frames).sum(axis=1, keepdims=True)
    # A constant feature must not divide by zero, nor have a gradient that does.
    deviation = jnp.sqrt(jnp.maximum(squares / jnp.maximum(count - 1.0, 1.0), 1e-20))
    return (x - mean) / (deviation + _EPSILON)
