"""Arcs of the transducer's lattice: their log-probabilities from logits, and back.

A cell (t, u) has two arcs, blank and the next label; only their two log-probabilities enter the
lattice. Each is one logit minus the cell's log-normaliser, so no log-softmax is built, and the
gradient is one elementwise expression of the logits.

With `hat`, blank is a class of its own (Variani et al. 2020, "Hybrid autoregressive transducer",
arXiv 2003.07705):

    P(blank) = sigmoid(z[blank])        P(v) = (1 - P(blank)) softmax(z without blank)[v]
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Window = tuple[ArrayLike, ArrayLike]
"""First and last frame [B, U] at which each label may be emitted."""


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


def pick_arcs(
    logits: Array, classes: Array, blank: int, hat: bool = False
) -> tuple[Array, Array, Array]:
    """Returns log-probabilities of blank and label arcs and the log-normaliser, each [B, T, U+1].

    logits [B, T, U+1, V], classes [B, U+1]. A class out of range gives NaN.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    of_blank = logits[..., blank]
    if hat:
        logits = jnp.where(_is(blank, logits), -jnp.inf, logits)
    top = logits.max(axis=-1, keepdims=True)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    normaliser = top[..., 0] + jnp.log(jnp.exp(logits - top).sum(axis=-1))
    # A negative index would count from the end.
    classes = jnp.where(classes < 0, logits.shape[-1], classes)[:, None, :, None]
    label = jnp.take_along_axis(logits, classes, axis=-1, mode="fill")[..., 0]
    if hat:
        return (
            jax.nn.log_sigmoid(of_blank),
            jax.nn.log_sigmoid(-of_blank) + label - normaliser,
            normaliser,
        )
    return of_blank - normaliser, label - normaliser, normaliser


def pull_arcs(
    logits: Array,
    normaliser: Array,
    classes: Array,
    blank: int,
    d_blank: Array,
    d_label: Array,
    hat: bool = False,
) -> Array:
    """Returns the gradient [B, T, U+1, V] to the logits, from that to the arcs [B, T, U+1].

    d(logit) = d_blank [v is blank] + d_label [v is the label] - (d_blank + d_label) softmax(logit)

    and with `hat`, p being the probability of blank,

    d(logit) = d_label ([v is the label] - softmax(logits without blank)), and for blank's
               d_blank (1 - p) - d_label p
    """
    wide = logits.astype(normaliser.dtype)
    of_blank = d_blank
    total = d_label if hat else d_blank + d_label
    # Where every class is ruled out, exp(-inf + inf) would be no number.
    normaliser = jnp.where(jnp.isneginf(normaliser), 0.0, normaliser)
    gradient = -total[..., None] * jnp.exp(wide - normaliser[..., None])
    gradient += jnp.where(_is(classes[:, None, :, None], logits), d_label[..., None], 0.0)
    if hat:
        p = jax.nn.sigmoid(wide[..., blank])
        of_blank = d_blank * (1 - p) - d_label * p
        gradient = jnp.where(_is(blank, logits), 0.0, gradient)
    gradient += jnp.where(_is(blank, logits), of_blank[..., None], 0.0)
    # Padding has no part in the loss: exactly 0, even where its logits are NaN.
    touched = ((d_blank != 0) | (d_label != 0))[..., None]
    return jnp.where(touched, gradient, 0.0).astype(logits.dtype)


def _is(v: int | Array, logits: Array) -> Array:
    """Where the class axis of `logits` is at class v."""
    classes = jnp.arange(logits.shape[-1]).reshape((1,) * (logits.ndim - 1) + (-1,))
    return classes == v


def penalised(
    log_label: Array,
    frame_lengths: Array,
    *,
    delay_penalty: ArrayLike = 0.0,
    label_penalties: ArrayLike | None = None,
    window: Window | None = None,
) -> Array:
    """Returns the label arcs [B, T, U+1] with what a recipe adds to them.

    Args:
      log_label: [B, T, U+1]; the last column is not an arc.
      frame_lengths: [B].
      delay_penalty: lambda ((T - 1) / 2 - t) is added to every label arc, T being the row's length
        (Kang et al. 2022, arXiv 2211.00490). It stops a model that has not learned anything
        yet from learning: switch it on later.
      label_penalties: [B, T, U], nats taken off each label arc: a penalty for a turn marker that
        comes late, for example.
      window: label u is emitted from frame `first[b, u]` to `last[b, u]` or not at all (alignment
        restriction, Mahadeokar et al. 2020, arXiv 2011.03072); frames are brought into the row.

    Raises:
      ValueError: if a shape does not fit.
    """
    n_batch, n_frames, width = log_label.shape
    t = jnp.arange(n_frames)[None, :, None]
    frames = frame_lengths[:, None, None]
    if isinstance(delay_penalty, Array) or delay_penalty:
        log_label = log_label + jnp.asarray(delay_penalty, log_label.dtype) * (
            (frames - 1).astype(log_label.dtype) / 2 - t.astype(log_label.dtype)
        )
    if label_penalties is not None:
        penalties = jnp.asarray(label_penalties, log_label.dtype)
        if penalties.shape != (n_batch, n_frames, width - 1):
            raise ValueError(
                f"label_penalties must be [B, T, U] = {(n_batch, n_frames, width - 1)},"
                f" got {penalties.shape}"
            )
        log_label = log_label - jnp.pad(penalties, ((0, 0), (0, 0), (0, 1)))
    if window is not None:
        first, last = (jnp.asarray(side) for side in window)
        if not first.shape == last.shape == (n_batch, width - 1):
            raise ValueError(
                f"window must be two arrays [B, U] = {(n_batch, width - 1)},"
                f" got {first.shape} and {last.shape}"
            )
        end = frame_lengths[:, None] - 1
        first, last = (
            jnp.pad(jnp.clip(side, 0, end), ((0, 0), (0, 1)))[:, None] for side in (first, last)
        )
        log_label = jnp.where((t >= first) & (t <= last), log_label, -jnp.inf)
    return log_label


def alignment_window(alignment: ArrayLike, left: int, right: int) -> Window:
    """The window of labels that a forced alignment puts at frames [B, U]: `left` frames earlier to
    `right` frames later."""
    alignment = jnp.asarray(alignment)
    return alignment - left, alignment + right
