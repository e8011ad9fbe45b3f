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
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..chunked_attention import ChunkedAttention
from ..layers import dropout, mask_frames, split_key
from ..remat import run_blocks
from ..subsampling import FACTOR, Subsampling, SubsamplingState
from .causal import CausalEncoder
from .conformer import BlockState, ConformerBlock, ConformerShape

_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class FastConformerConfig(ConformerShape):
    """A FastConformer encoder.

    Attributes:
      left: frames before its chunk that a frame's attention sees; whole chunks of them count.
      kernel: frames of the depthwise convolutions, odd.
      chunk: frames of a chunk, at the encoder's rate; None: whole recordings only.
      channels: of the subsampling's convolutions.
      norm: what follows the depthwise convolution: "layer", or "batch" for what is in its weights.
      kind: tells recipes of different families apart.
    """

    left: int = 70
    kernel: int = 9
    chunk: int | None = None
    channels: int = 256
    norm: Literal["batch", "layer"] = "batch"
    kind: Literal["fastconformer"] = "fastconformer"


class FastConformerState(NamedTuple):
    """The ends of what the subsampling's layers saw, and each block's past."""

    subsampling: SubsamplingState
    blocks: tuple[BlockState, ...]


class FastConformerEncoder(CausalEncoder):
    """Subsampling, blocks and a linear output.

    Attributes:
      stride: input frames for one output frame: 8.
      chunk: output frames that come at once; a step takes multiples of `stride * chunk` frames.
      lookahead: input frames of the future that an output frame sees. The first of a chunk sees as
        far as its last, whose own look-ahead is -6: with a hop of delay it ends at the frame 1 of
        its 8.
      receptive_field: None, all; a stream forgets, but only beyond all blocks' pasts together.
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
        if config.kernel % 2 == 0:
            raise ValueError(f"the depthwise kernel must be odd, not {config.kernel}")
        self.config = config
        self.dtype = dtype
        self.stride = FACTOR
        self.chunk = config.chunk or 1
        self.lookahead = max(0, FACTOR * (self.chunk - 1) - 6)
        whole = config.chunk is None
        self.subsampling = Subsampling(
            input_size, config.channels, config.width, causal=not whole, rngs=rngs, dtype=dtype
        )
        block = partial(
            ConformerBlock,
            config,
            attention=partial(ChunkedAttention, chunk=config.chunk),
            ahead=config.kernel // 2 if whole else 0,
            bias=True,
            norm=config.norm == "layer",
            epsilon=_EPSILON,
            rngs=rngs,
            dtype=dtype,
        )
        self.blocks = nnx.List([block() for _ in range(config.blocks)])
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
        if self.config.chunk is not None:
            return super().__call__(x, lengths, key=key)
        x, lengths = self.subsampling.whole(mask_frames(x, lengths), lengths)
        within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
        y, _ = self._blocks(x, self._block_states(x.shape[0]), within, key)
        return mask_frames(y, lengths), lengths

    def init_state(self, batch: int) -> FastConformerState:
        """The state before the first frame.

        Raises:
          ValueError: it hears whole recordings only.
        """
        if self.config.chunk is None:
            raise ValueError("this encoder attends to the whole recording, it cannot stream")
        return FastConformerState(self.subsampling.init_state(batch), self._block_states(batch))

    def run(
        self,
        x: jax.Array,
        state: FastConformerState,
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, FastConformerState]:
        """Whole chunks; none sees a later one, so that it need not know which frames count."""
        x, subsampling = self.subsampling.step(x, state.subsampling)
        y, blocks = self._blocks(x, state.blocks, None, key)
        return y, FastConformerState(subsampling, blocks)

    def _block_states(self, batch: int) -> tuple[BlockState, ...]:
        return tuple(block.init_state(batch) for block in self.blocks)

    def _blocks(
        self,
        x: jax.Array,
        states: tuple[BlockState, ...],
        within: jax.Array | None,
        key: jax.Array | None,
    ) -> tuple[jax.Array, tuple[BlockState, ...]]:
        count = len(self.blocks)
        keys = split_key(key, count + 1)
        x = dropout(x, self.config.dropout, keys[count])
        x, after = run_blocks(self.blocks, x, states, keys[:count], within)
        return self.output(x), after
