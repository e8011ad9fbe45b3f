"""Settings that must come before JAX, or must not override the user's."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from parley.zoo import runtime


def test_a_cache_of_the_users_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("HOME", str(tmp_path))
    runtime.use_compilation_cache()
    assert jax.config.values["jax_compilation_cache_dir"] == before
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        runtime.use_compilation_cache()
        cache = tmp_path / ".cache" / "parley" / "jax"
        assert jax.config.values["jax_compilation_cache_dir"] == str(cache)
        assert cache.is_dir()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_the_device_has_a_name():
    assert "cores of" in runtime.device_name()


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "LD_PRELOAD", "GLIBC_TUNABLES"])
def test_an_allocator_of_the_users_is_respected(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, "glibc.malloc.arena_max=1")
    assert not runtime.keep_memory()


@pytest.mark.parametrize(
    ("asked", "plugins", "expected"),
    [("cpu", ["cuda"], True), ("cuda,cpu", [], False), ("", ["cuda"], False), ("", [], True)],
)
def test_whether_there_is_an_accelerator(
    asked: str, plugins: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runtime, "entry_points", lambda group: plugins)
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    before = jax.config.values["jax_platforms"]
    try:
        jax.config.update("jax_platforms", asked)
        assert runtime.computes_on_cpu() == expected
    finally:
        jax.config.update("jax_platforms", before)


def test_freed_memory_is_kept():
    """A process of its own: what glibc is told cannot be taken back."""
    script = """
from pathlib import Path
import numpy as np
from parley.zoo.runtime import keep_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
def after_use():
    np.ones(1 << 25)  # 256 MiB, used and freed
    return resident()
before = resident()
assert after_use() - before < 64e6
if keep_memory():
    assert after_use() - before > 200e6
    assert after_use() - before < 300e6  # the same memory again
    print("kept")
"""
    clean = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("MALLOC_", "LD_PRELOAD", "GLIBC_TUN"))
    }
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout
    assert said == ("kept\n" if platform.libc_ver()[0] == "glibc" else "")
