"""The Transformer-Transducer's audio encoder: attention to a limited past, nothing of the future.

    features -> `subsample` frames side by side, linear -> blocks -> LayerNorm -> linear

    block:  x <- x + attention(x)         to the last `left` frames, relative positions
            x <- x + FFN(x)               ReLU

Both parts normalise their input first and drop out their output; each frame's update is a term of
its own, so that a part can be left out for a frame.

Source: Zhang et al. 2020, "Transformer Transducer: A streamable speech recognition model with
Transformer encoders and RNN-T loss", arXiv 2002.02562 (18 blocks, width 512, 8 heads, FFN 2048;
left contexts from 2 frames to all). The label encoder here is the LSTM that all families share.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..attention import AttentionState, FeedForward, SelfAttention
from ..layers import ENTRY_BIAS, dropout, split_key
from ..remat import run_blocks
from .causal import CausalEncoder


@dataclasses.dataclass(frozen=True)
class TransformerShape:
    """Shape of a Transformer encoder, dense or amortized.

    Attributes:
      width: of the blocks.
      heads: of attention; they share the width.
      blocks: number of blocks.
      output: width of what the encoder returns.
      left: frames before its own that attention sees, at the encoder's rate.
      expansion: hidden units of a feed-forward part, in widths.
      subsample: input frames for one output frame.
      dropout: share of each part's output that is dropped in training.
    """

    width: int
    heads: int
    blocks: int
    output: int
    left: int = 64
    expansion: int = 4
    subsample: int = 1
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True)
class TransformerConfig(TransformerShape):
    """A dense Transformer encoder; `kind` tells recipes of different families apart."""

    kind: Literal["transformer"] = "transformer"


class TransformerBlock(nnx.Module):
    """Attention, then feed-forward, each added to its input."""

    def __init__(self, config: TransformerShape, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        width, rate = config.width, config.dropout
        self.attention = SelfAttention(
            width, config.heads, config.left, dropout=rate, rngs=rngs, dtype=dtype
        )
        self.feed_forward = FeedForward(
            width, config.expansion * width, dropout=rate, rngs=rngs, dtype=dtype
        )

    def init_state(self, batch: int) -> AttentionState:
        """The state before the first frame."""
        return self.attention.init_state(batch)

    def __call__(
        self, x: jax.Array, state: AttentionState, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, AttentionState]:
        """[B, T, D] -> `(y [B, T, D], state)`; `key` for dropout."""
        keys = split_key(key, 2)
        attended, state = self.attention(x, state, key=keys[0])
        x = x + attended
        return x + self.feed_forward(x, key=keys[1]), state


class TransformerEncoder(CausalEncoder):
    """Subsampling, Transformer blocks, LayerNorm and a linear output.

    Attributes:
      stride: input frames for one output frame.
      lookahead: input frames of the future that an output frame sees: 0.
      receptive_field: input frames that it sees; the blocks' pasts add up:
        stride * (blocks * left + 1).
    """

    def __init__(
        self,
        config: TransformerShape,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        if config.subsample < 1:
            raise ValueError(f"subsample must be at least 1, not {config.subsample}")
        self.config = config
        self.dtype = dtype
        self.stride = config.subsample
        self.receptive_field: int | None = self.stride * (config.blocks * config.left + 1)
        self.input = nnx.Linear(
            self.stride * input_size, config.width, bias_init=ENTRY_BIAS, dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.List(
            [TransformerBlock(config, rngs=rngs, dtype=dtype) for _ in range(config.blocks)]
        )
        self.norm = nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(config.width, config.output, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> tuple[AttentionState, ...]:
        """The state before the first frame."""
        return tuple(block.init_state(batch) for block in self.blocks)

    def run(
        self,
        x: jax.Array,
        state: tuple[AttentionState, ...],
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[AttentionState, ...]]:
        count = len(self.blocks)
        keys = split_key(key, count + 1)
        batch, frames, size = x.shape
        x = self.input(x.reshape(batch, frames // self.stride, self.stride * size))
        x = dropout(x, self.config.dropout, keys[count])
        x, after = run_blocks(self.blocks, x, state, keys[:count])
        return self.output(self.norm(x)), after
