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

from ..layers import LSTM, LSTMState, dropout, split_key
from ..remat import run_block
from .causal import CausalEncoder


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


class LSTMEncoder(CausalEncoder):
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
        self.receptive_field: int | None = None
        sizes = [input_size] + [config.width] * (config.layers - 1)
        if config.reduce_after is not None:
            sizes[config.reduce_after] *= 2
        self.layers = nnx.List([LSTM(n, config.width, rngs=rngs, dtype=dtype) for n in sizes])
        self.norms = nnx.List(
            [nnx.LayerNorm(config.width, dtype=dtype, rngs=rngs) for _ in sizes if config.norm]
        )
        self.output = nnx.Linear(config.width, config.output, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> tuple[LSTMState, ...]:
        """The state before the first frame."""
        return tuple(layer.init_state(batch) for layer in self.layers)

    @jax.named_scope("lstm")
    def run(
        self,
        x: jax.Array,
        state: tuple[LSTMState, ...],
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[LSTMState, ...]]:
        """`step`, with a key for dropout."""
        keys = split_key(key, len(self.layers))
        after = []
        for i, layer in enumerate(self.layers):
            if i == self.config.reduce_after:
                x = x.reshape(x.shape[0], x.shape[1] // 2, 2 * x.shape[2])
            x, layer_state = run_block(layer, x, state[i])
            after.append(layer_state)
            if self.config.norm:
                x = self.norms[i](x)
            x = dropout(x, self.config.dropout, keys[i])
        return self.output(x), tuple(after)
