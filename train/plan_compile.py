"""Compiles a recipe's training step for chips that are not there, and says what it takes.

    python -m parley.train.plan_compile < jobs.json

is what `parley plan` starts in a process of its own: the compiler for TPU must be found before JAX
starts, and no other program should see it. A job is {recipe, topology, seconds}; each answer is a
line of JSON, {"plan": ...} or {"error": sentence}.

For TPU the program is that of the pod, by its own compiler. For GPU it is partitioned for as many
devices and compiled for the CPU: arithmetic and collectives are those of the recipe, bytes and
memory of another compiler's fusions.
"""

import dataclasses
import json
import math
import os
import re
import sys
import time
from typing import Any

import numpy as np

from ..data.audio import SAMPLE_RATE
from ..data.batching import BatchPlan
from ..data.errors import InputError
from ..models.cost import LABELS_PER_SECOND
from .plan_chips import Chip, parse_topology
from .recipe import MeshConfig, Recipe, recipe_from_dict

_SPACE = re.compile(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class StepShape:
    """A batch over all chips."""

    rows: int
    samples: int
    labels: int

    @property
    def audio_seconds(self) -> float:
        return self.rows * self.samples / SAMPLE_RATE


def mesh_sizes(config: MeshConfig, chips: int) -> tuple[int, int, int]:
    """(data, fsdp, model) on so many chips. Raises InputError where they do not fit."""
    sizes = [config.data, config.fsdp, config.model]
    if sizes.count(-1) == 1:
        others = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = chips // others if others > 0 else 0
    if min(sizes) < 1 or math.prod(sizes) != chips:
        raise InputError(
            f"a mesh of data {config.data} x fsdp {config.fsdp} x model {config.model} does not "
            f"fit {chips} chips: change --mesh.data, --mesh.fsdp or --mesh.model."
        )
    return sizes[0], sizes[1], sizes[2]


def step_shape(recipe: Recipe, mesh: tuple[int, int, int], seconds: float) -> StepShape:
    """The batch that the loader would make of utterances of `seconds`, as the batch plan does it:
    its rows are a multiple of the chips that split it."""
    tokens = math.ceil(LABELS_PER_SECOND * seconds)
    plan = BatchPlan(
        np.full(1, seconds),
        np.full(1, tokens),
        seed=0,
        batch_seconds=recipe.data.batch_seconds,
        buckets=1,
        min_seconds=0.0,
        max_seconds=seconds,
        multiple=mesh[0] * mesh[1] * recipe.optimizer.accumulate,
    )
    bucket = plan.buckets[-1]
    return StepShape(bucket.size, bucket.samples, plan.label_lengths[-1])


def plan_step(recipe: Recipe, topology: str, seconds: float | None = None) -> dict[str, Any]:
    """Compiles the step for a topology; returns what `parley plan --json` prints of it.

    Args:
      seconds: of every utterance; None takes the longest that the recipe admits.

    Raises InputError for a topology or a mesh that cannot be.
    """
    chip, chips = parse_topology(topology)
    mesh = mesh_sizes(recipe.mesh, chips)
    shape = step_shape(recipe, mesh, seconds or recipe.data.max_seconds)
    devices = _devices(chip, topology, chips)
    return _Planned(recipe, chip, mesh, shape, devices).record(topology)


class _Planned:
    def __init__(
        self,
        recipe: Recipe,
        chip: Chip,
        mesh: tuple[int, int, int],
        shape: StepShape,
        devices: list[Any],
    ):
        import jax
        from jax.sharding import AxisType, Mesh

        from .optimizer import make_optimizer
        from .sharding import batch_sharding, shardings
        from .start import abstract_state

        self.recipe, self.chip, self.sizes, self.shape = recipe, chip, mesh, shape
        axes = (AxisType.Auto,) * 3
        self.mesh = Mesh(
            np.array(devices).reshape(mesh), ("data", "fsdp", "model"), axis_types=axes
        )
        self.rows = batch_sharding(self.mesh)
        self.optimizer = make_optimizer(recipe.optimizer, recipe.steps, recipe.adapt)
        self.graphdef, self.shapes = abstract_state(recipe, self.optimizer)
        self.places = shardings(self.shapes, self.mesh)
        self.parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(self.shapes.params))

    def record(self, topology: str) -> dict[str, Any]:
        from .plan_hlo import Program
        from .plan_roofline import estimate

        began, worked = time.monotonic(), time.process_time()
        memory, text = self._compile()
        seconds, worked = time.monotonic() - began, time.process_time() - worked
        chips = self.mesh.size
        found: dict[str, Any] = {
            "recipe": self.recipe.name,
            "topology": topology,
            "chip": self.chip.name,
            "chips": chips,
            "mesh": list(self.sizes),
            "parameters": self.parameters,
            "rows": self.shape.rows,
            "utterance_seconds": self.shape.samples / SAMPLE_RATE,
            "tokens": self.shape.labels,
            "audio_seconds": self.shape.audio_seconds,
            "accumulate": self.recipe.optimizer.accumulate,
            "remat": self.recipe.remat,
            "precision": self.recipe.precision,
            "steps": self.recipe.steps,
            "compile_seconds": seconds,
            "compile_processor_seconds": worked,
            "memory": memory,
        }
        if not text:
            return found | {"fits": False, "estimate": None, "collectives": {}}
        program = Program(text, unknown_turns=self._turns(), chips=chips)
        spent = estimate(program, self.chip, chips)
        useful = self._useful_flops() / chips
        hours = spent.step * self.recipe.steps / 3600
        return found | {
            "fits": memory["total"] <= memory["capacity"],
            "flops": program.flops,
            "useful_flops": useful,
            "traffic": program.traffic,
            "operations": sum(op.times for op in program.ops),
            "collectives": _collectives(program),
            "estimate": spent.as_dict(),
            "mfu": useful / (spent.step * self.chip.flops),
            "hours": hours,
            "chip_hours": hours * chips,
        }

    def _compile(self) -> tuple[dict[str, float], str]:
        """(bytes of a chip's memory, the program's text, '' where it does not fit)."""
        import jax
        from jax.sharding import NamedSharding
        from jax.sharding import PartitionSpec as P

        from .step import make_train_step

        state = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            self.shapes,
            self.places,
        )
        step = make_train_step(self.graphdef, self.recipe, self.optimizer, self.rows)
        whole = NamedSharding(self.mesh, P())
        jitted = jax.jit(step, donate_argnums=0, out_shardings=(self.places, whole))
        try:
            compiled: Any = jitted.lower(state, self._batch()).compile()
        except jax.errors.JaxRuntimeError as error:
            space = _SPACE.search(str(error))
            if space is None:
                raise
            used, _ = (float(space[n]) * _UNITS[space[n + 1]] for n in (1, 3))
            return {"total": used, "capacity": self.chip.memory, "arguments": 0.0}, ""
        held = compiled.memory_analysis()
        parts = {
            "arguments": held.argument_size_in_bytes,
            "outputs": held.output_size_in_bytes - held.alias_size_in_bytes,
            "temporary": held.temp_size_in_bytes,
            "program": held.generated_code_size_in_bytes,
        }
        total = {"total": sum(parts.values()), "capacity": self.chip.memory}
        return {**parts, **total}, compiled.as_text()

    def _batch(self) -> dict[str, Any]:
        import jax
        import jax.numpy as jnp

        from ..models.transducer import channels_of

        rows, channels = self.shape.rows, channels_of(self.recipe.model)

        def array(*dims: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *dims), dtype, sharding=self.rows)

        batch = {
            "samples": array(self.shape.samples, dtype=jnp.int16),
            "sample_lengths": array(),
            "index": array(),
        }
        if channels == 1 and self.recipe.tokenizer.markers == "none":
            return batch | {"labels": array(self.shape.labels), "label_lengths": array()}
        spans = (channels, max(1, self.shape.labels // 8), 2)
        times = array(channels, self.shape.labels, dtype=jnp.float32)
        return batch | {
            "labels": array(channels, self.shape.labels),
            "label_lengths": array(channels),
            "label_times": times,
            "turn_spans": array(*spans, dtype=jnp.float32),
        }

    def _encoded(self) -> tuple[int, int, int]:
        """[B, T, J] of the encoder's output over the whole batch."""
        import jax

        from ..models.frontend import append_tail
        from .step import merge_model

        def encode(params: Any, frozen: Any, samples: Any, lengths: Any) -> Any:
            model = merge_model(self.graphdef, params, frozen)
            padded = append_tail(samples, lengths, self.recipe.model.frontend)
            return model.encode(*model.features(*padded))[0]

        batch = self._batch()
        made = jax.eval_shape(
            encode,
            self.shapes.params,
            self.shapes.frozen,
            batch["samples"],
            batch["sample_lengths"],
        )
        return made.shape

    def _turns(self) -> int:
        """Turns of the transducer loss's loops over chunks, all rows being full."""
        from .losses.transducer import chunks_of

        rows, frames, width = self._encoded()
        parts = self.sizes[0] * self.sizes[1] * self.recipe.optimizer.accumulate
        platform = self.mesh.devices.flat[0].platform
        classes = self.recipe.model.vocab_size
        return chunks_of(rows // parts, frames, self.shape.labels + 1, classes, width, platform)

    def _useful_flops(self) -> float:
        """Of one step over all chips: forward and backward, nothing computed twice."""
        from ..models.cost import gflop, model_cost

        cost = model_cost(self.recipe.model)
        rows, frames, _ = self._encoded()
        frame_s = self.shape.samples / SAMPLE_RATE / frames
        evaluations = 1.0 / frame_s + LABELS_PER_SECOND
        cells = rows * frames * (self.shape.labels + 1)
        labels = rows * (self.shape.labels + 1)
        forward = (
            cost.encoder * self.shape.audio_seconds
            + cost.prediction / LABELS_PER_SECOND * labels
            + cost.joint / evaluations * cells
        )
        return 3.0 * 1e9 * gflop(forward)


def _collectives(program: Any) -> dict[str, dict[str, float]]:
    """By kind: how often, bytes that a chip contributes and has to send, the largest group."""
    found: dict[str, dict[str, float]] = {}
    for op in program.ops:
        for sent in op.sent:
            each = found.setdefault(sent.kind, {"count": 0, "bytes": 0, "wire": 0, "group": 1})
            each["count"] += op.times
            each["bytes"] += op.times * sent.bytes
            each["wire"] += op.times * sent.wire
            each["group"] = max(each["group"], sent.group)
    return found


def _devices(chip: Chip, topology: str, chips: int) -> list[Any]:
    import jax

    if not chip.is_tpu:
        return jax.devices("cpu")[:chips]
    from jax.experimental import topologies

    # libtpu takes hosts of 2 x 2 chips, unless it is told: one chip is a host of its own.
    options: dict[str, Any] = {"chips_per_host_bounds": [1, 1, 1]} if chips == 1 else {}
    try:
        found = topologies.get_topology_desc(topology, platform="tpu", **options).devices
    except Exception as error:  # whatever the plugin raises for a shape that it does not know
        reason = str(error).split("\n")[0][:160]
        raise InputError(f"--topology {topology} is not known to libtpu: {reason}") from None
    return list(found)


def main() -> None:
    """Answers the jobs on stdin, one line each."""
    jobs = json.load(sys.stdin)
    # Compilers write what they have to say to stdout too; the answers keep the real one.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for job in jobs:
        try:
            recipe = recipe_from_dict(job["recipe"])
            answer = {"plan": plan_step(recipe, job["topology"], job["seconds"])}
        except InputError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
