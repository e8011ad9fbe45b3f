"""Losses that put a speaker's recordings together and other speakers' apart.

Angular prototypical (Chung et al. 2020, "In defence of metric learning for speaker recognition",
arXiv 2003.11982, eq. 5), for N speakers with M recordings each: the first recording of speaker i is
the query q_i, the mean of the others its prototype c_i, and

    S_ij = w cos(q_i, c_j) + b,    l_i = log sum_j exp(S_ij) - S_ii
                                       = log(1 + sum_{j != i} exp(S_ij - S_ii)).

With a weight w_ij for each pair (i, j), as adversarial reweighting gives them,

    l_i = w_ii log(1 + sum_{j != i} w_ij exp(S_ij - S_ii)),

which is the plain loss where all weights are 1.

Additive angular margin (AAM) softmax (Deng et al. 2019, arXiv 1801.07698): a classifier over the
training speakers by the angle theta between embedding and class, where the own class must win by a
margin m: its logit is s cos(theta + m), the others' s cos(theta).
"""

import math

import jax
import jax.numpy as jnp

from ...models.speakers.network import normalized

LEAST_SCALE = 1e-6
"""The similarity's learned scale stays positive: else apart would be near."""


def similarities(embeddings: jax.Array) -> jax.Array:
    """Cosines [N, N] of each speaker's first embedding with every speaker's mean of the others.

    embeddings: [N, M, D] with M of at least 2.
    """
    queries = normalized(embeddings[:, 0])
    prototypes = normalized(embeddings[:, 1:].mean(axis=1))
    return jnp.matmul(queries, prototypes.T, precision=jax.lax.Precision.HIGHEST)


def angular_prototypical(
    cosines: jax.Array,
    scale: jax.Array | float,
    offset: jax.Array | float,
    pair_weights: jax.Array | None = None,
) -> jax.Array:
    """The loss of each speaker [N].

    Args:
      cosines: [N, N], of `similarities`.
      scale, offset: w and b; a scale below `LEAST_SCALE` counts as that.
      pair_weights: [N, N], positive; None for all 1.
    """
    count = cosines.shape[0]
    logits = jnp.maximum(scale, LEAST_SCALE) * cosines + offset
    apart = logits - jnp.diagonal(logits)[:, None]
    if pair_weights is None:
        pair_weights = jnp.ones_like(cosines)
    own = jnp.eye(count, dtype=bool)
    apart = apart + jnp.where(own, 0.0, jnp.log(pair_weights))
    return jnp.diagonal(pair_weights) * jax.nn.logsumexp(apart, axis=1)


def aam_softmax(
    embeddings: jax.Array,
    classes: jax.Array,
    labels: jax.Array,
    *,
    margin: float = 0.2,
    scale: float = 30.0,
) -> jax.Array:
    """The loss of each recording [B].

    Beyond the angle pi - m, where cos(theta + m) would rise again, cos(theta) - m sin m stands in
    its place.

    Args:
      embeddings: [B, D].
      classes: [C, D], a direction for each training speaker.
      labels: [B], below C.
    """
    cosines = jnp.matmul(
        normalized(embeddings), normalized(classes).T, precision=jax.lax.Precision.HIGHEST
    )
    own = jax.nn.one_hot(labels, classes.shape[0], dtype=bool)
    # Its slope is infinite at an angle of zero.
    sines = jnp.sqrt(jnp.maximum(1.0 - cosines**2, 1e-9))
    moved = cosines * math.cos(margin) - sines * math.sin(margin)
    late = cosines - margin * math.sin(margin)
    moved = jnp.where(cosines > math.cos(math.pi - margin), moved, late)
    logits = scale * jnp.where(own, moved, cosines)
    return jax.nn.logsumexp(logits, axis=1) - jnp.sum(jnp.where(own, logits, 0.0), axis=1)
