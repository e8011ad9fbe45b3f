"""What every hypothesis of a beam could say next: the joint, for those that exist.

Most of a beam's places are empty most of the time, rows that are done have none at all, and a row
that is in the middle of a frame looks at that frame alone. On two CPU cores, of the products of
hypotheses and frames of a window that a batch has room for, about a fifth is needed. Those are
gathered into the smallest of a few fixed sizes, and what was found is put back in its place.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .beam_state import NEVER
from .beam_tree import smallest_that_holds, top
from .transducer import BLANK, Transducer


class Look(NamedTuple):
    """At each row's window of frames, and at the first of them where a label could matter."""

    speaks: jax.Array  # [B], whether there is such a frame
    first: jax.Array  # [B], which one
    before: jax.Array  # [B, K], scores on arriving there with nothing said
    leaving: jax.Array  # [B, K], scores with nothing said there either
    waited: jax.Array  # [B, K], scores after the whole window with nothing said
    labels: jax.Array  # [B, K, N], log-probabilities of the best labels there, best first
    tokens: jax.Array  # [B, K, N], which labels they are
    spoken: jax.Array  # [B, K, N], log-probabilities without what scorers add


def look(
    model: Transducer,
    padded: jax.Array,
    frame: jax.Array,
    lengths: jax.Array,
    amid: jax.Array,
    score: jax.Array,
    predicted: jax.Array,
    extra: jax.Array | None,
    *,
    window: int,
    count: int,
    prune: float,
) -> Look:
    """Looks at the next frames with every hypothesis.

    Args:
      padded: [B, T + window, J], encoded frames.
      frame: [B], the frame at which each row stands; lengths: [B].
      amid: [B], whether the row has said something at its frame already.
      score: [B, K], -inf where there is no hypothesis; predicted: [B, K, J].
      extra: [B, K, V], what is added to the log-probabilities of labels.
      window: frames that are looked at.
      count: best labels that are listed, N.
      prune: a label matters where it ends no further behind the best, in nats.
    """
    batch, width = score.shape
    ahead = jnp.arange(window)
    at = frame[:, None] + ahead[None, :]
    there = at < lengths[:, None]
    exists = there & (~amid[:, None] | (ahead == 0)[None, :])
    exists = exists[:, None, :] & (score > NEVER)[:, :, None]
    shape = (batch, width, window)
    room = batch * width * window
    frames = padded.reshape(-1, padded.shape[-1])
    heads = predicted.reshape(-1, predicted.shape[-1])
    added = None if extra is None else extra.reshape(batch * width, -1)

    def among(size: int) -> Look:
        pair = jnp.nonzero(exists.reshape(-1), size=size, fill_value=room)[0]
        inside = jnp.minimum(pair, room - 1)
        hypothesis = inside // window
        row = hypothesis // width
        moment = row * padded.shape[1] + frame[row] + inside % window
        logits = model.joint(frames[moment], heads[hypothesis])
        logp = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)  # [size, V]
        labels = (logp if added is None else logp + added[hypothesis]).at[:, BLANK].set(NEVER)

        def back(values: jax.Array, empty: float) -> jax.Array:
            whole = jnp.full((room,), empty, values.dtype)
            return whole.at[pair].set(values, mode="drop").reshape(shape)

        blank = back(logp[:, BLANK], 0.0)
        silent = jnp.cumsum(blank, axis=-1)
        before = score[:, :, None] + silent - blank
        reach = before + back(labels.max(axis=-1), NEVER)
        leader = jnp.maximum(before + blank, reach).max(axis=1)
        matters = (reach.max(axis=1) >= leader - prune) & there
        matters = jnp.where(amid[:, None], (ahead == 0)[None, :], matters)
        speaks = matters.any(axis=1)
        first = jnp.argmax(matters, axis=1)

        def at_first(x: jax.Array) -> jax.Array:
            return x[jnp.arange(batch), :, first]

        # Of the pairs, those at such a frame: at most one a hypothesis.
        chosen = (inside % window == first[row]) & speaks[row] & (pair < room)
        few = min(size, batch * width)
        which = jnp.nonzero(chosen, size=few, fill_value=size)[0]
        clipped = jnp.minimum(which, size - 1)
        best, tokens = top(labels[clipped], count)
        owner = jnp.where(which < size, hypothesis[clipped], batch * width)

        def listed(values: jax.Array, empty: float) -> jax.Array:
            whole = jnp.full((batch * width, count), empty, values.dtype)
            return whole.at[owner].set(values, mode="drop").reshape(batch, width, count)

        return Look(
            speaks,
            first,
            at_first(before),
            at_first(before) + at_first(blank),
            score + silent[..., -1],
            listed(best, NEVER),
            listed(tokens, 0),
            listed(jnp.take_along_axis(logp[clipped], tokens, axis=1), 0.0),
        )

    return smallest_that_holds(exists.sum(), room, among)
