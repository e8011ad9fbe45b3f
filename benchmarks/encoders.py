"""What the encoders cost: counted, streamed on one core, and in a training step.

    python -m parley.benchmarks.encoders                              # every -tiny preset
    python -m parley.benchmarks.encoders rnnt-tiny conv-rnnt-tiny --profile
    python -m parley.benchmarks.encoders rnnt-30m conv-rnnt-30m --batch 32 --seconds 12
    python -m parley.benchmarks.encoders --counts-only --json         # nothing is timed

One row a preset, all measured in one run. Weights are random, which changes no time but one: how
often greedy search speaks. So blank's bias is set such that about four tokens come in a second.

Streaming is the whole path, samples to tokens, in float32 on one core of the CPU whatever else
there is; training is the recipe's own step, on the device that JAX finds, and its times are given
as ratios to the first preset. On a shared machine trust the ratios.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..configs import presets
from ..models.cost import LABELS_PER_SECOND, gflop, model_cost, state_bytes
from ..models.decoding import greedy, init_decoder
from ..models.frontend import FrontendConfig, LogMel, append_tail, log_mel
from ..models.streaming import Rechunker
from ..models.transducer import channels_of
from ..train.optimizer import make_optimizer
from ..train.recipe import Recipe
from ..train.step import (
    TrainState,
    build_model,
    losses,
    make_train_step,
    merge_model,
    split_model,
)
from ..zoo.console import remark, stdout, table
from ..zoo.package import abstract_model
from ..zoo.registry import unknown_name
from ..zoo.runtime import device_name, set_up

RATE = 16_000
PARTS = ("front end", "encoder forward", "encoder backward", "loss", "update")

Record = dict[str, Any]


# --- Counted ------------------------------------------------------------------------------------


def counts(recipe: Recipe) -> Record:
    """What the configuration alone says."""
    cost, state = model_cost(recipe.model), state_bytes(recipe.model)
    model = nnx.merge(*abstract_model(recipe))
    field = model.encoder.receptive_field
    step_s = recipe.model.frontend.step / recipe.model.frontend.sample_rate
    return {
        "preset": recipe.name,
        "parameters": sum(cost.parameters.values()),
        "encoder_parameters": cost.parameters["encoder"],
        "gflop_per_s": gflop(cost.total),
        "encoder_gflop_per_s": gflop(cost.encoder),
        "stride": model.encoder.stride,
        "frame_ms": 1000 * model.frame_s,
        "receptive_field_s": None if field is None else field * step_s,
        "state_kib": None if state is None else state / 1024,
    }


# --- Streamed, in a process of its own on one core ----------------------------------------------


def stream_on_one_core(names: Sequence[str], chunk_ms: float, repeats: int) -> dict[str, float]:
    """Seconds of audio for a second of computing, by preset; those that stream."""
    command = [sys.executable, "-m", "parley.benchmarks.encoders", *names, "--one-core"]
    command += ["--chunk-ms", str(chunk_ms), "--repeats", str(repeats)]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    done = subprocess.run(
        command,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def _one_core(recipes: Sequence[Recipe], chunk_ms: float, repeats: int) -> dict[str, float]:
    """The side of `stream_on_one_core` that computes."""
    # Before the first computation: XLA's threads inherit it.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    audio = _chords(10.0)
    chunk = round(chunk_ms * RATE / 1000)
    streams = {r.name: _stream_of(r, audio) for r in recipes if state_bytes(r.model) is not None}
    seconds: dict[str, list[float]] = {name: [] for name in streams}
    for repeat in range(repeats + 1):
        for name, run in streams.items():
            began = time.perf_counter()
            run(chunk)
            if repeat:  # the first compiles
                seconds[name].append(time.perf_counter() - began)
    length = len(audio) / RATE
    return {name: length / statistics.median(taken) for name, taken in seconds.items()}


def _stream_of(recipe: Recipe, audio: np.ndarray) -> Callable[[int], None]:
    """A function that streams `audio` in chunks of so many samples."""
    remark(f"{recipe.name}: streaming on one core")
    model = build_model(dataclasses.replace(recipe, precision="float32"))
    config, frontend = recipe.model.frontend, model.frontend
    if isinstance(config, FrontendConfig) and isinstance(frontend, LogMel):
        features = log_mel(jnp.asarray(audio[None]), config)[0]
        frontend.mean[...], frontend.std[...] = features.mean(axis=0), features.std(axis=0)
    _speak_at_rate(model, audio)
    graphdef, variables = nnx.split(model)
    multiple = model.samples_per_step

    @jax.jit
    def step(variables: Any, samples: jax.Array, state: Any) -> tuple[Any, Any]:
        model = nnx.merge(graphdef, variables)
        encoded, stream = model.stream_step(samples, state[0])
        lengths = jnp.full(model.channels, encoded.shape[1], jnp.int32)
        hypotheses, decoder = greedy(model, encoded, lengths, state=state[1])
        return hypotheses, (stream, decoder)

    start = model.init_stream(1), init_decoder(model, model.channels)

    def run(chunk: int) -> None:
        rechunker, state = Rechunker(multiple), start
        for at in range(0, len(audio), chunk):
            ready = rechunker.push(audio[None, at : at + chunk])
            if ready.shape[1]:
                hypotheses, state = step(variables, ready, state)
                jax.device_get(hypotheses)  # as a service would, chunk by chunk

    return run


def _speak_at_rate(model: Any, audio: np.ndarray) -> None:
    """Sets blank's bias such that greedy search gives about LABELS_PER_SECOND tokens."""
    graphdef, variables = nnx.split(model)

    @jax.jit
    def encode(variables: Any) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graphdef, variables)
        return model.encode(*model.features(audio[None], jnp.array([len(audio)])))

    @jax.jit
    def tokens(variables: Any, encoded: jax.Array, lengths: jax.Array, bias: float) -> jax.Array:
        model = nnx.merge(graphdef, variables)
        output = model.joiner.output
        output.bias[...] = output.bias[...].at[0].set(bias)
        return greedy(model, encoded, lengths)[0].counts[0]

    encoded = encode(variables)
    low, high = 0.0, 10.0
    for _ in range(12):
        middle = (low + high) / 2
        many = tokens(variables, *encoded, middle) > LABELS_PER_SECOND * len(audio) / RATE
        low, high = (middle, high) if many else (low, middle)
    bias = model.joiner.output.bias
    bias[...] = bias[...].at[0].set(high)


