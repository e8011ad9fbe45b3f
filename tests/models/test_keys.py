"""Weights are drawn with the keys of nnx.Rngs, which are cheaper to count."""

import jax
import numpy as np
from flax import nnx

from parley.models.keys import weight_keys


def draw(rngs: nnx.Rngs) -> list[jax.Array]:
    return [jax.random.key_data(key) for key in (rngs.params(), rngs.params(), rngs())]


def test_the_keys_are_those_of_nnx():
    expected = draw(nnx.Rngs(7))
    np.testing.assert_array_equal(draw(weight_keys(7)), expected)
    np.testing.assert_array_equal(jax.jit(lambda: draw(weight_keys(7)))(), expected)
    assert len({tuple(key.tolist()) for key in expected}) == 3
    assert not np.array_equal(draw(weight_keys(8)), expected)


def test_nothing_is_counted_in_the_program():
    def primitives(make) -> list[str]:
        return [str(e.primitive) for e in jax.make_jaxpr(lambda: draw(make(7)))().eqns]

    assert "add" in primitives(nnx.Rngs)
    assert "add" not in primitives(weight_keys)


def test_a_module_keeps_no_keys():
    made = [
        nnx.split(nnx.Linear(2, 3, rngs=make(1)), nnx.Param) for make in (nnx.Rngs, weight_keys)
    ]
    assert made[0][0] == made[1][0]
    for one, other in zip(*(jax.tree.leaves(params) for _, params in made), strict=True):
        np.testing.assert_array_equal(one, other)
