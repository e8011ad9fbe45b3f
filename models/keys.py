"""The keys that a model's weights are drawn with."""

from typing import Any

import jax
from flax import nnx


class _HostStream(nnx.RngStream):
    """A stream that counts its keys in Python."""

    def __init__(self, seed: int):
        super().__init__(seed, tag="default")
        self.drawn = 0

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key[...], self.drawn)
        self.drawn += 1
        return key


def weight_keys(seed: int) -> nnx.Rngs:
    """`nnx.Rngs(seed)`, key for key the same, to make a model with under a trace.

    nnx.Rngs counts in an array. Models are made under a trace (shapes first, then in one program),
    where its every count asks a tracer for a sharding; to refuse, JAX goes through all that has
    been traced so far. A Conformer of 16 blocks took 3.5 s for its shapes, and takes 0.5 s so.
    """
    rngs: Any = nnx.Rngs()  # streams are attributes that it does not declare
    rngs.default = _HostStream(seed)
    return rngs