def _chords(seconds: float) -> np.ndarray:
    """int16 [N] that changes five times a second, like syllables."""
    random = np.random.default_rng(0)
    t = np.arange(round(seconds * RATE)) / RATE
    samples = random.normal(0.0, 30.0, len(t))
    for start in range(0, len(t), RATE // 5):
        piece = slice(start, start + RATE // 5)
        for hz in random.uniform(100.0, 4000.0, size=4):
            samples[piece] += random.uniform(0.0, 5000.0) * np.sin(2 * np.pi * hz * t[piece])
    return samples.astype(np.int16)


# --- In a training step -------------------------------------------------------------------------


def training(recipes: Sequence[Recipe], given: argparse.Namespace) -> list[Record]:
    """Median time of each recipe's step on one batch; with `given.profile`, of its parts."""
    forms: dict[tuple[int, str], Callable[[], Any]] = {}
    for index, recipe in enumerate(recipes):
        for part, form in _forms(recipe, given).items():
            forms[index, part] = form
    taken: dict[tuple[int, str], list[float]] = {key: [] for key in forms}
    for repeat in range(given.repeats + 1):
        for (index, part), form in forms.items():
            if not repeat:  # the first compiles
                remark(f"{recipes[index].name}: training, {part}")
            began = time.perf_counter()
            jax.block_until_ready(form())
            if repeat:
                taken[index, part].append(time.perf_counter() - began)
    median = {key: statistics.median(times) for key, times in taken.items()}
    records = []
    for index in range(len(recipes)):
        record: Record = {
            "step_ms": 1000 * median[index, "step"],
            "step_ratio": median[index, "step"] / median[0, "step"],
        }
        if given.profile:
            record["profile"] = _shares({part: median[index, part] for part in _PROFILE})
        records.append(record)
    return records


_PROFILE = ("step", "front end", "encoder", "encoder and gradient", "gradient")


def _shares(seconds: dict[str, float]) -> dict[str, float]:
    """Shares of the step. Programs are timed that hold one part more each; loss (with augmentation,
    prediction network and joint) and update (optimiser, averaged weights) are differences, which
    fusion across parts and noise can make a little negative."""
    loss = seconds["gradient"] - seconds["encoder and gradient"] - seconds["front end"]
    parts = (
        seconds["front end"],
        seconds["encoder"],
        seconds["encoder and gradient"] - seconds["encoder"],
        loss,
        seconds["step"] - seconds["gradient"],
    )
    return {part: value / seconds["step"] for part, value in zip(PARTS, parts, strict=True)}


def _forms(recipe: Recipe, given: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """The programs to time: the recipe's training step, and what its profile needs."""
    graphdef, params, frozen = split_model(build_model(recipe))
    optimizer = make_optimizer(recipe.optimizer, recipe.steps)
    state = TrainState(jnp.int32(0), jnp.int32(0), params, params, optimizer.init(params), frozen)
    # The step donates its state, so that it needs arrays of its own.
    held = [jax.tree.map(jnp.copy, state)]
    batch = jax.device_put(_batch(recipe, given.batch, given.seconds))
    train_step = jax.jit(make_train_step(graphdef, recipe, optimizer), donate_argnums=0)

    def step() -> Any:
        held[0], metrics = train_step(held[0], batch)
        return held[0], metrics

    if not given.profile:
        return {"step": step}
    key = jax.random.key(0)

    # The batch is an argument: what is made of constants alone, the compiler would compute.
    def features(params: Any, frozen: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        model = merge_model(graphdef, params, frozen)
        samples, lengths = batch["samples"], batch["sample_lengths"]
        return model.features(*append_tail(samples, lengths, recipe.model.frontend))

    def encoded(params: Any, frozen: Any, x: jax.Array, lengths: jax.Array) -> jax.Array:
        return merge_model(graphdef, params, frozen).encode(x, lengths, key=key)[0]

    def encoded_sum(*args: Any) -> jax.Array:
        y = encoded(*args)
        # Random weights: a plain sum has no gradient through a normalisation.
        return jnp.sum(y * jax.random.normal(key, y.shape, y.dtype))

    def loss(params: Any, frozen: Any, batch: Any) -> jax.Array:
        return losses(merge_model(graphdef, params, frozen), batch, key, recipe)[0]

    whole = params, frozen, batch
    encoder = params, frozen, *jax.jit(features)(*whole)
    return {
        "step": step,
        "front end": partial(jax.jit(features), *whole),
        "encoder": partial(jax.jit(encoded), *encoder),
        "encoder and gradient": partial(jax.jit(jax.grad(encoded_sum)), *encoder),
        "gradient": partial(jax.jit(jax.grad(loss)), *whole),
    }


def _batch(recipe: Recipe, rows: int, seconds: float) -> dict[str, np.ndarray]:
    """Rows of equal length with LABELS_PER_SECOND random labels a second, as many on each channel;
    of channels, no turn has a time."""
    random = np.random.default_rng(0)
    samples, labels = round(seconds * RATE), max(1, round(seconds * LABELS_PER_SECOND))
    channels = channels_of(recipe.model)
    own = (rows, channels) if channels > 1 else (rows,)
    timed: dict[str, np.ndarray] = {}
    if channels > 1:
        timed["label_times"] = np.full((*own, labels), np.nan, np.float32)
        timed["turn_spans"] = np.full((*own, 1, 2), np.nan, np.float32)
    return {
        "samples": random.normal(0.0, 1000.0, (rows, samples)).astype(np.int16),
        "sample_lengths": np.full(rows, samples, np.int32),
        "labels": random.integers(1, recipe.model.vocab_size, (*own, labels)).astype(np.int32),
        "label_lengths": np.full(own, labels, np.int32),
        **timed,
    }


# --- The table ----------------------------------------------------------------------------------


def show(records: Sequence[Record], given: argparse.Namespace) -> None:
    console = stdout()
    numbers = (
        *("parameters", "encoder", "GFLOP/s", "encoder GFLOP/s", "stride", "frame", "sees"),
        *("state", "times real time", "step", "ratio"),
    )
    rows = table("preset", *numbers, right=numbers)
    for r in records:
        field, state, speed = r["receptive_field_s"], r["state_kib"], r.get("times_real_time")
        rows.add_row(
            r["preset"],
            f"{r['parameters'] / 1e6:.2f} M",
            f"{r['encoder_parameters'] / 1e6:.2f} M",
            f"{r['gflop_per_s']:.3g}",
            f"{r['encoder_gflop_per_s']:.3g}",
            f"{r['stride']}",
            f"{r['frame_ms']:g} ms",
            "all" if field is None else f"{field:.2f} s",
            "-" if state is None else f"{state:,.1f} KiB",
            "-" if speed is None else f"{speed:.0f}",
            f"{r['step_ms']:,.1f} ms" if "step_ms" in r else "-",
            f"{r['step_ratio']:.2f}" if "step_ratio" in r else "-",
        )
    console.print(rows)
    console.print("GFLOP/s: for a second of audio, a multiply-add being two.")
    if not given.counts_only:
        console.print(
            f"Times real time: streaming on one core, chunks of {given.chunk_ms:g} ms.\n"
            f"Step: training on {given.batch} x {given.seconds:g} s of audio, {device_name()}; "
            f"ratio to {records[0]['preset']}."
        )
    if not any("profile" in r for r in records):
        return
    console.print()
    profile = table("share of the step", *PARTS, right=PARTS)
    for r in records:
        profile.add_row(r["preset"], *(f"{100 * r['profile'][part]:.0f} %" for part in PARTS))
    console.print(profile)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.encoders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="default: every -tiny")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--profile", action="store_true", help="share of the step by part")
    parser.add_argument("--counts-only", action="store_true", help="time nothing")
    parser.add_argument("--batch", type=int, default=8, help="rows of the training batch")
    parser.add_argument("--seconds", type=float, default=6.0, help="audio in each row")
    parser.add_argument("--chunk-ms", type=float, default=60.0, help="chunks of the stream")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, after one to warm up")
    parser.add_argument("--one-core", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if min(given.repeats, given.batch, given.seconds, given.chunk_ms) <= 0:
        parser.error("--repeats, --batch, --seconds and --chunk-ms must be above 0")
    known = presets()
    names = given.presets or [n for n in known if n.endswith("-tiny") and "digits" not in n]
    for name in names:
        if name not in known:
            parser.error(str(unknown_name(name, list(known), "preset", "parley list")))
    recipes = [known[name] for name in names]
    set_up()
    if given.one_core:
        print(json.dumps(_one_core(recipes, given.chunk_ms, given.repeats)))
        return
    records = [counts(recipe) for recipe in recipes]
    if not given.counts_only:
        speeds = stream_on_one_core(names, given.chunk_ms, given.repeats)
        for record, timed in zip(records, training(recipes, given), strict=True):
            record |= {"times_real_time": speeds.get(record["preset"]), **timed}
    if given.json:
        conditions = {k: getattr(given, k) for k in ("batch", "seconds", "chunk_ms", "repeats")}
        print(json.dumps({"device": device_name(), **conditions, "rows": records}, indent=1))
    else:
        show(records, given)


if __name__ == "__main__":
    main()
