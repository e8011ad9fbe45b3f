"""Greedy search: batched, inside one jit, bounded, the same whole or chunk by chunk.

The search loops over labels rather than frames. While a row emits nothing its prediction network
stands still, so one joint product looks at a window of frames at once and the row walks through its
blanks to the first frame that is not; and the prediction network runs only after an emission.

Where a joint has durations, the likeliest token and the likeliest duration are taken by themselves.
A blank goes on by its duration and at least by a frame; a label by its duration, which may be 0:
then the next token is looked for at the same frame. Without durations, a blank goes on by one frame
and a label stays.

Sources: Galvez et al. 2024, "Label-looping: highly efficient decoding for transducers", arXiv
2406.06220; Xu et al. 2023, "Efficient sequence transduction by jointly predicting tokens and
durations", arXiv 2304.06795, section 3.3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .transducer import BLANK, Transducer


class Hypotheses(NamedTuple):
    """Emitted tokens; of each row the first `counts` entries count, the rest are 0."""

    tokens: jax.Array  # [B, N] int32
    frames: jax.Array  # [B, N] int32, encoder frame of the emission, from the stream's start
    logp: jax.Array  # [B, N] float32, log-probability of the token where it was emitted
    counts: jax.Array  # [B] int32


class DecoderState(NamedTuple):
    """What decoding carries from one chunk of a stream to the next."""

    prediction: Any  # the prediction network's state after the labels so far
    predicted: jax.Array  # [B, J], its output
    frames: jax.Array  # [B] int32, encoder frames consumed
    skip: jax.Array  # [B] int32, frames to come that a duration has gone over already


class _Search(NamedTuple):
    """The loop's carry."""

    hypotheses: Hypotheses
    prediction: Any
    predicted: jax.Array
    frame: jax.Array  # [B], the next frame to look at; at its length or behind when a row is done
    symbols: jax.Array  # [B], emitted at `frame` so far


def init_decoder(model: Transducer, batch: int) -> DecoderState:
    """The state of `batch` streams before their first frame."""
    start = jnp.full((batch,), BLANK, jnp.int32)
    predicted, prediction = model.predict_step(start, model.init_prediction(batch))
    zeros = jnp.zeros((batch,), jnp.int32)
    return DecoderState(prediction, predicted, zeros, zeros)


