"""Eight virtual CPU devices, so that sharding is real in every test; a compiler in a hurry, and its
programs shared by all processes of a run."""

import atexit
import os
import shutil
import tempfile

# Most of the suite's time is XLA's, for thousands of small programs that run once or twice. Without
# LLVM's optimisation, and with the emitters of whole loops instead of MLIR's, it compiles five
# times faster; what is computed stays the same up to rounding. XLA_FLAGS of the user come last and
# win: `make soak` compiles as users do.
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
# Workers and the commands that tests start inherit the folder; who made it removes it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="parley-jax-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import pytest

# A silent broadcast of ranks is how shape mistakes hide.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rooms with the longest files first, or one worker would end long after the other."""
    items.sort(key=lambda item: item.path, reverse=True)
