"""How far a transducer has moved from another one, cell by cell of their lattices.

In each cell (t, u) the classes are collapsed to three: blank, the next label of the transcript, and
all others; what is compared is KL(teacher || student) of these. They are the only probabilities
that the transducer's loss looks at, they cost two numbers a cell in place of the vocabulary's
logits, and the same code gives them as gives the loss.

Neighbouring frames say nearly the same, so that one frame in `stride` is compared and counts for
`stride` frames; which ones, the caller changes from step to step.

Source: Panchapagesan et al. 2021, "Efficient knowledge distillation for RNN-Transducer models",
arXiv 2011.06110, section 3.
"""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

LEAST = 1e-6
"""Of a probability: below it, one minus two others is rounding."""


def every_frame(x: Array, lengths: Array, stride: int, first: ArrayLike) -> tuple[Array, Array]:
    """Frames `first`, `first + stride`, ... of x [B, T, D], and how many of them each row has.

    first: at least 0 and below `stride`.
    """
    count = -(-x.shape[1] // stride)
    padded = jnp.pad(x, ((0, 0), (0, count * stride - x.shape[1]), (0, 0)))
    cut = padded.reshape(x.shape[0], count, stride, x.shape[2])
    chosen = lax.dynamic_index_in_dim(cut, jnp.asarray(first), axis=2, keepdims=False)
    return chosen, jnp.maximum(lengths - first + stride - 1, 0) // stride


def collapsed_divergence(
    teacher: tuple[Array, Array], student: tuple[Array, Array], frames: Array, labels: Array
) -> Array:
    """KL(teacher || student) of each row [B], in nats: mean over label positions, sum over frames.

    Args:
      teacher, student: (log-probabilities of blank, of the next label), each [B, T, U+1].
      frames: [B], frames that count.
      labels: [B], labels of each row; behind the last one there are two classes and not three.
    """
    t = jnp.arange(teacher[0].shape[1])[None, :, None]
    u = jnp.arange(teacher[0].shape[2])[None, None, :]
    ends = labels[:, None, None]
    p, log_p = _classes(teacher, u < ends)
    _, log_q = _classes(student, u < ends)
    total = (p * (log_p - log_q)).sum(axis=0)
    within = (t < frames[:, None, None]) & (u <= ends)
    return jnp.where(within, total, 0.0).sum(axis=(1, 2)) / (labels + 1)


def _classes(arcs: tuple[Array, Array], spoken: Array) -> tuple[Array, Array]:
    """Probabilities of the three classes [3, B, T, U+1], and their logarithms."""
    floor = jnp.log(LEAST).astype(arcs[0].dtype)
    log_blank, log_label = jnp.maximum(arcs[0], floor), jnp.maximum(arcs[1], floor)
    of_blank, of_label = jnp.exp(log_blank), jnp.where(spoken, jnp.exp(log_label), 0.0)
    others = jnp.maximum(1.0 - of_blank - of_label, LEAST)
    logs = jnp.stack([log_blank, log_label, jnp.log(others)])
    return jnp.stack([of_blank, of_label, others]), logs
