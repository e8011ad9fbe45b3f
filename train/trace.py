"""A profiler's trace of a few steps of a run."""

from pathlib import Path

import jax

AFTER, STEPS = 10, 5
"""Steps before the trace, which compile, and steps in it."""


class Trace:
    """Started and ended by the loop, which says what step comes next.

    Args:
      folder: where the trace goes; TensorBoard's profile plugin and Perfetto read it.
      first: steps done before the loop begins; None leaves no trace.
    """

    def __init__(self, folder: Path, first: int | None):
        self.folder, self.first, self.on = folder, first, False

    def at(self, step: int) -> None:
        """Called before every step."""
        if self.first is None:
            return
        if step == self.first + AFTER + 1:
            jax.profiler.start_trace(str(self.folder))
            self.on = True
        elif step == self.first + AFTER + STEPS + 1:
            self.close()

    def close(self) -> None:
        """Ends a trace that is under way."""
        if self.on:
            jax.profiler.stop_trace()
            self.on = False
