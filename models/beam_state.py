"""What a beam search knows of its hypotheses, and how one grows by a label.

Emissions are written down as a tree of (parent, token, frame), so that hypotheses change places by
moving a pointer. A call begins a tree of its own; what was said before it is pending at its roots.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from .beam_tree import Tree, read, smallest_that_holds, take
from .decoding import Hypotheses, empty_hypotheses
from .transducer import BLANK, Transducer

NEVER = -jnp.inf
"""The score of a hypothesis that does not exist."""
_HASH = ((0x9E3779B1, 0x85EBCA77), (0xC2B2AE3D, 0x27D4EB2F))
"""Odd multipliers and offsets of two 32-bit polynomial hashes of a label sequence."""


class Scorer(Protocol):
    """What judges labels beside the model: a language model, a list of phrases.

    A pytree of arrays. What it adds to a label's log-probability depends on its state and the label
    alone; blank's stays as it is. Every leaf of a state has a leading axis of `rows`.
    """

    def init(self, rows: int) -> Any:
        """The state before the first label."""
        ...

    def score(self, state: Any, logp: jax.Array) -> jax.Array:
        """Log-probabilities [rows, V] -> [rows, V]."""
        ...

    def advance(self, state: Any, tokens: jax.Array) -> Any:
        """The state after each row has taken its token [rows], none of them blank."""
        ...

    def final(self, state: Any) -> jax.Array:
        """What the end of the utterance adds to each row's score: [rows]."""
        ...


class LiveHypotheses(NamedTuple):
    """What the search knows of K label sequences a row; leaves [B, K, ...]."""

    score: jax.Array  # float32; -inf where there is none
    hash: jax.Array  # [B, K, 2] uint32, of the labels since the stream's start
    # int32, last emission in the tree; -1 - k: none since hypothesis k of the start
    node: jax.Array
    count: jax.Array  # int32, emissions on the way from there
    predicted: jax.Array  # [B, K, J]
    prediction: Any
    scorer: Any
    skip: jax.Array  # int32, frames to come that a duration has gone over already


class BeamState(NamedTuple):
    """What a search carries from one chunk of a stream to the next."""

    live: LiveHypotheses
    pending: Hypotheses  # [B, K, P], not committed yet
    frames: jax.Array  # [B] int32, encoder frames consumed


def init_beam(
    model: Transducer, batch: int, width: int, *, scorer: Scorer | None = None, pending: int = 64
) -> BeamState:
    """The state of `batch` streams before their first frame.

    Args:
      width: hypotheses of a row, K.
      pending: tokens of a hypothesis that may wait to be committed; see `beam.commit`.
    """
    rows = batch * width
    predicted, prediction = model.predict_step(
        jnp.full((rows,), BLANK, jnp.int32), model.init_prediction(rows)
    )
    split = _splitter(batch, width)
    first = jnp.arange(width) == 0
    live = LiveHypotheses(
        score=jnp.tile(jnp.where(first, 0.0, NEVER)[None, :], (batch, 1)),
        hash=jnp.zeros((batch, width, 2), jnp.uint32),
        node=_roots(batch, width),
        count=jnp.zeros((batch, width), jnp.int32),
        predicted=split(predicted),
        prediction=jax.tree.map(split, prediction),
        scorer=jax.tree.map(split, scorer.init(rows) if scorer is not None else ()),
        skip=jnp.zeros((batch, width), jnp.int32),
    )
    waiting = empty_hypotheses((batch, width), pending)
    return BeamState(live, waiting, jnp.zeros((batch,), jnp.int32))


def _roots(batch: int, width: int) -> jax.Array:
    """Where hypotheses stand that have said nothing in this call: [B, K]."""
    return jnp.tile(-1 - jnp.arange(width, dtype=jnp.int32)[None, :], (batch, 1))


def gone_on(
    state: BeamState, live: LiveHypotheses, tree: Tree, lengths: jax.Array, *, capacity: int
) -> BeamState:
    """The state after a call: what its hypotheses have said is read off the tree.

    Args:
      state: before the call.
      live, tree: at its end.
      lengths: [B], frames that it has consumed.
      capacity: emissions that any hypothesis can have made.
    """
    pending = read(tree, live.node, live.count, state.pending, capacity=capacity)
    live = live._replace(
        node=_roots(*live.score.shape),
        count=jnp.zeros_like(live.count),
        skip=jnp.maximum(live.skip - lengths[:, None], 0),
    )
    return BeamState(live, pending, state.frames + lengths)


