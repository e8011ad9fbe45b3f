"""Beam search: batched, inside one jit, bounded, the same whole or chunk by chunk.

Hypotheses of a row stand at one frame. There, those that go on (A) and those that are done with the
frame (D) are kept apart: everything in A may take blank, which moves it to D, or a label, which
keeps it in A for another round. D becomes the next frame's A. Paths that meet in one label
sequence in D are added up (prefix merging), so a score is the probability of the labels, not of an
alignment, as far as the beam reaches. Most frames say nothing: as in greedy search one joint
product looks at a window of frames, and a row jumps to the first where any label could matter.

Emissions are written down as a tree of (parent, token, frame), so that hypotheses change places by
moving a pointer. In a stream, what all hypotheses agree on is committed and leaves the state.

Source: Graves 2012, arXiv 1211.3711, section 2.4, with the search by frames of Saon et al. 2020,
"Alignment-length synchronous decoding for RNN transducer", ICASSP, as its neighbour.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from .beam_look import look
from .beam_tree import Tree, read, smallest_that_holds, take, top, write
from .decoding import Hypotheses
from .transducer import BLANK, Transducer

_NEVER = -jnp.inf
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


class Beams(NamedTuple):
    """Hypotheses of each row, best first; those of score -inf do not exist."""

    hypotheses: Hypotheses  # leaves [B, K, N], counts [B, K]
    scores: jax.Array  # [B, K] log-probability of the labels, with what scorers added


class _Hypotheses(NamedTuple):
    """What the search knows of K label sequences a row; leaves [B, K, ...]."""

    score: jax.Array  # float32; -inf where there is none
    hash: jax.Array  # [B, K, 2] uint32, of the labels since the stream's start
    node: (
        jax.Array
    )  # int32, last emission in the tree; -1 - k: none since hypothesis k of the start
    count: jax.Array  # int32, emissions on the way from there
    predicted: jax.Array  # [B, K, J]
    prediction: Any
    scorer: Any
    skip: jax.Array  # int32, frames to come that a duration has gone over already


class BeamState(NamedTuple):
    """What a search carries from one chunk of a stream to the next."""

    live: _Hypotheses
    pending: Hypotheses  # [B, K, P], not committed yet
    frames: jax.Array  # [B] int32, encoder frames consumed


class _Search(NamedTuple):
    """The loop's carry."""

    live: _Hypotheses  # A
    done: _Hypotheses  # D
    tree: Tree
    frame: jax.Array  # [B], the frame at which A stands; its length when a row is done
    symbols: jax.Array  # [B], labels that A has emitted there
    round: jax.Array


def init_beam(
    model: Transducer, batch: int, width: int, *, scorer: Scorer | None = None, pending: int = 64
) -> BeamState:
    """The state of `batch` streams before their first frame.

    Args:
      width: hypotheses of a row, K.
      pending: tokens of a hypothesis that may wait to be committed; see `commit`.
    """
    rows = batch * width
    predicted, prediction = model.predict_step(
        jnp.full((rows,), BLANK, jnp.int32), model.init_prediction(rows)
    )
    split = _splitter(batch, width)
    first = jnp.arange(width) == 0
    live = _Hypotheses(
        score=jnp.tile(jnp.where(first, 0.0, _NEVER)[None, :], (batch, 1)),
        hash=jnp.zeros((batch, width, 2), jnp.uint32),
        node=jnp.tile(-1 - jnp.arange(width, dtype=jnp.int32)[None, :], (batch, 1)),
        count=jnp.zeros((batch, width), jnp.int32),
        predicted=split(predicted),
        prediction=jax.tree.map(split, prediction),
        scorer=jax.tree.map(split, scorer.init(rows) if scorer is not None else ()),
        skip=jnp.zeros((batch, width), jnp.int32),
    )
    waiting = Hypotheses(
        tokens=jnp.zeros((batch, width, pending), jnp.int32),
        frames=jnp.zeros((batch, width, pending), jnp.int32),
        logp=jnp.zeros((batch, width, pending), jnp.float32),
        counts=jnp.zeros((batch, width), jnp.int32),
    )
    return BeamState(live, waiting, jnp.zeros((batch,), jnp.int32))


