"""The Conformer, causal: attention for what is far, convolution for what is near.

    features -> causal convolution (stride `subsample`), swish, linear -> blocks -> linear

    block:  x <- x + 1/2 FFN(x)
            x <- x + attention(x)         to the last `left` frames, relative positions
            x <- x + convolution(x)       pointwise, GLU, depthwise, LayerNorm, swish, pointwise
            x <- x + 1/2 FFN(x)
            x <- LayerNorm(x)

Every part normalises its input first and drops out its output.

Source: Gulati et al. 2020, "Conformer: Convolution-augmented Transformer for speech recognition",
arXiv 2005.08100. For streaming, attention has no right context, the depthwise convolution sees
the past only and is normalised by LayerNorm instead of BatchNorm; the features come at 30 ms, so
one convolution takes the place of two that subsample 10 ms frames by four.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..attention import AttentionState, FeedForward, SelfAttention
from ..convolution import CausalConv, DepthwiseConv
from ..layers import ENTRY_BIAS, dropout, split_key
from ..remat import run_block
from .causal import CausalEncoder

_INPUT_KERNEL = 3


@dataclasses.dataclass(frozen=True)
class ConformerConfig:
    """Shape of a Conformer encoder.

    Attributes:
      width: of the blocks.
      heads: of attention; they share the width.
      blocks: number of blocks.
      output: width of what the encoder returns.
      left: frames before its own that attention sees, at the encoder's rate.
      kernel: frames of the depthwise convolutions.
      expansion: hidden units of a feed-forward part, in widths.
      subsample: input frames for one output frame, 1 to 3.
      dropout: share of each part's output that is dropped in training.
      kind: tells recipes of different families apart.
    """

    width: int
    heads: int
    blocks: int
    output: int
    left: int = 64
    kernel: int = 15
    expansion: int = 4
    subsample: int = 1
    dropout: float = 0.1
    kind: Literal["conformer"] = "conformer"


class ConvolutionModule(nnx.Module):
    """The convolution part of a block: dropout(conv(norm(x))), to be added to x."""

    def __init__(
        self,
        width: int,
        kernel: int,
        *,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.dropout = dropout
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.widen = nnx.Linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.depthwise = DepthwiseConv(width, kernel, rngs=rngs, dtype=dtype)
        self.depthwise_norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> jax.Array:
        """The state before the first frame: zeros [B, kernel - 1, D]."""
        return self.depthwise.init_state(batch)

    @jax.named_scope("convolution")
    def __call__(
        self, x: jax.Array, state: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] -> `(what to add to x [B, T, D], state)`; `key` for dropout."""
        y = jax.nn.glu(self.widen(self.norm(x)))
        y, state = self.depthwise(y, state)
        y = self.narrow(jax.nn.swish(self.depthwise_norm(y)))
        return dropout(y, self.dropout, key), state


class BlockState(NamedTuple):
    """The pasts that a block's attention and its convolution see."""

    attention: AttentionState
    convolution: jax.Array


class ConformerBlock(nnx.Module):
    """Half a feed-forward part, attention, convolution, half a feed-forward part, LayerNorm."""

    def __init__(self, config: ConformerConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        width, hidden, rate = config.width, config.expansion * config.width, config.dropout
        self.first = FeedForward(
            width, hidden, activation=jax.nn.swish, dropout=rate, rngs=rngs, dtype=dtype
        )
        self.attention = SelfAttention(
            width, config.heads, config.left, dropout=rate, rngs=rngs, dtype=dtype
        )
        self.convolution = ConvolutionModule(
            width, config.kernel, dropout=rate, rngs=rngs, dtype=dtype
        )
        self.second = FeedForward(
            width, hidden, activation=jax.nn.swish, dropout=rate, rngs=rngs, dtype=dtype
        )
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> BlockState:
        """The state before the first frame."""
        return BlockState(self.attention.init_state(batch), self.convolution.init_state(batch))

    def __call__(
        self, x: jax.Array, state: BlockState, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, BlockState]:
        """[B, T, D] -> `(y [B, T, D], state)`; `key` for dropout."""
        keys = split_key(key, 4)
        x = x + 0.5 * self.first(x, key=keys[0])
        attended, attention = self.attention(x, state.attention, key=keys[1])
        x = x + attended
        convolved, convolution = self.convolution(x, state.convolution, key=keys[2])
        x = x + convolved
        x = x + 0.5 * self.second(x, key=keys[3])
        return self.norm(x), BlockState(attention, convolution)


class ConformerState(NamedTuple):
    """The end of the features that the input convolution saw, and each block's past."""

    subsampling: jax.Array
    blocks: tuple[BlockState, ...]


class ConformerEncoder(CausalEncoder):
    """Subsampling, Conformer blocks and a linear output.

    Attributes:
      stride: input frames for one output frame.
      lookahead: input frames of the future that an output frame sees: 0.
      receptive_field: input frames that it sees. The blocks' pasts add up:
        stride * blocks * (left + kernel - 1) + 3, where 3 is the input convolution's kernel.
    """

    def __init__(
        self,
        config: ConformerConfig,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.config = config
        self.dtype = dtype
        self.stride = config.subsample
        self.receptive_field: int | None = (
            self.stride * config.blocks * (config.left + config.kernel - 1) + _INPUT_KERNEL
        )
        self.subsampling = CausalConv(
            input_size, config.width, _INPUT_KERNEL, stride=self.stride, rngs=rngs, dtype=dtype
        )
        self.input = nnx.Linear(
            config.width, config.width, bias_init=ENTRY_BIAS, dtype=dtype, rngs=rngs
        )
        self.blocks = nnx.List(
            [ConformerBlock(config, rngs=rngs, dtype=dtype) for _ in range(config.blocks)]
        )
        self.output = nnx.Linear(config.width, config.output, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> ConformerState:
        """The state before the first frame."""
        return ConformerState(
            self.subsampling.init_state(batch),
            tuple(block.init_state(batch) for block in self.blocks),
        )

    def run(
        self,
        x: jax.Array,
        state: ConformerState,
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, ConformerState]:
        count = len(self.blocks)
        keys = split_key(key, count + 1)
        x, subsampling = self.subsampling(x, state.subsampling)
        x = dropout(self.input(jax.nn.swish(x)), self.config.dropout, keys[count])
        after = []
        for i, block in enumerate(self.blocks):
            x, block_state = run_block(block, x, state.blocks[i], key=keys[i])
            after.append(block_state)
        return self.output(x), ConformerState(subsampling, tuple(after))
