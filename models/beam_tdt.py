"""Beam search of token-and-duration transducers: hypotheses that have gone different ways.

Every hypothesis stands at a frame of its own. In a round, those that stand at the row's earliest
frame go on: each by blank or by a label, and with every duration (a blank at least by one frame).
What comes of them competes with the hypotheses that stand further on, and the best K are kept;
paths that meet in one label sequence at one frame are added up. A label with the duration 0 stays
at the frame for another round, and `max_symbols` rounds after its first a frame is left.

State, results, scorers and commitment are those of `beam.py`; `skip` is how far a hypothesis
stands beyond the frames that were heard.

Source: Xu et al. 2023, "Efficient sequence transduction by jointly predicting tokens and
durations", arXiv 2304.06795; the order of work is a choice of this implementation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .beam_state import (
    NEVER,
    BeamState,
    LiveHypotheses,
    Scorer,
    extra_scores,
    gone_on,
    grow,
    merged,
)
from .beam_tree import Tree, empty_tree, take, top, write
from .decoding import where_rows
from .transducer import BLANK, Transducer


class _Search(NamedTuple):
    """The loop's carry."""

    live: LiveHypotheses
    tree: Tree
    symbols: jax.Array  # [B], rounds spent at the row's earliest frame
    round: jax.Array


def tdt_step(
    model: Transducer,
    encoded: jax.Array,
    lengths: jax.Array,
    state: BeamState,
    *,
    prune: float,
    max_symbols: int,
    scorer: Scorer | None,
) -> BeamState:
    """`beam.beam_step` for a joint with durations; arguments and result as there."""
    batch, time, _ = encoded.shape
    width = state.live.score.shape[1]
    lengths = lengths.astype(jnp.int32)
    steps = jnp.asarray(model.config.joint.durations, jnp.int32)
    padded = jnp.pad(encoded, ((0, 0), (0, 1), (0, 0)))
    rounds = time * (max_symbols + 1)
    rows = jnp.arange(batch)[:, None]

    def earliest(live: LiveHypotheses) -> jax.Array:
        return jnp.where(live.score > NEVER, live.skip, jnp.iinfo(jnp.int32).max).min(axis=1)

    def unfinished(search: _Search) -> jax.Array:
        return jnp.any(earliest(search.live) < lengths) & (search.round < rounds)

    def advance(search: _Search) -> _Search:
        live = search.live
        frame = earliest(live)
        goes = (live.score > NEVER) & (live.skip == frame[:, None])
        goes &= (frame < lengths)[:, None]
        here = padded[rows[:, 0], jnp.minimum(frame, time)]
        logits, durations = model.joiner.with_durations(here[:, None], live.predicted)
        logp = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)  # [B, K, V]
        ahead = jax.nn.log_softmax(durations.astype(jnp.float32), axis=-1)  # [B, K, D]
        extra = extra_scores(model, live, scorer, 0.0)
        labels = (logp if extra is None else logp + extra).at[..., BLANK].set(NEVER)
        base = jnp.where(goes, live.score, NEVER)

        # Hypotheses that stand still, and blanks: [B, K (1 + D)], in the tree nothing new.
        full = search.symbols >= max_symbols
        blank = base[:, :, None] + logp[..., BLANK, None] + ahead
        blank = jnp.where(steps[None, None, :] > 0, blank, NEVER)
        waits = jnp.where(goes, NEVER, live.score)
        old = jnp.concatenate([waits[:, :, None], blank], axis=2).reshape(batch, -1)
        parent = jnp.repeat(jnp.arange(width), 1 + len(steps))[None, :]
        parent = jnp.broadcast_to(parent, old.shape)
        moved = jnp.concatenate([jnp.zeros(1, jnp.int32), steps])
        skip = take(live.skip, parent) + jnp.tile(moved, width)[None, :]
        kept = take(live, parent)._replace(score=old, skip=skip)
        kept = kept._replace(score=merged(old, kept.hash, skip))

        # Labels with each duration, the best K of all.
        label = base[:, :, None] + labels
        best_label, which = top(label.reshape(batch, -1), width)
        of, token = jnp.divmod(which, logp.shape[-1])
        # A frame where too much was said is left.
        leaves = steps[None, None, :] > 0
        allowed = jnp.where(full[:, None, None], leaves, True)
        spoken = best_label[:, :, None] + jnp.where(allowed, take(ahead, of), NEVER)
        spoken, choice = top(spoken.reshape(batch, -1), width)
        slot, duration = jnp.divmod(choice, len(steps))
        of, token = (jnp.take_along_axis(x, slot, axis=1) for x in (of, token))
        floor = jnp.maximum(kept.score.max(axis=1), spoken.max(axis=1))[:, None] - prune
        score = jnp.where(spoken >= floor, spoken, NEVER)
        tree = write(
            search.tree,
            search.round * width,
            parent=jnp.take_along_axis(live.node, of, axis=1),
            token=token,
            frame=state.frames + frame,
            logp=logp[rows, of, token],
        )
        new = jax.lax.cond(
            jnp.any(score > NEVER),
            lambda: grow(model, scorer, live, of, token, score, search.round),
            lambda: live._replace(score=score),
        )
        new = new._replace(skip=take(live.skip, of) + steps[duration])

        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), kept, new)
        both = both._replace(score=merged(both.score, both.hash, both.skip))
        final, order = top(both.score, width)
        after = take(both, order)._replace(score=jnp.where(final >= floor, final, NEVER))
        alive = frame < lengths
        after = where_rows(alive, after, live)
        symbols = jnp.where(earliest(after) == frame, search.symbols + 1, 0)
        return _Search(after, tree, symbols, search.round + 1)

    tree = empty_tree(batch, rounds * width)
    zeros = jnp.zeros((batch,), jnp.int32)
    search = _Search(state.live, tree, zeros, jnp.zeros((), jnp.int32))
    search = jax.lax.while_loop(unfinished, advance, search)
    return gone_on(state, search.live, search.tree, lengths, capacity=rounds)
