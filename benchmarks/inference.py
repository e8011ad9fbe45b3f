"""How fast inference is, and where its time goes.

    python -m parley.benchmarks.inference                        # rnnt-tiny and presets
    python -m parley.benchmarks.inference conv-rnnt-30m --rows 8
    python -m parley.benchmarks.inference rnnt-tiny --sessions 1 16 256

Batches are test sentences of `assistant`, sorted by length. Presets have random weights, with
blank's bias set such that about four tokens come in a second. Each part is a program of its own, of
which the best of several runs counts; the whole is the one that `parley transcribe` runs. The share
of the peak is of what a large product of float32 matrices reaches in the same run. On a shared
machine trust the ratios.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..configs import presets
from ..data.corpus import open_corpus
from ..models.beam import beam_search
from ..models.cost import model_cost
from ..models.decoding import greedy
from ..models.encoders.lstm import LSTMEncoder
from ..models.frontend import append_tail
from ..models.layers import lstm_scan
from ..train.step import build_model, split_model
from ..zoo.console import remark, stdout, table
from ..zoo.package import ModelPackage, read_model
from ..zoo.recognizer import Recognizer
from ..zoo.registry import find, folder_of
from ..zoo.runtime import device_name, use_compilation_cache
from ..zoo.transcript import Assembler

RATE = 16_000
TOKENS_PER_SECOND = 4.0
DEFAULT = ("rnnt-tiny", "conv-rnnt-tiny", "rnnt-30m", "conv-rnnt-30m")


class Batch(NamedTuple):
    samples: np.ndarray
    lengths: np.ndarray
    seconds: float


def batch(rows: int) -> Batch:
    """Sentences of the middle of the length's distribution, padded to the longest."""
    corpus = open_corpus("assistant", "test")
    order = sorted(range(len(corpus)), key=lambda i: corpus.utterance(i).duration)
    first = len(order) // 2 - rows // 2
    audio = [corpus.samples(i) for i in order[first : first + rows]]
    lengths = np.array([len(samples) for samples in audio], np.int32)
    padded = np.zeros((rows, lengths.max()), np.int16)
    for row, samples in enumerate(audio):
        padded[row, : len(samples)] = samples
    return Batch(padded, lengths, float(lengths.sum()) / RATE)


def package_of(name: str, given: Batch) -> ModelPackage:
    """A trained model, or a preset with random weights that speaks about as often as one."""
    entry = find(name)
    if entry.folder is not None:
        return read_model(entry.folder)
    trained = read_model(folder_of("rnnt-tiny"))  # for its tokenizer
    recipe = presets()[name]
    model = build_model(recipe)
    bias = model.joiner.output.bias
    assert bias is not None
    run = jax.jit(
        lambda variables, samples, lengths: greedy(
            *_encode(nnx.merge(graphdef, *variables), samples, lengths)
        )[0].counts.sum()
    )
    low, high = -20.0, 20.0
    for _ in range(10):
        bias[...] = bias[...].at[0].set((low + high) / 2)
        graphdef, params, frozen = split_model(model)
        rate = float(run((params, frozen), given.samples, given.lengths)) / given.seconds
        low, high = (
            ((low + high) / 2, high) if rate > TOKENS_PER_SECOND else (low, (low + high) / 2)
        )
    graphdef, params, frozen = split_model(model)
    return ModelPackage(trained.folder, recipe, graphdef, params, frozen, trained.tokenizer)


def _encode(model: Any, samples: jax.Array, lengths: jax.Array) -> tuple[Any, ...]:
    x, frames = model.features(*append_tail(samples, lengths, model.config.frontend))
    return model, *model.encode(x, frames)


def best_of(function: Callable[[], Any], runs: int = 5) -> float:
    """Seconds of the fastest run, after one that compiles."""
    jax.block_until_ready(function())
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - began)
    return min(found)


def peak() -> float:
    """Multiply-adds a second of a large float32 product."""
    n = 2048
    a = jnp.ones((n, n), jnp.float32)
    return n**3 / best_of(partial(jax.jit(jnp.matmul), a, a))


