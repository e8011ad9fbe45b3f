"""What the separator-transducer-segmenter's loss adds to the transducer's: turn markers that come
late are penalised, and each channel is to know when somebody speaks on it.

Source: Sklyar et al. 2022, arXiv 2205.05199.
"""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ..recipe import TurnLossConfig


def emission_times(frames: int, frame_s: float) -> jax.Array:
    """Seconds [T] at which a token of each encoder frame leaves: when the frame has been heard."""
    return (jnp.arange(frames) + 1.0) * frame_s


def marker_penalties(
    config: TurnLossConfig, times: jax.Array, frames: int, frame_s: float, step: ArrayLike
) -> jax.Array:
    """Nats [B, T, U] to take off the label arcs, for `transducer_loss`'s `label_penalties`.

        min(cap, late max(0, t - reference - buffer)) + early max(0, reference - t)

    Args:
      times: [B, U], seconds at which a marker should come; NaN for labels that have no penalty.
      frames: T, encoder frames of `frame_s` seconds.
      step: nothing is penalised before `config.late_after`.
    """
    after = emission_times(frames, frame_s)[None, :, None] - times[:, None, :]
    late = jnp.minimum(config.cap, config.late * jnp.maximum(after - config.buffer, 0.0))
    early = config.early * jnp.maximum(-after, 0.0)
    on = ~jnp.isnan(after) & (jnp.asarray(step) >= config.late_after)
    return jnp.where(on, late + early, 0.0)


def activity_targets(spans: jax.Array, frames: int, frame_s: float) -> jax.Array:
    """Whether somebody speaks in the middle of each frame, [B, T] as 0 or 1.

    spans: [B, K, 2], start and end of turns in seconds; NaN where there are fewer.
    """
    middle = ((jnp.arange(frames) + 0.5) * frame_s)[None, :, None]
    inside = (spans[:, None, :, 0] <= middle) & (middle < spans[:, None, :, 1])
    return inside.any(axis=-1).astype(jnp.float32)


def activity_loss(
    logits: jax.Array, spans: jax.Array, lengths: jax.Array, frame_s: float
) -> jax.Array:
    """Binary cross entropy of speech activity, summed over the frames of each row: [B].

    Args:
      logits: [B, T].
      spans: as `activity_targets` has them.
      lengths: [B], frames that count.
    """
    frames = logits.shape[1]
    targets = activity_targets(spans, frames, frame_s)
    within = jnp.arange(frames)[None, :] < lengths[:, None]
    logits = jnp.where(within, logits.astype(jnp.float32), 0.0)
    return jnp.where(within, optax.sigmoid_binary_cross_entropy(logits, targets), 0.0).sum(axis=1)
