"""Where every array of a run lives: one mesh, one short table of rules.

Axes of the mesh: `data` and `fsdp` split the batch; `fsdp` also splits parameters and optimiser
state (ZeRO-3 style); `model` splits the wide dimension of matrices (tensor parallel). Modules know
nothing of this: a rule maps a parameter's path to a `PartitionSpec`.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..data.errors import InputError
from .recipe import MeshConfig

RULES: tuple[tuple[str, P], ...] = (
    # vocabulary-sized matrices: vocabulary over `model`
    (r"embedding$", P("model", "fsdp")),
    (r"(head|logits|vocabulary)[./]kernel$", P("fsdp", "model")),
    # recurrent and feed-forward matrices [in, out]
    (r"(kernel|input|recurrent)$", P("fsdp", "model")),
    # biases, norms, statistics
    (r".*", P()),
)

ROWS = ("data", "fsdp")
"""Axes of the mesh that split the rows of a batch."""
BATCH = P(ROWS)


def make_mesh(config: MeshConfig) -> Mesh:
    """A mesh (data, fsdp, model) over all devices of all processes.

    Raises InputError if the axes do not multiply to the number of devices.
    """
    sizes = [config.data, config.fsdp, config.model]
    count = jax.device_count()
    if sizes.count(-1) > 1 or any(s == 0 or s < -1 for s in sizes):
        raise InputError(f"mesh axes {sizes}: give positive sizes, and -1 for at most one axis.")
    if -1 in sizes:
        sizes[sizes.index(-1)] = count // int(-np.prod(sizes))
    if np.prod(sizes) != count:
        raise InputError(
            f"a mesh of data {sizes[0]} x fsdp {sizes[1]} x model {sizes[2]} does not fit "
            f"{count} devices: change --mesh.data, --mesh.fsdp or --mesh.model."
        )
    return jax.make_mesh(sizes, ("data", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)


def spec_for(path: str, shape: tuple[int, ...], mesh: Mapping[str, int]) -> P:
    """The first rule that matches; an axis that does not divide its dimension is left whole."""
    for pattern, spec in RULES:
        if re.search(pattern, path):
            axes = tuple(spec)[: len(shape)]
            return P(
                *(
                    axis if axis and dim % mesh[axis] == 0 else None
                    for axis, dim in zip(axes, shape, strict=False)
                )
            )
    raise AssertionError("the last rule matches everything")


def shardings(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """A `NamedSharding` for every leaf of a pytree of arrays (or of their shapes).

    Optimiser moments and averaged weights carry the parameter's path as a suffix of their own, so
    the same rules place them beside their parameter.
    """

    def place(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        return NamedSharding(mesh, spec_for(name, tuple(leaf.shape), dict(mesh.shape)))

    return jax.tree_util.tree_map_with_path(place, tree)


def gathered(params: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Parameters as a step computes with them: whole over `fsdp`, each gathered once.

    Left to itself the partitioner may keep a matrix split, and in a scan over time move activations
    between the chips at every frame.
    """
    if mesh.shape["fsdp"] == 1:
        return params

    def whole(leaf: Any, place: NamedSharding) -> Any:
        spec = P(*(None if axis == "fsdp" else axis for axis in place.spec))
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(whole, params, shardings(params, mesh))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, BATCH)


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch as one global array, rows split over `data` and `fsdp`."""
    where = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(where, rows) for name, rows in batch.items()
    }
