"""What all encoders share: whole utterances and streams as two uses of one `run`."""

from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..layers import mask_frames


class CausalEncoder(nnx.Module):
    """An encoder that sees no later frame, or none beyond its chunk.

    A family gives `init_state` and `run`.

    Attributes:
      stride: input frames for one output frame.
      lookahead: input frames of the future that an output frame sees: 0 but by chunks.
      receptive_field: input frames that it sees from its last one backwards; None: all.
      channels: rows of the output for each row of the input, one after the other.
      chunk: output frames that come at once: a call takes whole chunks, and drops a remainder.
    """

    stride: int
    lookahead: int = 0
    receptive_field: int | None = None
    channels: int = 1
    chunk: int = 1

    def __call__(
        self, x: jax.Array, lengths: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes whole utterances.

        Args:
          x: [B, T, D].
          lengths: [B], frames that count; what lies after them changes nothing.
          key: given in training: dropout follows it, and batch norm uses (and keeps) the batch's
            statistics.

        Returns:
          `(y [B * channels, T // stride, output], lengths [B * channels])`; y is 0 after its
          length. With chunks, as many frames as whole ones have.
        """
        whole = self.stride * self.chunk
        x = mask_frames(x[:, : x.shape[1] // whole * whole], lengths)
        within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
        y, _ = self.run(x, self.init_state(x.shape[0]), within, key)
        lengths = jnp.repeat(lengths // whole * self.chunk, self.channels)
        return mask_frames(y, lengths), lengths

    def step(self, chunk: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Encodes the next frames of a stream.

        Args:
          chunk: [B, n, D], n a multiple of `stride * chunk`.

        Returns:
          `(y [B * channels, n // stride, output], state)`.

        Raises:
          ValueError: n is no such multiple, or the squeeze is global.
        """
        whole = self.stride * self.chunk
        if chunk.shape[1] % whole:
            raise ValueError(
                f"a chunk must hold a multiple of {whole} frames, not {chunk.shape[1]}"
            )
        return self.run(chunk, state)

    @abstractmethod
    def init_state(self, batch: int) -> Any:
        """The state before the first frame."""

    @abstractmethod
    def run(
        self,
        x: jax.Array,
        state: Any,
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """The next frames [B, n, D]; `within` [B, n], those that count, for whole utterances."""