def beam_search(
    model: Transducer,
    encoded: jax.Array,
    lengths: jax.Array,
    *,
    width: int = 4,
    prune: float = 4.0,
    max_symbols: int = 8,
    scorer: Scorer | None = None,
    internal_lm: float = 0.0,
    window: int = 2,
) -> Beams:
    """The likeliest label sequences of whole utterances.

    Args:
      encoded: [B, T, J].
      lengths: [B], frames that count.
      width: hypotheses that are kept, K.
      prune: hypotheses this many nats behind the best of their row are dropped.
      max_symbols: labels that one frame may emit.
      scorer: language models, phrases.
      internal_lm: weight with which the model's own expectation of the next label, without having
        heard anything, is taken off (HAT, Variani et al. 2020, arXiv 2003.07705, section 3.3).
      window: frames that one joint product looks at. Changes speed only.

    Raises:
      ValueError: `internal_lm` for a joint that is not HAT's.
    """
    state = init_beam(model, encoded.shape[0], width, scorer=scorer, pending=0)
    state = beam_step(
        model,
        encoded,
        lengths,
        state,
        prune=prune,
        max_symbols=max_symbols,
        scorer=scorer,
        internal_lm=internal_lm,
        window=window,
    )
    return best(state, scorer)


def beam_step(
    model: Transducer,
    encoded: jax.Array,
    lengths: jax.Array,
    state: BeamState,
    *,
    prune: float = 4.0,
    max_symbols: int = 8,
    scorer: Scorer | None = None,
    internal_lm: float = 0.0,
    window: int = 2,
) -> BeamState:
    """Goes on over the next frames; arguments as of `beam_search`.

    The state that comes back holds `T * max_symbols` pending tokens more: `commit` brings it back
    to its size.
    """
    if internal_lm and not model.config.joint.hat:
        raise ValueError("the internal language model can be taken off a HAT joint only")
    if model.config.joint.durations:
        from .beam_tdt import tdt_step

        return tdt_step(
            model, encoded, lengths, state, prune=prune, max_symbols=max_symbols, scorer=scorer
        )
    batch, time, _ = encoded.shape
    width = state.live.score.shape[1]
    window = max(1, min(window, time))
    lengths = lengths.astype(jnp.int32)
    padded = jnp.pad(encoded, ((0, 0), (0, window), (0, 0)))
    rounds = time * (max_symbols + 1)
    # A scorer may give back what a hypothesis lacks, so a round more is worth its while.
    slack = 0.0 if scorer is None else prune

    def unfinished(search: _Search) -> jax.Array:
        return jnp.any(search.frame < lengths) & (search.round < rounds)

    def advance(search: _Search) -> _Search:
        live, done = search.live, search.done
        amid = search.symbols > 0
        extra = extra_scores(model, live, scorer, internal_lm)
        found = look(
            model,
            padded,
            search.frame,
            lengths,
            amid,
            live.score,
            live.predicted,
            extra,
            window=window,
            count=min(width, model.config.vocab_size),
            prune=prune,
        )
        speaks = found.speaks

        # Blank: into D, where paths to one label sequence meet.
        leaving = live._replace(score=found.leaving)
        both = jax.tree.map(lambda d, a: jnp.concatenate([d, a], axis=1), done, leaving)
        both = both._replace(score=merged(both.score, both.hash))
        children = found.before[:, :, None] + found.labels
        children = jnp.where(
            (search.symbols < max_symbols)[:, None, None], children, _NEVER
        ).reshape(batch, -1)
        child_score, child = top(children, width)
        floor = jnp.maximum(both.score.max(axis=1), child_score[:, 0])[:, None] - prune
        done = _best_of(both, width, floor)

        # A label: another round at this frame, for what may still find a place in D.
        worst = done.score[:, -1:] - slack
        child_score = jnp.where((child_score >= floor) & (child_score > worst), child_score, _NEVER)
        stays = speaks & (child_score[:, 0] > _NEVER)
        parent = child // found.tokens.shape[-1]
        token, spoken = (
            jnp.take_along_axis(x.reshape(batch, -1), child, axis=1)
            for x in (found.tokens, found.spoken)
        )
        here = search.frame + found.first
        tree = write(
            search.tree,
            search.round * width,
            parent=jnp.take_along_axis(live.node, parent, axis=1),
            token=token,
            frame=state.frames + here,
            logp=spoken,
        )
        grown = jax.lax.cond(
            jnp.any(stays),
            lambda: grow(model, scorer, live, parent, token, child_score, search.round),
            lambda: live,
        )

        # Nothing to say: the whole window's blanks.
        waited = found.waited
        waited = jnp.where(waited >= waited.max(axis=1, keepdims=True) - prune, waited, _NEVER)

        alive = search.frame < lengths
        moved = speaks & ~stays
        after = _choose(stays, grown, _choose(moved, done, live._replace(score=waited)))
        frame = jnp.where(speaks, here + moved, search.frame + window)
        return _Search(
            live=_choose(alive, after, live),
            done=_choose(stays, done, _nothing(done)),
            tree=tree,
            frame=jnp.minimum(frame, lengths),
            symbols=jnp.where(stays, search.symbols + 1, 0),
            round=search.round + 1,
        )

    size = (batch, rounds * width)
    tree = Tree(
        parent=jnp.zeros(size, jnp.int32),
        token=jnp.zeros(size, jnp.int32),
        frame=jnp.zeros(size, jnp.int32),
        logp=jnp.zeros(size, jnp.float32),
    )
    zeros = jnp.zeros((batch,), jnp.int32)
    search = _Search(state.live, _nothing(state.live), tree, zeros, zeros, jnp.zeros((), jnp.int32))
    search = jax.lax.while_loop(unfinished, advance, search)
    live = search.live
    pending = read(search.tree, live.node, live.count, state.pending, capacity=time * max_symbols)
    start = jnp.tile(-1 - jnp.arange(width, dtype=jnp.int32)[None, :], (batch, 1))
    live = live._replace(node=start, count=jnp.zeros_like(live.count))
    return BeamState(live, pending, state.frames + lengths)


