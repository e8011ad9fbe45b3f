"""The transducer's alignment lattice: loss and arc occupancies.

An alignment of U labels to T frames is a path through cells (t, u). From a cell the blank arc leads
to (t + 1, u) and the label arc to (t, u + 1); it starts in (0, 0) and leaves by the blank of
(T - 1, U). The loss is -log of the summed probability of all paths (Graves 2012,
arXiv 1211.3711):

    alpha[0, 0] = 0
    alpha[t, u] = logaddexp(alpha[t-1, u] + blank[t-1, u], alpha[t, u-1] + label[t, u-1])
    log P = alpha[T-1, U] + blank[T-1, U]

**Order of work.** Cells of one anti-diagonal n = t + u do not depend on each other. The arcs are
skewed to [N, U+1, B], N = T + U, and one `lax.scan` step takes a whole diagonal of the whole batch.

**Rows of different length.** After a row's last blank, arcs of log-probability 0 carry its mass
along u = U to the last diagonal, where it is the only cell alive. So every row ends at the same
step, and nothing has to be picked out on the way.

**Precision.** alpha falls by hundreds over a long utterance, and its float32 rounding with it. Each
diagonal is therefore brought to a largest value of 0; log P is the sum of what was taken away. The
gradient needs no second log-domain pass either: a cell's mass came over its blank arc with the
share sigmoid(d), d being the difference of the two terms in the logaddexp, and over its label arc
with the rest; so the probability of passing a cell is pushed back from the end by a linear
recursion whose numbers all lie in [0, 1].
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

# Stands for log 0. Finite, so that differences of two dead cells are numbers and not NaN; far from
# overflow even when every one of a million diagonals adds it.
_LOG_ZERO = -1e30


def lattice_loss(
    log_blank: Array,
    log_label: Array,
    frame_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    fastemit: ArrayLike = 0.0,
) -> Array:
    """Returns -log P(labels | frames) of each row, from the log-probabilities of its arcs.

    Its gradient is analytic: minus the probability that an alignment takes the arc.

    Args:
      log_blank: [B, T, U+1], log-probability of the blank arc out of each cell.
      log_label: [B, T, U+1], the same for label u + 1; the last column is never read.
      frame_lengths: [B], frames of each row, 0 to T.
      label_lengths: [B], labels of each row, 0 to U.
      fastemit: the gradient of label arcs is multiplied by 1 + fastemit, the value stays
        (FastEmit, arXiv 2010.11148).

    Returns:
      [B], float32 (float64 for float64 input). A row of no frames gives 0 and a target of
      probability zero gives inf, both with gradient 0. Lengths out of range give NaN. Arcs outside
      a row's lengths may hold anything, NaN too.
    """
    dtype = jnp.promote_types(log_blank.dtype, jnp.float32)
    return _lattice_loss(
        log_blank.astype(dtype),
        log_label.astype(dtype),
        jnp.asarray(frame_lengths),
        jnp.asarray(label_lengths),
        jnp.asarray(fastemit, dtype),
    )


@jax.custom_vjp
def _lattice_loss(
    log_blank: Array, log_label: Array, frames: Array, labels: Array, fastemit: Array
) -> Array:
    del fastemit  # changes the gradient only
    return -_log_probability(log_blank, log_label, frames, labels, keep=False)[0]


def _lattice_loss_fwd(
    log_blank: Array, log_label: Array, frames: Array, labels: Array, fastemit: Array
):
    log_p, balance = _log_probability(log_blank, log_label, frames, labels, keep=True)
    return -log_p, (log_p, balance, frames, labels, fastemit)


def _lattice_loss_bwd(residuals, cotangent: Array):
    log_p, balance, frames, labels, fastemit = residuals
    blank, label = _occupancies(log_p, balance, frames, labels)
    scale = -cotangent[:, None, None]
    return scale * blank, scale * (1 + fastemit) * label, None, None, jnp.zeros_like(fastemit)


_lattice_loss.defvjp(_lattice_loss_fwd, _lattice_loss_bwd)


def _log_probability(
    log_blank: Array, log_label: Array, frames: Array, labels: Array, *, keep: bool
) -> tuple[Array, Array | None]:
    """Returns log P [B] and, if kept, the balance d of blank to label at each cell [N, U+1, B]."""
    _, n_frames, width = log_blank.shape
    valid = (frames >= 0) & (frames <= n_frames) & (labels >= 0) & (labels < width)
    on_blank, on_label, after_end = _arc_masks(n_frames, width, frames, labels)
    blank = jnp.maximum(jnp.where(on_blank, _skew(log_blank), _LOG_ZERO), _LOG_ZERO)
    blank = jnp.where(after_end, 0.0, blank)
    label = jnp.maximum(jnp.where(on_label, _skew(log_label), _LOG_ZERO), _LOG_ZERO)

    def advance(alpha: Array, arcs: tuple[Array, Array]):
        blank_n, label_n = arcs
        # The diagonal before is brought to a largest value of 0 here, in its only reader.
        top = alpha.max(axis=0, keepdims=True)
        alpha = alpha - top
        by_blank = alpha + blank_n
        by_label = _next_label(alpha + label_n, _LOG_ZERO)
        d = by_blank - by_label
        alpha = jnp.maximum(by_blank, by_label) + jnp.log1p(jnp.exp(-jnp.abs(d)))
        return alpha, (top[0], d if keep else None)

    start = jnp.where(jnp.arange(width)[:, None] == 0, 0.0, jnp.full_like(blank[0], _LOG_ZERO))
    alpha, (tops, balance) = lax.scan(advance, start, (blank, label))
    log_p = tops.sum(axis=0) + alpha.max(axis=0)
    log_p = jnp.where(log_p < 0.5 * _LOG_ZERO, -jnp.inf, log_p)
    return jnp.where(valid, log_p, jnp.nan), balance


def _occupancies(log_p: Array, balance: Array, frames: Array, labels: Array) -> tuple[Array, Array]:
    """Returns the probabilities [B, T, U+1] that an alignment takes a cell's blank, label arc."""
    n_diagonals, width, _ = balance.shape
    n_frames = n_diagonals - width + 1
    share_blank = jax.nn.sigmoid(balance)
    share_label = jax.nn.sigmoid(-balance)

    def retreat(passing: Array, shares: tuple[Array, Array]):
        by_blank = passing * shares[0]
        by_label = _previous_label(passing * shares[1])
        return by_blank + by_label, (by_blank, by_label)

    # An impossible target has no alignments to spread; a NaN loss must not pass for a number.
    mass = jnp.where(jnp.isnan(log_p), jnp.nan, jnp.where(jnp.isinf(log_p), 0.0, 1.0))
    u = jnp.arange(width)[:, None]
    end = jnp.where(u == _last_label(frames, labels)[None, :], mass[None, :], 0.0)
    _, (blank, label) = lax.scan(
        retreat, end.astype(balance.dtype), (share_blank, share_label), reverse=True
    )
    on_blank, on_label, _ = _arc_masks(n_frames, width, frames, labels)
    return (
        _unskew(jnp.where(on_blank, blank, 0.0), n_frames),
        _unskew(jnp.where(on_label, label, 0.0), n_frames),
    )


