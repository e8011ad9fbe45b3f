"""Adversarial reweighting: an adversary weighs the samples so that the loss grows, the learner
trains on the weighted loss, and so attends to the voices it serves badly. No group labels.

Sample i has f_i = sigmoid(A(what the adversary sees of it)) and the weight

    w_i = 1 + f_i / mean f,        of mean 2 over the batch.

The adversary's logits are bounded, B tanh(a / B) with B = 2: unbounded, it puts all weight on one
or two samples. No gradient passes through w to the learner, or through the embeddings to the
adversary.

* pairs (PW): A sees the embedding and its k-means region; pair (i, j) of the angular prototypical
  loss weighs w_ij = (w_i + w_j) / 4, of mean 1, where w_j is the mean over the prototype's samples.
* similarity (APS): A sees how alike the sample is to its own speaker's and to the others'
  recordings of the batch, accumulated; the loss is the mean of w_i l_i.
* pseudo (PL): A sees the region alone, which stands for the label that is not there; the loss is
  the mean of w_i l_i.

In APS and PL a speaker's loss l_i weighs the mean of his samples' weights. With equal weights PW is
the plain loss, APS and PL twice that.

Sources: Jin et al. 2022, arXiv 2207.07776 (what is weighed by what); Lahoti et al. 2020, arXiv
2006.13114, equation 3 (w). The exact form of APS and PL is ours.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ...models.speakers.network import normalized
from .recipe import AdversaryConfig

Params = dict[str, Any]
CONSTANT_WEIGHT = 2.0


def init_adversary(key: jax.Array, config: AdversaryConfig, width: int) -> Params:
    """Parameters for embeddings of `width`; the output begins at zero, so all weights are equal.

    None where there is no adversary to train.
    """
    if config.kind in ("off", "constant"):
        return {}
    seen = {"similarity": 2, "pseudo": config.regions}.get(config.kind, width + config.regions)
    kernel = jax.nn.initializers.he_normal()(key, (seen, config.hidden))
    return {
        "hidden": {"kernel": kernel, "bias": jnp.zeros(config.hidden)},
        "output": {"kernel": jnp.zeros((config.hidden, 1)), "bias": jnp.zeros(1)},
    }


def region_of(embeddings: jax.Array, regions: jax.Array) -> jax.Array:
    """The centroid nearest to each embedding at unit length: [..., D] -> [...]."""
    products = jnp.matmul(normalized(embeddings), regions.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(regions**2, axis=-1)
    return jnp.argmin(jnp.expand_dims(squares, tuple(range(products.ndim - 1))) - 2 * products, -1)


def seen_by_adversary(
    embeddings: jax.Array, regions: jax.Array, config: AdversaryConfig
) -> jax.Array:
    """What the adversary knows of each sample.

    Args:
      embeddings: [N, M, D]; nothing of the result has a gradient to them.
      regions: [K, D], the centroids.

    Returns:
      [N, M, F].
    """
    embeddings = jax.lax.stop_gradient(embeddings)
    if config.kind == "similarity":
        return accumulated_similarities(embeddings)
    region = jax.nn.one_hot(region_of(embeddings, regions), config.regions)
    if config.kind == "pseudo":
        return region
    # Entries of a unit vector are small: scaled up, they weigh as much as the region's.
    scaled = normalized(embeddings) * jnp.sqrt(1.0 * embeddings.shape[-1])
    return jnp.concatenate([scaled, region], axis=-1)


def accumulated_similarities(embeddings: jax.Array) -> jax.Array:
    """Mean cosine of each sample with its speaker's other ones and with other speakers'.

    [N, M, D] -> [N, M, 2], each brought to mean 0 and deviation 1 over the batch.
    """
    count, each, width = embeddings.shape
    units = normalized(embeddings)
    flat = units.reshape(count * each, width)
    with_all = jnp.matmul(flat, flat.sum(axis=0)).reshape(count, each)
    with_own = jnp.einsum("nmd,nd->nm", units, units.sum(axis=1))
    own = (with_own - 1.0) / (each - 1)
    others = (with_all - with_own) / (each * (count - 1))
    both = jnp.stack([own, others], axis=-1)
    spread = both.std(axis=(0, 1), keepdims=True)
    return (both - both.mean(axis=(0, 1), keepdims=True)) / jnp.maximum(spread, 1e-6)


def sample_weights(params: Params, seen: jax.Array, config: AdversaryConfig) -> jax.Array:
    """Weights [N, M] of mean 2 over the batch."""
    if config.kind == "constant":
        return jnp.full(seen.shape[:-1], CONSTANT_WEIGHT)
    hidden, output = params["hidden"], params["output"]
    h = jnp.matmul(seen, hidden["kernel"]) + hidden["bias"][None, None, :]
    logits = jnp.matmul(jnp.tanh(h), output["kernel"])[..., 0] + output["bias"][0]
    f = jax.nn.sigmoid(config.bound * jnp.tanh(logits / config.bound))
    return 1.0 + f / f.mean()


def pair_weights(weights: jax.Array) -> jax.Array:
    """[N, N] of the pairs (query i, prototype j) from the samples' [N, M]."""
    queries, prototypes = weights[:, 0], weights[:, 1:].mean(axis=1)
    return (queries[:, None] + prototypes[None, :]) / 4.0


def weight_metrics(weights: jax.Array) -> dict[str, jax.Array]:
    """Mean, largest, and the effective sample size (sum w)^2 / sum w^2 as a share of the batch's.

    The share is that of f_i = w_i - 1, what the adversary gives out: of w itself it cannot fall
    below 4 / (3 + N M), however few samples it looks at, and so would hide a collapse.
    """
    given = weights - 1.0
    squares = (given**2).sum()
    # In the warm-up of APS and PL all weights are 1: nothing is given out, and nothing unevenly.
    share_given = given.sum() ** 2 / jnp.where(squares > 0, squares, 1.0) / weights.size
    return {
        "adversary/mean_weight": weights.mean(),
        "adversary/max_weight": weights.max(),
        "adversary/effective_share": weights.sum() ** 2 / (weights**2).sum() / weights.size,
        "adversary/effective_share_given": jnp.where(squares > 0, share_given, 1.0),
    }