def best(state: BeamState, scorer: Scorer | None = None) -> Beams:
    """What is not committed, ranked as if the utterance ended here."""
    score = state.live.score
    if scorer is not None:
        batch, width = score.shape
        flat = jax.tree.map(lambda x: x.reshape(batch * width, *x.shape[2:]), state.live.scorer)
        score = score + scorer.final(flat).reshape(batch, width)
    score, order = jax.lax.top_k(score, score.shape[1])
    return Beams(take(state.pending, order), score)


def commit(state: BeamState, size: int) -> tuple[Hypotheses, Hypotheses, BeamState]:
    """Takes out of a stream's state what no later frame can change.

    That is the longest beginning that all hypotheses of a row share. Where one is longer than
    `size` still, the row goes on with its best hypothesis alone.

    Returns:
      `(committed [B, N], the best hypothesis's rest [B, size], state)`
    """
    live, pending = state.live, state.pending
    leader = jnp.argmax(live.score, axis=1)[:, None]
    alive = live.score > _NEVER
    first = take(pending, leader)
    length = pending.tokens.shape[2]
    position = jnp.arange(length)[None, None, :]
    same = (pending.tokens == first.tokens) & (position < pending.counts[:, :, None])
    agreed = jnp.where(alive[:, :, None], same, True).all(axis=1).astype(jnp.int32)
    agreed = jnp.cumprod(agreed, axis=-1)
    shared = agreed.sum(axis=-1)
    rest = jnp.where(alive, pending.counts, 0).max(axis=1) - shared
    crowded = rest > size
    alone = crowded[:, None] & (jnp.arange(live.score.shape[1])[None, :] != leader)
    live = live._replace(score=jnp.where(alone, _NEVER, live.score))
    shared = jnp.where(crowded, first.counts[:, 0], shared).astype(jnp.int32)
    committed = Hypotheses(first.tokens[:, 0], first.frames[:, 0], first.logp[:, 0], shared)
    counts = jnp.maximum(pending.counts - shared[:, None], 0)
    source = jnp.minimum(shared[:, None] + jnp.arange(size)[None, :], length - 1)[:, None, :]

    def shift(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, jnp.broadcast_to(source, (*x.shape[:2], size)), axis=2)

    pending = Hypotheses(shift(pending.tokens), shift(pending.frames), shift(pending.logp), counts)
    tentative = jax.tree.map(lambda x: x[:, 0], take(pending, leader))
    return committed, tentative, BeamState(live, pending, state.frames)