def greedy(
    model: Transducer,
    encoded: jax.Array,
    lengths: jax.Array,
    *,
    max_symbols: int = 8,
    max_tokens: int | None = None,
    state: DecoderState | None = None,
    window: int = 4,
) -> tuple[Hypotheses, DecoderState]:
    """Takes the likeliest token at every step.

    Args:
      encoded: [B, T, J].
      lengths: [B], frames that count.
      max_symbols: tokens that one frame may emit.
      max_tokens: tokens that a row may emit in this call, N; a row that has them skips the rest of
        its frames. None: as many as `max_symbols` allows.
      state: where to go on from; None is the start. Chunk by chunk gives what the whole gives.
      window: frames that one joint product looks at. Changes speed only.

    Returns:
      `(Hypotheses of this call, the state after the last frame)`.
    """
    batch, time, _ = encoded.shape
    capacity = time * max_symbols if max_tokens is None else max_tokens
    if state is None:
        state = init_decoder(model, batch)
    window = max(1, min(window, time))
    lengths = lengths.astype(jnp.int32)
    rows = jnp.arange(batch)
    # A window may begin at any frame and must not be clamped back from the end.
    padded = jnp.pad(encoded, ((0, 0), (0, window), (0, 0)))

    def unfinished(search: _Search) -> jax.Array:
        return jnp.any(search.frame < lengths)

    def advance(search: _Search) -> _Search:
        at = search.frame[:, None] + jnp.arange(window)[None, :]
        frames = jnp.take_along_axis(padded, jnp.minimum(at, time)[:, :, None], axis=1)
        logits, ahead = _heads(model, frames, search.predicted[:, None, :])
        best = jnp.argmax(logits, axis=-1).astype(jnp.int32)

        # Where each row's walk from blank to blank ends: at a label, at its length, or behind the
        # window.
        place = jnp.zeros(batch, jnp.int32)
        for w in range(window):
            here = (place == w) & (search.frame + w < lengths)
            go = here & (best[:, w] == BLANK)
            on = 1 if ahead is None else jnp.maximum(ahead[:, w], 1)
            place = jnp.where(go, w + on, place)
        inside = jnp.minimum(place, window - 1)
        found = search.frame + place
        emits = (place < window) & (found < lengths)
        tokens = best[rows, inside]
        logp = jax.nn.log_softmax(logits[rows, inside].astype(jnp.float32), axis=-1)[rows, tokens]
        hypotheses = append(
            search.hypotheses, emits, tokens, state.frames + found, logp, rows, capacity
        )

        duration = jnp.zeros(batch, jnp.int32) if ahead is None else ahead[rows, inside]
        symbols = jnp.where(place == 0, search.symbols, 0) + 1
        stays = emits & (duration == 0)
        full = stays & (symbols >= max_symbols)
        frame = jnp.where(emits, found + jnp.where(full, 1, duration), found)
        frame = jnp.where(hypotheses.counts >= capacity, jnp.maximum(frame, lengths), frame)
        symbols = jnp.where(stays & ~full, symbols, 0)

        def step(carry):
            return where_rows(emits, model.predict_step(tokens, carry[1]), carry)

        predicted, prediction = jax.lax.cond(
            jnp.any(emits), step, lambda carry: carry, (search.predicted, search.prediction)
        )
        return _Search(hypotheses, prediction, predicted, frame, symbols)

    empty = empty_hypotheses((batch,), capacity)
    # The last jump of the chunk before may have gone into this one, or beyond.
    frame = state.skip if capacity else jnp.maximum(state.skip, lengths)
    zeros = jnp.zeros((batch,), jnp.int32)
    search = _Search(empty, state.prediction, state.predicted, frame, zeros)
    search = jax.lax.while_loop(unfinished, advance, search)
    skip = jnp.maximum(search.frame - lengths, 0)
    after = DecoderState(search.prediction, search.predicted, state.frames + lengths, skip)
    return search.hypotheses, after


def _heads(
    model: Transducer, encoded: jax.Array, predicted: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """(logits [B, W, V], frames [B, W] that the likeliest durations go on by; None without)."""
    if not model.config.joint.durations:
        return model.joint(encoded, predicted), None
    logits, durations = model.joiner.with_durations(encoded, predicted)
    steps = jnp.asarray(model.config.joint.durations, jnp.int32)
    return logits, steps[jnp.argmax(durations, axis=-1)]


def where_rows(rows: jax.Array, new: Any, old: Any) -> Any:
    """`new` in the rows [B] that are true, `old` elsewhere; trees whose leaves are [B, ...], or
    [B * channels, ...] where a channel's rows follow their row."""

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        chosen = jnp.repeat(rows, a.shape[0] // rows.shape[0])
        return jnp.where(chosen.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


def empty_hypotheses(rows: tuple[int, ...], capacity: int) -> Hypotheses:
    """Room for `capacity` tokens in each row of leaves [*rows, capacity]."""
    numbers = jnp.zeros((*rows, capacity), jnp.int32)
    return Hypotheses(
        tokens=numbers,
        frames=numbers,
        logp=jnp.zeros((*rows, capacity), jnp.float32),
        counts=jnp.zeros(rows, jnp.int32),
    )


def append(
    hypotheses: Hypotheses,
    emits: jax.Array,
    tokens: jax.Array,
    frames: jax.Array,
    logp: jax.Array,
    rows: jax.Array,
    capacity: int,
) -> Hypotheses:
    """Writes one entry to each row that emits."""
    # A row that does not emit writes outside the array, which drops the entry.
    at = jnp.where(emits, hypotheses.counts, capacity)
    return Hypotheses(
        tokens=hypotheses.tokens.at[rows, at].set(tokens, mode="drop"),
        frames=hypotheses.frames.at[rows, at].set(frames, mode="drop"),
        logp=hypotheses.logp.at[rows, at].set(logp, mode="drop"),
        counts=hypotheses.counts + emits,
    )
