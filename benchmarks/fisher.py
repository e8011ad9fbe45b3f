"""Memory of the program that measures the Fisher information, as its compiler states it.

    python -m parley.benchmarks.fisher rnnt-30m conv-rnnt-30m --seconds 15 --tokens 80

In copies of the parameters (float32): what the program holds altogether, and the same for the
gradient of a single row, of which the parameters and the gradient are two and the rest is that
row's activations. Nothing is run, and no weights are made.
"""

import argparse
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..configs import presets
from ..train.fisher import fisher_graph, make_fisher_step, negative_log_likelihood
from ..train.recipe import MeshConfig, Recipe
from ..train.sharding import make_mesh
from ..train.step import merge_model
from ..zoo.console import stdout, table
from ..zoo.package import abstract_model

ROWS_OF_BATCH = 16


class Memory(NamedTuple):
    """Bytes on one device."""

    parameters: int
    row: int
    """Activations of one row's gradient: all that it takes beyond parameters and gradient."""
    fisher: int
    """Everything that the Fisher program holds at once."""

    @property
    def copies(self) -> float:
        """Of the parameters, beside one row's activations."""
        return (self.fisher - self.row) / self.parameters


def measure(recipe: Recipe, seconds: float, tokens: int) -> Memory:
    """Compiles both programs for rows of so many seconds and labels."""
    graphdef, (_, params, frozen) = fisher_graph(recipe), abstract_model(recipe)
    mesh = make_mesh(MeshConfig())
    devices = mesh.shape["data"]
    batch = _batch(recipe.model.frontend.sample_rate, ROWS_OF_BATCH * devices, seconds, tokens)
    squares = jax.tree.map(lambda p: jax.ShapeDtypeStruct((devices, *p.shape), jnp.float32), params)
    sums = squares, jax.ShapeDtypeStruct((devices,), jnp.int32)

    def loss(params: Any, frozen: Any, row: Any) -> jax.Array:
        return negative_log_likelihood(merge_model(graphdef, params, frozen), row)

    row = {k: jax.ShapeDtypeStruct((1, *v.shape[1:]), v.dtype) for k, v in batch.items()}
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    alone = _held(jax.jit(jax.grad(loss)).lower(params, frozen, row))
    whole = _held(make_fisher_step(graphdef, mesh).lower(sums, params, frozen, batch))
    return Memory(size, alone - 2 * size, whole)


def _batch(rate: int, rows: int, seconds: float, tokens: int) -> dict[str, Any]:
    shapes = {
        "samples": ((rows, round(seconds * rate)), jnp.int16),
        "sample_lengths": ((rows,), jnp.int32),
        "index": ((rows,), jnp.int32),
        "labels": ((rows, tokens), jnp.int32),
        "label_lengths": ((rows,), jnp.int32),
    }
    return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}


def _held(lowered: Any) -> int:
    """Arguments, results that are no arguments, and temporary buffers of a device's program."""
    m = lowered.compile().memory_analysis()
    results = m.output_size_in_bytes - m.alias_size_in_bytes
    return m.argument_size_in_bytes + results + m.temp_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["rnnt-30m", "conv-rnnt-30m"])
    parser.add_argument("--seconds", type=float, default=15.0, help="of a row")
    parser.add_argument("--tokens", type=int, default=80, help="of a row")
    given = parser.parse_args()
    columns = ("parameters MiB", "a row's activations MiB", "in all MiB", "copies beside the row")
    made = table("model", *columns, right=columns)
    for name in given.models:
        m = measure(presets()[name], given.seconds, given.tokens)
        sizes = (f"{x / 2**20:,.0f}" for x in (m.parameters, m.row, m.fisher))
        made.add_row(name, *sizes, f"{m.copies:.2f}")
    stdout().print(made)


if __name__ == "__main__":
    main()
