"""RNN-T loss from logits: the level that other toolkits offer, for parity and for small problems.

The joint's logits [B, T, U+1, V] are the largest tensor of a transducer by far. They are read here,
never copied: an arc's log-probability is one logit minus the log-normaliser of its cell, and the
gradient is one elementwise expression of the logits, so that XLA may write it over a donated input.
Training uses `transducer_loss`, which never holds them at all.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from .lattice import lattice_loss


def rnnt_loss(
    logits: Array,
    labels: ArrayLike,
    logit_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    blank: int = 0,
    fastemit: ArrayLike = 0.0,
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
    log_blank, log_label = _arc_log_probs(logits, classes_of(labels, label_lengths), blank)
    return lattice_loss(log_blank, log_label, logit_lengths, label_lengths, fastemit=fastemit)


def check_shapes(
    n_batch: int,
    width: int,
    n_classes: int,
    labels: Array,
    frame_lengths: Array,
    label_lengths: Array,
    blank: int,
) -> None:
    """Raises ValueError unless the arguments of a loss over [B, T, U+1] cells fit each other."""
    if labels.shape != (n_batch, width - 1):
        raise ValueError(
            f"labels must be [B, U] = {(n_batch, width - 1)} for {width} = U+1 label positions,"
            f" got {labels.shape}"
        )
    for name, lengths in (("frame", frame_lengths), ("label", label_lengths)):
        if lengths.shape != (n_batch,):
            raise ValueError(f"{name} lengths must be [B] = {(n_batch,)}, got {lengths.shape}")
    if not 0 <= blank < n_classes:
        raise ValueError(f"blank must be a class from 0 to {n_classes - 1}, got {blank}")


def classes_of(labels: Array, label_lengths: Array) -> Array:
    """Returns the class [B, U+1] of every cell's label arc; 0 where there is no arc."""
    n_batch, n_labels = labels.shape
    if n_labels == 0:
        return jnp.zeros((n_batch, 1), jnp.int32)
    real = jnp.arange(n_labels)[None, :] < label_lengths[:, None]
    return jnp.pad(jnp.where(real, labels, 0), ((0, 0), (0, 1)))


def pick_arcs(logits: Array, classes: Array, blank: int) -> tuple[Array, Array, Array]:
    """Returns log-probabilities of blank and label arcs and the log-normaliser, each [B, T, U+1].

    logits [B, T, U+1, V], classes [B, U+1]. A class out of range gives NaN.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    top = logits.max(axis=-1, keepdims=True)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    normaliser = top[..., 0] + jnp.log(jnp.exp(logits - top).sum(axis=-1))
    # A negative index would count from the end.
    classes = jnp.where(classes < 0, logits.shape[-1], classes)[:, None, :, None]
    label = jnp.take_along_axis(logits, classes, axis=-1, mode="fill")[..., 0]
    return logits[..., blank] - normaliser, label - normaliser, normaliser


def pull_arcs(
    logits: Array,
    normaliser: Array,
    classes: Array,
    blank: int,
    d_blank: Array,
    d_label: Array,
) -> Array:
    """Returns the gradient [B, T, U+1, V] to the logits, from that to the arcs [B, T, U+1].

    d(logit) = d_blank [v is blank] + d_label [v is the label] - (d_blank + d_label) softmax(logit)
    """
    total = (d_blank + d_label)[..., None]
    v = jnp.arange(logits.shape[-1])[None, None, None, :]
    gradient = -total * jnp.exp(logits.astype(normaliser.dtype) - normaliser[..., None])
    gradient += jnp.where(v == blank, d_blank[..., None], 0.0)
    gradient += jnp.where(v == classes[:, None, :, None], d_label[..., None], 0.0)
    # Padding has no part in the loss: exactly 0, even where its logits are NaN.
    touched = ((d_blank != 0) | (d_label != 0))[..., None]
    return jnp.where(touched, gradient, 0.0).astype(logits.dtype)


@jax.custom_vjp
def _arc_log_probs(logits: Array, classes: Array, blank: int) -> tuple[Array, Array]:
    return pick_arcs(logits, classes, blank)[:2]


def _arc_log_probs_fwd(logits: Array, classes: Array, blank: int):
    log_blank, log_label, normaliser = pick_arcs(logits, classes, blank)
    return (log_blank, log_label), (logits, normaliser, classes, blank)


def _arc_log_probs_bwd(residuals, cotangents: tuple[Array, Array]):
    logits, normaliser, classes, blank = residuals
    return pull_arcs(logits, normaliser, classes, blank, *cotangents), None, None


_arc_log_probs.defvjp(_arc_log_probs_fwd, _arc_log_probs_bwd)
