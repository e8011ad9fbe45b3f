"""The emissions of a beam search as a tree, and how the few of many are picked.

Hypotheses change places by moving a pointer; their labels are read off once, at the end.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .decoding import Hypotheses


class Tree(NamedTuple):
    """Emissions of this call [B, limit * K]: round r writes entries r K ... (r + 1) K - 1."""

    parent: jax.Array
    token: jax.Array
    frame: jax.Array
    logp: jax.Array


def empty_tree(batch: int, size: int) -> Tree:
    """Room for `size` emissions in each row."""
    numbers = jnp.zeros((batch, size), jnp.int32)
    return Tree(numbers, numbers, numbers, jnp.zeros((batch, size), jnp.float32))


def write(
    tree: Tree,
    at: jax.Array,
    *,
    parent: jax.Array,
    token: jax.Array,
    frame: jax.Array,
    logp: jax.Array,
) -> Tree:
    """Enters a round's emissions [B, K] from entry `at` on; frame [B]."""
    entry = Tree(
        parent=parent,
        token=token,
        frame=jnp.tile(frame[:, None], (1, parent.shape[1])),
        logp=logp,
    )
    return jax.tree.map(
        lambda whole, new: jax.lax.dynamic_update_slice(whole, new.astype(whole.dtype), (0, at)),
        tree,
        entry,
    )


def read(
    tree: Tree, node: jax.Array, count: jax.Array, before: Hypotheses, *, capacity: int
) -> Hypotheses:
    """Emissions of every hypothesis behind those that were pending at its root.

    Args:
      node: [B, K], the last emission of each, or -1 - k for the root that has none.
      count: [B, K], emissions on the way from the root.
      before: [B, K, P], of the roots.
      capacity: emissions that any can have.
    """
    batch, width = node.shape
    rows, columns = jnp.arange(batch)[:, None], jnp.arange(width)[None, :]

    def climb(node):
        up = jnp.take_along_axis(tree.parent, jnp.maximum(node, 0), axis=1)
        return jnp.where(node >= 0, up, node)

    root = jax.lax.while_loop(lambda node: jnp.any(node >= 0), climb, node)
    held = take(before, -1 - root)
    room = ((0, 0), (0, 0), (0, capacity))
    size = before.tokens.shape[2] + capacity
    found = Hypotheses(
        *(jnp.pad(x, room) for x in (held.tokens, held.frames, held.logp)),
        counts=held.counts + count,
    )

    def write(carry):
        node, left, out = carry
        here = jnp.maximum(node, 0)
        position = jnp.where(node >= 0, held.counts + left - 1, size)  # outside: dropped
        values = (jnp.take_along_axis(x, here, axis=1) for x in (tree.token, tree.frame, tree.logp))
        written = (
            x.at[rows, columns, position].set(value, mode="drop")
            for x, value in zip(out[:3], values, strict=True)
        )
        return climb(node), left - 1, Hypotheses(*written, counts=out.counts)

    _, _, found = jax.lax.while_loop(
        lambda carry: jnp.any(carry[0] >= 0), write, (node, count, found)
    )
    return found


def top(x: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The `count` largest of each row of [B, M], and where they are.

    One maximum after another: on a CPU, for few of many, a tenth of the time that sorting takes.
    """
    if count > 8:
        return jax.lax.top_k(x, count)
    values, places = [], []
    columns = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :]
    for _ in range(count):
        value = x.max(axis=1)
        # Not argmax, whose reduction of pairs XLA's CPU compiler does not vectorise.
        place = jnp.where(x == value[:, None], columns, x.shape[1] - 1).min(axis=1)
        values.append(value)
        places.append(place)
        x = jnp.where(columns == place[:, None], -jnp.inf, x)
    return jnp.stack(values, axis=1), jnp.stack(places, axis=1)


def take(tree: Any, index: jax.Array) -> Any:
    """Entries `index` [B, K'] of the second axis of every leaf [B, K, ...]."""
    rows = jnp.arange(index.shape[0])[:, None]
    # Whole slices: on a CPU many times faster than `take_along_axis`, which goes by elements.
    return jax.tree.map(lambda x: x.at[rows, index].get(mode="clip"), tree)


def smallest_that_holds(count: jax.Array, room: int, run: Callable[[int], Any]) -> Any:
    """`run(size)` for the smallest of a few fixed sizes, `room` the largest, that is `count` [] or
    more. What `run` returns has the same shapes for every size.

    Each size is compiled, so there are three, and where there is little room, one.
    """
    if room < 64:
        return run(room)
    sizes = (room // 4, room // 2, room)
    tier = (count > sizes[0]).astype(jnp.int32) + (count > sizes[1])
    return jax.lax.switch(tier, [partial(run, size) for size in sizes])
