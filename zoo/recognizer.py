"""The compiled side of inference: samples in, tokens out, whole or as a stream.

Front end, encoder and decoder are one jitted program, compiled once for each shape. The shapes are
few: batches come from `packing.pack`, streams advance by `STREAM_BLOCKS` steps.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..data.audio import SAMPLE_RATE, resample, to_int16
from ..data.errors import InputError
from ..data.tokenizer import Tokenizer
from ..models.decoding import DecoderState, Hypotheses, greedy, init_decoder
from ..models.frontend import append_tail
from ..models.transducer import StreamState
from .package import ModelPackage
from .runtime import use_compilation_cache
from .transcript import Token

STREAM_BLOCKS = (64, 8, 1)
"""Encoder steps that a stream takes at once, largest first: each is a program of its own."""


class State(NamedTuple):
    """All that streams carry from one step to the next; every leaf has a row for each."""

    encoder: StreamState
    decoder: DecoderState


class Recognizer:
    """A model's parameters on the device, and the programs that run it.

    Attributes:
      samples_per_step: samples that an encoder step takes.
      frame_s: the same in seconds.
      tail: samples of silence that end a stream, as `recognize` appends them to every row.
    """

    def __init__(self, package: ModelPackage):
        use_compilation_cache()
        self.tokenizer: Tokenizer = package.tokenizer
        self._graphdef = package.graphdef
        self._variables = jax.device_put((package.params, package.frozen))
        model = package.model()
        self.samples_per_step = model.samples_per_step
        self.frame_s = model.frame_s
        self.tail = package.recipe.model.frontend.tail

    def recognize(self, samples: np.ndarray, lengths: np.ndarray) -> list[list[Token]]:
        """Tokens of each row of int16 samples [B, N], of which `lengths` [B] count.

        The silence in which a model finishes its last word is appended inside.
        """
        return _rows(_recognize(self._graphdef, self._variables, samples, lengths))

    def start_streams(self, count: int) -> State:
        """The state of `count` streams before their first sample."""
        return _start(self._graphdef, self._variables, count)

    def step(
        self,
        samples: np.ndarray,
        state: State,
        *,
        active: np.ndarray | None = None,
        fresh: np.ndarray | None = None,
    ) -> tuple[list[list[Token]], State]:
        """Tokens that the next samples give to each stream.

        Args:
          samples: int16 [S, n], n of STREAM_BLOCKS encoder steps.
          state: of S streams.
          active: bool [S], the streams that advance; the others stay as they are. None: all.
          fresh: bool [S], streams that begin anew with these samples. None: no one.

        Frames of the tokens count from each stream's start.
        """
        rows = len(samples)
        active = np.ones(rows, bool) if active is None else active
        fresh = np.zeros(rows, bool) if fresh is None else fresh
        hypotheses, state = _step(
            self._graphdef, self._variables, samples, state, active=active, fresh=fresh
        )
        return _rows(hypotheses), state


# Matmuls keep float32's precision on every device (GPUs and TPUs would use less by default): else a
# stream's numbers, computed in other shapes, would differ from a batch's by enough to change text.
_exact = jax.default_matmul_precision("float32")


@partial(jax.jit, static_argnums=0)
@_exact
def _recognize(graphdef: Any, variables: Any, samples: jax.Array, lengths: jax.Array) -> Hypotheses:
    model = nnx.merge(graphdef, *variables)
    samples, lengths = append_tail(samples, lengths, model.config.frontend)
    encoded, frames = model.encode(*model.features(samples, lengths))
    return greedy(model, encoded, frames)[0]


@partial(jax.jit, static_argnums=(0, 2))
@_exact
def _start(graphdef: Any, variables: Any, count: int) -> State:
    model = nnx.merge(graphdef, *variables)
    return State(model.init_stream(count), init_decoder(model, count))


@partial(jax.jit, static_argnums=0)
@_exact
def _step(
    graphdef: Any,
    variables: Any,
    samples: jax.Array,
    state: State,
    *,
    active: jax.Array,
    fresh: jax.Array,
) -> tuple[Hypotheses, State]:
    model = nnx.merge(graphdef, *variables)
    count = samples.shape[0]
    begun = _choose(fresh, State(model.init_stream(count), init_decoder(model, count)), state)
    encoded, encoder = model.stream_step(samples, begun.encoder)
    lengths = jnp.where(active, encoded.shape[1], 0)
    hypotheses, decoder = greedy(model, encoded, lengths, state=begun.decoder)
    return hypotheses, _choose(active, State(encoder, decoder), begun)


def _choose(rows: jax.Array, this: State, other: State) -> State:
    """`this` in the rows that are true, `other` elsewhere."""
    return jax.tree.map(
        lambda a, b: jnp.where(rows.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), this, other
    )


def _rows(hypotheses: Hypotheses) -> list[list[Token]]:
    tokens, frames, logp, counts = jax.device_get(hypotheses)
    return [
        [
            Token(int(token), int(frame), float(p))
            for token, frame, p in zip(
                tokens[row, :count], frames[row, :count], np.exp(logp[row, :count]), strict=True
            )
        ]
        for row, count in enumerate(counts)
    ]


def as_samples(audio: np.ndarray | Sequence[float], rate: int = SAMPLE_RATE) -> np.ndarray:
    """Mono samples from memory -> 16 kHz int16 [N]; floats are taken to lie in [-1, 1].

    Raises:
      InputError: several channels, another type than int16 or float, NaN, or floats far outside.
    """
    samples = np.asarray(audio)
    if samples.ndim != 1:
        raise InputError(
            f"samples of shape {list(samples.shape)} are not one channel: give mono samples [N]."
        )
    if np.issubdtype(samples.dtype, np.floating):
        peak = np.abs(samples).max(initial=0.0)
        if not np.isfinite(peak):
            raise InputError("the samples hold NaN or infinity: look at where they come from.")
        if peak > 8.0:
            raise InputError(
                f"float samples reach {peak:.0f}, where -1 to 1 is the full scale: rescale them, "
                "or give int16."
            )
        samples = to_int16(samples.astype(np.float32) * np.float32(32768.0))
    elif samples.dtype != np.int16:
        raise InputError(f"samples are {samples.dtype}: give int16, or floats in [-1, 1].")
    return samples if rate == SAMPLE_RATE else to_int16(resample(samples, rate))
