"""Settings that must come before JAX, or must not override the user's."""

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
