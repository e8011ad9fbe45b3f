"""Squeeze-and-excitation for streams: channels are weighed by what was heard so far.

The squeeze of Hu et al. is a mean over the whole input. A stream does not have it, so the squeeze
here is a mean over the frames up to the present one:

    a[t] = mean of y[s], s <= t          q[t] = sigmoid(V2 relu(V1 a[t]))          q[t] * y[t]

Source: Hu et al. 2018, "Squeeze-and-excitation networks", arXiv 1709.01507; ConvRNN-T,
arXiv 2209.14868.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

SqueezeMode = Literal["cumulative", "ema", "window", "global", "off"]


class SqueezeState(NamedTuple):
    """Sum [B, D] and number [B] of the frames so far, float32; the last ones for a window."""

    total: jax.Array
    count: jax.Array
    recent: jax.Array
    """[B, window, D]; of no frames unless the mode is `window`."""


class SqueezeExcite(nnx.Module):
    """Gates [B, T, D] by a running mean of its input.

    Modes:
      cumulative: every frame so far counts alike.
      ema: frame s counts exp(-(t - s) / tau) at time t; `tau` in frames.
      window: the last `window` frames count alike.
      global: the whole utterance; not causal, so it has no streaming form.
      off: no gate.
    """

    def __init__(
        self,
        width: int,
        reduction: int,
        mode: SqueezeMode = "cumulative",
        *,
        tau: float = 100.0,
        window: int = 100,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.width = width
        self.mode: SqueezeMode = mode
        self.window = window
        self.keep = 1.0 if mode != "ema" else math.exp(-1.0 / tau)
        if mode == "off":
            return
        narrow = max(1, width // reduction)
        self.reduce = nnx.Linear(width, narrow, dtype=dtype, rngs=rngs)
        self.expand = nnx.Linear(narrow, width, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> SqueezeState:
        """The state before the first frame."""
        frames = self.window if self.mode == "window" else 0
        return SqueezeState(
            jnp.zeros((batch, self.width), jnp.float32),
            jnp.zeros(batch, jnp.float32),
            jnp.zeros((batch, frames, self.width), jnp.float32),
        )

    @jax.named_scope("squeeze")
    def __call__(
        self, y: jax.Array, state: SqueezeState, within: jax.Array | None = None
    ) -> tuple[jax.Array, SqueezeState]:
        """Gates the next frames [B, n, D].

        Args:
          within: [B, n], the frames that count where y is whole utterances; None in a stream. Only
            the global squeeze needs it: for the others, padding comes too late to be seen.

        Raises:
          ValueError: the squeeze is global, so that no frame can be finished before the last.
        """
        if self.mode == "off":
            return y, state
        if self.mode == "global":
            if within is None:
                raise ValueError(
                    'squeeze="global" averages over the whole utterance and cannot stream: '
                    'use squeeze="cumulative"'
                )
            weight = within.astype(jnp.float32)
            total = jnp.einsum("btd,bt->bd", y.astype(jnp.float32), weight)
            mean = total / jnp.maximum(weight.sum(axis=1), 1.0)[:, None]
            return self._gate(mean[:, None, :].astype(y.dtype)) * y, state
        mean, state = self._running_mean(y.astype(jnp.float32), state)
        return self._gate(mean.astype(y.dtype)) * y, state

    def _gate(self, mean: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.expand(jax.nn.relu(self.reduce(mean))))

    def _running_mean(self, y: jax.Array, state: SqueezeState) -> tuple[jax.Array, SqueezeState]:
        """Means [B, n, D] up to each frame, all float32."""
        frames = y.shape[1]
        if frames == 0:
            return y, state
        if self.mode == "window":
            known = jnp.concatenate([state.recent, y], axis=1)
            # Sums of windows as differences of sums: one pass, whatever the window.
            sums = jax.lax.associative_scan(jnp.add, known, axis=1)
            total = sums[:, self.window :] - sums[:, :frames]
            count = state.count[:, None] + jnp.arange(1.0, frames + 1.0)[None, :]
            mean = total / jnp.minimum(count, float(self.window))[:, :, None]
            return mean, SqueezeState(state.total, count[:, -1], known[:, frames:])
        if self.mode == "ema":
            # s[t] = keep s[t-1] + y[t]: the powers of keep that reach each frame from the state.
            power = self.keep ** jnp.arange(1.0, frames + 1.0)
            decays = jnp.full((1, frames, 1), self.keep)
            _, sums = jax.lax.associative_scan(
                _follow, (jnp.broadcast_to(decays, y.shape), y), axis=1
            )
            total = sums + power[None, :, None] * state.total[:, None, :]
            weights = (1.0 - power) / (1.0 - self.keep)
            count = weights[None, :] + power[None, :] * state.count[:, None]
        else:
            # A tree of sums: `cumsum` takes twice as long on a CPU.
            total = jax.lax.associative_scan(jnp.add, y, axis=1) + state.total[:, None, :]
            count = jnp.arange(1.0, frames + 1.0)[None, :] + state.count[:, None]
        mean = total / count[:, :, None]
        return mean, SqueezeState(total[:, -1], count[:, -1], state.recent)


def _follow(
    first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Two stretches of `s[t] = a[t] s[t-1] + y[t]` as one."""
    return first[0] * second[0], first[1] * second[0] + second[1]
