"""Batch normalisation over the frames that count.

Statistics of a training batch leave padding out. The batch is one global array whatever the mesh,
so a mean over it is a mean over all devices: statistics are synchronised over the data axis by
construction. Without training (and in a stream, always) the running statistics are used.

Source: Ioffe and Szegedy 2015, "Batch normalization", arXiv 1502.03167.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

EPSILON = 1e-5


class RunningStats(nnx.Variable):
    """Running mean and variance: state that training updates, not a trained parameter."""


class BatchNorm(nnx.Module):
    """Normalises each of the last axis's channels; arithmetic of the statistics is float32."""

    def __init__(self, width: int, *, momentum: float = 0.99, dtype: DTypeLike = jnp.float32):
        self.momentum = momentum
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.mean = RunningStats(jnp.zeros(width))
        self.var = RunningStats(jnp.ones(width))

    def __call__(
        self, x: jax.Array, within: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """[B, T, D] -> [B, T, D].

        Args:
          within: [B, T] bool, the frames that count; None: all. Read in training only, which gives
            zeros for the others. They must be finite.
          train: use this batch's statistics and move the running ones towards them.
        """
        wide = x.astype(jnp.float32)
        if train:
            weight = jnp.ones(x.shape[:2]) if within is None else within.astype(jnp.float32)
            weight = weight[:, :, None]
            count = jnp.maximum(weight.sum(), 1.0)
            # Sums and not products with the weights: on a CPU, twice as fast.
            mean = (wide * weight).sum(axis=(0, 1)) / count
            var = ((wide - mean[None, None, :]) ** 2 * weight).sum(axis=(0, 1)) / count
            for running, now in ((self.mean, mean), (self.var, var)):
                before = running[...]
                # A batch without frames says nothing.
                after = self.momentum * before + (1.0 - self.momentum) * jax.lax.stop_gradient(now)
                running[...] = jnp.where(weight.any(), after, before)
        else:
            mean, var = self.mean[...], self.var[...]
        gain = self.scale[...] * jax.lax.rsqrt(var + EPSILON)
        y = (wide - mean[None, None, :]) * gain[None, None, :] + self.bias[...][None, None, :]
        if train and within is not None:
            # A channel that is silent in the frames that count has a gain of 300, and padding need
            # not be silent there: a few layers of that overflowed.
            y = jnp.where(within[:, :, None], y, 0.0)
        return y.astype(self.dtype)
