"""Time and memory of the transducer losses, loss and gradient, on the device that JAX finds.

Prints one table. Rows of the logits level say how often the time of reading the logits once and
writing as many numbers goes into one evaluation ("limit"); rows of the joint level stand in pairs,
in chunks and through full logits. All is measured in the same run, the forms of a shape in turn,
and the median is given: on a shared machine trust the ratios, not the milliseconds.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..train.losses import default_chunk, rnnt_loss, transducer_loss

_LOGITS = [(1, 100, 20, 128), (4, 150, 40, 128), (8, 200, 50, 512)]  # B, T, U, V
_JOINT = [(48, 40, 16, 192, 128), (8, 250, 60, 640, 1024)]  # B, T, U, D, V
_Form = tuple[str, Callable[..., Any], tuple[jax.Array, ...]]


def _targets(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    n_batch, n_frames, n_labels, *_, n_classes = shape
    labels = jax.random.randint(jax.random.key(0), (n_batch, n_labels), 1, n_classes)
    return labels, jnp.full(n_batch, n_frames), jnp.full(n_batch, n_labels)


def _logits_forms(shape: tuple[int, int, int, int]) -> list[_Form]:
    n_batch, n_frames, n_labels, n_classes = shape
    targets = _targets(shape)
    logits = jax.random.normal(jax.random.key(1), (n_batch, n_frames, n_labels + 1, n_classes))
    loss = jax.value_and_grad(lambda x: rnnt_loss(x, *targets).sum())
    return [("limit", lambda x: 2 * x, (logits,)), ("rnnt_loss", loss, (logits,))]


def _joint_forms(shape: tuple[int, int, int, int, int]) -> list[_Form]:
    n_batch, n_frames, n_labels, width, n_classes = shape
    targets = _targets(shape)
    keys = jax.random.split(jax.random.key(1), 3)
    encoded = jax.random.normal(keys[0], (n_batch, n_frames, width))
    predicted = jax.random.normal(keys[1], (n_batch, n_labels + 1, width))
    kernel = jax.random.normal(keys[2], (width, n_classes)) / width**0.5

    def chunked(f: jax.Array, g: jax.Array, w: jax.Array) -> jax.Array:
        return transducer_loss(f, g, lambda a, b: jnp.tanh(a + b) @ w, *targets).sum()

    def whole(f: jax.Array, g: jax.Array, w: jax.Array) -> jax.Array:
        return rnnt_loss(jnp.tanh(f[:, :, None] + g[:, None]) @ w, *targets).sum()

    chunk = default_chunk(n_batch, n_frames, n_labels + 1, n_classes)
    inputs = encoded, predicted, kernel
    return [
        ("full logits", jax.value_and_grad(whole, argnums=(0, 1, 2)), inputs),
        (
            f"transducer_loss, chunk {chunk}",
            jax.value_and_grad(chunked, argnums=(0, 1, 2)),
            inputs,
        ),
    ]


def measure(forms: list[_Form], repeats: int) -> list[tuple[float, float]]:
    """Returns median milliseconds and compiled temporary MiB of each form, run in turn."""
    compiled = [jax.jit(form).lower(*inputs).compile() for _, form, inputs in forms]
    times: list[list[float]] = [[] for _ in forms]
    for repeat in range(repeats + 1):
        for run, (_, _, inputs), taken in zip(compiled, forms, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(run(*inputs))
            if repeat:  # the first touches fresh memory
                taken.append(1e3 * (time.perf_counter() - start))
    memory = [run.memory_analysis() for run in compiled]
    return [
        (float(np.median(taken)), known.temp_size_in_bytes / 2**20 if known else float("nan"))
        for known, taken in zip(memory, times, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.rnnt_loss",
        description="Time and memory of the transducer losses, loss and gradient, in float32.",
        epilog="example: python -m parley.benchmarks.rnnt_loss --repeats 9 --small",
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each form")
    parser.add_argument("--small", action="store_true", help="only shapes of milliseconds")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")

    device = jax.devices()[0]
    print(f"{device.platform} ({device.device_kind}), jax {jax.__version__}, loss + gradient")
    print(f"{'shape':34}{'form':28}{'ms':>9}{'times the first':>17}{'temporary MiB':>15}")
    shapes: list[tuple[str, tuple[int, ...], Callable[..., list[_Form]]]] = [
        *(("B{} T{} U{} V{}", shape, _logits_forms) for shape in _LOGITS),
        *(("B{} T{} U{} D{} V{}", shape, _joint_forms) for shape in _JOINT),
    ]
    for label, shape, build in shapes:
        if arguments.small and np.prod(shape) > 1e8:
            continue
        forms = build(shape)
        rows = measure(forms, arguments.repeats)
        for (name, _, _), (ms, mib) in zip(forms, rows, strict=True):
            print(
                f"{label.format(*shape):34}{name:28}{ms:9.2f}{ms / rows[0][0]:17.2f}{mib:15.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
