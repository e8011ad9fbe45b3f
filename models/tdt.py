"""Greedy search of token-and-duration transducers: with every token comes how far to go on.

The likeliest token and the likeliest duration are taken by themselves. A blank goes on by its
duration and at least by a frame; a label by its duration, which may be 0: then the next token is
looked for at the same frame. As in `decoding.py` one joint product looks at a window of frames, and
a row walks through its blanks without another.

Source: Xu et al. 2023, "Efficient sequence transduction by jointly predicting tokens and
durations", arXiv 2304.06795, section 3.3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .decoding import DecoderState, Hypotheses, append, empty_hypotheses, init_decoder, where_rows
from .transducer import BLANK, Transducer


class _Search(NamedTuple):
    """The loop's carry."""

    hypotheses: Hypotheses
    prediction: Any
    predicted: jax.Array
    frame: jax.Array  # [B], the next frame to look at; at its length or behind when a row is done
    symbols: jax.Array  # [B], emitted at `frame` so far


def greedy_tdt(
    model: Transducer,
    encoded: jax.Array,
    lengths: jax.Array,
    *,
    max_symbols: int = 8,
    max_tokens: int | None = None,
    state: DecoderState | None = None,
    window: int = 4,
) -> tuple[Hypotheses, DecoderState]:
    """`decoding.greedy` for a joint with durations; arguments and results as there."""
    batch, time, _ = encoded.shape
    capacity = time * max_symbols if max_tokens is None else max_tokens
    if state is None:
        state = init_decoder(model, batch)
    window = max(1, min(window, time))
    lengths = lengths.astype(jnp.int32)
    rows = jnp.arange(batch)
    steps = jnp.asarray(model.config.joint.durations, jnp.int32)
    padded = jnp.pad(encoded, ((0, 0), (0, window), (0, 0)))

    def unfinished(search: _Search) -> jax.Array:
        return jnp.any(search.frame < lengths)

    def advance(search: _Search) -> _Search:
        at = search.frame[:, None] + jnp.arange(window)[None, :]
        frames = jnp.take_along_axis(padded, jnp.minimum(at, time)[:, :, None], axis=1)
        logits, durations = model.joiner.with_durations(frames, search.predicted[:, None, :])
        best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        ahead = steps[jnp.argmax(durations, axis=-1)]

        # Where each row's walk from blank to blank ends: at a label, or behind the window.
        place = jnp.zeros(batch, jnp.int32)
        for w in range(window):
            here = (place == w) & (search.frame + w < lengths)
            go = here & (best[:, w] == BLANK)
            place = jnp.where(go, w + jnp.maximum(ahead[:, w], 1), place)
        inside = jnp.minimum(place, window - 1)
        found = search.frame + place
        emits = (place < window) & (found < lengths)
        tokens = best[rows, inside]
        logp = jax.nn.log_softmax(logits[rows, inside].astype(jnp.float32), axis=-1)[rows, tokens]
        hypotheses = append(
            search.hypotheses, emits, tokens, state.frames + found, logp, rows, capacity
        )
        duration = ahead[rows, inside]
        symbols = jnp.where(place == 0, search.symbols, 0) + 1
        full = emits & (duration == 0) & (symbols >= max_symbols)
        duration = jnp.where(full, 1, duration)
        frame = jnp.where(emits, found + duration, found)
        frame = jnp.where(search.frame < lengths, frame, search.frame)
        frame = jnp.where(hypotheses.counts >= capacity, jnp.maximum(frame, lengths), frame)
        symbols = jnp.where(emits & (duration == 0), symbols, 0)

        def step(carry):
            return where_rows(emits, model.predict_step(tokens, carry[1]), carry)

        predicted, prediction = jax.lax.cond(
            jnp.any(emits), step, lambda carry: carry, (search.predicted, search.prediction)
        )
        return _Search(hypotheses, prediction, predicted, frame, symbols)

    empty = empty_hypotheses(batch, capacity)
    # The last jump of the chunk before may have gone into this one, or beyond.
    frame = state.skip if capacity else jnp.maximum(state.skip, lengths)
    zeros = jnp.zeros((batch,), jnp.int32)
    search = _Search(empty, state.prediction, state.predicted, frame, zeros)
    search = jax.lax.while_loop(unfinished, advance, search)
    skip = jnp.maximum(search.frame - lengths, 0)
    after = DecoderState(search.prediction, search.predicted, state.frames + lengths, skip)
    return search.hypotheses, after
