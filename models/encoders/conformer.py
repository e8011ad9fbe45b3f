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
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..attention import AttentionState, FeedForward, RelativeAttention, SelfAttention
from ..convolution import CausalConv, DepthwiseConv
from ..layers import ENTRY_BIAS, dropout, split_key
from ..remat import run_blocks
from .causal import CausalEncoder

_INPUT_KERNEL = 3


@dataclasses.dataclass(frozen=True)
class ConformerShape:
    """Shape of an encoder of Conformer blocks.

    Attributes:
      width: of the blocks.
      heads: of attention; they share the width.
      blocks: number of blocks.
      output: width of what the encoder returns.
      left: frames before its own that attention sees, at the encoder's rate.
      kernel: frames of the depthwise convolutions.
      expansion: hidden units of a feed-forward part, in widths.
      dropout: share of each part's output that is dropped in training.
    """

    width: int
    heads: int
    blocks: int
    output: int
    left: int = 64
    kernel: int = 15
    expansion: int = 4
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True)
class ConformerConfig(ConformerShape):
    """A causal Conformer encoder.

    Attributes:
      subsample: input frames for one output frame, 1 to 3.
      kind: tells recipes of different families apart.
    """

    subsample: int = 1
    kind: Literal["conformer"] = "conformer"


class ConvolutionModule(nnx.Module):
    """The convolution part of a block: dropout(conv(norm(x))), to be added to x.

    Attributes:
      depthwise_norm: LayerNorm behind the depthwise convolution; None: what may be there is a part
        of its weights.
    """

    def __init__(
        self,
        width: int,
        kernel: int,
        *,
        ahead: int = 0,
        bias: bool = False,
        norm: bool = True,
        dropout: float = 0.0,
        epsilon: float = 1e-6,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        """`ahead` and `bias`: of the depthwise convolution; `norm`: whether one follows it."""
        self.dropout = dropout
        self.norm = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.widen = nnx.Linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.depthwise = DepthwiseConv(
            width, kernel, ahead=ahead, bias=bias, rngs=rngs, dtype=dtype
        )
        self.depthwise_norm = (
            nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs) if norm else None
        )
        self.narrow = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> jax.Array:
        """The state before the first frame: zeros [B, kernel - 1 - ahead, D]."""
        return self.depthwise.init_state(batch)

    @jax.named_scope("convolution")
    def __call__(
        self,
        x: jax.Array,
        state: jax.Array,
        within: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] -> `(what to add to x [B, T, D], state)`.

        `within` [B, T]: the frames that count, where later ones are seen; `key` for dropout.
        """
        y = jax.nn.glu(self.widen(self.norm(x)))
        if within is not None:
            y = jnp.where(within[:, :, None], y, 0.0)
        y, state = self.depthwise(y, state)
        if self.depthwise_norm is not None:
            y = self.depthwise_norm(y)
        return dropout(self.narrow(jax.nn.swish(y)), self.dropout, key), state


class BlockState(NamedTuple):
    """The pasts that a block's attention and its convolution see."""

    attention: AttentionState
    convolution: jax.Array


class ConformerBlock(nnx.Module):
    """Half a feed-forward part, attention, convolution, half a feed-forward part, LayerNorm.

    Args:
      attention: its kind, made with width, heads and left.
      ahead, bias, norm: of the convolution, see `ConvolutionModule`.
      epsilon: of every LayerNorm.
    """

    def __init__(
        self,
        shape: ConformerShape,
        *,
        attention: Callable[..., RelativeAttention] = RelativeAttention,
        ahead: int = 0,
        bias: bool = False,
        norm: bool = True,
        epsilon: float = 1e-6,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        width, rate = shape.width, shape.dropout
        common: Any = {"dropout": rate, "epsilon": epsilon, "rngs": rngs, "dtype": dtype}

        def feed_forward() -> FeedForward:
            return FeedForward(width, shape.expansion * width, activation=jax.nn.swish, **common)

        self.first = feed_forward()
        self.attention = SelfAttention(width, shape.heads, shape.left, kind=attention, **common)
        self.convolution = ConvolutionModule(
            width, shape.kernel, ahead=ahead, bias=bias, norm=norm, **common
        )
        self.second = feed_forward()
        self.norm = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> BlockState:
        """The state before the first frame."""
        return BlockState(self.attention.init_state(batch), self.convolution.init_state(batch))

    def __call__(
        self,
        x: jax.Array,
        state: BlockState,
        within: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, BlockState]:
        """[B, T, D] -> `(y [B, T, D], state)`.

        `within` [B, T]: the frames that count, where later ones are seen; `key` for dropout.
        """
        keys = split_key(key, 4)
        x = x + 0.5 * self.first(x, key=keys[0])
        attended, attention = self.attention(x, state.attention, within, key=keys[1])
        x = x + attended
        convolved, convolution = self.convolution(x, state.convolution, within, key=keys[2])
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
        x, after = run_blocks(self.blocks, x, state.blocks, keys[:count])
        return self.output(x), ConformerState(subsampling, after)
