"""The machine that a command runs on: its devices, its compilation cache, its name on a card."""

import os
import platform
from pathlib import Path


def use_compilation_cache() -> None:
    """Keeps compiled programs in ~/.cache/parley/jax, so that only a first run waits for XLA.

    A cache that the user has chosen (JAX_COMPILATION_CACHE_DIR) stays; a folder that cannot be
    written is done without.
    """
    import jax

    if jax.config.values.get("jax_compilation_cache_dir") is not None:
        return
    folder = Path.home() / ".cache" / "parley" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def speed_line(audio_seconds: float, seconds: float) -> str:
    """What an evaluation says of the time that it took."""
    speed = audio_seconds / max(seconds, 1e-9)
    return (
        f"{audio_seconds / 60:,.1f} min of audio in {seconds:,.1f} s, compilation included: "
        f"{speed:,.0f} times real time on {device_name()}"
    )


def device_name() -> str:
    """What computes, for a card: `NVIDIA H100 80GB HBM3`, `2 cores of AMD EPYC 7B13`."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        count = jax.device_count()
        return device.device_kind if count == 1 else f"{count} x {device.device_kind}"
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {name}"
