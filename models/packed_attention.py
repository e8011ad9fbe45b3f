"""Attention among the active frames of a batch, packed one behind the other.

Where a closed gate means that a frame is neither query nor key, the active frames of all rows form
one sequence. A query's keys are among the `left` entries before it, so blocks of the sequence look
at themselves and at the `left` entries before them, and what is not of the row or too long ago is
masked out. All work is in proportion to active frames: neither closed gates nor the padding of
ragged rows are paid for.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .attention import RelativeAttention, SelfAttention, sinusoids
from .gates import chunk_of, for_active

_LONG_AGO = -(2**30)


class _Past(NamedTuple):
    """The last `left` active frames: keys and values [left, D], and where they lie [left]."""

    keys: jax.Array
    values: jax.Array
    at: jax.Array


def packed_attention(part: SelfAttention, x: jax.Array, active: jax.Array) -> jax.Array:
    """What attention adds to whole utterances in which active frames see active frames.

    Args:
      part: without dropout.
      x: [B, T, D].
      active: [B, T] bool; padding is not active.

    Returns:
      [B, T, D], zeros for the others.
    """
    attention = part.attention
    batch, frames, width = x.shape
    rows, left = batch * frames, attention.left
    block = max(left, chunk_of(rows))
    flat = x.reshape(rows, width)
    table = jnp.asarray(sinusoids(left + 1, width)[::-1], attention.dtype)
    positions = jnp.matmul(attention.position_kernel()[0], table.T[None])  # [heads, d, left + 1]

    def step(carry: tuple[jax.Array, _Past], some: jax.Array) -> tuple[jax.Array, _Past]:
        y, past = carry
        h = part.norm(flat.at[some].get(mode="clip"))
        keys = jnp.concatenate([past.keys, attention.key(h)])
        values = jnp.concatenate([past.values, attention.value(h)])
        at = jnp.concatenate([past.at, some])
        offset = some[:, None] - at[None, :]
        same_row = some[:, None] // frames == at[None, :] // frames
        seen = same_row & (offset >= 0) & (offset <= left)
        found = _attend(attention, attention.query(h), keys, values, positions, offset, seen)
        y = y.at[some].set(found.astype(y.dtype), mode="drop")
        return y, _Past(keys[block:], values[block:], at[block:])

    none = jnp.zeros((left, width), attention.dtype)
    past = _Past(none, none, jnp.full(left, _LONG_AGO, jnp.int32))
    y, _ = for_active(step, (jnp.zeros_like(flat), past), active.reshape(rows), block)
    return y.reshape(x.shape)


def _attend(
    attention: RelativeAttention,
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    offset: jax.Array,
    seen: jax.Array,
) -> jax.Array:
    """Queries [n, D] over keys and values [m, D] that lie `offset` [n, m] back -> [n, D]."""
    heads, left = attention.heads, attention.left
    wide = jnp.promote_types(attention.dtype, jnp.float32)

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], heads, -1).swapaxes(0, 1)

    content_bias, position_bias = attention.query_biases()
    q = split(query)
    content = jnp.matmul(q + content_bias, split(keys).swapaxes(1, 2), preferred_element_type=wide)
    by_offset = jnp.matmul(q + position_bias, positions, preferred_element_type=wide)
    column = jnp.clip(left - offset, 0, left)[None]
    moved = jnp.take_along_axis(by_offset, jnp.broadcast_to(column, content.shape), axis=2)
    scores = (content + moved) * (attention.width // heads) ** -0.5
    scores = jnp.where(seen[None], scores, jnp.finfo(wide).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(attention.dtype)
    y = jnp.matmul(weights, split(values))
    return attention.output(y.swapaxes(0, 1).reshape(query.shape))
