"""RNN-T loss from encoder and prediction outputs: the logits [B, T, U+1, V] never exist at once.

The joint runs on a few frames at a time. Forward, only the two log-probabilities of each cell and
its log-normaliser leave a chunk, [B, T, U+1] each; backward, each chunk's logits are computed
again, turned into their gradient, and pulled through the joint. The joint's matmuls are paid four
times instead of three; in exchange memory is that of one chunk, and what is worked on stays in the
cache.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from .lattice import lattice_loss
from .rnnt import check_shapes, classes_of, pick_arcs, pull_arcs

Joint = Callable[[Array, Array], Array]

# Logits of one chunk, in float32. The backward pass holds about three times as much.
CHUNK_BYTES = 2 << 20


def transducer_loss(
    encoded: Array,
    predicted: Array,
    joint: Joint,
    labels: ArrayLike,
    encoded_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    blank: int = 0,
    fastemit: ArrayLike = 0.0,
    chunk: int | None = None,
) -> Array:
    """Returns -log P(labels | frames) of each row: `rnnt_loss` of the joint's logits.

    Args:
      encoded: [B, T, J], encoder outputs.
      predicted: [B, U+1, J'], prediction network outputs; the first one stands before any label.
      joint: maps [B, t, 1, J] and [B, 1, U+1, J'] to logits [B, t, U+1, V], each cell by itself
        and without side effects. Parameters it closes over (a merged module's) get their gradient.
      labels: [B, U] int, without blanks and start symbol; U may be 0.
      encoded_lengths: [B], frames of each row, 0 to T. No frames give loss and gradient 0.
      label_lengths: [B], labels of each row, 0 to U. More labels than frames are legal.
      blank: the blank's class.
      fastemit: the gradient of label arcs is multiplied by 1 + fastemit, the value stays.
      chunk: frames whose logits are held at a time; None takes `default_chunk` of the shapes seen
        here. Value and gradient do not depend on it beyond rounding.

    Returns:
      [B], as `rnnt_loss` does; the lattice is computed in float32 also for bfloat16 logits
      (float64 for float64), and so are sums of gradients over chunks. Padding may hold anything,
      NaN too; its gradient is exactly 0.

    Raises:
      ValueError: if shapes do not fit each other, blank is not a class, or chunk is below 1.
    """
    if encoded.ndim != 3 or predicted.ndim != 3:
        raise ValueError(
            "encoded must be [B, T, J] and predicted [B, U+1, J],"
            f" got {encoded.shape} and {predicted.shape}"
        )
    n_batch, n_frames, _ = encoded.shape
    width = predicted.shape[1]
    labels, encoded_lengths, label_lengths = map(
        jnp.asarray, (labels, encoded_lengths, label_lengths)
    )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 frame, got {chunk}")
    if n_frames == 0:
        return jnp.zeros(n_batch, jnp.promote_types(encoded.dtype, jnp.float32))
    cell: Any = jax.eval_shape(joint, encoded[:, :1, None], predicted[:, None])
    if cell.shape[:-1] != (n_batch, 1, width):
        raise ValueError(
            f"joint must give logits [B, t, U+1, V], got {cell.shape} for B={n_batch}, t=1,"
            f" U+1={width}"
        )
    n_classes = cell.shape[-1]
    check_shapes(n_batch, width, n_classes, labels, encoded_lengths, label_lengths, blank)
    size = min(chunk or default_chunk(n_batch, n_frames, width, n_classes), n_frames)
    # Parameters the joint closes over become arguments, so that a gradient can reach them.
    converted: Any = jax.closure_convert(joint, encoded[:, :size, None], predicted[:, None])
    pure_joint, parameters = converted
    arcs: Any = _arc_log_probs(
        (pure_joint, blank, size),
        encoded,
        predicted,
        parameters,
        classes_of(labels, label_lengths),
        encoded_lengths,
        label_lengths,
    )
    log_blank, log_label = arcs
    return lattice_loss(log_blank, log_label, encoded_lengths, label_lengths, fastemit=fastemit)


def default_chunk(n_batch: int, n_frames: int, width: int, n_classes: int) -> int:
    """Returns the frames of a chunk: as many as `CHUNK_BYTES` of logits hold, evened out over T.

    Shapes under `jit` are those of the whole batch, whatever mesh it lies on: for a batch split
    over many devices, pass one device's share of it here, and the result as `chunk`.
    """
    frame_bytes = max(1, 4 * n_batch * width * n_classes)
    most = max(1, min(CHUNK_BYTES // frame_bytes, n_frames))
    n_chunks = -(-n_frames // most)
    return -(-n_frames // n_chunks)


_Static = tuple[Callable[..., Array], int, int]  # joint(f, g, *parameters), blank, chunk


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _arc_log_probs(
    static: _Static,
    encoded: Array,
    predicted: Array,
    parameters: list[Any],
    classes: Array,
    frames: Array,
    labels: Array,
) -> tuple[Array, Array]:
    """Returns the log-probabilities of blank and label arcs, each [B, T, U+1]."""
    out, _ = _arc_log_probs_fwd(static, encoded, predicted, parameters, classes, frames, labels)
    return out


def _arc_log_probs_fwd(
    static: _Static,
    encoded: Array,
    predicted: Array,
    parameters: list[Any],
    classes: Array,
    frames: Array,
    labels: Array,
):
    joint, blank, size = static
    n_frames, width = encoded.shape[1], predicted.shape[1]

    def visit(arcs: tuple[Array, ...], step: Array):
        start = _chunk_start(step, size, n_frames)
        logits = _masked(joint, start, frames, labels)(
            lax.dynamic_slice_in_dim(encoded, start, size, axis=1), predicted, parameters
        )
        new = pick_arcs(logits, classes, blank)
        put = partial(lax.dynamic_update_slice_in_dim, start_index=start, axis=1)
        return tuple(put(old, part) for old, part in zip(arcs, new, strict=True)), None

    cell: Any = jax.eval_shape(joint, encoded[:, :size, None], predicted[:, None], *parameters)
    # Made from an input: under a mesh it has to be laid out like one.
    empty = jnp.zeros_like(encoded[:, :, :1], jnp.promote_types(cell.dtype, jnp.float32))
    empty = jnp.repeat(empty, width, axis=2)
    (log_blank, log_label, normaliser), _ = lax.scan(
        visit, (empty, empty, empty), jnp.arange(-(-n_frames // size))
    )
    residuals = (encoded, predicted, parameters, classes, frames, labels, normaliser)
    return (log_blank, log_label), residuals


def _arc_log_probs_bwd(static: _Static, residuals, cotangents: tuple[Array, Array]):
    joint, blank, size = static
    encoded, predicted, parameters, classes, frames, labels, normaliser = residuals
    n_frames = encoded.shape[1]

    def visit(sums, step: Array):
        d_encoded, d_shared = sums
        start = _chunk_start(step, size, n_frames)
        cut = partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=size, axis=1)
        logits, pull = jax.vjp(
            _masked(joint, start, frames, labels), cut(encoded), predicted, parameters
        )
        # The last chunk may begin inside the one before it: what that one did is not done twice.
        fresh = (start + jnp.arange(size) >= step * size)[None, :, None]
        d_blank, d_label = (jnp.where(fresh, cut(x), 0.0) for x in cotangents)
        d_logits = pull_arcs(logits, cut(normaliser), classes, blank, d_blank, d_label)
        d_chunk, *d_more = pull(d_logits)
        d_encoded = lax.dynamic_update_slice_in_dim(
            d_encoded, cut(d_encoded) + d_chunk, start, axis=1
        )
        return (d_encoded, jax.tree.map(lambda s, d: s + d.astype(s.dtype), d_shared, d_more)), None

    def zeros_wide(x: Array) -> Array:
        return jnp.zeros_like(x, jnp.promote_types(x.dtype, jnp.float32))

    shared = [predicted, parameters]
    (d_encoded, d_shared), _ = lax.scan(
        visit,
        (jnp.zeros_like(encoded), jax.tree.map(zeros_wide, shared)),
        jnp.arange(-(-n_frames // size)),
    )
    d_predicted, d_parameters = jax.tree.map(lambda d, x: d.astype(x.dtype), d_shared, shared)
    return d_encoded, d_predicted, d_parameters, None, None, None


_arc_log_probs.defvjp(_arc_log_probs_fwd, _arc_log_probs_bwd)


def _chunk_start(step: Array, size: int, n_frames: int) -> Array:
    """The last chunk ends with the last frame, so that nothing need be padded or copied."""
    return jnp.minimum(step * size, n_frames - size)


def _masked(joint: Callable[..., Array], start: Array, frames: Array, labels: Array):
    """Returns the joint of a chunk [B, t, J] that begins at frame `start`.

    Padding is set to 0: NaN there would come back through the joint as 0 times NaN.
    """

    def logits(chunk: Array, predicted: Array, parameters: list[Any]) -> Array:
        t = start + jnp.arange(chunk.shape[1])
        u = jnp.arange(predicted.shape[1])
        chunk = jnp.where((t[None, :] < frames[:, None])[..., None], chunk, 0)
        predicted = jnp.where((u[None, :] <= labels[:, None])[..., None], predicted, 0)
        return joint(chunk[:, :, None], predicted[:, None], *parameters)

    return logits
