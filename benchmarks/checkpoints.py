"""What an asynchronous checkpoint costs a run, beside the steps that go on while it is written.

    python -m parley.benchmarks.checkpoints
    python -m parley.benchmarks.checkpoints rnnt-30m --rows 8 --pairs 5 --json

Blocks of as many steps, by turns without a checkpoint and with one that is begun before the first
step and waited for after the last: what such a block takes longer is the checkpoint's cost, the
time that the loop stands still and the processors that writing takes from the steps. The share is
of `--every` steps. The state is the preset's own (parameters, their average, the optimiser's); the
batch is noise, and smaller than the preset's, so that a step is short and the share an upper bound
for the machine. Where steps run on an accelerator, the host's processors have nothing else to do.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ..configs import presets
from ..data.audio import SAMPLE_RATE
from ..train.checkpoint import Checkpoints
from ..train.optimizer import make_optimizer
from ..train.recipe import Recipe
from ..train.sharding import batch_sharding, make_mesh, put_batch
from ..train.start import initial_state
from ..train.step import make_train_step
from ..zoo.console import remark, stdout, table
from ..zoo.runtime import device_name
from .loader import Noise

BAR = 0.02


class Steps:
    """A preset's training on noise, step by step."""

    def __init__(self, recipe: Recipe, rows: int, seconds: float, tokens: int):
        mesh = make_mesh(recipe.mesh)
        optimizer = make_optimizer(recipe.optimizer, recipe.steps, recipe.adapt)
        graphdef, self.state, places = initial_state(recipe, mesh, optimizer, Noise(4), None)
        step = make_train_step(graphdef, recipe, optimizer, batch_sharding(mesh))
        whole = NamedSharding(mesh, P())
        self._step = jax.jit(step, donate_argnums=0, out_shardings=(places, whole))
        self._batch = put_batch(_noise(recipe, rows, seconds, tokens), mesh)
        self.bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

    def run(self, count: int) -> None:
        for _ in range(count):
            self.state, metrics = self._step(self.state, self._batch)
            jax.block_until_ready(metrics)


def _noise(recipe: Recipe, rows: int, seconds: float, tokens: int) -> dict[str, np.ndarray]:
    rng, samples = np.random.default_rng(0), round(seconds * SAMPLE_RATE)
    audio = rng.normal(0, 1000, (rows, samples)).clip(-32768, 32767)
    return {
        "samples": audio.astype(np.int16),
        "sample_lengths": np.full(rows, samples, np.int32),
        "index": np.arange(rows, dtype=np.int32),
        "labels": rng.integers(1, recipe.model.vocab_size, (rows, tokens), np.int32),
        "label_lengths": np.full(rows, tokens, np.int32),
    }


def measure(steps: Steps, folder: Path, block: int, pairs: int) -> dict[str, Any]:
    """Seconds of blocks with and without a checkpoint, and how long a save stands still."""
    checkpoints = Checkpoints(folder, keep=1)
    plain: list[float] = []
    saving: list[float] = []
    still: list[float] = []
    number = 0

    def block_of(saved: bool) -> float:
        nonlocal number
        began = time.monotonic()
        if saved:
            number += 1
            checkpoints.save(number, steps.state)
            still.append(time.monotonic() - began)
        steps.run(block)
        if saved:
            checkpoints.wait()
        return time.monotonic() - began

    steps.run(2)  # compiled, and warm
    block_of(True)
    still.clear()
    for pair in range(pairs):
        # By turns which of the two comes first: other work on the machine comes and goes.
        for saved in (False, True) if pair % 2 == 0 else (True, False):
            (saving if saved else plain).append(block_of(saved))
        remark(f"{pair + 1} of {pairs} pairs")
    checkpoints.close()
    step = statistics.median(plain) / block
    costs = [with_one - without for with_one, without in zip(saving, plain, strict=True)]
    return {
        "step_seconds": step,
        "checkpoint_seconds": statistics.median(costs),
        "checkpoint_seconds_of_pairs": costs,
        "still_seconds": statistics.median(still),
        "block_steps": block,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", nargs="?", default="conv-rnnt-30m")
    parser.add_argument("--rows", type=int, default=4, help="of a batch (default 4)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a row (default 8)")
    parser.add_argument("--tokens", type=int, default=32, help="of a row (default 32)")
    parser.add_argument("--block", type=int, default=4, help="steps of a block (default 4)")
    parser.add_argument("--pairs", type=int, default=3, help="of blocks (default 3)")
    parser.add_argument("--every", type=int, default=100, help="steps a checkpoint (default 100)")
    parser.add_argument("--precision", default="float32", help="of a CPU's steps: the faster one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    recipe = dataclasses.replace(presets()[given.preset], precision=given.precision)
    remark(f"compiling {recipe.name}")
    steps = Steps(recipe, given.rows, given.seconds, given.tokens)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(steps, Path(folder) / "checkpoints", given.block, given.pairs)
    found |= {"preset": recipe.name, "state_bytes": steps.bytes, "every": given.every}
    found["share"] = found["checkpoint_seconds"] / (given.every * found["step_seconds"])
    if given.json:
        print(json.dumps(found, indent=1))
        return
    console = stdout()
    console.print(
        f"{recipe.name}, a state of {steps.bytes / 2**20:,.0f} MiB, batches of {given.rows} rows "
        f"of {given.seconds:g} s, {given.pairs} pairs of blocks of {given.block} steps, on "
        f"{device_name()}:"
    )
    numbers = ("seconds", "of 100 steps" if given.every == 100 else f"of {given.every} steps")
    made = table("", *numbers, right=numbers)
    whole = given.every * found["step_seconds"]
    for name, key in (("a step", "step_seconds"), ("a checkpoint", "checkpoint_seconds")):
        share = "" if key == "step_seconds" else f"{100 * found[key] / whole:.2f} %"
        made.add_row(name, f"{found[key]:.2f}", share)
    made.add_row("  of it, the loop stands still", f"{found['still_seconds']:.2f}", "")
    made.add_row("bar", "", f"{100 * BAR:.0f} %")
    console.print(made)


if __name__ == "__main__":
    main()
