"""A transducer of random weights that speaks as often as people do.

By themselves random weights do not: with blank's bias set such that four tokens come in a second on
average, one row of eight says all of them, eight in every frame, and search goes on as long as that
row. Here all is computed as the model computes it, and then blank's logit follows a timetable, in
which tokens come evenly and rows take turns. What the tokens are is left to the weights.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..models.cost import LABELS_PER_SECOND
from ..models.transducer import BLANK, StreamState, Transducer

_TURN = (5**0.5 - 1) / 2
"""Of a period, between a row and the next: the golden ratio, so that no rows fall together."""
_SURE = 30.0


class TimetableTransducer(Transducer):
    """`LABELS_PER_SECOND` tokens a second, at most one in a frame.

    The encoder's frames carry one channel more, how many tokens are due by then; what the
    prediction network gives carries how many there were.
    """

    def encode(
        self, x: jax.Array, lengths: jax.Array, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        encoded, lengths = super().encode(x, lengths, key=key)
        return self._with_due(encoded, jnp.zeros(len(encoded), jnp.int32)), lengths

    def init_stream(self, batch: int) -> StreamState:
        frontend, encoder = super().init_stream(batch)
        return StreamState(frontend, (encoder, jnp.zeros(batch, jnp.int32)))

    def stream_step(self, samples: jax.Array, state: StreamState) -> tuple[jax.Array, StreamState]:
        encoder, heard = state.encoder
        encoded, after = super().stream_step(samples, StreamState(state.frontend, encoder))
        encoder = (after.encoder, heard + encoded.shape[1])
        return self._with_due(encoded, heard), StreamState(after.frontend, encoder)

    def init_prediction(self, batch: int) -> Any:
        return super().init_prediction(batch), jnp.zeros(batch)

    def predict_step(self, tokens: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        predicted, inner = super().predict_step(tokens, state[0])
        spoken = state[1] + (tokens != BLANK)
        return jnp.concatenate([predicted, spoken[:, None]], axis=1), (inner, spoken)

    def joint(self, encoded: jax.Array, predicted: jax.Array) -> jax.Array:
        logits = super().joint(encoded[..., :-1], predicted[..., :-1])
        due = encoded[..., -1:] > predicted[..., -1:]
        return logits.at[..., BLANK].set(jnp.where(due, -_SURE, _SURE)[..., 0])

    def _with_due(self, encoded: jax.Array, heard: jax.Array) -> jax.Array:
        """Frames [B, T, J] that come after `heard` [B] others, with their channel."""
        rows, frames, _ = encoded.shape
        phase = (_TURN * np.arange(rows) % 1.0).astype(np.float32)
        ends = heard[:, None] + jnp.arange(1, frames + 1)[None, :]
        due = jnp.floor(ends * (LABELS_PER_SECOND * self.frame_s) + phase[:, None])
        return jnp.concatenate([encoded, due[:, :, None]], axis=2)
