"""Self-attention by chunks: to all frames of its chunk, and to those of some chunks before it.

A frame sees the whole of its chunk, later frames too, and the `left` frames before the chunk. So
`chunk - 1` frames of look-ahead are all that any number of layers needs, where a window that slides
with the frame would need as many again for each layer. Chunks of no limit are attention to the
whole recording.

Positions are relative as in `attention.py`, with offsets of both signs.

Source: Noroozi et al. 2024, "Stateful Conformer with cache-based inference for streaming automatic
speech recognition", arXiv 2312.17279, section 3.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from .attention import AttentionState, RelativeAttention, sinusoids, windows

# Chunks are worked on together until there are so many frames: fewer, larger matmuls.
_MIN_BLOCK = 16


class ChunkedAttention(RelativeAttention):
    """Multi-head self-attention within chunks and to what precedes them, relative positions.

    Attributes:
      chunk: frames of a chunk; None: the whole recording is one, and there is no stream.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        left: int,
        *,
        chunk: int | None,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        # Whole chunks of the past only.
        left = 0 if chunk is None else left // chunk * chunk
        super().__init__(width, heads, left, rngs=rngs, dtype=dtype)
        self.chunk = chunk

    def __call__(
        self, x: jax.Array, state: AttentionState, within: jax.Array | None = None
    ) -> tuple[jax.Array, AttentionState]:
        """[B, T, D] -> `(y [B, T, D], state)`; T is a multiple of the chunk.

        `within` [B, T]: the frames that count, where chunks have no limit. None: all.
        """
        keys = jnp.concatenate([state.keys, self.key(x)], axis=1)
        values = jnp.concatenate([state.values, self.value(x)], axis=1)
        batch, frames, _ = x.shape
        block = self._block(frames)
        q, k, v = self._in_blocks(self.query(x), keys, values, block)
        if within is None:
            within = jnp.ones((batch, frames), bool)
        held = jnp.arange(self.left)[None, :] >= self.left - state.count[:, None]
        exists = jnp.concatenate([held, within], axis=1)
        exists = jnp.pad(exists, ((0, 0), (0, q.shape[2] * block - frames)))
        seen = windows(exists[:, :, None], self.left, block)[..., 0]  # [B, blocks, left + block]
        seen = seen[:, :, None, :] & self._near(block)[None, None]
        # From the key furthest back to the one furthest ahead.
        sines = sinusoids(self.left + 2 * block - 1, self.width, 1 - block)[::-1]
        scores = self._scores(q, k, sines, partial(_by_key, left=self.left))
        scores = jnp.where(seen[:, None], scores, jnp.finfo(scores.dtype).min)
        y = self._weighted(jax.nn.softmax(scores, axis=-1), v, frames)
        return self.output(y), self._after(keys, values, state.count, frames)

    def _block(self, frames: int) -> int:
        """Frames that are worked on together, a multiple of the chunk and at least `left`."""
        if self.chunk is None or frames <= self.chunk:
            return max(1, frames)
        most = max(self.left, _MIN_BLOCK)
        return min(frames, -(-most // self.chunk) * self.chunk)

    def _near(self, block: int) -> jax.Array:
        """Which keys of its window a query of a block sees, [block, left + block]."""
        chunk = self.chunk or block
        query = np.arange(block)[:, None] // chunk
        key = (np.arange(self.left + block)[None, :] - self.left) // chunk
        return jnp.asarray((query >= key) & (query - key <= self.left // chunk))


def _by_key(x: jax.Array, left: int) -> jax.Array:
    """[..., block, left + 2 block - 1] by offset -> [..., block, left + block] by key.

    Of row i, column j is the offset's `block - 1 - i + j`: rows are padded by one, and cut anew one
    shorter.
    """
    *lead, block, columns = x.shape
    x = jnp.pad(x, [(0, 0)] * (len(lead) + 1) + [(0, 1)])
    x = x.reshape(*lead, block * (columns + 1))[..., block - 1 : block - 1 + block * columns]
    return x.reshape(*lead, block, columns)[..., : left + block]
