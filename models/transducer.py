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

from .centred_frontend import CentredFrontendConfig, CentredLogMel, CentredState
from .cohorts import CohortConfig, CohortInput
from .encoders import EncoderConfig, make_encoder
from .encoders.separator import SeparatorConfig
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
    """The joint's output.

    Attributes:
      activation: "tanh" or "relu".
      hat: blank has a probability of its own, sigmoid(logit), and labels share what is left by a
        softmax among themselves (hybrid autoregressive transducer, Variani et al. 2020, arXiv
        2003.07705). Then labels alone are a language model, which can be taken off in decoding.
      durations: with each token comes one of these numbers of frames to go on by (token and
        duration transducer, Xu et al. 2023, arXiv 2304.06795); none: blank goes on by one, labels
        stay.
    """

    activation: str = "tanh"
    hat: bool = False
    durations: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class TransducerConfig:
    """A whole model.

    Attributes:
      vocab_size: tokens, blank included.
      ctc: add a linear head on the encoder, for an auxiliary CTC loss.
      simple: add two linear heads, on the encoder and on the prediction network, whose sum is the
        simple joiner of the pruned loss.
      cohort: what the encoder is told of the speaker beside the audio.
    """

    vocab_size: int
    encoder: EncoderConfig
    prediction: PredictionConfig
    frontend: FrontendConfig | CentredFrontendConfig = dataclasses.field(
        default_factory=FrontendConfig
    )
    joint: JointConfig = dataclasses.field(default_factory=JointConfig)
    ctc: bool = False
    simple: bool = False
    # Left out of what tells recipes apart while it is off: `train.recipe.identity`.
    cohort: CohortConfig = dataclasses.field(default_factory=CohortConfig, metadata={"later": True})


def channels_of(config: TransducerConfig) -> int:
    """Channels of its encoder, without building it: 1 of all families but the separator's."""
    return config.encoder.channels if isinstance(config.encoder, SeparatorConfig) else 1