def extra_scores(
    model: Transducer, live: _Hypotheses, scorer: Scorer | None, internal_lm: float
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
        expected = jax.nn.log_softmax(unheard.at[..., BLANK].set(_NEVER), axis=-1)
        extra = (0.0 if extra is None else extra) - internal_lm * expected
        extra = extra.at[..., BLANK].set(0.0)
    return extra


def merged(score: jax.Array, hash: jax.Array, frame: jax.Array | None = None) -> jax.Array:
    """Scores [B, M] in which the best of every label sequence (at each frame [B, M], if these
    differ) has the sum and the others -inf."""
    same = (hash[:, :, None] == hash[:, None, :]).all(axis=-1)
    if frame is not None:
        same &= frame[:, :, None] == frame[:, None, :]
    same &= (score > _NEVER)[:, None, :]
    total = jax.nn.logsumexp(jnp.where(same, score[:, None, :], _NEVER), axis=-1)
    order = jnp.arange(score.shape[1])
    better = (score[:, None, :] > score[:, :, None]) | (
        (score[:, None, :] == score[:, :, None]) & (order[None, :] < order[:, None])[None]
    )
    return jnp.where((same & better).any(axis=-1) | (score == _NEVER), _NEVER, total)


def _best_of(hypotheses: _Hypotheses, width: int, floor: jax.Array) -> _Hypotheses:
    score, order = top(hypotheses.score, width)
    return take(hypotheses, order)._replace(score=jnp.where(score >= floor, score, _NEVER))


def grow(
    model: Transducer,
    scorer: Scorer | None,
    live: _Hypotheses,
    parent: jax.Array,
    token: jax.Array,
    score: jax.Array,
    round: jax.Array,
) -> _Hypotheses:
    """Each child [B, K] of its parent, with everything that depends on its labels."""
    batch, width = parent.shape
    split = _splitter(batch, width)
    of = take(live._replace(predicted=live.count), parent)
    flat = jax.tree.map(lambda x: x.reshape(batch * width, *x.shape[2:]), of)
    tokens = token.reshape(-1)
    after = flat.scorer if scorer is None else scorer.advance(flat.scorer, tokens)
    real = (score > _NEVER).reshape(-1)
    places = batch * width

    def those_that_exist(size: int):
        # Most places are empty in most rounds.
        at = jnp.nonzero(real, size=size, fill_value=places)[0]
        chosen = jax.tree.map(lambda x: x.at[at].get(mode="clip"), flat.prediction)
        found = model.predict_step(tokens.at[at].get(mode="clip"), chosen)
        empty = jnp.zeros((places, *found[0].shape[1:]), found[0].dtype)
        whole = (empty, flat.prediction)
        return jax.tree.map(lambda x, new: x.at[at].set(new, mode="drop"), whole, found)

    predicted, prediction = smallest_that_holds(real.sum(), places, those_that_exist)
    factors, offsets = (jnp.array(x, jnp.uint32)[None, None, :] for x in _HASH)
    return _Hypotheses(
        score=score,
        hash=(of.hash + token.astype(jnp.uint32)[:, :, None] + 1) * factors + offsets,
        node=jnp.tile((round * width + jnp.arange(width, dtype=jnp.int32))[None, :], (batch, 1)),
        count=of.count + 1,
        predicted=split(predicted),
        prediction=jax.tree.map(split, prediction),
        scorer=jax.tree.map(split, after),
        skip=of.skip,
    )


def _nothing(hypotheses: _Hypotheses) -> _Hypotheses:
    return hypotheses._replace(score=jnp.full_like(hypotheses.score, _NEVER))


def _choose(rows: jax.Array, this: Any, other: Any) -> Any:
    """`this` in the rows that are true, `other` elsewhere."""
    return jax.tree.map(
        lambda a, b: jnp.where(rows.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), this, other
    )


def _splitter(batch: int, width: int):
    return lambda x: x.reshape(batch, width, *x.shape[1:])
