"""RNN-T loss of a joiner that only adds: the first pass of the pruned loss.

With logits am[t] + lm[u] the log-normaliser of all cells is one matmul,

    log sum_v exp(am[t, v] + lm[u, v]) = log (exp(am) @ exp(lm).T)[t, u]

so that the loss of the whole lattice is had without logits [B, T, U+1, V] (Kuang et al. 2022,
arXiv 2206.13236).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ...models.layers import mask_frames
from .arcs import check_shapes, classes_of
from .lattice import lattice_loss

# Added to sums of exponentials before their logarithm. They are below it where the peaks of am and
# lm lie so far apart that float32 has lost them; 1 / _FLOOR must be far from overflow.
_FLOOR = 1e-30


def simple_loss(
    am: Array,
    lm: Array,
    labels: ArrayLike,
    frame_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    blank: int = 0,
    lm_scale: float = 0.0,
    am_scale: float = 0.0,
    fastemit: ArrayLike = 0.0,
) -> tuple[Array, tuple[Array, Array]]:
    """Returns the loss of the joiner am[t] + lm[u], and the occupancies of its arcs.

    With scales, an arc's score is no longer normalised, but smoother:

        (1 - lm_scale - am_scale) log P(v | am + lm) + lm_scale log P(v | lm)
                                                     + am_scale log P(v | am + log q)

    with q the mean of P(v | lm) over all label positions of the batch. It keeps the simple joiner
    from being so sure of itself that it prunes what the full joint would have wanted.

    Args:
      am: [B, T, V], the encoder's share of the logits.
      lm: [B, U+1, V], the prediction network's.
      labels: [B, U] int, without blanks and start symbol; U may be 0.
      frame_lengths: [B], frames of each row, 0 to T.
      label_lengths: [B], labels of each row, 0 to U.
      blank: the blank's class.
      lm_scale: weight of the internal language model by itself.
      am_scale: weight of the acoustics with a unigram. Rows of a batch then share the unigram, and
        the loss of one is no longer independent of the others.
      fastemit: the gradient of label arcs is multiplied by 1 + fastemit, the value stays.

    Returns:
      Losses [B] as `rnnt_loss` gives them, and the probabilities [B, T, U+1] that an alignment
      takes a cell's blank, label arc, which have no gradient. float32 (float64 for float64 input).
      Padding may hold anything, NaN too; its gradient is exactly 0.

    Raises:
      ValueError: if shapes do not fit each other, blank is not a class, or the scales are not
        shares of 1.
    """
    if am.ndim != 3 or lm.ndim != 3 or am.shape[-1] != lm.shape[-1]:
        raise ValueError(f"am must be [B, T, V] and lm [B, U+1, V], got {am.shape} and {lm.shape}")
    if min(lm_scale, am_scale) < 0 or lm_scale + am_scale > 1:
        raise ValueError(f"scales must be shares of 1, got lm {lm_scale} and am {am_scale}")
    n_batch, n_frames, n_classes = am.shape
    width = lm.shape[1]
    labels, frames, units = map(jnp.asarray, (labels, frame_lengths, label_lengths))
    check_shapes(n_batch, width, n_classes, labels, frames, units, blank)
    dtype = jnp.promote_types(jnp.result_type(am, lm), jnp.float32)
    if n_frames == 0:
        nothing = jnp.zeros((n_batch, 0, width), dtype)
        return jnp.zeros(n_batch, dtype), (nothing, nothing)
    am, lm = am.astype(dtype), lm.astype(dtype)
    # NaN in padding would come back as 0 times NaN.
    am, lm = mask_frames(am, frames), mask_frames(lm, units + 1)
    # Positions of an empty row are padding too: of the unigram, for example.
    real = (jnp.arange(width)[None, :] <= units[:, None]) & (frames > 0)[:, None]
    arcs = _simple_arcs(am, lm, classes_of(labels, units), real, blank, lm_scale, am_scale)
    out: Any = _loss_and_occupancies(*arcs, frames, units, jnp.asarray(fastemit, dtype))
    loss, blank_taken, label_taken = out
    return loss, (lax.stop_gradient(blank_taken), lax.stop_gradient(label_taken))


def _simple_arcs(
    am: Array,
    lm: Array,
    classes: Array,
    real: Array,
    blank: int,
    lm_scale: float,
    am_scale: float,
) -> tuple[Array, Array]:
    """Returns the scores of blank and label arcs, each [B, T, U+1]; real [B, U+1] positions."""
    am_top, lm_top = _top(am), _top(lm)
    am_exp, lm_exp = jnp.exp(am - am_top), jnp.exp(lm - lm_top)
    joined = jnp.matmul(am_exp, lm_exp.swapaxes(1, 2), precision=lax.Precision.HIGHEST)
    normaliser = jnp.log(joined + _FLOOR) + am_top + lm_top.swapaxes(1, 2)
    # A negative index would count from the end.
    classes = jnp.where(classes < 0, am.shape[-1], classes)
    am_arcs = am[:, :, blank, None], jnp.take_along_axis(am, classes[:, None], 2, mode="fill")
    lm_arcs = (
        lm[:, None, :, blank],
        jnp.take_along_axis(lm, classes[:, :, None], 2, mode="fill").swapaxes(1, 2),
    )
    share = 1.0 - lm_scale - am_scale
    arcs = [share * (a + b - normaliser) for a, b in zip(am_arcs, lm_arcs, strict=True)]
    if lm_scale:
        lm_sum = lm_exp.sum(axis=-1, keepdims=True)
        lm_normaliser = (jnp.log(lm_sum) + lm_top).swapaxes(1, 2)
        arcs = [x + lm_scale * (b - lm_normaliser) for x, b in zip(arcs, lm_arcs, strict=True)]
    if am_scale:
        each = jnp.where(real[:, :, None], lm_exp / lm_exp.sum(axis=-1, keepdims=True), 0.0)
        unigram = each.sum(axis=(0, 1)) / jnp.maximum(real.sum(), 1) + _FLOOR
        am_sum = jnp.matmul(am_exp, unigram[:, None], precision=lax.Precision.HIGHEST)
        am_normaliser = jnp.log(am_sum) + am_top
        prior = jnp.broadcast_to(jnp.log(unigram)[None], am[:, 0].shape)
        priors = (
            prior[:, None, blank, None],
            jnp.take_along_axis(prior, classes, 1, mode="fill")[:, None],
        )
        arcs = [
            x + am_scale * (a + p - am_normaliser)
            for x, a, p in zip(arcs, am_arcs, priors, strict=True)
        ]
    return arcs[0], arcs[1]


def _top(x: Array) -> Array:
    """The largest logit [..., 1]; 0 where all are -inf."""
    top = x.max(axis=-1, keepdims=True)
    return jnp.where(jnp.isfinite(top), top, 0.0)


@jax.custom_vjp
def _loss_and_occupancies(
    log_blank: Array, log_label: Array, frames: Array, units: Array, fastemit: Array
) -> tuple[Array, Array, Array]:
    """`lattice_loss` [B] and minus its gradient to both arcs, of which only the loss has one.

    The occupancies are the gradient: the lattice is gone through backward once for both.
    """
    del fastemit  # changes the gradient only

    def run(log_blank: Array, log_label: Array) -> Array:
        return lattice_loss(log_blank, log_label, frames, units)

    loss, pull = jax.vjp(run, log_blank, log_label)
    blank_taken, label_taken = pull(-jnp.ones_like(loss))
    return loss, blank_taken, label_taken


def _loss_and_occupancies_fwd(
    log_blank: Array, log_label: Array, frames: Array, units: Array, fastemit: Array
):
    out = _loss_and_occupancies(log_blank, log_label, frames, units, fastemit)
    return out, (*out[1:], fastemit)


def _loss_and_occupancies_bwd(residuals, cotangents: tuple[Array, Array, Array]):
    blank_taken, label_taken, fastemit = residuals
    scale = -cotangents[0][:, None, None]
    gradients = scale * blank_taken, scale * (1 + fastemit) * label_taken
    return *gradients, None, None, jnp.zeros_like(fastemit)


_loss_and_occupancies.defvjp(_loss_and_occupancies_fwd, _loss_and_occupancies_bwd)
