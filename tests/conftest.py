"""Eight virtual CPU devices, so that sharding is real in every test."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

# A silent broadcast of ranks is how shape mistakes hide.
jax.config.update("jax_numpy_rank_promotion", "raise")
