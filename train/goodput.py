"""Where a run's time goes: steps, or waiting for data, compiling, checkpoints and validation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax

PARTS = ("data", "compile", "checkpoint", "validation")
_COMPILING = "/jax/core/compile/"
_NAMES = {
    "train": "training",
    "data": "waiting for data",
    "compile": "compiling",
    "checkpoint": "checkpoints",
    "validation": "validating",
}


class Goodput:
    """Seconds of each part since it was made; what no part takes is training."""

    def __init__(self):
        self.began = time.monotonic()
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._compiled = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    @contextmanager
    def spent(self, part: str) -> Iterator[None]:
        """Counts the time inside for a part; what JAX compiles inside is counted as that."""
        began, compiled = time.monotonic(), self._compiled
        try:
            yield
        finally:
            within = self._compiled - compiled
            self.seconds["compile"] += within
            if part != "train":
                whole = time.monotonic() - began
                self.seconds[part] += max(0.0, whole - within)

    def shares(self) -> dict[str, float]:
        """Part -> share of all time so far, `train` first."""
        whole = max(time.monotonic() - self.began, 1e-9)
        parts = {name: seconds / whole for name, seconds in self.seconds.items()}
        return {"train": max(0.0, 1.0 - sum(parts.values())), **parts}

    def sentence(self) -> str:
        """`goodput 93 %: training 93 %, waiting for data 2 %, ...`."""
        shares = self.shares()
        parts = ", ".join(f"{_NAMES[name]} {100 * share:.1f} %" for name, share in shares.items())
        return f"goodput {100 * shares['train']:.0f} %: {parts}"

    def close(self) -> None:
        """Listens no longer to what JAX compiles."""
        jax.monitoring.unregister_event_duration_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith(_COMPILING):  # tracing, lowering and compiling, one after the other
            self._compiled += duration_secs
