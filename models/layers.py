"""Layers that the encoders and the prediction network share.

An LSTM projects its whole input with one matmul and scans only the recurrent part. The scan has a
gradient of its own: differentiating `lax.scan` adds up the recurrent weights' gradient one step at
a time, where one matmul after the backward scan gives it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

ENTRY_BIAS = nnx.initializers.normal(0.1)
"""For the first bias that features meet, in networks that go on to LayerNorm.

Where SpecAugment blanks an utterance's beginning, all that a causal network has seen is zeros. With
biases of zero it stays at zero, where the gradient of every LayerNorm on the way is a thousandfold:
a few layers deep, the gradient of the whole batch is noise, or not finite.
"""


class LSTMState(NamedTuple):
    """Hidden state `h` [B, H] in the compute type, cell state `c` [B, H] in float32."""

    h: jax.Array
    c: jax.Array


class LSTM(nnx.Module):
    """A long short-term memory layer with one bias, forget gates opened by a bias of about 1.

    Gates lie in the order input, forget, cell, output. Matmuls run in `dtype`; gates and cell in
    float32.
    """

    def __init__(
        self, input_size: int, width: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ):
        self.width = width
        self.dtype = dtype
        glorot = nnx.initializers.glorot_uniform()
        # Each gate's matrix is drawn by itself: fan-out is one gate's width, not four.
        self.kernel = nnx.Param(
            jnp.concatenate([glorot(rngs.params(), (input_size, width)) for _ in range(4)], axis=1)
        )
        orthogonal = nnx.initializers.orthogonal()
        self.recurrent = nnx.Param(
            jnp.concatenate([orthogonal(rngs.params(), (width, width)) for _ in range(4)], axis=1)
        )
        bias = ENTRY_BIAS(rngs.params(), (4 * width,))
        self.bias = nnx.Param(bias.at[width : 2 * width].add(1.0))

    def init_state(self, batch: int) -> LSTMState:
        """The state before the first frame: zeros."""
        return LSTMState(
            h=jnp.zeros((batch, self.width), self.dtype),
            c=jnp.zeros((batch, self.width), jnp.promote_types(self.dtype, jnp.float32)),
        )

    def __call__(
        self, x: jax.Array, state: LSTMState | None = None, added: jax.Array | None = None
    ) -> tuple[jax.Array, LSTMState]:
        """Runs over a sequence.

        Args:
          x: [B, T, D].
          state: where to go on from; None is the start.
          added: [B, 4 width], added to the projection of every frame: what a further input that
            stays the same would give.

        Returns:
          `(y [B, T, width] in the compute type, the state after the last frame)`.
        """
        if state is None:
            state = self.init_state(x.shape[0])
        kernel, recurrent = self.kernel[...].astype(self.dtype), self.recurrent[...]
        wide = state.c.dtype
        # Not an einsum that transposes: XLA's CPU backend has no such product of bfloat16.
        x = x.swapaxes(0, 1).astype(self.dtype)
        projected = jnp.matmul(x, kernel, preferred_element_type=wide)
        projected = projected + self.bias[...].astype(wide)[None, None, :]
        if added is not None:
            projected = projected + added.astype(wide)[None]
        hidden, h, c = lstm_scan(projected, recurrent.astype(self.dtype), state.h, state.c)
        return hidden.swapaxes(0, 1), LSTMState(h, c)


@jax.custom_vjp
def lstm_scan(
    projected: jax.Array, recurrent: jax.Array, h: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The recurrent part of an LSTM.

    Args:
      projected: [T, B, 4H], input projection with the bias, float32.
      recurrent: [H, 4H].
      h, c: [B, H], the state to start from.

    Returns:
      `(hidden [T, B, H], last h [B, H], last c [B, H])`.
    """

    def step(carry, projected_t):
        h, c, _ = _cell(projected_t, recurrent, *carry)
        return (h, c), h

    (h, c), hidden = jax.lax.scan(step, (h, c), projected)
    return hidden, h, c


def _cell(projected, recurrent, h, c):
    gates = projected + jnp.matmul(h, recurrent, preferred_element_type=projected.dtype)
    # One tanh over all gates: sigmoid(x) = tanh(x / 2) / 2 + 1 / 2.
    half = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], gates.dtype), c.shape[1])[None, :]
    i, f, g, o = jnp.split(jnp.tanh(gates * half) * half + (1.0 - half), 4, axis=-1)
    c = f * c + i * g
    return (o * jnp.tanh(c)).astype(h.dtype), c, (i, f, g, o)


def _lstm_forward(projected, recurrent, h0, c0):
    def step(carry, projected_t):
        h, c, gates = _cell(projected_t, recurrent, *carry)
        return (h, c), (h, c, jnp.concatenate(gates, axis=-1))

    (h, c), (hidden, cells, gates) = jax.lax.scan(step, (h0, c0), projected)
    return (hidden, h, c), (recurrent, h0, c0, hidden, cells, gates)


def _lstm_backward(residuals, cotangents):
    recurrent, h0, c0, hidden, cells, gates = residuals
    d_hidden, d_h, d_c = cotangents
    previous_cells = jnp.concatenate([c0[None], cells[:-1]])
    transposed = recurrent.T

    def step(carry, inputs):
        d_h, d_c = carry
        d_hidden_t, gates_t, c, c_previous = inputs
        i, f, g, o = jnp.split(gates_t, 4, axis=-1)
        d_h = d_h + d_hidden_t.astype(d_h.dtype)
        tanh_c = jnp.tanh(c)
        d_c = d_c + d_h * o * (1.0 - tanh_c * tanh_c)
        d_gates = jnp.concatenate(
            [
                d_c * g * i * (1.0 - i),
                d_c * c_previous * f * (1.0 - f),
                d_c * i * (1.0 - g * g),
                d_h * tanh_c * o * (1.0 - o),
            ],
            axis=-1,
        )
        d_h = jnp.matmul(
            d_gates.astype(transposed.dtype), transposed, preferred_element_type=d_h.dtype
        )
        return (d_h, d_c * f), d_gates

    (d_h, d_c), d_gates = jax.lax.scan(
        step,
        (d_h.astype(d_c.dtype), d_c),
        (d_hidden, gates, cells, previous_cells),
        reverse=True,
    )
    previous_hidden = jnp.concatenate([h0[None], hidden[:-1]])
    d_recurrent = jnp.einsum(
        "tbh,tbg->hg",
        previous_hidden,
        d_gates.astype(recurrent.dtype),
        preferred_element_type=d_c.dtype,
    )
    return d_gates, d_recurrent.astype(recurrent.dtype), d_h.astype(h0.dtype), d_c


lstm_scan.defvjp(_lstm_forward, _lstm_backward)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes a share `rate` of x and scales the rest up; without a key, x as it is."""
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


def split_key(key: jax.Array | None, count: int) -> Sequence[jax.Array | None]:
    """`count` keys out of one; without one, as many times none."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def mask_frames(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """[B, T, D] with zeros from each row's length [B] on, whatever lay there: NaN too."""
    within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
    return jnp.where(within[:, :, None], x, jnp.zeros_like(x))
