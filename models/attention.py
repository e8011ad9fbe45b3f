"""Self-attention over a limited past, and the feed-forward part that goes with it.

A frame attends to itself and to the `left` frames before it, never ahead. Positions are relative,
as in Transformer-XL: the score of a key o frames back is

    ((q + u) . k + (q + v) . W s_o) / sqrt(d)        o = 0 ... left

with the sinusoid s_o of the offset, a learned matrix W, and learned u and v for each head. Since
attention is limited there are left + 1 offsets, and a stream needs no absolute position.

Keys and values of the last `left` frames are the state of a stream. A whole utterance is cut into
blocks; each looks at itself and at the `left` frames before it, so memory grows with T and not with
its square.

Sources: Dai et al. 2019, "Transformer-XL", arXiv 1901.02860, section 3.3; Gulati et al. 2020,
"Conformer", arXiv 2005.08100, section 2.1.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from .layers import dropout

# Blocks of fewer frames would be many small matmuls.
_MIN_BLOCK = 16
# Nats by which a score behind a closed gate may exceed those that count.
_MOST_ABOVE = 5.0


class AttentionState(NamedTuple):
    """The last `left` frames of a stream.

    Attributes:
      keys, values: [B, left, D] in the compute type.
      count: [B] int32, how many of them are frames; the others, at the front, are masked out.
    """

    keys: jax.Array
    values: jax.Array
    count: jax.Array


class GatedState(NamedTuple):
    """The last `left` frames of a stream, of which some are no keys.

    Attributes:
      past: keys and values; those of a frame that is no key are never looked at.
      active: [B, left] bool, which of them are keys.
    """

    past: AttentionState
    active: jax.Array


class RelativeAttention(nnx.Module):
    """Multi-head self-attention to the last `left` frames, with relative positions.

    Queries, keys and values have no bias: u and v are the queries', a key's would add the same to
    every score, and a value's would add to the output's. Softmax runs in float32.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        left: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        if width % heads or width % 2:
            raise ValueError(f"a width of {width} cannot be {heads} heads, or is odd")
        if left < 0:
            raise ValueError(f"attention looks at 0 or more frames to the left, not {left}")
        self.width, self.heads, self.left = width, heads, left
        self.dtype = dtype
        linear = functools.partial(nnx.Linear, width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.query, self.key, self.value = linear(), linear(), linear()
        self.output = linear(use_bias=True)
        # Kept as vectors, like any bias; [heads, width // heads] in the formula.
        self.content_bias = nnx.Param(jnp.zeros(width))
        self.position_bias = nnx.Param(jnp.zeros(width))
        self.position = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (width, width)))

    def init_state(self, batch: int) -> AttentionState:
        """The state before the first frame: nothing to attend to."""
        past = jnp.zeros((batch, self.left, self.width), self.dtype)
        return AttentionState(past, past, jnp.zeros(batch, jnp.int32))

    def __call__(
        self, x: jax.Array, state: AttentionState, within: jax.Array | None = None
    ) -> tuple[jax.Array, AttentionState]:
        """[B, T, D] -> `(y [B, T, D], state)`.

        `within` [B, T], the frames that count, changes nothing: none sees a later one.
        """
        keys = jnp.concatenate([state.keys, self.key(x)], axis=1)
        values = jnp.concatenate([state.values, self.value(x)], axis=1)
        y = self._attend(self.query(x), keys, values, state.count)
        return self.output(y), self._after(keys, values, state.count, x.shape[1])

    def attend_gated(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        gates: jax.Array,
        state: GatedState,
    ) -> tuple[jax.Array, GatedState]:
        """What lies between the projections, three [B, T, D], where a frame is a key to the later
        ones as far as its gate [B, T] is open -> `(y [B, T, D], state)`.

        A key's gate multiplies its exponentiated score. A frame always sees itself, so that what
        it would attend to is known even where its own gate is closed.
        """
        past, frames = state.past, key.shape[1]
        keys = jnp.concatenate([past.keys, key], axis=1)
        values = jnp.concatenate([past.values, value], axis=1)
        gates = jnp.concatenate([state.active.astype(gates.dtype), gates], axis=1)
        y = self._attend(query, keys, values, past.count, gates)
        after = self._after(keys, values, past.count, frames)
        return y, GatedState(after, gates[:, frames:] > 0)

    def _after(
        self, keys: jax.Array, values: jax.Array, count: jax.Array, frames: int
    ) -> AttentionState:
        count = jnp.minimum(count + frames, self.left)
        return AttentionState(keys[:, frames:], values[:, frames:], count)

    def _attend(
        self,
        query: jax.Array,
        keys: jax.Array,
        values: jax.Array,
        count: jax.Array,
        gates: jax.Array | None = None,
    ) -> jax.Array:
        """Queries [B, T, D], keys and values [B, left + T, D], count [B] -> [B, T, D].

        `gates` [B, left + T] of the keys.
        """
        frames = query.shape[1]
        block = max(1, min(frames, max(self.left, _MIN_BLOCK)))
        q, k, v = self._in_blocks(query, keys, values, block)
        blocks = q.shape[2]
        scores = self._scores(q, k, sinusoids(self.left + 1, self.width)[::-1], _skew)
        seen = _in_reach(blocks, block, self.left, count)[:, None]
        scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
        if gates is None:
            weights = jax.nn.softmax(scores, axis=-1)
        else:
            padding = ((0, 0), (0, blocks * block - frames))
            gates = windows(jnp.pad(gates, padding)[..., None], self.left, block)[..., 0]
            own = jnp.asarray(np.eye(block, self.left + block, self.left, dtype=bool))
            gates = jnp.where(own[None, None, None], 1.0, gates[:, None, :, None, :])
            weights = gated_softmax(scores, gates.astype(scores.dtype))
        return self._weighted(weights, v, frames)

    def _in_blocks(
        self, query: jax.Array, keys: jax.Array, values: jax.Array, block: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries [B, T, D], keys and values [B, left + T, D] -> by blocks of frames, the last one
        filled up: [B, heads, blocks, block, d], and twice [B, heads, blocks, left + block, d]."""
        batch, frames, _ = query.shape
        blocks = max(1, -(-frames // block))
        padding = ((0, 0), (0, blocks * block - frames), (0, 0))
        return (
            self._split(jnp.pad(query, padding).reshape(batch, blocks, block, -1)),
            self._split(windows(jnp.pad(keys, padding), self.left, block)),
            self._split(windows(jnp.pad(values, padding), self.left, block)),
        )

    def _scores(
        self,
        q: jax.Array,
        k: jax.Array,
        sines: np.ndarray,
        by_key: Callable[[jax.Array], jax.Array],
    ) -> jax.Array:
        """The formula of every query and key of a block: [B, heads, blocks, block, left + block].

        Args:
          q, k: as `_in_blocks` gives them.
          sines: of the offsets that are looked at, [offsets, D].
          by_key: brings scores by offset [..., block, offsets] into the order of keys.
        """
        wide = jnp.promote_types(self.dtype, jnp.float32)
        content_bias, position_bias = (b[None, :, None] for b in self.query_biases())
        content = jnp.matmul(q + content_bias, k.swapaxes(3, 4), preferred_element_type=wide)
        offsets = self._offset_scores(q + position_bias, sines, wide)
        return (content + by_key(offsets)) * (self.width // self.heads) ** -0.5

    def _weighted(self, weights: jax.Array, v: jax.Array, frames: int) -> jax.Array:
        """Weights [B, heads, blocks, block, left + block] of values -> [B, frames, D]."""
        y = jnp.matmul(weights.astype(self.dtype), v).transpose(0, 2, 3, 1, 4)
        return y.reshape(y.shape[0], -1, self.width)[:, :frames]

    def _split(self, x: jax.Array) -> jax.Array:
        """[B, blocks, n, D] -> [B, heads, blocks, n, D / heads]."""
        return x.reshape(*x.shape[:3], self.heads, -1).transpose(0, 3, 1, 2, 4)

    def query_biases(self) -> tuple[jax.Array, jax.Array]:
        """u and v of the formula: [heads, 1, D / heads]."""
        biases = self.content_bias, self.position_bias
        u, v = (b[...].astype(self.dtype).reshape(self.heads, 1, -1) for b in biases)
        return u, v

    def _offset_scores(self, q: jax.Array, sines: np.ndarray, wide: DTypeLike) -> jax.Array:
        """q . W s_o: [B, heads, blocks, block, d] -> [B, heads, blocks, block, offsets].

        `sines`: s_o of every offset that is looked at, [offsets, D].
        """
        batch, heads, blocks, block, d = q.shape
        table, offsets = jnp.asarray(sines, self.dtype), len(sines)
        kernel = self.position_kernel()
        q = q.reshape(batch, heads, blocks * block, d)
        # W s_o costs D^2 for each offset whatever the number of frames, so that for the few frames
        # of a chunk it is cheaper to multiply W into the queries.
        rows = batch * blocks * block
        if _is_less(rows * (self.width + (heads - 1) * offsets), offsets * self.width):
            scores = jnp.matmul(
                jnp.matmul(q, kernel), table.T[None, None], preferred_element_type=wide
            )
        else:
            positions = jnp.matmul(kernel, table.T[None, None])  # [1, heads, d, offsets]
            scores = jnp.matmul(q, positions, preferred_element_type=wide)
        return scores.reshape(batch, heads, blocks, block, offsets)

    def position_kernel(self) -> jax.Array:
        """W by heads: [1, heads, D / heads, D]."""
        kernel = self.position[...].astype(self.dtype).reshape(self.width, self.heads, -1)
        return kernel.transpose(1, 2, 0)[None]


def _is_less(count: int, other: int) -> bool:
    """Whether it certainly is: an exported program takes any number of rows."""
    try:
        return count < other
    except jax.errors.InconclusiveDimensionOperation:
        return False


def gated_softmax(scores: jax.Array, gates: jax.Array) -> jax.Array:
    """gates exp(scores), normalised over the last axis, in which one gate at least is open.

    Scores behind a closed gate count for the gradient of the gate alone, and are cut off a little
    above the largest that counts: whatever they are, they cannot overflow.
    """
    counted = jnp.where(gates > 0, scores, jnp.finfo(scores.dtype).min)
    top = jax.lax.stop_gradient(counted.max(axis=-1, keepdims=True))
    weights = gates * jnp.exp(jnp.minimum(scores - top, _MOST_ABOVE))
    return weights / weights.sum(axis=-1, keepdims=True)


@functools.lru_cache
def sinusoids(length: int, width: int, first: int = 0) -> np.ndarray:
    """Sines and cosines of `first` ... first + length - 1 at wavelengths from 2 pi to 20,000 pi.

    Returns:
      [length, width] float32, sines in the first half of the columns.
    """
    rates = np.exp(np.arange(width // 2) * (-math.log(10_000.0) / max(1, width // 2)))
    angles = np.arange(first, first + length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def windows(x: jax.Array, left: int, block: int) -> jax.Array:
    """[B, left + n block, D] -> [B, n, left + block, D]: each block behind its last `left` frames.

    Slices only; with more than one block, `left` is at most `block`.
    """
    batch, _, width = x.shape
    past, x = x[:, None, :left], x[:, left:].reshape(batch, -1, block, width)
    if x.shape[1] > 1:
        past = jnp.concatenate([past, x[:, :-1, block - left :]], axis=1)
    return jnp.concatenate([past, x], axis=2)


def _skew(x: jax.Array) -> jax.Array:
    """[..., block, left + 1] -> [..., block, left + block]: row i moves i columns to the right.

    Rows are padded to one column too many and cut anew. What moves in lies out of reach.
    """
    *lead, block, columns = x.shape
    window = columns - 1 + block
    x = jnp.pad(x, [(0, 0)] * (len(lead) + 1) + [(0, block)])
    x = x.reshape(*lead, block * (window + 1))[..., : block * window]
    return x.reshape(*lead, block, window)


def _in_reach(blocks: int, block: int, left: int, count: jax.Array) -> jax.Array:
    """Which keys a query sees: [B, blocks, block, left + block].

    Not later than itself, not more than `left` before, and not before the first frame.
    """
    query, key = np.arange(block)[:, None] + left, np.arange(left + block)[None, :]
    near = jnp.asarray((key <= query) & (key >= query - left))
    frame = np.arange(blocks)[:, None] * block + np.arange(left + block)[None, :] - left
    exists = frame[None] >= -count[:, None, None]
    return near[None, None] & exists[:, :, None, :]


class SelfAttention(nnx.Module):
    """The attention part of a block: dropout(attention(norm(x))), to be added to x."""

    def __init__(
        self,
        width: int,
        heads: int,
        left: int,
        *,
        dropout: float = 0.0,
        epsilon: float = 1e-6,
        kind: Callable[..., RelativeAttention] = RelativeAttention,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.dropout = dropout
        self.norm = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.attention = kind(width, heads, left, rngs=rngs, dtype=dtype)

    def init_state(self, batch: int) -> AttentionState:
        """The state before the first frame."""
        return self.attention.init_state(batch)

    @jax.named_scope("attention")
    def __call__(
        self,
        x: jax.Array,
        state: AttentionState,
        within: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, AttentionState]:
        """[B, T, D] -> `(what to add to x [B, T, D], state)`; `within` [B, T] the frames that
        count, `key` for dropout."""
        y, state = self.attention(self.norm(x), state, within)
        return dropout(y, self.dropout, key), state


class FeedForward(nnx.Module):
    """The feed-forward part of a block: dropout(W2 act(W1 norm(x))), to be added to x."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
        dropout: float = 0.0,
        epsilon: float = 1e-6,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.activation = activation
        self.dropout = dropout
        self.norm = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.widen = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)

    @jax.named_scope("feed_forward")
    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """[..., D] -> what to add to x, [..., D]; `key` for dropout."""
        y = self.narrow(self.activation(self.widen(self.norm(x))))
        return dropout(y, self.dropout, key)
