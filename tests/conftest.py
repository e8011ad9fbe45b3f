"""Eight virtual CPU devices, so that sharding is real in every test, and a compiler in a hurry."""

import os

# Most of the suite's time is XLA's, for thousands of small programs that run once or twice. Without
# LLVM's optimisation, and with the emitters of whole loops instead of MLIR's, it compiles five
# times faster; what is computed stays the same up to rounding. XLA_FLAGS come last and win:
# `make soak` compiles as users do.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
        os.environ.get("XLA_FLAGS", ""),
    ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

# A silent broadcast of ranks is how shape mistakes hide.
jax.config.update("jax_numpy_rank_promotion", "raise")