def bare(encoder: LSTMEncoder, x: jax.Array) -> Callable[[], Any]:
    """The products and scans of an LSTM encoder alone, of the same shapes."""
    config = encoder.config
    kernels = [(layer.kernel[...], layer.recurrent[...]) for layer in encoder.layers]
    out = encoder.output.kernel[...]

    @jax.jit
    def run(x, kernels, out):
        x = x.swapaxes(0, 1)
        for i, (kernel, recurrent) in enumerate(kernels):
            if i == config.reduce_after:
                x = jnp.concatenate([x[0::2], x[1::2]], axis=-1)
            zeros = jnp.zeros((x.shape[1], recurrent.shape[0]))
            x, _, _ = lstm_scan(x @ kernel, recurrent, zeros, zeros)
        return x @ out

    return lambda: run(x[:, : x.shape[1] // encoder.stride * encoder.stride], kernels, out)


def measure(name: str, rows: int, flops: float) -> dict[str, Any]:
    given = batch(rows)
    package = package_of(name, given)
    recognizer = Recognizer(package)
    graphdef, variables = package.graphdef, (package.params, package.frozen)
    variables = jax.device_put(variables)

    def part(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
        program = jax.jit(lambda v, *a: function(nnx.merge(graphdef, *v), *a))
        return best_of(lambda: program(variables, *arguments)), program(variables, *arguments)

    def features(model: Any, samples: jax.Array, lengths: jax.Array) -> Any:
        return model.features(*append_tail(samples, lengths, model.config.frontend))

    placed = jax.device_put((given.samples, given.lengths))
    times = {"transfer": best_of(lambda: jax.device_put((given.samples, given.lengths)))}
    times["front end"], (x, frames) = part(features, *placed)
    times["encoder"], encoded = part(lambda m, x, n: m.encode(x, n), x, frames)
    times["greedy"], _ = part(lambda m, y, n: greedy(m, y, n)[0], *encoded)
    times["beam 4"], _ = part(lambda m, y, n: beam_search(m, y, n), *encoded)
    found = recognizer.dispatch(given.samples, given.lengths)

    pieces = package.tokenizer.vocab_size

    def host() -> list[str]:
        texts = []
        for [hypothesis] in recognizer.fetch(found):
            words = Assembler(package.tokenizer, recognizer.frame_s, recognizer.calibrator)
            words.push(t._replace(id=t.id % pieces) for t in hypothesis.tokens)
            texts.append(words.finish(1.0).text)
        return texts

    times["host"] = best_of(host)
    whole = best_of(lambda: recognizer.dispatch(given.samples, given.lengths))
    encoder = package.model().encoder
    floor = None
    if isinstance(encoder, LSTMEncoder):
        floor = times["encoder"] / best_of(bare(encoder, x))
    cost = model_cost(package.recipe.model)
    padded = rows * given.samples.shape[1] / RATE
    heard = times["front end"] + times["encoder"]
    return {
        "model": name,
        "rows": rows,
        "seconds": given.seconds,
        "times": times,
        "whole": whole,
        "rtfx": given.seconds / whole,
        "rtfx beam": given.seconds / (heard + times["beam 4"]),
        "decoder share": times["greedy"] / (heard + times["greedy"]),
        "beam ratio": times["beam 4"] / times["greedy"],
        "peak share": cost.encoder * padded / times["encoder"] / flops,
        "floor": floor,
    }


def stream(name: str, sessions: list[int], given: Batch) -> list[tuple[int, float, float]]:
    """(sessions, seconds a step, times real time) of one encoder step for all."""
    recognizer = Recognizer(package_of(name, given))
    rng = np.random.default_rng(0)
    found = []
    for count in sessions:
        # Speech, not noise: how often it speaks is part of the time.
        size = recognizer.samples_per_step
        row = given.samples[rng.integers(0, len(given.samples), count)]
        state = recognizer.start_streams(count)
        times = []
        for i in range(min(40, row.shape[1] // size)):
            began = time.perf_counter()
            _, state = recognizer.step(row[:, i * size : (i + 1) * size], state)
            times.append(time.perf_counter() - began)
        step = float(np.mean(times[4:]))
        found.append((count, step, count * recognizer.frame_s / step))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.inference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", default=list(DEFAULT))
    parser.add_argument("--rows", type=int, help="of a batch; 32 for models below 5 M, else 8")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--stream", nargs="*", default=["rnnt-tiny"], help="models to stream")
    given = parser.parse_args()
    use_compilation_cache()
    console = stdout()
    flops = peak()
    console.print(
        f"{device_name()}, jax {jax.__version__}; a large product reaches "
        f"{flops / 1e9:,.0f} G multiply-adds a second\n"
    )
    names = {"transfer": "copy", "front end": "front", "encoder": "enc", "greedy": "greedy"}
    names |= {"beam 4": "beam", "host": "host"}
    parts = tuple(names)
    cells = ("all", "RTFx", "beam RTFx", "dec", "beam/gr", "peak", "/bare")
    console.print(
        "Milliseconds of: copy to the device, front end, encoder, greedy search, beam 4, tokens to "
        "text, the whole greedy program.\nRTFx: times real time. dec: the search's share. peak: of "
        "the large product's speed. /bare: encoder against its products and scans alone.\n"
    )
    shown = (*names.values(), *cells)
    rows = table("model", "rows", *shown, right=shown)
    for name in given.models:
        large = find(name).facts.parameters > 5e6
        remark(f"{name} ...")
        row = measure(name, given.rows or (8 if large else 32), flops)
        rows.add_row(
            name,
            str(row["rows"]),
            *(f"{1000 * row['times'][p]:.1f}" for p in parts),
            f"{1000 * row['whole']:.0f}",
            f"{row['rtfx']:.0f}",
            f"{row['rtfx beam']:.0f}",
            f"{100 * row['decoder share']:.1f} %",
            f"{row['beam ratio']:.1f}",
            f"{100 * row['peak share']:.0f} %",
            "" if row["floor"] is None else f"{row['floor']:.2f}",
        )
    console.print(rows)
    console.print()
    rows = table("model", "sessions", "a step, ms", "times real time", "against one by one")
    sentences = batch(32)
    for name in given.stream:
        found = stream(name, given.sessions, sentences)
        for count, step, speed in found:
            gain = count * found[0][1] / step if given.sessions[0] == 1 else float("nan")
            rows.add_row(name, str(count), f"{1000 * step:.2f}", f"{speed:,.0f}", f"{gain:.1f}")
    console.print(rows)


if __name__ == "__main__":
    main()
