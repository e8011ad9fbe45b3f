"""A stack of unidirectional LSTMs: the baseline encoder, causal by construction.

Source: He et al. 2019, "Streaming end-to-end speech recognition for mobile devices",
arXiv 1811.06621, section 2.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..layers import LSTM, LSTMState, dropout, mask_frames, split_key


@dataclasses.dataclass(frozen=True)
class LSTMEncoderConfig:
    """Shape of an LSTM encoder.

    Attributes:
      width: units of each layer.
      layers: number of layers.
      output: width of what the encoder returns.
      reduce_after: after this many layers, pairs of frames are concatenated and the encoder goes
        on at half the rate; None keeps the rate.
      dropout: share of each layer's output that is dropped in training.
      norm: normalise each layer's output (LayerNorm).
      kind: tells recipes of different families apart.
    """

    width: int
    layers: int
    output: int
    reduce_after: int | None = None
    dropout: float = 0.0
    norm: bool = False
    kind: Literal["lstm"] = "lstm"


class LSTMEncoder(nnx.Module):
    """LSTM layers and a linear output.

    Attributes:
      stride: input frames for one output frame.
      lookahead: input frames of the future that an output frame sees: 0.
      receptive_field: input frames of the past that it sees; None: all.
    """

    def __init__(
        self,
        config: LSTMEncoderConfig,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        if config.reduce_after is not None and not 1 <= config.reduce_after < config.layers:
            raise ValueError(
                f"reduce_after must lie between 1 and {config.layers - 1} for "
                f"{config.layers} layers, or be None; it is {config.reduce_after}"
            )
        self.config = config
        self.dtype = dtype
        self.stride = 1 if config.reduce_after is None else 2
        self.lookahead = 0
        self.receptive_field: int | None = None
        sizes = [input_size] + [config.width] * (config.layers - 1)
        if config.reduce_after is not None:
            sizes[config.reduce_after] *= 2
        self.layers = nnx.List([LSTM(n, config.width, rngs=rngs, dtype=dtype) for n in sizes])
        self.norms = nnx.List(
            [nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs) for _ in sizes if config.norm]
        )
        self.output = nnx.Linear(config.width, config.output, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: jax.Array, lengths: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes whole utterances.

        Args:
          x: [B, T, D].
          lengths: [B], frames that count; what lies after them changes nothing.
          key: for dropout; None for none.

        Returns:
          `(y [B, T // stride, output], lengths [B])`; y is 0 after its length.
        """
        x = mask_frames(x[:, : x.shape[1] // self.stride * self.stride], lengths)
        y, _ = self.run(x, self.init_state(x.shape[0]), key)
        lengths = lengths // self.stride
        return mask_frames(y, lengths), lengths

    def init_state(self, batch: int) -> tuple[LSTMState, ...]:
        """The state before the first frame."""
        return tuple(layer.init_state(batch) for layer in self.layers)

    def step(
        self, chunk: jax.Array, state: tuple[LSTMState, ...]
    ) -> tuple[jax.Array, tuple[LSTMState, ...]]:
        """Encodes the next frames of a stream.

        Args:
          chunk: [B, n, D], n a multiple of `stride`.

        Returns:
          `(y [B, n // stride, output], state)`.

        Raises:
          ValueError: n is not a multiple of `stride`.
        """
        if chunk.shape[1] % self.stride:
            raise ValueError(
                f"a chunk must hold a multiple of {self.stride} frames, not {chunk.shape[1]}"
            )
        return self.run(chunk, state, None)

    @jax.named_scope("lstm")
    def run(
        self, x: jax.Array, state: tuple[LSTMState, ...], key: jax.Array | None
    ) -> tuple[jax.Array, tuple[LSTMState, ...]]:
        """`step`, with a key for dropout."""
        keys = split_key(key, len(self.layers))
        after = []
        for i, layer in enumerate(self.layers):
            if i == self.config.reduce_after:
                x = x.reshape(x.shape[0], x.shape[1] // 2, 2 * x.shape[2])
            x, layer_state = layer(x, state[i])
            after.append(layer_state)
            if self.config.norm:
                x = self.norms[i](x)
            x = dropout(x, self.config.dropout, keys[i])
        return self.output(x), tuple(after)
