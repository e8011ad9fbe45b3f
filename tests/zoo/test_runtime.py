"""Settings that must come before JAX, or must not override the user's."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest
from parley.zoo import runtime


@pytest.mark.parametrize(
    ("before", "devices"), [("", 3), ("--xla_force_host_platform_device_count=2", 2)]
)
def test_cores_are_devices_unless_the_user_said_otherwise(before: str, devices: int):
    code = (
        "from parley.zoo.runtime import configure_devices; configure_devices(3);"
        "import jax; print(jax.device_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env={"XLA_FLAGS": before, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.stdout.strip() == str(devices), done.stderr


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
