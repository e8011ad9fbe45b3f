"""A beginning that SpecAugment blanked does not swamp the gradient.

Held for the families that normalise each frame by itself; batch norm knows no empty frame.
"""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from parley.configs import presets
from parley.models.encoders import make_encoder

FAMILIES = ["lstm-tiny", "conformer-tiny", "tt-tiny"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_behind_blank_frames_is_of_the_usual_size(name: str):
    config = presets()[name].model
    encoder = make_encoder(config.encoder, config.frontend.size, rngs=nnx.Rngs(0))
    graphdef, params, frozen = nnx.split(encoder, nnx.Param, ...)
    params, frozen = nnx.to_pure_dict(params), nnx.to_pure_dict(frozen)
    heard = jax.random.normal(jax.random.key(0), (2, 24, config.frontend.size))
    blank = heard.at[:, :16].set(0.0)
    lengths = jnp.full(2, 24)

    @jax.jit
    def norm(x: jax.Array) -> jax.Array:
        def total(params):
            y, _ = nnx.merge(graphdef, params, frozen)(x, lengths, key=jax.random.key(1))
            return (y * jax.random.normal(jax.random.key(2), y.shape)).sum()

        leaves = jax.tree.leaves(jax.grad(total)(params))
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in leaves))

    assert norm(blank) < 20 * norm(heard)
