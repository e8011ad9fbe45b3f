"""Beam search: batched, inside one jit, bounded, the same whole or chunk by chunk.

Hypotheses of a row stand at one frame. There, those that go on (A) and those that are done with the
frame (D) are kept apart: everything in A may take blank, which moves it to D, or a label, which
keeps it in A for another round. D becomes the next frame's A. Paths that meet in one label
sequence in D are added up (prefix merging), so a score is the probability of the labels, not of an
alignment, as far as the beam reaches. Most frames say nothing: as in greedy search one joint
product looks at a window of frames, and a row jumps to the first where any label could matter.

In a stream, what all hypotheses agree on is committed and leaves the state.

Source: Graves 2012, arXiv 1211.3711, section 2.4, with the search by frames of Saon et al. 2020,
"Alignment-length synchronous decoding for RNN transducer", ICASSP, as its neighbour.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .beam_look import look
from .beam_state import (
    NEVER,
    BeamState,
    LiveHypotheses,
    Scorer,
    extra_scores,
    gone_on,
    grow,
    init_beam,
    merged,
)
from .beam_tdt import tdt_step
from .beam_tree import Tree, empty_tree, take, top, write
from .decoding import Hypotheses, where_rows
from .transducer import Transducer


class Beams(NamedTuple):
    """Hypotheses of each row, best first; those of score -inf do not exist."""

    hypotheses: Hypotheses  # leaves [B, K, N], counts [B, K]
    scores: jax.Array  # [B, K] log-probability of the labels, with what scorers added


class _Search(NamedTuple):
    """The loop's carry."""

    live: LiveHypotheses  # A
    done: LiveHypotheses  # D
    tree: Tree
    frame: jax.Array  # [B], the frame at which A stands; its length when a row is done
    symbols: jax.Array  # [B], labels that A has emitted there
    round: jax.Array


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
            (search.symbols < max_symbols)[:, None, None], children, NEVER
        ).reshape(batch, -1)
        child_score, child = top(children, width)
        floor = jnp.maximum(both.score.max(axis=1), child_score[:, 0])[:, None] - prune
        done = _best_of(both, width, floor)

        # A label: another round at this frame, for what may still find a place in D.
        worst = done.score[:, -1:] - slack
        child_score = jnp.where((child_score >= floor) & (child_score > worst), child_score, NEVER)
        stays = speaks & (child_score[:, 0] > NEVER)
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
        waited = jnp.where(waited >= waited.max(axis=1, keepdims=True) - prune, waited, NEVER)

        alive = search.frame < lengths
        moved = speaks & ~stays
        after = where_rows(stays, grown, where_rows(moved, done, live._replace(score=waited)))
        frame = jnp.where(speaks, here + moved, search.frame + window)
        return _Search(
            live=where_rows(alive, after, live),
            done=where_rows(stays, done, _nothing(done)),
            tree=tree,
            frame=jnp.minimum(frame, lengths),
            symbols=jnp.where(stays, search.symbols + 1, 0),
            round=search.round + 1,
        )

    tree = empty_tree(batch, rounds * width)
    zeros = jnp.zeros((batch,), jnp.int32)
    search = _Search(state.live, _nothing(state.live), tree, zeros, zeros, jnp.zeros((), jnp.int32))
    search = jax.lax.while_loop(unfinished, advance, search)
    return gone_on(state, search.live, search.tree, lengths, capacity=time * max_symbols)


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
    alive = live.score > NEVER
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
    live = live._replace(score=jnp.where(alone, NEVER, live.score))
    shared = jnp.where(crowded, first.counts[:, 0], shared).astype(jnp.int32)
    committed = Hypotheses(first.tokens[:, 0], first.frames[:, 0], first.logp[:, 0], shared)
    counts = jnp.maximum(pending.counts - shared[:, None], 0)
    source = jnp.minimum(shared[:, None] + jnp.arange(size)[None, :], length - 1)[:, None, :]

    def shift(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, jnp.broadcast_to(source, (*x.shape[:2], size)), axis=2)

    pending = Hypotheses(shift(pending.tokens), shift(pending.frames), shift(pending.logp), counts)
    tentative = jax.tree.map(lambda x: x[:, 0], take(pending, leader))
    return committed, tentative, BeamState(live, pending, state.frames)


def _best_of(hypotheses: LiveHypotheses, width: int, floor: jax.Array) -> LiveHypotheses:
    score, order = top(hypotheses.score, width)
    return take(hypotheses, order)._replace(score=jnp.where(score >= floor, score, NEVER))


def _nothing(hypotheses: LiveHypotheses) -> LiveHypotheses:
    return hypotheses._replace(score=jnp.full_like(hypotheses.score, NEVER))
