"""What losses through a joint share: its inputs' shapes, its parameters, sums of its gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AbstractMesh, use_abstract_mesh

Joint = Callable[[Array, Array], Array]


def check_sides(encoded: Array, predicted: Array) -> None:
    """Raises ValueError unless both sides of the joint have three axes."""
    if encoded.ndim != 3 or predicted.ndim != 3:
        raise ValueError(
            "encoded must be [B, T, J] and predicted [B, U+1, J],"
            f" got {encoded.shape} and {predicted.shape}"
        )


def open_joint(joint: Joint, *example: Any) -> tuple[Callable[..., Array], list[Any]]:
    """Makes parameters that the joint closes over arguments, so that a gradient can reach them.

    Args:
      example: both inputs' shapes and types; the result takes no others.

    Returns:
      `(joint(f, g, *parameters), parameters)`.
    """
    # Outside any mesh: it may be run inside `shard_map`, where the mesh is another.
    with use_abstract_mesh(AbstractMesh((), ())):
        converted: Any = jax.closure_convert(joint, *example)
    pure, parameters = converted
    return pure, list(parameters)


def zeros_wide(tree: Any) -> Any:
    """Zeros to add gradients of many chunks to: of a tree's shapes, in float32 at least."""
    return jax.tree.map(lambda x: jnp.zeros_like(x, jnp.promote_types(x.dtype, jnp.float32)), tree)
