"""The compiled side of inference: samples in, tokens out, whole or as a stream.

Front end, encoder and decoder are one jitted program, compiled once for each shape. The shapes are
few: batches come from `packing.pack`, streams advance by `STREAM_BLOCKS` steps. A batch's rows are
spread over all devices; each of them searches its rows by itself, without a word to the others.
"""

from copy import copy
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..data.errors import InputError
from ..data.tokenizer import Tokenizer
from ..models.beam import Beams, beam_search, beam_step, best, commit
from ..models.beam_state import BeamState, Scorer, init_beam
from ..models.cost import state_bytes
from ..models.decoding import DecoderState, Hypotheses, greedy, init_decoder, where_rows
from ..models.frontend import append_tail
from ..models.transducer import StreamState, Transducer
from .calibration import read_calibrator
from .decoding import GREEDY, Decoding, Options
from .package import ModelPackage
from .programs import Heard, Hypothesis, tokens_of
from .runtime import set_up
from .transcript import Token

PENDING = 64
"""Tokens that a stream's hypotheses may differ in, about 20 words; beyond, the best is taken."""


class State(NamedTuple):
    """All that streams carry from one step to the next; every leaf has a row for each, or for each
    of its channels."""

    encoder: StreamState
    decoder: DecoderState | BeamState


