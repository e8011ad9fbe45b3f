"""The process that measures one of our forms on one shape; `rnnt_loss` starts it.

A request comes as JSON on stdin, the answer goes as JSON to stdout. A process of its own for every
form and shape: nothing of an earlier one is left in memory or in caches, and what the system kills
takes nothing else along.

What a form is compared with is measured here too, in turn with it, so that other work on the
machine slows both: at the logits level `y = 2 x` written over its own input, at the joint level
matrix products.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..train.losses import rnnt_loss, transducer_loss
from ..zoo.runtime import device_name
from .rnnt_loss_cases import Case

Record = dict[str, Any]

# No form is run again once this much time is spent, if it has run twice.
PATIENCE_S = 60.0
# Timed at the joint level beside the case's own output layer; the best rate counts.
_SQUARES = {"cpu": (1024, 2048)}
_LARGE_SQUARES = (4096, 8192)
_OUTPUT_ROWS = 4096


@dataclasses.dataclass
class Targets:
    labels: jax.Array
    frame_lengths: jax.Array
    label_lengths: jax.Array

    @property
    def all(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        return self.labels, self.frame_lengths, self.label_lengths


def targets_of(case: Case) -> Targets:
    rows, _, n_labels, n_classes = case.dims
    labels = jax.random.randint(jax.random.key(0), (rows, n_labels), 1, n_classes)
    return Targets(labels, jnp.array(case.frames), jnp.array(case.labels))


def measure_logits(case: Case, repeats: int) -> Record:
    """`rnnt_loss` of logits that are kept, of logits that are donated, and the limit."""
    rows, n_frames, n_labels, n_classes = case.dims
    targets = targets_of(case).all
    keys = jax.random.split(jax.random.key(1))
    frame_part = jax.random.normal(keys[0], (rows, n_frames, 1, n_classes))
    label_part = jax.random.normal(keys[1], (rows, 1, n_labels + 1, n_classes))

    def evaluate(logits: jax.Array) -> Any:
        # The donated loss and `y = 2 x` write over their input. Each gives an array of its size,
        # so one buffer serves all.
        return jax.value_and_grad(lambda x: rnnt_loss(x, *targets).sum())(logits)

    refill = jax.jit(lambda _, f, g: f + g, donate_argnums=0, keep_unused=True)
    shape = jax.ShapeDtypeStruct((rows, n_frames, n_labels + 1, n_classes), jnp.float32)
    limit = jax.jit(lambda x: 2 * x, donate_argnums=0).lower(shape).compile()
    kept = jax.jit(evaluate).lower(shape).compile()
    donated = jax.jit(evaluate, donate_argnums=0).lower(shape).compile()
    logits = frame_part + label_part
    times: dict[str, list[float]] = {"limit": [], "rnnt_loss": [], "donated": []}
    began = time.perf_counter()
    for repeat in range(repeats + 1):
        ms_limit, logits = timed(limit, logits)
        logits = refill(logits, frame_part, label_part)
        ms_kept, result = timed(kept, logits)
        del result
        ms_donated, (_, logits) = timed(donated, logits)
        if repeat:  # the first touches fresh memory
            times["limit"].append(ms_limit)
            times["rnnt_loss"].append(ms_kept)
            times["donated"].append(ms_donated)
        if repeat >= 2 and time.perf_counter() - began > PATIENCE_S:
            break
    return {
        "floor_ms": times.pop("limit"),
        "ms": times,
        "memory": {"rnnt_loss": memory_of(kept), "donated": memory_of(donated)},
    }


def joint_forms(case: Case) -> dict[str, Callable[..., Any]]:
    """Loss and gradient to both inputs and the output layer, from (f, g, kernel)."""
    targets = targets_of(case).all

    def tiles(f: jax.Array, g: jax.Array, w: jax.Array) -> jax.Array:
        return transducer_loss(f, g, lambda a, b: jnp.tanh(a + b) @ w, *targets).sum()

    def full(f: jax.Array, g: jax.Array, w: jax.Array) -> jax.Array:
        return rnnt_loss(jnp.tanh(f[:, :, None] + g[:, None]) @ w, *targets).sum()

    return {
        "transducer_loss": jax.value_and_grad(tiles, argnums=(0, 1, 2)),
        "full logits": jax.value_and_grad(full, argnums=(0, 1, 2)),
    }


def joint_shapes(case: Case) -> tuple[tuple[int, ...], ...]:
    rows, n_frames, n_labels, n_classes = case.dims
    width = case.width
    return (rows, n_frames, width), (rows, n_labels + 1, width), (width, n_classes)


def compile_joint(case: Case, form: str) -> Any:
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in joint_shapes(case)]
    return jax.jit(joint_forms(case)[form]).lower(*inputs).compile()


def measure_joint(case: Case, form: str, repeats: int) -> Record:
    """One form through the joint, and the best rate of matrix products."""
    keys = jax.random.split(jax.random.key(1), 3)
    f, g, w = map(jax.random.normal, keys, joint_shapes(case))
    w = w / case.width**0.5
    run = compile_joint(case, form)
    products = _products(case)
    times: list[float] = []
    rates: list[float] = []
    began = time.perf_counter()
    for repeat in range(repeats + 1):
        ms, result = timed(run, f, g, w)
        del result
        if repeat:
            times.append(ms)
        for flops, product in products:
            ms, _ = timed(product)
            if repeat:
                rates.append(flops / ms * 1e3)
        if repeat >= 2 and time.perf_counter() - began > PATIENCE_S:
            break
    return {
        "flops_per_s": max(rates),
        "floor_ms": [1e3 * case.flops / max(rates)],
        "ms": {form: times},
        "memory": {form: memory_of(run)},
    }


def _products(case: Case) -> list[tuple[int, Callable[[], jax.Array]]]:
    """Matrix products to time, each with its flops: squares, and the case's output layer."""
    sizes = [(n, n, n) for n in _SQUARES.get(jax.devices()[0].platform, _LARGE_SQUARES)]
    sizes.append((_OUTPUT_ROWS, case.width, case.dims[3]))
    multiply = jax.jit(jnp.matmul)

    def product(a: jax.Array, b: jax.Array) -> Callable[[], jax.Array]:
        return lambda: multiply(a, b)

    return [(2 * m * k * n, product(jnp.ones((m, k)), jnp.ones((k, n)))) for m, k, n in sizes]