class StreamState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    frontend: FrontendState | CentredState
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
    """logits = W act(f + g) + b, in float32 whatever the compute type.

    Those of durations, if there are any, come behind those of tokens.
    """

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
        if config.durations and (config.hat or min(config.durations) < 0):
            raise ValueError("durations are 0 or more frames, and not of a HAT joint")
        self.config = config
        self.vocab_size = vocab_size
        self.output = nnx.Linear(
            input_size,
            vocab_size + len(config.durations),
            dtype=dtype,
            preferred_element_type=jnp.promote_types(dtype, jnp.float32),
            rngs=rngs,
        )

    def __call__(self, encoded: jax.Array, predicted: jax.Array) -> jax.Array:
        """[..., J] and [..., J], leading axes of equal rank and broadcast -> [..., V].

        Of a HAT joint, log-probabilities: a softmax changes nothing about them. Of durations,
        nothing is said.
        """
        logits = self.logits(encoded, predicted)
        return hat_log_probs(logits, BLANK) if self.config.hat else logits[..., : self.vocab_size]

    def with_durations(
        self, encoded: jax.Array, predicted: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The same with durations: `(logits [..., V], logits [..., number of durations])`."""
        logits = self.logits(encoded, predicted)
        return logits[..., : self.vocab_size], logits[..., self.vocab_size :]

    def logits(self, encoded: jax.Array, predicted: jax.Array) -> jax.Array:
        """What the output layer gives: for the loss, which knows of `hat` itself."""
        return self.output(_ACTIVATIONS[self.config.activation](encoded + predicted))


def hat_log_probs(logits: jax.Array, blank: int) -> jax.Array:
    """Log-probabilities [..., V] of a HAT joint's logits [..., V], in float32."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    classes = jnp.arange(logits.shape[-1]).reshape((1,) * (logits.ndim - 1) + (-1,))
    of_blank = logits[..., blank, None]
    labels = jax.nn.log_softmax(jnp.where(classes == blank, -jnp.inf, logits), axis=-1)
    spoken = jax.nn.log_sigmoid(-of_blank) + labels
    return jnp.where(classes == blank, jax.nn.log_sigmoid(of_blank), spoken)


class SimpleJoint(nnx.Module):
    """logits = am + lm, in float32 whatever the compute type: a linear head on each side.

    Only training runs it.

    Source: Kuang et al. 2022, "Pruned RNN-T for fast, memory-efficient ASR training", arXiv
    2206.13236.
    """

    def __init__(
        self, input_size: int, vocab_size: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ):
        wide = jnp.promote_types(dtype, jnp.float32)
        self.am, self.lm = (
            nnx.Linear(input_size, vocab_size, dtype=dtype, preferred_element_type=wide, rngs=rngs)
            for _ in range(2)
        )

    def __call__(self, encoded: jax.Array, predicted: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, J] and [B, U+1, J] -> `(am [B, T, V], lm [B, U+1, V])`."""
        return self.am(encoded), self.lm(predicted)


class Transducer(nnx.Module):
    """A streaming recogniser: front end, encoder, prediction network, joint.

    Parameters are float32; `dtype` is what matmuls run in.

    Attributes:
      samples_per_step: samples that a step of the encoder takes: those of one frame, or of a chunk
        of frames that come at once.
      frame_s: seconds of an encoder frame.
      channels: rows of the encoder's output for each row of its input: talkers at once that it
        tells apart. Whatever comes after the encoder takes them for rows of a batch.
    """

    def __init__(self, config: TransducerConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        if config.encoder.output != config.prediction.output:
            raise ValueError(
                f"encoder and prediction network must end in one width, not "
                f"{config.encoder.output} and {config.prediction.output}"
            )
        self.config = config
        self.dtype = dtype
        self.frontend = (
            LogMel(config.frontend)
            if isinstance(config.frontend, FrontendConfig)
            else CentredLogMel(config.frontend)
        )
        self.encoder = make_encoder(config.encoder, config.frontend.size, rngs=rngs, dtype=dtype)
        self.prediction = PredictionNetwork(
            config.prediction, config.vocab_size, rngs=rngs, dtype=dtype
        )
        width = config.encoder.output
        self.joiner = Joint(config.joint, width, config.vocab_size, rngs=rngs, dtype=dtype)
        self.ctc = (
            nnx.Linear(width, config.vocab_size, dtype=dtype, rngs=rngs) if config.ctc else None
        )
        # Last of all: a model with these parts begins with the other parameters of one without.
        self.simple = (
            SimpleJoint(width, config.vocab_size, rngs=rngs, dtype=dtype) if config.simple else None
        )
        size = config.frontend.size
        self.cohort = (
            CohortInput(config.cohort, size, rngs=rngs) if config.cohort.kind != "off" else None
        )
        samples = config.frontend.step * self.encoder.stride
        self.samples_per_step = samples * self.encoder.chunk
        self.frame_s = samples / config.frontend.sample_rate
        self.channels = self.encoder.channels

    def features(self, samples: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Samples [B, N] and lengths [B] -> `(x [B, T, D] float32, lengths [B])`."""
        return self.frontend(samples, lengths)

    def encode(
        self,
        x: jax.Array,
        lengths: jax.Array,
        *,
        key: jax.Array | None = None,
        cohort: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Features [B, T, D] and lengths [B] -> `(encoded [B, T // stride, J], lengths [B])`; with
        channels, [B * channels] rows. `cohort` [B, K]: of a model that is told it."""
        return self.encoder(self.told(x, cohort), lengths, key=key)

    def told(
        self, x: jax.Array, cohort: jax.Array | None = None, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Features [B, T, D] with what the model is told of cohorts [B, K]; without such an input,
        as they are. A key is given in training."""
        return x if self.cohort is None else self.cohort(x, cohort, key=key)

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

    def joint_logits(self, encoded: jax.Array, predicted: jax.Array) -> jax.Array:
        """The same for a loss that is told of `hat` and durations: not normalised by the one, and
        with the logits of the others behind."""
        return self.joiner.logits(encoded, predicted)

    def ctc_logits(self, encoded: jax.Array) -> jax.Array:
        """[B, T, J] -> [B, T, V] for the auxiliary loss.

        Raises:
          ValueError: the model was made without `ctc`.
        """
        if self.ctc is None:
            raise ValueError("this model has no CTC head: make it with TransducerConfig(ctc=True)")
        return self.ctc(encoded)

    def simple_logits(
        self, encoded: jax.Array, predicted: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """[B, T, J] and [B, U+1, J] -> `(am [B, T, V], lm [B, U+1, V])` for the pruned loss.

        Raises:
          ValueError: the model was made without `simple`.
        """
        if self.simple is None:
            raise ValueError(
                "this model has no simple joiner: make it with TransducerConfig(simple=True)"
            )
        return self.simple(encoded, predicted)

    def init_stream(self, batch: int) -> StreamState:
        """The state of `batch` streams before their first sample."""
        return StreamState(self.frontend.init_state(batch), self.encoder.init_state(batch))

    def stream_step(self, samples: jax.Array, state: StreamState) -> tuple[jax.Array, StreamState]:
        """Encodes the next samples of a stream.

        Args:
          samples: [B, k * samples_per_step].

        Returns:
          `(encoded [B, k * encoder.chunk, J], state)`.

        Raises:
          ValueError: the number of samples is not a multiple of `samples_per_step`.
        """
        if samples.shape[1] % self.samples_per_step:
            raise ValueError(
                f"a stream takes multiples of {self.samples_per_step} samples, "
                f"not {samples.shape[1]}"
            )
        frontend: Any = self.frontend  # each takes its own state
        x, after = frontend.step(samples, state.frontend)
        encoded, encoder = self.encoder.step(self.told(x), state.encoder)
        return encoded, StreamState(after, encoder)


def parameter_count(model: nnx.Module) -> int:
    """Number of trained parameters; feature statistics do not count."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
