"""Pruned RNN-T loss: the joint runs on a few label positions of each frame, not on all.

The method of Kuang et al. 2022, "Pruned RNN-T for fast, memory-efficient ASR training", arXiv
2206.13236, in two passes:

1. **Simple.** The loss of a joiner that only adds (`simple.py`) takes the whole lattice at little
   cost. It is trained beside the real one, and says how probable it is that an alignment takes an
   arc.
2. **Pruned.** In each frame the `s_range` neighbouring label positions that hold most alignments
   are kept. The full joint runs on those [B, T, s_range, V], in chunks of frames; all other arcs
   are log 0.

What is summed is a part of the alignments: the pruned loss is never below the exact one, and equal
to it where the window holds all positions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ...models.layers import mask_frames
from .arcs import check_shapes, classes_of, pick_arcs, pull_arcs
from .joint import Joint, check_sides, open_joint, zeros_wide
from .lattice import lattice_loss
from .simple import simple_loss

_CHUNK_BYTES = {"cpu": 1 << 20}
"""Logits of a chunk of frames in float32, by platform. On a CPU, 0.5 to 1 MiB were fastest."""
_OTHER_CHUNK_BYTES = 32 << 20
"""Elsewhere, matmuls want to be large. Not measured."""


class PrunedLoss(NamedTuple):
    """What `pruned_transducer_loss` returns, each [B]."""

    loss: Array
    """The weighted sum, to be minimised."""
    pruned: Array
    simple: Array


def pruned_transducer_loss(
    encoded: Array,
    predicted: Array,
    joint: Joint,
    am: Array,
    lm: Array,
    labels: ArrayLike,
    encoded_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    s_range: int = 5,
    simple_weight: ArrayLike = 0.5,
    pruned_weight: ArrayLike = 1.0,
    lm_scale: float = 0.25,
    am_scale: float = 0.0,
    fastemit: ArrayLike = 0.0,
    blank: int = 0,
    chunk: int | None = None,
) -> PrunedLoss:
    """Both passes: simple_weight * `simple_loss` + pruned_weight * `pruned_loss` of each row.

    Args:
      encoded, predicted, joint, chunk: as `pruned_loss` takes them.
      am, lm, lm_scale, am_scale: as `simple_loss` takes them; usually two linear heads on encoded
        and predicted.
      labels, encoded_lengths, label_lengths, blank, fastemit: as `transducer_loss` takes them.
      s_range: label positions that are kept of each frame, at least 2.
      simple_weight: also of the gradient that reaches the encoder by way of `am`.
      pruned_weight: small while the simple joiner does not know yet where the labels are.

    Returns:
      Losses [B]. A row whose labels no windows can cover, more than s_range - 1 to a frame, has
      the pruned loss 0 and learns from the simple one alone.

    Raises:
      ValueError: as the parts do.
    """
    simple, occupancies = simple_loss(
        am,
        lm,
        labels,
        encoded_lengths,
        label_lengths,
        blank=blank,
        lm_scale=lm_scale,
        am_scale=am_scale,
        fastemit=fastemit,
    )
    start = pruning_window(*occupancies, encoded_lengths, label_lengths, s_range=s_range)
    pruned = pruned_loss(
        encoded,
        predicted,
        joint,
        start,
        labels,
        encoded_lengths,
        label_lengths,
        s_range=s_range,
        blank=blank,
        fastemit=fastemit,
        chunk=chunk,
    )
    frames, units = jnp.asarray(encoded_lengths), jnp.asarray(label_lengths)
    coverable = (units < s_range) | (units <= frames * (s_range - 1))
    pruned = jnp.where(coverable, pruned, 0.0)
    loss = jnp.asarray(simple_weight) * simple + jnp.asarray(pruned_weight) * pruned
    return PrunedLoss(loss, pruned, simple)


def pruning_window(
    blank_taken: Array,
    label_taken: Array,
    frame_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    s_range: int,
) -> Array:
    """Returns the first label position [B, T] of each frame's window (section 3.2 of the paper).

    An alignment stays inside a window [s, s + s_range) during frame t if it leaves the frame, by a
    blank, from inside, and did not come in during the frame, by the label arc from s - 1 to s. So
    s is taken where the probability of the former less that of the latter is largest; it is that
    of staying inside, less that of crossing the whole window in one frame. Then windows are moved
    so that some alignment lies in them: start[t] <= start[t+1] < start[t] + s_range, start[0] = 0,
    and the last real frame's window ends with the row's last label.

    Args:
      blank_taken, label_taken: [B, T, U+1], the occupancies that `simple_loss` returns.
      frame_lengths: [B], frames of each row, 0 to T.
      label_lengths: [B], labels of each row, 0 to U.
      s_range: width of a window, at least 2; a window of more than U+1 positions has U+1.

    Returns:
      [B, T] int32, at most U+1 - s_range. Where s_range holds all of a row's positions, and in rows
      without frames, it is 0. A row of more than frames * (s_range - 1) labels cannot be covered:
      its windows rise as fast as they may, and end before the last label.

    Raises:
      ValueError: if s_range is below 2.
    """
    if s_range < 2:
        raise ValueError(f"s_range must be at least 2, or no label fits, got {s_range}")
    _, n_frames, width = blank_taken.shape
    if s_range >= width or n_frames == 0:
        return jnp.zeros(blank_taken.shape[:2], jnp.int32)
    frames, units = jnp.asarray(frame_lengths)[:, None], jnp.asarray(label_lengths)[:, None]
    n_starts = width - s_range + 1
    leaves = lax.reduce_window(
        blank_taken, jnp.zeros((), blank_taken.dtype), lax.add, (1, 1, s_range), (1, 1, 1), "valid"
    )
    enters = jnp.pad(label_taken, ((0, 0), (0, 0), (1, 0)))[:, :, :n_starts]
    start = jnp.argmax(leaves - enters, axis=-1).astype(jnp.int32)
    t = jnp.arange(n_frames, dtype=jnp.int32)[None, :]
    final = jnp.where(frames > 0, jnp.clip(units - s_range + 1, 0, n_starts - 1), 0)
    start = jnp.where(t < frames - 1, jnp.minimum(start, final), final).astype(jnp.int32)
    start = lax.cummin(start, axis=1, reverse=True)
    # Too steep a rise is begun earlier: seen from a line of the steepest one, it must not rise.
    steepest = (s_range - 1) * t
    start = lax.cummax(start - steepest, axis=1, reverse=True)
    return jnp.minimum(start, 0) + steepest


def pruned_loss(
    encoded: Array,
    predicted: Array,
    joint: Joint,
    start: Array,
    labels: ArrayLike,
    encoded_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    s_range: int,
    blank: int = 0,
    fastemit: ArrayLike = 0.0,
    chunk: int | None = None,
) -> Array:
    """Returns -log P of each row, summed over the alignments that stay inside the windows.

    Args:
      encoded: [B, T, J], encoder outputs.
      predicted: [B, U+1, J'], prediction network outputs; the first one stands before any label.
      joint: maps [K, 1, 1, J] and [K, 1, s_range, J'] to logits [K, 1, s_range, V], each cell by
        itself, whatever row and place it comes from, and without side effects. Parameters it
        closes over (a merged module's) get their gradient.
      start: [B, T] int, the first position of each frame's window, as `pruning_window` gives it.
      labels: [B, U] int, without blanks and start symbol; U may be 0.
      encoded_lengths: [B], frames of each row, 0 to T. No frames give loss and gradient 0.
      label_lengths: [B], labels of each row, 0 to U.
      s_range: width of a window; one of more than U+1 positions has U+1.
      blank: the blank's class.
      fastemit: the gradient of label arcs is multiplied by 1 + fastemit, the value stays.
      chunk: frames of all rows whose logits are held at a time; None takes as many as make 1 MiB
        on a CPU, 32 MiB elsewhere. Value and gradient do not depend on it beyond rounding.

    Returns:
      [B], float32 (float64 for float64 logits), and so are sums of gradients over chunks. A row
      without an alignment inside its windows gives inf with gradient 0. Padding may hold anything,
      NaN too; its gradient is exactly 0.

    Raises:
      ValueError: if shapes do not fit each other, blank is not a class, or chunk is below 1.
    """
    check_sides(encoded, predicted)
    n_batch, n_frames, _ = encoded.shape
    width = predicted.shape[1]
    kept = min(s_range, width)
    labels, frames, units = map(jnp.asarray, (labels, encoded_lengths, label_lengths))
    if start.shape != (n_batch, n_frames):
        raise ValueError(f"start must be [B, T] = {(n_batch, n_frames)}, got {start.shape}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 frame, got {chunk}")
    if n_frames == 0:
        return jnp.zeros(n_batch, jnp.promote_types(encoded.dtype, jnp.float32))
    encoded = mask_frames(encoded, frames)
    predicted = mask_frames(predicted, units + 1)

    def example(rows: int) -> tuple[Any, Any]:
        return (
            jax.ShapeDtypeStruct((rows, 1, 1, encoded.shape[2]), encoded.dtype),
            jax.ShapeDtypeStruct((rows, 1, kept, predicted.shape[2]), predicted.dtype),
        )

    cell: Any = jax.eval_shape(joint, *example(1))
    if cell.shape[:-1] != (1, 1, kept):
        raise ValueError(
            f"joint must give logits [K, 1, s_range, V], got {cell.shape} for K=1, s_range={kept}"
        )
    n_classes = cell.shape[-1]
    check_shapes(n_batch, width, n_classes, labels, frames, units, blank)
    n_chunks = -(-n_frames // (chunk or _default_chunk(n_batch, kept, n_classes)))
    size = -(-n_frames // n_chunks)
    pure_joint, parameters = open_joint(joint, *example(n_batch * size))

    positions = start[:, :, None] + jnp.arange(kept)[None, None, :]
    classes = jnp.take_along_axis(classes_of(labels, units)[:, None], positions, axis=2)
    chunks = (_into_chunks(x, n_chunks, size) for x in (encoded, positions, classes))
    arcs: Any = _arc_log_probs((pure_joint, blank), *chunks, predicted, parameters)
    log_blank, log_label = (_spread(_from_chunks(x, n_frames), start, width) for x in arcs)
    return lattice_loss(log_blank, log_label, frames, units, fastemit=fastemit)


def _default_chunk(n_batch: int, kept: int, n_classes: int) -> int:
    most = _CHUNK_BYTES.get(jax.default_backend(), _OTHER_CHUNK_BYTES)
    return max(1, most // (4 * n_batch * kept * n_classes))


_Static = tuple[Callable[..., Array], int]  # joint(f, g, *parameters), blank


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _arc_log_probs(
    static: _Static,
    encoded: Array,
    positions: Array,
    classes: Array,
    predicted: Array,
    parameters: list[Any],
) -> tuple[Array, Array]:
    """Returns the log-probabilities of blank and label arcs, each [n, B, t, s_range].

    Of n chunks: encoded [n, B, t, J], positions and classes [n, B, t, s_range]; predicted
    [B, U+1, J'] is whole.
    """
    return _arc_log_probs_fwd(static, encoded, positions, classes, predicted, parameters)[0]


def _arc_log_probs_fwd(
    static: _Static,
    encoded: Array,
    positions: Array,
    classes: Array,
    predicted: Array,
    parameters: list[Any],
):
    joint, blank = static

    def visit(_: None, chunk: tuple[Array, Array, Array]):
        f, at, wanted = chunk
        logits = _window_logits(joint, at)(f, predicted, parameters)
        # The logits are not kept: the backward pass computes them again.
        return None, pick_arcs(logits, _flat(wanted), blank)

    _, (*arcs, normaliser) = lax.scan(visit, None, (encoded, positions, classes))
    log_blank, log_label = (x.reshape(classes.shape) for x in arcs)
    residuals = encoded, positions, classes, predicted, parameters, normaliser
    return (log_blank, log_label), residuals


def _arc_log_probs_bwd(static: _Static, residuals, cotangents: tuple[Array, Array]):
    joint, blank = static
    encoded, positions, classes, predicted, parameters, normaliser = residuals
    shared = predicted, parameters

    def visit(sums, chunk: tuple[Array, ...]):
        f, at, wanted, total, d_blank, d_label = chunk
        logits, pull = jax.vjp(_window_logits(joint, at), f, *shared)
        d_logits = pull_arcs(logits, total, _flat(wanted), blank, d_blank, d_label)
        d_f, *d_shared = pull(d_logits)
        return jax.tree.map(lambda s, d: s + d.astype(s.dtype), sums, tuple(d_shared)), d_f

    d_blank, d_label = (x.reshape(normaliser.shape) for x in cotangents)
    chunks = encoded, positions, classes, normaliser, d_blank, d_label
    sums, d_encoded = lax.scan(visit, zeros_wide(shared), chunks)
    d_shared = jax.tree.map(lambda d, x: d.astype(x.dtype), sums, shared)
    return d_encoded, None, None, *d_shared


_arc_log_probs.defvjp(_arc_log_probs_fwd, _arc_log_probs_bwd)


def _window_logits(joint: Callable[..., Array], positions: Array):
    """Returns the joint of a chunk: [B, t, J] and [B, U+1, J'] -> [B * t, 1, s_range, V]."""

    def logits(encoded: Array, predicted: Array, parameters: list[Any]) -> Array:
        width = predicted.shape[1]
        # By a matmul, whose gradient is one too: that of a gather would be a scatter.
        chosen = positions[..., None] == jnp.arange(width)[None, None, None, :]
        window = jnp.einsum(
            "btsu,buj->btsj",
            chosen.astype(predicted.dtype),
            predicted,
            precision=lax.Precision.HIGHEST,
        )
        f = encoded.reshape(-1, 1, 1, encoded.shape[-1])
        return joint(f, window.reshape(-1, 1, *window.shape[2:]), *parameters)

    return logits


def _flat(x: Array) -> Array:
    """[B, t, s_range] -> [B * t, s_range]."""
    return x.reshape(-1, x.shape[-1])


def _spread(x: Array, start: Array, width: int) -> Array:
    """[B, T, s_range] -> [B, T, U+1], log 0 outside the windows."""
    # Comparisons and a sum fuse into one loop, there and back; a scatter does not.
    offset = jnp.arange(width)[None, None, :] - start[:, :, None]
    here = offset[:, :, None, :] == jnp.arange(x.shape[2])[None, None, :, None]
    spread = jnp.where(here, x[..., None], 0.0).sum(axis=2)
    return jnp.where((offset >= 0) & (offset < x.shape[2]), spread, -jnp.inf)


def _into_chunks(x: Array, n_chunks: int, size: int) -> Array:
    """[B, T, D] -> [n, B, size, D], padded with zeros."""
    n_batch, n_frames, depth = x.shape
    x = jnp.pad(x, ((0, 0), (0, n_chunks * size - n_frames), (0, 0)))
    return x.reshape(n_batch, n_chunks, size, depth).swapaxes(0, 1)


def _from_chunks(x: Array, n_frames: int) -> Array:
    """[n, B, size, D] -> [B, T, D]."""
    x = x.swapaxes(0, 1)
    return x.reshape(x.shape[0], -1, x.shape[-1])[:, :n_frames]
