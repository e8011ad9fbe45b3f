"""The transducer: encoder, prediction network and joint.

The encoder turns audio into f [B, T, J], the prediction network turns the labels so far into
g [B, U+1, J], and the joint gives logits = W tanh(f + g) + b over the vocabulary, in which 0 is
blank.

Source: Graves 2012, "Sequence transduction with recurrent neural networks", arXiv 1211.3711.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from .encoders import EncoderConfig, make_encoder
from .frontend import FrontendConfig, FrontendState, LogMel
from .layers import LSTM, LSTMState, dropout, split_key

BLANK = 0
_ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


@dataclasses.dataclass(frozen=True)
class PredictionConfig:
    """Shape of the prediction network; `output` must be the encoder's.

    Attributes:
      embedding: width of a token's embedding.
      width: units of each LSTM layer.
      layers: number of LSTM layers.
      output: width of what it returns.
      dropout: share of the embedding and of each layer's output that is dropped in training.
    """

    embedding: int
    width: int
    layers: int
    output: int
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class JointConfig:
    """The joint's activation: "tanh" or "relu"."""

    activation: str = "tanh"


@dataclasses.dataclass(frozen=True)
class TransducerConfig:
    """A whole model.

    Attributes:
      vocab_size: tokens, blank included.
      ctc: add a linear head on the encoder, for an auxiliary CTC loss.
    """

    vocab_size: int
    encoder: EncoderConfig
    prediction: PredictionConfig
    frontend: FrontendConfig = dataclasses.field(default_factory=FrontendConfig)
    joint: JointConfig = dataclasses.field(default_factory=JointConfig)
    ctc: bool = False


class StreamState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    frontend: FrontendState
    encoder: Any  # as the encoder's init_state gives it


