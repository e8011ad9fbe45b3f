"""FastConformer: a Conformer on eight times fewer frames, for whole recordings or for streams.

    features -> subsampling (8) -> blocks -> linear

    block:  x <- x + 1/2 FFN(x)
            x <- x + attention(x)         by chunks, relative positions
            x <- x + convolution(x)       pointwise, GLU, depthwise, norm, swish, pointwise
            x <- x + 1/2 FFN(x)
            x <- LayerNorm(x)

With a chunk, attention sees the frame's chunk and `left` frames before it, and convolutions see
the past alone: a stream that carries their pasts along gives what the whole gives. An answer comes
when its chunk is complete, so a chunk of C frames means C - 1 frames of look-ahead. Without a
chunk, attention sees the whole recording and convolutions both sides; there is no stream.

Where checkpoints have a batch norm in the convolution part, it is a part of the depthwise
convolution's weights here, as it is when it is not trained.

Sources: Rekesh et al. 2023, "Fast Conformer with linearly scalable attention for efficient speech
recognition", arXiv 2305.05084; Noroozi et al. 2024, "Stateful Conformer with cache-based inference
for streaming automatic speech recognition", arXiv 2312.17279.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..attention import AttentionState, FeedForward
from ..chunked_attention import ChunkedAttention
from ..convolution import depthwise_taps
from ..layers import dropout, mask_frames, split_key
from ..remat import run_block
from ..subsampling import FACTOR, Subsampling, SubsamplingState

_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class FastConformerConfig:
    """Shape of a FastConformer encoder.

    Attributes:
      width: of the blocks.
      heads: of attention; they share the width.
      blocks: number of blocks.
      output: width of what the encoder returns.
      chunk: frames of a chunk, at the encoder's rate; None: whole recordings only.
      left: frames before its chunk that a frame's attention sees; whole chunks of them count.
      kernel: frames of the depthwise convolutions, odd.
      expansion: hidden units of a feed-forward part, in widths.
      channels: of the subsampling's convolutions.
      norm: what follows the depthwise convolution: "layer", or "batch" for what is in its weights.
      dropout: share of each part's output that is dropped in training.
      kind: tells recipes of different families apart.
    """

    width: int
    heads: int
    blocks: int
    output: int
    chunk: int | None = None
    left: int = 70
    kernel: int = 9
    expansion: int = 4
    channels: int = 256
    norm: Literal["batch", "layer"] = "batch"
    dropout: float = 0.1
    kind: Literal["fastconformer"] = "fastconformer"


class FastConvolution(nnx.Module):
    """The convolution part of a block: dropout(conv(norm(x))), to be added to x."""

    def __init__(
        self, config: FastConformerConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ):
        width, kernel = config.width, config.kernel
        if kernel % 2 == 0:
            raise ValueError(f"the depthwise kernel must be odd, not {kernel}")
        self.causal = config.chunk is not None
        self.dropout = config.dropout
        self.dtype = dtype
        self.norm = nnx.LayerNorm(width, epsilon=_EPSILON, dtype=dtype, rngs=rngs)
        self.widen = nnx.Linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.kernel = nnx.Param(
            nnx.initializers.he_normal(in_axis=0)(rngs.params(), (kernel, width))
        )
        self.bias = nnx.Param(jnp.zeros(width))
        self.depthwise_norm = (
            nnx.LayerNorm(width, epsilon=_EPSILON, dtype=dtype, rngs=rngs)
            if config.norm == "layer"
            else None
        )
        self.narrow = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> jax.Array:
        """Zeros before the first frame: [B, kernel - 1, D]; half as many where both sides are
        seen."""
        taps, width = self.kernel.shape
        return jnp.zeros((batch, taps - 1 if self.causal else taps // 2, width), self.dtype)

    @jax.named_scope("convolution")
    def __call__(
        self,
        x: jax.Array,
        state: jax.Array,
        within: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] -> `(what to add to x [B, T, D], state)`; `key` for dropout."""
        y = jax.nn.glu(self.widen(self.norm(x)))
        if within is not None:
            y = jnp.where(within[:, :, None], y, 0.0)
        y = jnp.concatenate([state, y], axis=1)
        state = y[:, y.shape[1] - state.shape[1] :]
        if not self.causal:
            y = jnp.pad(y, ((0, 0), (0, self.kernel.shape[0] // 2), (0, 0)))
        y = depthwise_taps(y, self.kernel[...].astype(self.dtype), 1, 1)
        y = y + self.bias[...].astype(self.dtype)[None, None, :]
        if self.depthwise_norm is not None:
            y = self.depthwise_norm(y)
        return dropout(self.narrow(jax.nn.swish(y)), self.dropout, key), state


class FastBlockState(NamedTuple):
    """The pasts that a block's attention and its convolution see."""

    attention: AttentionState
    convolution: jax.Array


class FastBlock(nnx.Module):
    """Half a feed-forward part, attention, convolution, half a feed-forward part, LayerNorm."""

    def __init__(
        self, config: FastConformerConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ):
        width, hidden = config.width, config.expansion * config.width
        self.dropout = config.dropout

        def feed_forward() -> FeedForward:
            return FeedForward(
                width,
                hidden,
                activation=jax.nn.swish,
                dropout=config.dropout,
                epsilon=_EPSILON,
                rngs=rngs,
                dtype=dtype,
            )

        self.first = feed_forward()
        self.attention_norm = nnx.LayerNorm(width, epsilon=_EPSILON, dtype=dtype, rngs=rngs)
        self.attention = ChunkedAttention(
            width, config.heads, config.left, config.chunk, rngs=rngs, dtype=dtype
        )
        self.convolution = FastConvolution(config, rngs=rngs, dtype=dtype)
        self.second = feed_forward()
        self.norm = nnx.LayerNorm(width, epsilon=_EPSILON, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> FastBlockState:
        """The state before the first frame."""
        return FastBlockState(self.attention.init_state(batch), self.convolution.init_state(batch))

    def __call__(
        self,
        x: jax.Array,
        state: FastBlockState,
        within: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, FastBlockState]:
        """[B, T, D] -> `(y [B, T, D], state)`; `within` [B, T] the frames that count."""
        keys = split_key(key, 4)
        x = x + 0.5 * self.first(x, key=keys[0])
        with jax.named_scope("attention"):
            y, attention = self.attention(self.attention_norm(x), state.attention, within)
            x = x + dropout(y, self.dropout, keys[1])
        y, convolution = self.convolution(x, state.convolution, within, key=keys[2])
        x = x + y
        x = x + 0.5 * self.second(x, key=keys[3])
        return self.norm(x), FastBlockState(attention, convolution)


class FastConformerState(NamedTuple):
    """The ends of what the subsampling's layers saw, and each block's past."""

    subsampling: SubsamplingState
    blocks: tuple[FastBlockState, ...]


class FastConformerEncoder(nnx.Module):
    """Subsampling, blocks and a linear output.

    Attributes:
      stride: input frames for one output frame: 8.
      chunk: output frames that come at once; a step takes multiples of `stride * chunk` frames.
      lookahead: input frames of the future that an output frame sees. The first of a chunk sees as
        far as its last, whose own look-ahead is -6: with a hop of delay it ends at the frame 1 of
        its 8.
      receptive_field: None, all; a stream forgets, but only beyond all blocks' pasts together.
      channels: 1.
    """

    def __init__(
        self,
        config: FastConformerConfig,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        if config.chunk is not None and config.chunk < 1:
            raise ValueError(f"a chunk holds 1 or more frames, not {config.chunk}")
        self.config = config
        self.dtype = dtype
        self.stride = FACTOR
        self.chunk = config.chunk or 1
        self.lookahead = max(0, FACTOR * (self.chunk - 1) - 6)
        self.channels = 1
        self.receptive_field: int | None = None
        self.subsampling = Subsampling(
            input_size,
            config.channels,
            config.width,
            causal=config.chunk is not None,
            rngs=rngs,
            dtype=dtype,
        )
        self.blocks = nnx.List(
            [FastBlock(config, rngs=rngs, dtype=dtype) for _ in range(config.blocks)]
        )
        self.output = nnx.Linear(config.width, config.output, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: jax.Array, lengths: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes whole utterances.

        Args:
          x: [B, T, D].
          lengths: [B], frames that count; what lies after them changes nothing.
          key: for dropout, in training.

        Returns:
          `(y [B, T', output], lengths [B])`; y is 0 after its length. T' is T / 8, rounded up
          without chunks, and down to whole chunks with them.
        """
        batch = x.shape[0]
        if self.config.chunk is None:
            x, lengths = self.subsampling.whole(mask_frames(x, lengths), lengths)
            within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
            y, _ = self._blocks(x, self._block_states(batch), within, key)
        else:
            whole = self.stride * self.chunk
            x = mask_frames(x[:, : x.shape[1] // whole * whole], lengths)
            y, _ = self._run(x, self.init_state(batch), key)
            lengths = lengths // whole * self.chunk
        return mask_frames(y, lengths), lengths

    def init_state(self, batch: int) -> FastConformerState:
        """The state before the first frame.

        Raises:
          ValueError: it hears whole recordings only.
        """
        if self.config.chunk is None:
            raise ValueError("this encoder attends to the whole recording, it cannot stream")
        return FastConformerState(self.subsampling.init_state(batch), self._block_states(batch))

    def step(
        self, chunk: jax.Array, state: FastConformerState
    ) -> tuple[jax.Array, FastConformerState]:
        """Encodes the next frames of a stream.

        Args:
          chunk: [B, n, D], n a multiple of `stride * chunk`.

        Returns:
          `(y [B, n / 8, output], state)`.

        Raises:
          ValueError: n is no such multiple.
        """
        if chunk.shape[1] % (self.stride * self.chunk):
            raise ValueError(
                f"a chunk must hold a multiple of {self.stride * self.chunk} frames, "
                f"not {chunk.shape[1]}"
            )
        return self._run(chunk, state)

    def _run(
        self, x: jax.Array, state: FastConformerState, key: jax.Array | None = None
    ) -> tuple[jax.Array, FastConformerState]:
        x, subsampling = self.subsampling.step(x, state.subsampling)
        y, blocks = self._blocks(x, state.blocks, None, key)
        return y, FastConformerState(subsampling, blocks)

    def _block_states(self, batch: int) -> tuple[FastBlockState, ...]:
        return tuple(block.init_state(batch) for block in self.blocks)

    def _blocks(
        self,
        x: jax.Array,
        states: tuple[FastBlockState, ...],
        within: jax.Array | None,
        key: jax.Array | None,
    ) -> tuple[jax.Array, tuple[FastBlockState, ...]]:
        count = len(self.blocks)
        keys = split_key(key, count + 1)
        x = dropout(x, self.config.dropout, keys[count])
        after = []
        for i, block in enumerate(self.blocks):
            x, state = run_block(block, x, states[i], within, key=keys[i])
            after.append(state)
        return self.output(x), tuple(after)
