"""The loss of token-and-duration transducers.

From a cell (t, u) an arc says a token and how many frames to go on by. With the token's
log-probabilities p and the durations' q,

    alpha[0, 0] = 0
    alpha[t, u] = logsumexp over d of  alpha[t-d, u]   + p_blank[t-d, u]   + q[t-d, u, d]    d > 0
                                       alpha[t-d, u-1] + p_label[t-d, u-1] + q[t-d, u-1, d]
    log P       = logsumexp over d > 0 of alpha[T-d, U] + p_blank[T-d, U] + q[T-d, U, d]

so that an alignment ends with a blank that goes exactly to the end. Every arc leads to a later
diagonal n = t + u, so one `lax.scan` step takes a diagonal of the whole batch, from as many
diagonals before it as the longest arc spans.

Source: Xu et al. 2023, "Efficient sequence transduction by jointly predicting tokens and
durations", arXiv 2304.06795, sections 3.1 and 3.2.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ...models.layers import mask_frames
from .arcs import check_shapes, classes_of, pick_arcs
from .joint import Joint, check_sides

_LOG_ZERO = -1e30
CHUNK_FRAMES = 16
"""Frames whose logits `tdt_transducer_loss` holds at a time."""


def tdt_loss(
    logits: Array,
    labels: ArrayLike,
    logit_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    durations: Sequence[int],
    blank: int = 0,
    sigma: float = 0.0,
) -> Array:
    """Returns -log P(labels | frames) of each row.

    Args:
      logits: [B, T, U+1, V + D], of the tokens and behind them of the durations, not normalised.
      labels: [B, U] int, without blanks and start symbol; U may be 0.
      logit_lengths: [B], frames of each row, 0 to T. No frames give loss and gradient 0.
      label_lengths: [B], labels of each row, 0 to U.
      durations: frames that each of the D classes goes on by, 0 or more, one of them above 0.
      blank: the blank's class.
      sigma: taken off every token's log-probability, so that short ways with few tokens are worth
        more (the paper's section 3.4: 0.05).

    Returns:
      [B], computed in float32 (float64 for float64 logits). What lies outside the lengths may hold
      anything, NaN too; its gradient is 0. A target that no durations reach gives inf with
      gradient 0.

    Raises:
      ValueError: if shapes do not fit each other, or durations lead nowhere.
    """
    if logits.ndim != 4:
        raise ValueError(f"logits must be [B, T, U+1, V + D], got shape {logits.shape}")
    n_batch, n_frames, width, n_outputs = logits.shape
    n_classes = n_outputs - len(durations)
    labels, logit_lengths, label_lengths = map(jnp.asarray, (labels, logit_lengths, label_lengths))
    _check(durations, n_classes)
    check_shapes(n_batch, width, n_classes, labels, logit_lengths, label_lengths, blank)
    if n_frames == 0:
        return jnp.zeros(n_batch, jnp.promote_types(logits.dtype, jnp.float32))
    inside = (jnp.arange(n_frames)[None, :] < logit_lengths[:, None])[:, :, None] & (
        jnp.arange(width)[None, :] <= label_lengths[:, None]
    )[:, None, :]
    logits = jnp.where(inside[..., None], logits, 0.0)
    arcs = _arcs(logits, classes_of(labels, label_lengths), n_classes, blank)
    return _lattice(*arcs, logit_lengths, label_lengths, tuple(durations), sigma)


def tdt_transducer_loss(
    encoded: Array,
    predicted: Array,
    joint: Joint,
    labels: ArrayLike,
    encoded_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    durations: Sequence[int],
    blank: int = 0,
    sigma: float = 0.0,
    chunk: int = CHUNK_FRAMES,
) -> Array:
    """`tdt_loss` of the joint's logits, of which only those of `chunk` frames exist at once.

    Args:
      encoded: [B, T, J], encoder outputs.
      predicted: [B, U+1, J'], prediction network outputs; the first one stands before any label.
      joint: maps [B, t, 1, J] and [B, 1, U+1, J'] to logits [B, t, U+1, V + D].
      labels, encoded_lengths, label_lengths, durations, blank, sigma: as of `tdt_loss`.

    Raises:
      ValueError: as `tdt_loss`.
    """
    check_sides(encoded, predicted)
    n_batch, n_frames, depth = encoded.shape
    width = predicted.shape[1]
    labels, encoded_lengths, label_lengths = map(
        jnp.asarray, (labels, encoded_lengths, label_lengths)
    )
    if n_frames == 0 or n_batch == 0:
        return jnp.zeros(n_batch, jnp.promote_types(encoded.dtype, jnp.float32))
    # Before the joint: NaN there would come back through it as 0 times NaN.
    encoded = mask_frames(encoded, encoded_lengths)
    predicted = mask_frames(predicted, label_lengths + 1)
    classes = classes_of(labels, label_lengths)
    size = min(chunk, n_frames)
    count = -(-n_frames // size)
    padded = jnp.pad(encoded, ((0, 0), (0, count * size - n_frames), (0, 0)))
    parts = padded.reshape(n_batch, count, size, depth).swapaxes(0, 1)

    @jax.checkpoint
    def arcs_of(part: Array) -> tuple[Array, Array, Array]:
        logits = joint(part[:, :, None], predicted[:, None])
        n_classes = logits.shape[-1] - len(durations)
        _check(durations, n_classes)
        check_shapes(n_batch, width, n_classes, labels, encoded_lengths, label_lengths, blank)
        return _arcs(logits, classes, n_classes, blank)

    found = lax.map(arcs_of, parts)

    def joined(x: Array) -> Array:
        x = x.swapaxes(0, 1)
        return x.reshape(n_batch, count * size, *x.shape[3:])[:, :n_frames]

    p_blank, p_label, q = map(joined, found)
    return _lattice(p_blank, p_label, q, encoded_lengths, label_lengths, tuple(durations), sigma)


def _check(durations: Sequence[int], n_classes: int) -> None:
    if not durations or min(durations) < 0 or max(durations) < 1 or n_classes < 1:
        raise ValueError(
            f"durations must be 0 or more frames and one of them above 0, got {tuple(durations)}"
        )


def _arcs(logits: Array, classes: Array, n_classes: int, blank: int) -> tuple[Array, Array, Array]:
    """Log-probabilities of blank and label [B, T, U+1], and of durations [B, T, U+1, D]."""
    p_blank, p_label, _ = pick_arcs(logits[..., :n_classes], classes, blank)
    wide = logits[..., n_classes:].astype(p_blank.dtype)
    return p_blank, p_label, jax.nn.log_softmax(wide, axis=-1)


def _lattice(
    p_blank: Array,
    p_label: Array,
    q: Array,
    frames: Array,
    labels: Array,
    durations: tuple[int, ...],
    sigma: float,
) -> Array:
    """-log P [B] of the arcs' log-probabilities; its gradient goes through the scan."""
    n_batch, n_frames, width = p_blank.shape
    # Seen from where an arc leads to: [D, B, T, W] from the cell it comes from.
    t, u = jnp.arange(n_frames)[None, :, None], jnp.arange(width)[None, None, :]
    last = labels[:, None, None]
    inside = (t < frames[:, None, None]) & (u <= last)
    by_blank = jnp.where(inside, p_blank - sigma, _LOG_ZERO)[..., None] + q
    by_label = jnp.where(inside & (u < last), p_label - sigma, _LOG_ZERO)[..., None] + q
    by_blank = jnp.where(inside[..., None], by_blank, _LOG_ZERO)
    by_label = jnp.where(inside[..., None], by_label, _LOG_ZERO)
    # [N, D, W, B]: diagonal n holds the cells (n - u, u).
    blank_n, label_n = (_diagonals(x) for x in (by_blank, by_label))
    span = max(durations) + 1
    start = jnp.full((span, width, n_batch), _LOG_ZERO, by_blank.dtype)
    first = jnp.where(jnp.arange(width)[:, None] == 0, 0.0, _LOG_ZERO)
    first = jnp.broadcast_to(first, (width, n_batch)).astype(by_blank.dtype)
    n_diagonals = blank_n.shape[0]
    # Arcs out of a diagonal, kept with its alpha until the longest of them has ended.
    zeros = jnp.full((span, len(durations), width, n_batch), _LOG_ZERO, by_blank.dtype)
    numbers = jnp.arange(n_diagonals)

    def advance(carry, inputs):
        past, past_blank, past_label = carry  # of the diagonals n-1, n-2, ...
        n, blank_out, label_out = inputs
        terms = []
        for i, d in enumerate(durations):
            if d:
                terms.append(past[d - 1] + past_blank[d - 1, i])
            moved = past[d] + past_label[d, i]
            terms.append(jnp.pad(moved[:-1], ((1, 0), (0, 0)), constant_values=_LOG_ZERO))
        alpha = jax.nn.logsumexp(jnp.stack(terms), axis=0)
        alpha = jnp.maximum(jnp.where(n == 0, first, alpha), _LOG_ZERO)
        carry = (
            jnp.concatenate([alpha[None], past[:-1]]),
            jnp.concatenate([blank_out[None], past_blank[:-1]]),
            jnp.concatenate([label_out[None], past_label[:-1]]),
        )
        return carry, alpha

    _, alphas = lax.scan(advance, (start, zeros, zeros), (numbers, blank_n, label_n))
    # The cells (T - d, U) and the blank that ends there.
    rows = jnp.arange(n_batch)
    ends = []
    for i, d in enumerate(durations):
        if not d:
            continue
        at = frames - d
        reached = alphas[jnp.clip(at + labels, 0, n_diagonals - 1), labels, rows]
        out = by_blank[rows, jnp.clip(at, 0, n_frames - 1), labels, i]
        ends.append(jnp.where(at >= 0, reached + out, _LOG_ZERO))
    log_p = jax.nn.logsumexp(jnp.stack(ends), axis=0)
    impossible = log_p < 0.5 * _LOG_ZERO
    loss = jnp.where(impossible, jnp.inf, -jnp.where(impossible, 0.0, log_p))
    valid = (frames >= 0) & (frames <= n_frames) & (labels >= 0) & (labels < width)
    loss = jnp.where(frames == 0, 0.0, loss)
    return jnp.where(valid, loss, jnp.nan)


def _diagonals(x: Array) -> Array:
    """[B, T, W, D] -> [T + W - 1, D, W, B]: out[n, :, u] = x[:, n - u, u]; outside, log 0.

    Rows of T + W numbers read again as rows of one fewer: each starts one place further right.
    """
    n_batch, n_frames, width, count = x.shape
    x = x.transpose(2, 1, 3, 0).reshape(width, n_frames, count * n_batch)
    x = jnp.pad(x, ((0, 0), (0, width), (0, 0)), constant_values=_LOG_ZERO)
    x = x.reshape(width * (n_frames + width), count * n_batch)[:-width]
    x = x.reshape(width, n_frames + width - 1, count, n_batch)
    return x.transpose(1, 2, 0, 3)