def _last_label(frames: Array, labels: Array) -> Array:
    """A row without frames is a row without labels: it ends where it starts."""
    return jnp.where(frames > 0, labels, 0)


def _arc_masks(
    n_frames: int, width: int, frames: Array, labels: Array
) -> tuple[Array, Array, Array]:
    """Where [N, U+1, B] a blank arc, a label arc, and a finished row's arc onwards lie."""
    n = jnp.arange(n_frames + width - 1)[:, None, None]
    u = jnp.arange(width)[None, :, None]
    t = n - u
    last = _last_label(frames, labels)[None, None, :]
    frames = frames[None, None, :]
    inside = (t >= 0) & (t < frames)
    # In the last frame only the last cell's blank leads anywhere.
    on_blank = inside & ((u == last) | ((u < last) & (t < frames - 1)))
    return on_blank, inside & (u < last), (u == last) & (t >= frames)


def _next_label(x: Array, fill: float) -> Array:
    """Moves [U+1, B] from label u to u + 1."""
    return jnp.pad(x[:-1], ((1, 0), (0, 0)), constant_values=fill)


def _previous_label(x: Array) -> Array:
    """Moves [U+1, B] from label u + 1 to u."""
    return jnp.pad(x[1:], ((0, 1), (0, 0)))


def _skew(x: Array) -> Array:
    """[B, T, W] to diagonals [T+W-1, W, B]: out[n, u] = x[n - u, u], zero outside.

    Rows of T + W numbers read again as rows of one fewer: each starts one place further right.
    """
    n_batch, n_frames, width = x.shape
    x = jnp.pad(x.transpose(2, 1, 0), ((0, 0), (0, width), (0, 0)))
    x = x.reshape(width * (n_frames + width), n_batch)[:-width]
    return x.reshape(width, n_frames + width - 1, n_batch).transpose(1, 0, 2)


def _unskew(x: Array, n_frames: int) -> Array:
    """Diagonals [T+W-1, W, B] back to [B, T, W]."""
    _, width, n_batch = x.shape
    x = x.transpose(1, 0, 2).reshape(width * (n_frames + width - 1), n_batch)
    x = jnp.pad(x, ((0, width), (0, 0))).reshape(width, n_frames + width, n_batch)
    return x[:, :n_frames].transpose(2, 1, 0)
