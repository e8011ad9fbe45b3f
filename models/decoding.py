"""Greedy search: batched, inside one jit, bounded, the same whole or chunk by chunk.

The search loops over labels rather than frames. While a row emits nothing its prediction network
stands still, so one joint product looks at a window of frames at once and the row jumps to the
first that is not blank; and the prediction network runs only after an emission.

Source: Galvez et al. 2024, "Label-looping: highly efficient decoding for transducers",
arXiv 2406.06220.
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
    frame: jax.Array  # [B], the next frame to look at; its length when a row is done
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
    if model.config.joint.durations:
        from .tdt import greedy_tdt

        return greedy_tdt(
            model,
            encoded,
            lengths,
            max_symbols=max_symbols,
            max_tokens=max_tokens,
            state=state,
            window=window,
        )
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
        frames = jnp.take_along_axis(padded, at[:, :, None], axis=1)
        logits = model.joint(frames, search.predicted[:, None, :])
        best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        speaks = (best != BLANK) & (at < lengths[:, None])
        emits = jnp.any(speaks, axis=1)
        first = jnp.argmax(speaks, axis=1)
        tokens = jnp.take_along_axis(best, first[:, None], axis=1)[:, 0]
        chosen = jnp.take_along_axis(logits, first[:, None, None], axis=1)[:, 0]
        logp = jax.nn.log_softmax(chosen.astype(jnp.float32), axis=-1)[rows, tokens]

        found = search.frame + first
        hypotheses = append(
            search.hypotheses, emits, tokens, state.frames + found, logp, rows, capacity
        )
        symbols = jnp.where(first == 0, search.symbols, 0) + 1
        full = symbols >= max_symbols
        stay = emits & ~full
        frame = jnp.where(emits, found + full, search.frame + window)
        frame = jnp.where(hypotheses.counts >= capacity, lengths, jnp.minimum(frame, lengths))
        symbols = jnp.where(stay, symbols, 0)

        def step(carry):
            return where_rows(emits, model.predict_step(tokens, carry[1]), carry)

        predicted, prediction = jax.lax.cond(
            jnp.any(emits), step, lambda carry: carry, (search.predicted, search.prediction)
        )
        return _Search(hypotheses, prediction, predicted, frame, symbols)

    empty = empty_hypotheses(batch, capacity)
    zeros = jnp.zeros((batch,), jnp.int32)
    frame = zeros if capacity else lengths
    search = _Search(empty, state.prediction, state.predicted, frame, zeros)
    search = jax.lax.while_loop(unfinished, advance, search)
    after = DecoderState(search.prediction, search.predicted, state.frames + lengths, state.skip)
    return search.hypotheses, after


def where_rows(rows: jax.Array, new: Any, old: Any) -> Any:
    """`new` in the rows [B] that are true, `old` elsewhere; trees whose leaves are [B, ...]."""
    return jax.tree.map(
        lambda a, b: jnp.where(rows.reshape((-1,) + (1,) * (a.ndim - 1)), a, b), new, old
    )


def empty_hypotheses(batch: int, capacity: int) -> Hypotheses:
    """Room for `capacity` tokens in each row."""
    return Hypotheses(
        tokens=jnp.zeros((batch, capacity), jnp.int32),
        frames=jnp.zeros((batch, capacity), jnp.int32),
        logp=jnp.zeros((batch, capacity), jnp.float32),
        counts=jnp.zeros((batch,), jnp.int32),
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
