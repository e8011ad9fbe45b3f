"""Recomputed activations: the same numbers, less kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.encoders import make_encoder
from parley.models.encoders.conformer import ConformerConfig
from parley.models.encoders.contextnet import ContextNetConfig
from parley.models.encoders.conv_rnnt import ConvRNNTConfig
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.encoders.transformer import TransformerConfig
from parley.models.remat import Policy, rematerialised
from parley.train.step import split_model

LSTM = LSTMEncoderConfig(width=8, layers=2, output=8, norm=True, dropout=0.1)
CONFIGS = [
    LSTM,
    ConvRNNTConfig(lstm=LSTM, width=8, bins=16, channels=(4, 4, 4, 4), global_blocks=2),
    ConformerConfig(width=8, heads=2, blocks=2, output=8, left=4, kernel=3),
    TransformerConfig(width=8, heads=2, blocks=2, output=8, left=4),
    ContextNetConfig(widths=(8, 8, 8), output=8, layers=2, strided=(1,), squeeze_reduction=2),
]


def gradients(config, policy: Policy):
    """(encoder's gradients and moved statistics, its program) under a policy."""
    encoder = make_encoder(config, 16, rngs=nnx.Rngs(0))
    graphdef, params, rest = split_model(encoder)
    x = jax.random.normal(jax.random.key(1), (2, 16, 16))

    def loss(params, rest):
        model = nnx.merge(graphdef, params, rest)
        with rematerialised(policy):
            y, _ = model(x, jnp.asarray([16, 12]), key=jax.random.key(2))
        return jnp.sum(y**2), split_model(model)[2]

    step = jax.grad(loss, has_aux=True)
    return jax.jit(step)(params, rest), str(jax.make_jaxpr(step)(params, rest))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.kind)
@pytest.mark.parametrize("policy", ["blocks", "products"])
def test_a_policy_changes_no_gradient_and_no_statistics(config, policy: Policy):
    kept, plain = gradients(config, "none")
    again, program = gradients(config, policy)
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(kept))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)
    assert "remat" in program or "checkpoint" in program
    assert "remat" not in plain
    assert "checkpoint" not in plain