class PredictionNetwork(nnx.Module):
    """Embedding, LSTM layers, linear output: g depends on the labels so far only.

    The start symbol is blank's embedding, since blank never comes in as a label.
    """

    def __init__(
        self,
        config: PredictionConfig,
        vocab_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.config = config
        self.dtype = dtype
        self.embedding = nnx.Param(
            nnx.initializers.normal(config.embedding**-0.5)(
                rngs.params(), (vocab_size, config.embedding)
            )
        )
        sizes = [config.embedding] + [config.width] * (config.layers - 1)
        self.layers = nnx.List([LSTM(n, config.width, rngs=rngs, dtype=dtype) for n in sizes])
        self.output = nnx.Linear(config.width, config.output, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> tuple[LSTMState, ...]:
        """The state before the start symbol."""
        return tuple(layer.init_state(batch) for layer in self.layers)

    def __call__(
        self,
        tokens: jax.Array,
        state: tuple[LSTMState, ...],
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[LSTMState, ...]]:
        """[B, U] tokens from a state -> ([B, U, output], state)."""
        keys = split_key(key, len(self.layers) + 1)
        # Rows of padding may hold any number; none may read outside the table.
        x = self.embedding[...].at[tokens].get(mode="clip").astype(self.dtype)
        x = dropout(x, self.config.dropout, keys[0])
        after = []
        for layer, layer_state, layer_key in zip(self.layers, state, keys[1:], strict=True):
            x, layer_state = layer(x, layer_state)
            after.append(layer_state)
            x = dropout(x, self.config.dropout, layer_key)
        return self.output(x), tuple(after)


class Joint(nnx.Module):
    """logits = W act(f + g) + b, in float32 whatever the compute type."""

    def __init__(
        self,
        config: JointConfig,
        input_size: int,
        vocab_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        if config.activation not in _ACTIVATIONS:
            raise ValueError(
                f"the joint's activation must be one of {', '.join(_ACTIVATIONS)}; "
                f"it is {config.activation!r}"
            )
        self.config = config
        self.output = nnx.Linear(
            input_size,
            vocab_size,
            dtype=dtype,
            preferred_element_type=jnp.promote_types(dtype, jnp.float32),
            rngs=rngs,
        )

    def __call__(self, encoded: jax.Array, predicted: jax.Array) -> jax.Array:
        """[..., J] and [..., J], leading axes of equal rank and broadcast -> [..., V]."""
        return self.output(_ACTIVATIONS[self.config.activation](encoded + predicted))


class Transducer(nnx.Module):
    """A streaming recogniser: front end, encoder, prediction network, joint.

    Parameters are float32; `dtype` is what matmuls run in.

    Attributes:
      samples_per_step: samples that give one encoder frame.
      frame_s: the same in seconds.
    """

    def __init__(self, config: TransducerConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        if config.encoder.output != config.prediction.output:
            raise ValueError(
                f"encoder and prediction network must end in one width, not "
                f"{config.encoder.output} and {config.prediction.output}"
            )
        self.config = config
        self.dtype = dtype
        self.frontend = LogMel(config.frontend)
        self.encoder = make_encoder(config.encoder, config.frontend.size, rngs=rngs, dtype=dtype)
        self.prediction = PredictionNetwork(
            config.prediction, config.vocab_size, rngs=rngs, dtype=dtype
        )
        width = config.encoder.output
        self.joiner = Joint(config.joint, width, config.vocab_size, rngs=rngs, dtype=dtype)
        self.ctc = (
            nnx.Linear(width, config.vocab_size, dtype=dtype, rngs=rngs) if config.ctc else None
        )
        self.samples_per_step = config.frontend.step * self.encoder.stride
        self.frame_s = self.samples_per_step / config.frontend.sample_rate

    def features(self, samples: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Samples [B, N] and lengths [B] -> `(x [B, T, D] float32, lengths [B])`."""
        return self.frontend(samples, lengths)

    def encode(
        self, x: jax.Array, lengths: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Features [B, T, D] and lengths [B] -> `(encoded [B, T // stride, J], lengths [B])`."""
        return self.encoder(x, lengths, key=key)

    def predict(self, labels: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Labels [B, U] -> [B, U + 1, J]: after the start symbol, and after each label."""
        tokens = jnp.pad(labels, ((0, 0), (1, 0)), constant_values=BLANK)
        state = self.prediction.init_state(labels.shape[0])
        return self.prediction(tokens, state, key=key)[0]

    def init_prediction(self, batch: int) -> tuple[LSTMState, ...]:
        """The prediction network's state before the start symbol."""
        return self.prediction.init_state(batch)

    def predict_step(
        self, tokens: jax.Array, state: tuple[LSTMState, ...]
    ) -> tuple[jax.Array, tuple[LSTMState, ...]]:
        """One token [B] for each row -> `(predicted [B, J], state)`; begin with blank."""
        predicted, state = self.prediction(tokens[:, None], state)
        return predicted[:, 0], state

    def joint(self, encoded: jax.Array, predicted: jax.Array) -> jax.Array:
        """[..., J] and [..., J], leading axes of equal rank and broadcast -> logits [..., V]."""
        return self.joiner(encoded, predicted)

    def ctc_logits(self, encoded: jax.Array) -> jax.Array:
        """[B, T, J] -> [B, T, V] for the auxiliary loss.

        Raises:
          ValueError: the model was made without `ctc`.
        """
        if self.ctc is None:
            raise ValueError("this model has no CTC head: make it with TransducerConfig(ctc=True)")
        return self.ctc(encoded)

    def init_stream(self, batch: int) -> StreamState:
        """The state of `batch` streams before their first sample."""
        return StreamState(self.frontend.init_state(batch), self.encoder.init_state(batch))

    def stream_step(self, samples: jax.Array, state: StreamState) -> tuple[jax.Array, StreamState]:
        """Encodes the next samples of a stream.

        Args:
          samples: [B, k * samples_per_step].

        Returns:
          `(encoded [B, k, J], state)`.

        Raises:
          ValueError: the number of samples is not a multiple of `samples_per_step`.
        """
        if samples.shape[1] % self.samples_per_step:
            raise ValueError(
                f"a stream takes multiples of {self.samples_per_step} samples, "
                f"not {samples.shape[1]}"
            )
        x, frontend = self.frontend.step(samples, state.frontend)
        encoded, encoder = self.encoder.step(x, state.encoder)
        return encoded, StreamState(frontend, encoder)


def parameter_count(model: nnx.Module) -> int:
    """Number of trained parameters; feature statistics do not count."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
