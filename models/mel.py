"""What front ends share: frames in samples, triangular filters, and mel energies of folded frames.

The short-time spectrum is a matrix product with the DFT rather than an FFT: it shards like any
other matmul, and only the bins that a mel filter looks at are computed. A frame is folded about
its centre first: its even part meets only cosines and its odd part only sines. That halves the
work, and with DC and pre-emphasis taken off before the product it rounds ten times less than one
matrix for everything.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# XLA's CPU backend multiplies small matrices by another kernel, which adds in another order (below
# 56 rows here, jax 0.10). Filling up to this many makes features of chunks those of the whole to
# the bit, instead of up to 3e-5 apart, for 0.1 ms a step.
_MIN_ROWS = 64


class Framing:
    """Sizes of a front end in samples, from the fields of its configuration; times in seconds."""

    sample_rate: int
    window_s: float
    hop_s: float
    tail_s: float
    bins: int
    stack: int

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
    def size(self) -> int:
        """Width of a feature vector."""
        return self.bins * self.stack

    @property
    def tail(self) -> int:
        """Samples of silence after an utterance."""
        return round(self.tail_s * self.sample_rate)


def mask_samples(samples: jax.Array, lengths: jax.Array) -> jax.Array:
    """Samples [B, N] with zeros after lengths [B]: padding may hold anything, NaN too."""
    within = jnp.arange(samples.shape[1])[None, :] < lengths[:, None]
    return jnp.where(within, samples, jnp.zeros_like(samples))


def emphasise(x: jax.Array, share: float) -> jax.Array:
    """[B, 1 + N] -> [B, N]: each sample without a share of the one before."""
    before, after = x[:, :-1], x[:, 1:]
    # after - share * before, of which the larger term is exact on integers: it rounds far less.
    return (after - before) + (1.0 - share) * before


def triangles(at: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Triangular filters from each edge to the next but one: at [K], edges [mels + 2] -> [K, mels].

    1 where a triangle has its top; both on the scale on which the triangles are straight.
    """
    rising = (at[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def used_bins(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of filters [K, mels] that are not all zero: `(their numbers, these rows)`."""
    used = np.flatnonzero(weights.any(axis=1))
    return used, weights[used]


class FoldedDFT(NamedTuple):
    """What a frame is multiplied with, from its centre outwards; float32."""

    window: np.ndarray  # [half]
    cosines: np.ndarray  # [half, K]
    sines: np.ndarray  # [half, K]


def folded_dft(window: int, raised: float, n_fft: int, bins: np.ndarray) -> FoldedDFT:
    """Of frames of `window` samples under `raised - (1 - raised) cos`, at these bins [K] of the
    DFT: Hann's window for 0.5, Hamming's for 0.54."""
    n = np.arange(window)
    shape = raised - (1.0 - raised) * np.cos(2 * np.pi * n / (window - 1))
    half = window // 2
    phase = 2 * np.pi * np.outer(np.arange(half) + 0.5, bins) / n_fft
    return FoldedDFT(*(x.astype(np.float32) for x in (shape[half:], np.cos(phase), np.sin(phase))))


def mel_energies(
    late: jax.Array, early: jax.Array, dft: FoldedDFT, filters: np.ndarray
) -> jax.Array:
    """Energies [B, F, mels] of frames by their halves [B, F, half], both from the centre outwards.

    filters: [K, mels] of the bins of `dft`.
    """
    batch, count, half = late.shape
    rows = batch * count
    fill = ((0, max(0, _MIN_ROWS - rows)), (0, 0))
    window = dft.window[None, None, :]
    even = jnp.pad(((late + early) * window).reshape(rows, half), fill)
    odd = jnp.pad(((late - early) * window).reshape(rows, half), fill)
    multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    power = multiply(even, dft.cosines) ** 2 + multiply(odd, dft.sines) ** 2
    energy = multiply(power, filters.astype(np.float32))[:rows]
    return energy.reshape(batch, count, filters.shape[1])
