"""The encoder of the separator-transducer-segmenter: one stream of frames in, two channels out.

    x [B, T, D] -> mixture layers -> separation layers, once for each channel -> recognition layers
                                      |
                                      +-> is somebody speaking on this channel?

All layers are unidirectional LSTMs. The separation layers of the channels share their weights and
are told their channel by a one-hot label beside their input; without it, or weights of their own,
the channels would be the same. Recognition layers are shared. The rows of an output are those of
the input, each followed by its further channels: row `b * channels + c`.

Source: Sklyar et al. 2022, "Separator-Transducer-Segmenter: Streaming recognition and segmentation
of multi-party speech", arXiv 2205.05199.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..layers import LSTM, LSTMState, dropout, mask_frames, split_key
from ..remat import run_block
from .causal import CausalEncoder


@dataclasses.dataclass(frozen=True)
class SeparatorConfig:
    """Shape of the encoder.

    Attributes:
      width: units of each layer.
      mixture: layers before the channels part.
      separation: layers of each channel.
      recognition: layers behind them.
      output: width of what the encoder returns.
      channels: talkers at once that it can tell apart; 1 is a plain LSTM encoder of this size.
      tied: the channels' separation layers share their weights and get a channel label.
      reduce_after: after so many recognition layers, pairs of frames are concatenated and the
        encoder goes on at half the rate; None keeps the rate.
      dropout: share of each layer's output that is dropped in training.
      norm: normalise each layer's output (LayerNorm).
      kind: tells recipes of different families apart.
    """

    width: int
    mixture: int
    separation: int
    recognition: int
    output: int
    channels: int = 2
    tied: bool = True
    reduce_after: int | None = None
    dropout: float = 0.0
    norm: bool = True
    kind: Literal["sts"] = "sts"


class Separated(NamedTuple):
    """What the encoder gives for a batch."""

    encoded: jax.Array  # [B * channels, T // stride, output]
    lengths: jax.Array  # [B * channels], frames of `encoded` that count
    activity: jax.Array  # [B * channels, T], logits: somebody speaks on the channel


class SeparatorEncoder(CausalEncoder):
    """Mixture, separation and recognition layers; see this module's docstring.

    Attributes:
      stride: input frames for one output frame.
      lookahead: input frames of the future that an output frame sees: 0.
      receptive_field: input frames of the past that it sees; None: all.
      channels: rows of the output for each row of the input.
      layers: mixture, separation (of the first channel, or of all) and recognition layers, in this
        order: those of an `LSTMEncoder` of as many layers, whose weights they can begin with.
    """

    def __init__(
        self,
        config: SeparatorConfig,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        counts = config.mixture, config.separation, config.recognition
        if min(counts) < 1 or config.channels < 1:
            raise ValueError(
                f"mixture, separation and recognition need at least one layer each and one "
                f"channel; they are {counts} and {config.channels}"
            )
        if config.reduce_after is not None and not 1 <= config.reduce_after < config.recognition:
            raise ValueError(
                f"reduce_after must lie between 1 and {config.recognition - 1} for "
                f"{config.recognition} recognition layers, or be None; it is {config.reduce_after}"
            )
        self.config = config
        self.dtype = dtype
        self.channels = config.channels
        self.stride = 1 if config.reduce_after is None else 2
        self.receptive_field: int | None = None
        self._reduced = (
            None
            if config.reduce_after is None
            else config.mixture + config.separation + config.reduce_after
        )
        width = config.width
        sizes = [input_size] + [width] * (sum(counts) - 1)
        if self._reduced is not None:
            sizes[self._reduced] *= 2

        def stack(sizes: list[int]) -> tuple[nnx.List, nnx.List]:
            layers = [LSTM(n, width, rngs=rngs, dtype=dtype) for n in sizes]
            norms = [nnx.LayerNorm(width, dtype=dtype, rngs=rngs) for _ in sizes if config.norm]
            return nnx.List(layers), nnx.List(norms)

        self.layers, self.norms = stack(sizes)
        self.output = nnx.Linear(width, config.output, dtype=dtype, rngs=rngs)
        self.speech = nnx.Linear(width, 1, dtype=dtype, rngs=rngs)
        self._labelled = config.tied and config.channels > 1
        if self._labelled:
            # The rows that a kernel [D + channels, 4H] would have for the label.
            self.label = nnx.Param(
                nnx.initializers.glorot_uniform()(rngs.params(), (config.channels, 4 * width))
            )
        others = 0 if config.tied else config.channels - 1
        stacks = [stack([width] * config.separation) for _ in range(others)]
        self.untied = nnx.List([layers for layers, _ in stacks])
        self.untied_norms = nnx.List([norms for _, norms in stacks])

    def init_state(self, batch: int) -> tuple[LSTMState, ...]:
        """The state before the first frame: [B, H] of mixture layers, [B * channels, H] behind."""
        rows = batch * self.channels
        return tuple(
            layer.init_state(batch if i < self.config.mixture else rows)
            for i, layer in enumerate(self.layers)
        )

    def separate(
        self, x: jax.Array, lengths: jax.Array, *, key: jax.Array | None = None
    ) -> Separated:
        """As calling the encoder, with the speech activity that training needs.

        Args:
          x: [B, T, D].
          lengths: [B], frames that count.
          key: given in training, for dropout.
        """
        x = mask_frames(x[:, : x.shape[1] // self.stride * self.stride], lengths)
        y, activity, _ = self.run_with_activity(x, self.init_state(x.shape[0]), key)
        lengths = jnp.repeat(lengths // self.stride, self.channels)
        return Separated(mask_frames(y, lengths), lengths, activity)

    def run(
        self,
        x: jax.Array,
        state: tuple[LSTMState, ...],
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[LSTMState, ...]]:
        """`step`, with a key for dropout."""
        y, _, state = self.run_with_activity(x, state, key)
        return y, state

    @jax.named_scope("sts")
    def run_with_activity(
        self,
        x: jax.Array,
        state: tuple[LSTMState, ...],
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, tuple[LSTMState, ...]]:
        """The next frames [B, n, D] -> `(y [B * channels, n // stride, output], logits of speech
        activity [B * channels, n], state)`."""
        config = self.config
        keys = split_key(key, len(self.layers))
        parting, joining = config.mixture, config.mixture + config.separation
        after: list[LSTMState] = []
        activity = x
        for i in range(len(self.layers)):
            if i == parting:
                x = jnp.repeat(x, self.channels, axis=0)
            if i == joining:
                activity = self.speech(x)[..., 0]
            if i == self._reduced:
                x = x.reshape(x.shape[0], x.shape[1] // 2, 2 * x.shape[2])
            if parting <= i < joining:
                x, layer_state = self._separation(i, x, state[i])
            else:
                x, layer_state = self._layer(self.layers, self.norms, i, x, state[i])
            after.append(layer_state)
            x = dropout(x, config.dropout, keys[i])
        return self.output(x), activity, tuple(after)

    def _layer(
        self,
        layers: nnx.List,
        norms: nnx.List,
        i: int,
        x: jax.Array,
        state: LSTMState,
        added: jax.Array | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        x, state = run_block(layers[i], x, state, added)
        return (norms[i](x) if self.config.norm else x), state

    def _separation(self, i: int, x: jax.Array, state: LSTMState) -> tuple[jax.Array, LSTMState]:
        """Layer i on every channel's rows: x [B * channels, n, H]."""
        first = i - self.config.mixture
        if self.config.tied:
            added = None
            if self._labelled and first == 0:
                added = jnp.tile(self.label[...], (x.shape[0] // self.channels, 1))
            return self._layer(self.layers, self.norms, i, x, state, added)
        # Channels' rows lie in turn; each goes through its own weights.
        outputs, states = [], []
        for c in range(self.channels):
            own = LSTMState(state.h[c :: self.channels], state.c[c :: self.channels])
            rows = x[c :: self.channels]
            if c == 0:
                y, own = self._layer(self.layers, self.norms, i, rows, own)
            else:
                stacks = self.untied[c - 1], self.untied_norms[c - 1]
                y, own = self._layer(*stacks, first, rows, own)
            outputs.append(y)
            states.append(own)

        def in_turn(parts: list[jax.Array]) -> jax.Array:
            return jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])

        y = in_turn(outputs)
        return y, LSTMState(in_turn([s.h for s in states]), in_turn([s.c for s in states]))
