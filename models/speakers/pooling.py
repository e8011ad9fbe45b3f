"""One vector of many frames: their mean and deviation, frames weighted by attention.

Source: Okabe et al. 2018, "Attentive statistics pooling for deep speaker embedding", arXiv
1803.10963; with the whole recording's statistics as a context for the weights, and weights of each
channel: Desplanques et al. 2020, "ECAPA-TDNN", arXiv 2005.07143, section 3.1.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..normalization import BatchNorm
from .layers import TimeConv, within_lengths

VARIANCE_FLOOR = 1e-4
"""Keeps the deviation's gradient finite where a channel does not vary."""


def weighted_statistics(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation over time, float32.

    Args:
      x: [B, T, D], finite.
      weights: [B, T, D] or [B, T, 1]; they sum to 1 over T.

    Returns:
      Two arrays [B, D].
    """
    x = x.astype(jnp.float32)
    mean = jnp.sum(weights * x, axis=1)
    variance = jnp.sum(weights * (x - mean[:, None, :]) ** 2, axis=1)
    return mean, jnp.sqrt(jnp.maximum(variance, VARIANCE_FLOOR))


class AttentiveStatistics(nnx.Module):
    """Attention over frames, a weight a channel: [B, T, D] -> [B, 2 D]."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        context: bool,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        """`context`: the weights also see the mean and deviation of all frames."""
        self.context = context
        seen = 3 * width if context else width
        self.hidden = TimeConv(seen, hidden, rngs=rngs, dtype=dtype)
        self.norm = BatchNorm(hidden, dtype=dtype)
        self.output = TimeConv(hidden, width, rngs=rngs, dtype=dtype)

    @jax.named_scope("pooling")
    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool = False) -> jax.Array:
        """x: [B, T, D], finite in the padding, which counts for nothing; lengths: [B]."""
        within = within_lengths(x.shape[1], lengths)
        seen = x
        if self.context:
            count = jnp.maximum(lengths, 1).astype(jnp.float32)
            even = (within / count[:, None])[:, :, None]
            about = jnp.concatenate(weighted_statistics(x, even), axis=-1).astype(x.dtype)
            wide = jnp.broadcast_to(about[:, None, :], (*x.shape[:2], about.shape[-1]))
            seen = jnp.concatenate([x, wide], axis=-1)
        hidden = self.norm(jax.nn.relu(self.hidden(seen, lengths)), within, train=train)
        scores = self.output(jnp.tanh(hidden), lengths).astype(jnp.float32)
        weights = jax.nn.softmax(jnp.where(within[:, :, None], scores, -1e30), axis=1)
        return jnp.concatenate(weighted_statistics(x, weights), axis=-1)
