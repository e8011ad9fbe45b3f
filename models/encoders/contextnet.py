"""ContextNet, causal: convolutions alone, each block gated by all that was heard so far.

    features -> block -> ... -> block -> linear

    layer:  f(x) = swish(BN(pointwise(depthwise(x))))
    block:  y = gate * f(f(... f(x)))         squeeze-and-excitation
            y = swish(y + BN(pointwise(x)))   residual, but in the first and the last block

The first and the last block are one layer each, the others `layers` of them. A strided block drops
every other frame in its last layer, and its residual then takes the last frame of each pair: the
one that the layer has just seen, so nothing is ahead.

Source: Han et al. 2020, "ContextNet: Improving convolutional neural networks for automatic speech
recognition with global context", Interspeech, arXiv 2005.03191. For streaming, convolutions see
the past only, the squeeze averages the frames so far (over the whole utterance in the paper), and
statistics of batch norm leave padding out.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..convolution import DepthwiseConv
from ..layers import dropout, split_key
from ..normalization import BatchNorm
from ..remat import run_block
from ..squeeze import SqueezeExcite, SqueezeMode, SqueezeState
from .causal import CausalEncoder


@dataclasses.dataclass(frozen=True)
class ContextNetConfig:
    """Shape of a ContextNet encoder; block b is counted from 0.

    Attributes:
      widths: channels of each block.
      output: width of what the encoder returns.
      layers: convolutions of a block, the first and the last block having one.
      kernel: frames that each convolution sees, at the rate of its block.
      strided: blocks that halve the rate of frames.
      squeeze: what squeeze-and-excitation averages over; "global" cannot stream.
      squeeze_tau, squeeze_window: for "ema" and "window", in frames of the block.
      dropout: share of a block's branch that is dropped in training.
      kind: tells recipes of different families apart.
    """

    widths: tuple[int, ...]
    output: int
    layers: int = 5
    kernel: int = 5
    strided: tuple[int, ...] = (3, 7, 14)
    squeeze: SqueezeMode = "cumulative"
    squeeze_reduction: int = 8
    squeeze_tau: float = 100.0
    squeeze_window: int = 100
    dropout: float = 0.1
    kind: Literal["contextnet"] = "contextnet"


class SeparableConv(nnx.Module):
    """A layer: depthwise convolution, pointwise one, batch norm, swish.

    The convolutions have no bias, since batch norm would take it off.
    """

    def __init__(
        self,
        input_size: int,
        width: int,
        kernel: int,
        *,
        stride: int = 1,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.depthwise = DepthwiseConv(input_size, kernel, stride=stride, rngs=rngs, dtype=dtype)
        self.pointwise = nnx.Linear(input_size, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(width, dtype=dtype)

    def init_state(self, batch: int) -> jax.Array:
        """The frames before the first one: zeros [B, kernel - stride, input_size]."""
        return self.depthwise.init_state(batch)

    def __call__(
        self, x: jax.Array, state: jax.Array, within: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """[B, n, D] -> `([B, n // stride, width], state)`; `within` [B, n // stride]."""
        y, state = self.depthwise(x, state)
        return jax.nn.swish(self.norm(self.pointwise(y), within, train=train)), state


class BlockState(NamedTuple):
    """Of one block: the end of what each convolution saw, and the squeeze."""

    convolutions: tuple[jax.Array, ...]
    squeeze: SqueezeState


class ContextNetBlock(nnx.Module):
    """Layers, squeeze-and-excitation, residual.

    Args:
      layers: number of layers.
      stride: of the last layer.
      residual: False leaves it, and the swish after it, out.
    """

    def __init__(
        self,
        config: ContextNetConfig,
        input_size: int,
        width: int,
        *,
        layers: int,
        stride: int = 1,
        residual: bool = True,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.stride = stride
        self.dropout = config.dropout
        sizes = [input_size] + [width] * (layers - 1)
        strides = [1] * (layers - 1) + [stride]
        self.layers = nnx.List(
            [
                SeparableConv(n, width, config.kernel, stride=s, rngs=rngs, dtype=dtype)
                for n, s in zip(sizes, strides, strict=True)
            ]
        )
        self.squeeze = SqueezeExcite(
            width,
            config.squeeze_reduction,
            config.squeeze,
            tau=config.squeeze_tau,
            window=config.squeeze_window,
            rngs=rngs,
            dtype=dtype,
        )
        self.shortcut = (
            nnx.Linear(input_size, width, use_bias=False, dtype=dtype, rngs=rngs)
            if residual
            else None
        )
        self.shortcut_norm = BatchNorm(width, dtype=dtype) if residual else None

    def init_state(self, batch: int) -> BlockState:
        return BlockState(
            tuple(layer.init_state(batch) for layer in self.layers), self.squeeze.init_state(batch)
        )

    def __call__(
        self,
        x: jax.Array,
        state: BlockState,
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, BlockState]:
        """[B, n, input_size] -> [B, n // stride, width]; see `ContextNetEncoder.run`."""
        train = key is not None
        y, after, counted = x, [], within
        with jax.named_scope("convolution"):
            for layer, before in zip(self.layers, state.convolutions, strict=True):
                counted = _thin(counted, layer.depthwise.stride)
                y, kept = layer(y, before, counted, train=train)
                after.append(kept)
        y, squeeze = self.squeeze(y, state.squeeze, counted)
        y = dropout(y, self.dropout, key)
        if self.shortcut is not None and self.shortcut_norm is not None:
            with jax.named_scope("shortcut"):
                z = self.shortcut(x[:, self.stride - 1 :: self.stride])
                y = jax.nn.swish(y + self.shortcut_norm(z, counted, train=train))
        return y, BlockState(tuple(after), squeeze)


class ContextNetEncoder(CausalEncoder):
    """Blocks of convolutions, then a linear layer.

    Attributes:
      stride: input frames for one output frame.
      lookahead: input frames of the future that an output frame sees: 0.
      receptive_field: input frames of the past that it sees: all (None), or `convolutional_field`
        without a squeeze.
      convolutional_field: input frames that the convolutions alone see: 1, and (kernel - 1) times
        the stride before it for each convolution.
    """

    def __init__(
        self,
        config: ContextNetConfig,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        last = len(config.widths) - 1
        if last < 1 or config.layers < 1:
            raise ValueError(
                f"ContextNet needs two blocks and a layer in each, not {last + 1} blocks of "
                f"{config.layers} layers"
            )
        if not set(config.strided) <= set(range(last + 1)):
            raise ValueError(f"strided blocks {config.strided} are not all among 0 ... {last}")
        self.config = config
        self.dtype = dtype
        self.stride = self.convolutional_field = 1
        blocks, size = [], input_size
        for index, width in enumerate(config.widths):
            inner = 0 < index < last
            layers = config.layers if inner else 1
            stride = 2 if index in config.strided else 1
            blocks.append(
                ContextNetBlock(
                    config,
                    size,
                    width,
                    layers=layers,
                    stride=stride,
                    residual=inner,
                    rngs=rngs,
                    dtype=dtype,
                )
            )
            self.convolutional_field += layers * (config.kernel - 1) * self.stride
            self.stride *= stride
            size = width
        self.blocks = nnx.List(blocks)
        self.receptive_field = self.convolutional_field if config.squeeze == "off" else None
        self.output = nnx.Linear(size, config.output, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> tuple[BlockState, ...]:
        """The state before the first frame."""
        return tuple(block.init_state(batch) for block in self.blocks)

    def run(
        self,
        x: jax.Array,
        state: tuple[BlockState, ...],
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[BlockState, ...]]:
        """The next frames [B, n, D]; `within` [B, n] where they are whole utterances."""
        keys = split_key(key, len(self.blocks))
        x = x.astype(self.dtype)
        after = []
        for block, before, block_key in zip(self.blocks, state, keys, strict=True):
            x, kept = run_block(block, x, before, within, block_key)
            within = _thin(within, block.stride)
            after.append(kept)
        with jax.named_scope("output"):
            return self.output(x), tuple(after)


def _thin(within: jax.Array | None, stride: int) -> jax.Array | None:
    """A group of frames counts if its last frame does: incomplete groups do not."""
    return None if within is None else within[:, stride - 1 :: stride]
