"""The machine that a command runs on: its memory, its compilation cache, its name on a card."""

import ctypes
import os
import platform
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


@cache
def set_up() -> None:
    """What comes before the first computation, once a process."""
    if computes_on_cpu():
        keep_memory()
    use_compilation_cache()


def computes_on_cpu() -> bool:
    """Whether JAX will find no accelerator, as far as that can be told without starting it: by the
    platform that is asked for, else by what is installed."""
    import jax

    if asked := jax.config.values.get("jax_platforms"):
        return asked.split(",")[0] == "cpu"
    plugins = entry_points(group="jax_plugins")
    return not plugins and all(find_spec(name) is None for name in ("jax_plugins", "libtpu"))


def keep_memory() -> bool:
    """Has the C library keep what is freed; False where that is not to be, or not glibc's to do.

    XLA's CPU client asks the C library for its arrays in every step. By default it has large ones
    from the system, whose fresh pages cost about a third of a tiny preset's training step
    (docs/architecture.md). What the process held at its most it then holds until it ends. Somebody
    who has set malloc's own variables, or loads another allocator, has decided. Without effect
    once XLA has started: its threads have heaps of their own then.
    """
    tunables = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tunables or any(name.startswith(("MALLOC_", "LD_PRELOAD")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    # One heap for all threads, which holds large pieces too and never shrinks. All three are
    # needed: a thread's own heap cannot hold them.
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    return all(mallopt(option, value) for option, value in wanted)


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