def timed(run: Callable[..., Any], *inputs: jax.Array) -> tuple[float, Any]:
    """Milliseconds and result of one call."""
    jax.block_until_ready(inputs)
    began = time.perf_counter()
    result = jax.block_until_ready(run(*inputs))
    return 1e3 * (time.perf_counter() - began), result


def memory_of(compiled: Any) -> Record:
    """Bytes that the compiler plans: temporary, all that is not an input, and all."""
    known = compiled.memory_analysis()
    if known is None:
        return {}
    temporary = known.temp_size_in_bytes
    extra = temporary + known.output_size_in_bytes - known.alias_size_in_bytes
    return {
        "temporary": temporary,
        "extra": extra,
        "total": extra + known.argument_size_in_bytes,
    }


def needed_bytes(case: Case, form: str) -> int:
    """About what a form holds at its fullest."""
    if case.level == "logits":  # the logits and their gradient
        return int(2.2 * case.logits_bytes)
    if form == "full logits":
        return int(3.2 * (case.logits_bytes + case.hidden_bytes))
    return 0


def free_bytes(host_bytes: int | None) -> int | None:
    """Memory of the device; a CPU has that of its host."""
    stats = jax.devices()[0].memory_stats()
    limit = (stats or {}).get("bytes_limit")
    return host_bytes if limit is None else int(limit)


def too_large(needed: int, free: int | None, case: Case) -> str | None:
    """Why a shape is skipped, or None."""
    if free is None or needed <= 0.9 * free:
        return None
    return (
        f"dense logits need {case.logits_bytes / 2**30:.1f} GiB, with gradient and temporaries "
        f"about {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free"
    )


def write_reference(case: Case, path: str) -> Record:
    """Random logits with our losses and gradient, which a peer's are held against."""
    targets = targets_of(case)
    rows, n_frames, n_labels, n_classes = case.dims
    logits = jax.random.normal(jax.random.key(1), (rows, n_frames, n_labels + 1, n_classes))
    losses, pull = jax.vjp(lambda x: rnnt_loss(x, *targets.all), logits)
    (gradient,) = pull(jnp.ones_like(losses))
    arrays = {"logits": logits, "losses": losses, "gradient": gradient, **vars(targets)}
    found: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(path, **found)
    return {}


def answer(request: Record) -> Record:
    form = request["form"]
    if form == "describe":
        device = jax.devices()[0]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return {
            "platform": device.platform,
            "device": device_name(),
            "jax": jax.__version__,
            "threads": cores,
        }
    case = Case.of_json(request["case"])
    if form == "reference":
        return write_reference(case, request["path"])
    if form == "memory":
        forms = joint_forms(case)
        return {"memory": {form: memory_of(compile_joint(case, form)) for form in forms}}
    free = free_bytes(request.get("host_bytes"))
    reason = too_large(needed_bytes(case, form), free, case)
    if reason:
        return {"skipped": reason}
    if case.level == "logits":
        return measure_logits(case, request["repeats"])
    return measure_joint(case, form, request["repeats"])


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