class Recognizer:
    """A model's parameters on the devices, and the programs that run it.

    Attributes:
      samples_per_step: samples that an encoder step takes.
      frame_s: the same in seconds.
      tail: samples of silence that end a stream, as `recognize` appends them to every row.
      streams: whether it answers while the audio arrives.
      channels: rows that come out for each row that goes in, one after the other.
      calibrator: what the probability of a word goes through to be its confidence; None: nothing.
      cohort: what the model is told of cohorts.
      row_multiple: rows of a batch must be a multiple of this, the number of devices.
    """

    def __init__(self, package: ModelPackage, decoding: Decoding = GREEDY):
        set_up()
        if decoding.theta is not None:
            package = package.with_theta(decoding.theta)
        self.tokenizer: Tokenizer = package.tokenizer
        self.calibrator = read_calibrator(package.folder)
        self.decoding = decoding
        self.cohort = package.recipe.model.cohort
        self._graphdef = package.graphdef
        model = package.model()
        self.samples_per_step = model.samples_per_step
        self.frame_s = model.frame_s
        self.channels = model.channels
        self.streams = state_bytes(package.recipe.model) is not None
        self.tail = package.recipe.model.frontend.tail
        self.row_multiple = jax.local_device_count()
        # Under several processes each works on recordings of its own.
        self._mesh = (
            Mesh(np.array(jax.local_devices()), ("data",)) if self.row_multiple > 1 else None
        )
        self._scorer = jax.device_put(decoding.scorer(self.tokenizer, model.config.joint.hat))
        self._variables = jax.device_put((package.params, package.frozen))
        self._everywhere = (self._variables, self._scorer)
        if self._mesh is not None:
            self._everywhere = jax.device_put(self._everywhere, NamedSharding(self._mesh, P()))

    def for_cohort(self, row: np.ndarray) -> "Recognizer":
        """The same programs, which take every speaker to be of a cohort [K]; zeros: unknown.

        Raises InputError where the model is not told cohorts.
        """
        if self.cohort.kind == "off":
            raise InputError("this model is not told cohorts: train one by --model.cohort.kind.")

        def told(variables: Any) -> Any:
            params, frozen = variables
            default = frozen["cohort"]["default"]
            placed = jax.device_put(np.asarray(row, np.float32), default.sharding)
            return params, {**frozen, "cohort": {"default": placed}}

        other = copy(self)
        other._variables = told(self._variables)
        other._everywhere = told(self._everywhere[0]), self._everywhere[1]
        return other

    def recognize(self, samples: np.ndarray, lengths: np.ndarray) -> list[list[Hypothesis]]:
        """`fetch` of `dispatch`."""
        return self.fetch(self.dispatch(samples, lengths))

    def dispatch(self, samples: np.ndarray, lengths: np.ndarray) -> Hypotheses | Beams:
        """Begins the work on int16 samples [B, N], of which `lengths` [B] count, and comes back.

        The silence in which a model finishes its last word is appended inside.
        """
        variables, scorer = self._everywhere
        if self._mesh is not None:
            rows = NamedSharding(self._mesh, P("data"))
            samples, lengths = jax.device_put((samples, lengths), rows)
        return _recognize(
            self._graphdef,
            variables,
            samples,
            lengths,
            scorer,
            options=self.decoding.options,
            mesh=self._mesh,
        )

    def fetch(self, found: Hypotheses | Beams) -> list[list[Hypothesis]]:
        """Waits for what `dispatch` began: of each row its hypotheses, the best first."""
        found = jax.device_get(found)
        if isinstance(found, Hypotheses):
            return [[Hypothesis(tokens_of(found, row))] for row in range(len(found.counts))]
        return [
            [
                Hypothesis(tokens_of(found.hypotheses, (row, k)), float(score))
                for k, score in enumerate(scores)
                if score > -np.inf
            ]
            for row, scores in enumerate(found.scores)
        ]

    def start_streams(self, count: int) -> State:
        """The state of `count` streams before their first sample."""
        return _start(
            self._graphdef, self._variables, count, self._scorer, options=self.decoding.options
        )

    def step(
        self,
        samples: np.ndarray,
        state: State,
        *,
        active: np.ndarray | None = None,
        fresh: np.ndarray | None = None,
    ) -> tuple[list[Heard], State]:
        """What the next samples give to each stream; `state` is used up.

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
        found, rest, state = _step(
            self._graphdef,
            self._variables,
            samples,
            state,
            self._scorer,
            active=active,
            fresh=fresh,
            options=self.decoding.options,
        )
        found, rest = jax.device_get((found, rest))
        heard = [
            Heard(tokens_of(found, row), [] if rest is None else tokens_of(rest, row))
            for row in range(rows * self.channels)
        ]
        return heard, state

    def rest(self, state: State) -> list[list[Token]]:
        """Tokens that streams have not committed, as if each ended here; none in greedy search."""
        if isinstance(state.decoder, DecoderState):
            return [[] for _ in range(len(state.decoder.frames))]
        beams = jax.device_get(_best(state.decoder, self._scorer))
        return [tokens_of(beams.hypotheses, (row, 0)) for row in range(len(beams.scores))]


# Matmuls keep float32's precision on every device (GPUs and TPUs would use less by default): else a
# stream's numbers, computed in other shapes, would differ from a batch's by enough to change text.
_exact = jax.default_matmul_precision("float32")


@partial(jax.jit, static_argnums=0, static_argnames=("options", "mesh"))
@_exact
def _recognize(
    graphdef: Any,
    variables: Any,
    samples: jax.Array,
    lengths: jax.Array,
    scorer: Scorer | None = None,
    *,
    options: Options = GREEDY.options,
    mesh: Mesh | None = None,
) -> Hypotheses | Beams:
    """`Hypotheses` of greedy search, `Beams` of beam search."""

    def run(variables: Any, scorer: Any, samples: jax.Array, lengths: jax.Array):
        model = nnx.merge(graphdef, *variables)
        samples, lengths = append_tail(samples, lengths, model.config.frontend)
        encoded, frames = model.encode(*model.features(samples, lengths))
        if options.width == 1:
            return greedy(model, encoded, frames)[0]
        beams = beam_search(
            model,
            encoded,
            frames,
            width=options.width,
            prune=options.prune,
            scorer=scorer,
            internal_lm=options.internal_lm,
        )
        return jax.tree.map(lambda x: x[:, : options.nbest], beams)

    if mesh is None:
        return run(variables, scorer, samples, lengths)
    # Not left to the partitioner: the search's loop would end on every device with the slowest,
    # after asking all of them in every round.
    whole, rows = P(), P("data")
    run = jax.shard_map(
        run, mesh=mesh, in_specs=(whole, whole, rows, rows), out_specs=rows, check_vma=False
    )
    return run(variables, scorer, samples, lengths)


@partial(jax.jit, static_argnums=(0, 2), static_argnames="options")
@_exact
def _start(
    graphdef: Any,
    variables: Any,
    count: int,
    scorer: Scorer | None = None,
    *,
    options: Options = GREEDY.options,
) -> State:
    return _begin(nnx.merge(graphdef, *variables), count, scorer, options)


@partial(jax.jit, static_argnums=0, static_argnames="options", donate_argnums=3)
@_exact
def _step(
    graphdef: Any,
    variables: Any,
    samples: jax.Array,
    state: State,
    scorer: Scorer | None = None,
    *,
    active: jax.Array,
    fresh: jax.Array,
    options: Options = GREEDY.options,
) -> tuple[Hypotheses, Hypotheses | None, State]:
    """(tokens that stay, those of the best hypothesis that may change, state)."""
    model = nnx.merge(graphdef, *variables)
    begun = where_rows(fresh, _begin(model, samples.shape[0], scorer, options), state)
    encoded, encoder = model.stream_step(samples, begun.encoder)
    lengths = jnp.where(jnp.repeat(active, model.channels), encoded.shape[1], 0)
    before = begun.decoder
    if isinstance(before, DecoderState):
        found, decoder = greedy(model, encoded, lengths, state=before)
        rest = None
    else:
        after = beam_step(
            model,
            encoded,
            lengths,
            before,
            prune=options.prune,
            scorer=scorer,
            internal_lm=options.internal_lm,
        )
        found, rest, decoder = commit(after, PENDING)
    return found, rest, where_rows(active, State(encoder, decoder), begun)


@jax.jit
def _best(state: BeamState, scorer: Scorer | None) -> Beams:
    return best(state, scorer)


def _begin(model: Transducer, count: int, scorer: Scorer | None, options: Options) -> State:
    rows = count * model.channels
    decoder = (
        init_decoder(model, rows)
        if options.width == 1
        else init_beam(model, rows, options.width, scorer=scorer, pending=PENDING)
    )
    return State(model.init_stream(count), decoder)