def extra_scores(
    model: Transducer, live: LiveHypotheses, scorer: Scorer | None, internal_lm: float
) -> jax.Array | None:
    """What is added to each label after each hypothesis, [B, K, V]; None: nothing."""
    extra = None
    if scorer is not None:
        batch, width = live.score.shape
        flat = jax.tree.map(lambda x: x.reshape(batch * width, *x.shape[2:]), live.scorer)
        zeros = jnp.zeros((batch * width, model.config.vocab_size))
        extra = scorer.score(flat, zeros).reshape(batch, width, -1)
    if internal_lm:
        unheard = model.joint_logits(jnp.zeros_like(live.predicted), live.predicted)
        expected = jax.nn.log_softmax(unheard.at[..., BLANK].set(NEVER), axis=-1)
        extra = (0.0 if extra is None else extra) - internal_lm * expected
        extra = extra.at[..., BLANK].set(0.0)
    return extra


def merged(score: jax.Array, hash: jax.Array, frame: jax.Array | None = None) -> jax.Array:
    """Scores [B, M] in which the best of every label sequence (at each frame [B, M], if these
    differ) has the sum and the others -inf."""
    same = (hash[:, :, None] == hash[:, None, :]).all(axis=-1)
    if frame is not None:
        same &= frame[:, :, None] == frame[:, None, :]
    same &= (score > NEVER)[:, None, :]
    total = jax.nn.logsumexp(jnp.where(same, score[:, None, :], NEVER), axis=-1)
    order = jnp.arange(score.shape[1])
    better = (score[:, None, :] > score[:, :, None]) | (
        (score[:, None, :] == score[:, :, None]) & (order[None, :] < order[:, None])[None]
    )
    return jnp.where((same & better).any(axis=-1) | (score == NEVER), NEVER, total)


def grow(
    model: Transducer,
    scorer: Scorer | None,
    live: LiveHypotheses,
    parent: jax.Array,
    token: jax.Array,
    score: jax.Array,
    round: jax.Array,
) -> LiveHypotheses:
    """Each child [B, K] of its parent, with everything that depends on its labels."""
    batch, width = parent.shape
    split = _splitter(batch, width)
    of = take(live._replace(predicted=live.count), parent)
    flat = jax.tree.map(lambda x: x.reshape(batch * width, *x.shape[2:]), of)
    tokens = token.reshape(-1)
    after = flat.scorer if scorer is None else scorer.advance(flat.scorer, tokens)
    real = (score > NEVER).reshape(-1)
    places = batch * width

    def those_that_exist(size: int):
        if size == places:
            return model.predict_step(tokens, flat.prediction)
        # Most places are empty in most rounds.
        at = jnp.nonzero(real, size=size, fill_value=places)[0]
        chosen = jax.tree.map(lambda x: x.at[at].get(mode="clip"), flat.prediction)
        found = model.predict_step(tokens.at[at].get(mode="clip"), chosen)
        empty = jnp.zeros((places, *found[0].shape[1:]), found[0].dtype)
        whole = (empty, flat.prediction)
        return jax.tree.map(lambda x, new: x.at[at].set(new, mode="drop"), whole, found)

    predicted, prediction = smallest_that_holds(real.sum(), places, those_that_exist)
    factors, offsets = (jnp.array(x, jnp.uint32)[None, None, :] for x in _HASH)
    return LiveHypotheses(
        score=score,
        hash=(of.hash + token.astype(jnp.uint32)[:, :, None] + 1) * factors + offsets,
        node=jnp.tile((round * width + jnp.arange(width, dtype=jnp.int32))[None, :], (batch, 1)),
        count=of.count + 1,
        predicted=split(predicted),
        prediction=jax.tree.map(split, prediction),
        scorer=jax.tree.map(split, after),
        skip=of.skip,
    )


def _splitter(batch: int, width: int):
    return lambda x: x.reshape(batch, width, *x.shape[1:])
