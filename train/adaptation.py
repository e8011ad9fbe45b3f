"""Staying near the weights that a run starts from: frozen parts, and an anchor.

The anchor is (lambda / 2) sum_i F_i (theta_i - theta*_i)^2, theta* being the start. F is the
diagonal Fisher information (elastic weight consolidation) or 1 (L2 to the start). It acts by its
gradient, which is added to the loss's, or after the optimiser's step as the proximal map

    theta = (theta' + eta lambda F theta*) / (1 + eta lambda F),     eta the learning rate.

Under Adam the two differ: the optimiser divides the gradient by its size, so a huge lambda makes
steps of the usual length, away from the start as well as towards it; the proximal map holds.

Sources: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", arXiv
1612.00796, equation 3; for speech, Trinh et al. 2022, arXiv 2207.07850.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from .recipe import AdaptConfig

_PARTS = {
    # What sits on the encoder's output alone goes with it, and so does what is added to its input.
    "encoder": ("encoder", "cohort", "ctc"),
    "prediction": ("prediction",),
    "joint": ("joiner", "simple"),
}


class Held(NamedTuple):
    """What the steps of a run read and never change; on the devices, placed as the state is."""

    params: Any
    """theta*, the weights of the start."""
    frozen: Any
    """Its variables without a gradient."""
    fisher: Any
    """Of every parameter, or a scalar for all of a leaf; None without an anchor."""


def is_anchored(config: AdaptConfig) -> bool:
    return config.anchor != "none" and config.weight > 0.0


def trains(config: AdaptConfig, part: str) -> bool:
    """Whether a part of the model, by its name in the tree of parameters, is trained."""
    groups = config.parts.split("+")
    return config.parts == "all" or any(part in _PARTS[group] for group in groups)


def is_trained(config: AdaptConfig, params: Mapping[str, Any]) -> Any:
    """For every parameter, whether it is trained."""
    found: dict[str, Any] = {}
    for part, tree in params.items():
        leaves, shape = jax.tree.flatten(tree)
        found[part] = shape.unflatten([trains(config, part)] * len(leaves))
    return found


def without_frozen(config: AdaptConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, those that are not trained as constants: their gradient is exactly 0."""
    return {
        part: tree if trains(config, part) else jax.lax.stop_gradient(tree)
        for part, tree in params.items()
    }


def known_to(given: Any, params: Any) -> Any:
    """1.0 for every leaf of `params` that the tree `given` has in the same shape, else 0.0.

    A head that the start does not have has no place to be held to.
    """
    have = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(given)}
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.float32(have.get(path) == leaf.shape), params
    )


def penalty(params: Any, held: Held, weight: ArrayLike) -> jax.Array:
    """(weight / 2) sum F (theta - theta*)^2, a scalar."""
    parts = jax.tree.map(
        lambda p, start, f: jnp.sum(f * (p - start) ** 2), params, held.params, held.fisher
    )
    return jnp.asarray(0.5 * weight * optax.tree.sum(parts))


def with_penalty_gradient(grads: Any, params: Any, held: Held, weight: ArrayLike) -> Any:
    """grads + weight F (theta - theta*)."""
    return jax.tree.map(
        lambda g, p, start, f: g + weight * f * (p - start),
        grads,
        params,
        held.params,
        held.fisher,
    )


def proximal(params: Any, held: Held, scale: ArrayLike) -> Any:
    """The proximal map of the anchor; `scale` is eta lambda. Where F is 0, exactly `params`."""

    def map_leaf(p: jax.Array, start: jax.Array, f: jax.Array) -> jax.Array:
        pull = scale * f
        return p - (p - start) * (pull / (1.0 + pull))

    return jax.tree.map(map_leaf, params, held.params, held.fisher)
