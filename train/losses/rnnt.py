"""RNN-T loss from logits: the level that other toolkits offer, for parity and for small problems.

The joint's logits [B, T, U+1, V] are the largest tensor of a transducer by far. They are read here,
never copied: an arc's log-probability is one logit minus the log-normaliser of its cell, and the
gradient is one elementwise expression of the logits, so that XLA may write it over a donated input.
Training uses `transducer_loss`, which never holds them at all.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from .arcs import Window, check_shapes, classes_of, penalised, pick_arcs, pull_arcs
from .lattice import lattice_loss


def rnnt_loss(
    logits: Array,
    labels: ArrayLike,
    logit_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    blank: int = 0,
    fastemit: ArrayLike = 0.0,
    delay_penalty: ArrayLike = 0.0,
    label_penalties: ArrayLike | None = None,
    window: Window | None = None,
    hat: bool = False,
) -> Array:
    """Returns -log P(labels | frames) of each row (Graves 2012, arXiv 1211.3711).

    Args:
      logits: [B, T, U+1, V], the joint's output, not normalised.
      labels: [B, U] int, without blanks and start symbol; U may be 0.
      logit_lengths: [B], frames of each row, 0 to T. No frames give loss and gradient 0.
      label_lengths: [B], labels of each row, 0 to U. More labels than frames are legal.
      blank: the blank's class.
      fastemit: the gradient of label arcs is multiplied by 1 + fastemit, the value stays
        (FastEmit, arXiv 2010.11148). Usually 0.001 to 0.03.
      delay_penalty, label_penalties, window: what is added to label arcs, see `penalised`. The
        value is then no longer a log-probability of the model's.
      hat: blank's logit is a sigmoid of its own, see `arcs`.

    Returns:
      [B], computed in float32 (float64 for float64 logits). Logits and labels outside the lengths
      may hold anything, NaN too; their gradient is exactly 0. A target of probability zero gives
      inf with gradient 0. Lengths or labels out of range give NaN.

    Raises:
      ValueError: if shapes do not fit each other, or blank is not a class.
    """
    if logits.ndim != 4:
        raise ValueError(f"logits must be [B, T, U+1, V], got shape {logits.shape}")
    n_batch, n_frames, width, n_classes = logits.shape
    labels, logit_lengths, label_lengths = map(jnp.asarray, (labels, logit_lengths, label_lengths))
    check_shapes(n_batch, width, n_classes, labels, logit_lengths, label_lengths, blank)
    if n_frames == 0:
        return jnp.zeros(n_batch, jnp.promote_types(logits.dtype, jnp.float32))
    arcs: Any = _arc_log_probs(logits, classes_of(labels, label_lengths), blank, hat)
    log_blank, log_label = arcs
    log_label = penalised(
        log_label,
        logit_lengths,
        delay_penalty=delay_penalty,
        label_penalties=label_penalties,
        window=window,
    )
    return lattice_loss(log_blank, log_label, logit_lengths, label_lengths, fastemit=fastemit)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _arc_log_probs(logits: Array, classes: Array, blank: int, hat: bool) -> tuple[Array, Array]:
    return pick_arcs(logits, classes, blank, hat)[:2]


def _arc_log_probs_fwd(logits: Array, classes: Array, blank: int, hat: bool):
    log_blank, log_label, normaliser = pick_arcs(logits, classes, blank, hat)
    return (log_blank, log_label), (logits, normaliser, classes)


def _arc_log_probs_bwd(blank: int, hat: bool, residuals, cotangents: tuple[Array, Array]):
    logits, normaliser, classes = residuals
    return pull_arcs(logits, normaliser, classes, blank, *cotangents, hat=hat), None


_arc_log_probs.defvjp(_arc_log_probs_fwd, _arc_log_probs_bwd)
