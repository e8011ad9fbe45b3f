"""What amortized encoders save by the clock, beside what the counter says.

    python -m parley.benchmarks.amortized --gates runs/amortized-tt-tiny
    python -m parley.benchmarks.amortized --gates runs/amortized-tt-tiny --ratio 0.4 --rows 8 32
    python -m parley.benchmarks.amortized --gates runs/amortized-tt-tiny --quick

Encoders with random weights run, whole batches and streams, with the gates of a trained model: its
probabilities on a corpus, frame by frame, are replayed, with the threshold at which the encoder
that is measured computes the asked share. So rates, runs of frames and which parts go together are
those of speech. A deeper encoder takes the gates of the block that lies as high. The arbitrator's
own work is done too. All rows are of one length: what the dense encoder spends on padding is not
counted in favour of the other.

Dense and amortized turns alternate; the best of `runs` counts.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..configs import presets
from ..data.corpus import open_corpus
from ..data.errors import InputError
from ..models.cost import GatedCost, gated_cost
from ..models.encoders.amortized import AmortizedConfig, AmortizedEncoder
from ..models.encoders.transformer import TransformerEncoder
from ..models.transducer import TransducerConfig
from ..zoo.console import remark, stdout, table
from ..zoo.package import read_model
from ..zoo.registry import folder_of
from ..zoo.runtime import device_name
from ..zoo.usage import gates_of

MODELS = ("amortized-tt-tiny", "amortized-tt-30m")
SECONDS = 4.0
"""Of a row of a batch."""
STEPS = 60
"""Frames of a stream that are timed."""


class Replay(nnx.Module):
    """An arbitrator that says what another has said, after doing its own work."""

    def __init__(self, inner: Any, logits: jax.Array):
        self.inner = inner
        self.logits = nnx.Variable(logits)

    def init_state(self, batch: int) -> tuple[jax.Array, Any]:
        return jnp.zeros(batch, jnp.int32), self.inner.init_state(batch)

    def __call__(self, x: jax.Array, state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        """The next frames' logits [B, n, components], a row for each of the batch."""
        at, inner = state
        own, inner = self.inner(x, inner)
        frames = at[:, None] + jnp.arange(x.shape[1])[None, :]
        said = self.logits[...][jnp.arange(x.shape[0])[:, None], frames % self.logits.shape[1]]
        return said + 1e-30 * own, (at + x.shape[1], inner)


def recorded(name: str, data: str, frames: int) -> np.ndarray:
    """Probabilities [frames, blocks, 2] of a model's gates over a corpus's test set."""
    package, corpus = read_model(folder_of(name)), open_corpus(data, "test")
    found, have = [], 0
    for i in range(len(corpus)):
        found.append(gates_of(package, corpus.samples(i)).probability)
        have += len(found[-1])
        if have >= frames:
            break
    return np.concatenate(found)


def as_high(probability: np.ndarray, blocks: int) -> np.ndarray:
    """[frames, blocks, 2]: of each block, the gates of the one that lies as high."""
    own = probability.shape[1]
    return probability[:, [block * own // blocks for block in range(blocks)]]


def at_ratio(probability: np.ndarray, cost: GatedCost, ratio: float) -> np.ndarray:
    """Open gates under the threshold at which the share of the dense encoder is `ratio`."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        more = cost.ratio((probability > middle).mean(axis=0)) > ratio
        low, high = (middle, high) if more else (low, middle)
    return probability > high


def encoders(model: TransducerConfig) -> tuple[TransformerEncoder, AmortizedEncoder]:
    config, size = cast(AmortizedConfig, model.encoder), model.frontend.size
    dense = TransformerEncoder(config.dense, size, rngs=nnx.Rngs(0))
    return dense, AmortizedEncoder(config, size, rngs=nnx.Rngs(0))


def rows_of(gates: np.ndarray, rows: int, frames: int) -> np.ndarray:
    """[rows, frames, blocks, 2]: every row begins elsewhere in the recorded gates."""
    begins = np.arange(rows) * len(gates) // rows
    return gates[(begins[:, None] + np.arange(frames)[None, :]) % len(gates)]


def alternately(functions: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Best seconds of each, measured in turns."""
    for function in functions:
        function()
    best = [float("inf")] * len(functions)
    for _ in range(runs):
        for i, function in enumerate(functions):
            began = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - began)
    return best


def batch(encoder: TransformerEncoder, rows: int, frames: int) -> Callable[[], object]:
    graphdef, variables = nnx.split(encoder)
    width = encoder.input.in_features // encoder.stride
    x = jax.random.normal(jax.random.key(0), (rows, frames, width))
    lengths = jnp.full(rows, frames)
    run = jax.jit(lambda variables: nnx.merge(graphdef, variables)(x, lengths)[0])
    return lambda: jax.block_until_ready(run(variables))


def stream(encoder: TransformerEncoder, sessions: int, frames: int) -> Callable[[], object]:
    graphdef, variables = nnx.split(encoder)
    width = encoder.input.in_features // encoder.stride
    x = jax.random.normal(jax.random.key(0), (sessions, encoder.stride, width))
    step = jax.jit(
        lambda variables, state: nnx.merge(graphdef, variables).step(x, state), donate_argnums=1
    )

    def run() -> object:
        state: Any = jax.jit(lambda: nnx.merge(graphdef, variables).init_state(sessions))()
        y = None
        for _ in range(frames // encoder.stride):
            y, state = step(variables, state)
        return jax.block_until_ready(y)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.amortized",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", help=f"amortized presets; default {' '.join(MODELS)}")
    parser.add_argument("--gates", required=True, help="the trained model whose gates are replayed")
    parser.add_argument("--data", default="assistant", help="the corpus that it hears, test split")
    parser.add_argument("--ratio", type=float, nargs="+", default=[0.7, 0.4])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32], help="of a batch")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a smoke test: small, twice")
    given = parser.parse_args()
    if given.quick:
        given.models, given.rows, given.sessions, given.runs = MODELS[:1], [2], [1, 2], 2
    try:
        known = presets()
        for name in given.models or MODELS:
            if name not in known or not isinstance(known[name].model.encoder, AmortizedConfig):
                raise InputError(f"{name} is no amortized preset: there are {', '.join(MODELS)}.")
        probability = recorded(given.gates, given.data, 4_000)
    except InputError as error:
        sys.exit(f"error: {error}")
    numbers = ("asked", "counted", "saves by count", "dense, ms", "amortized, ms", "saves by clock")
    shown = table("model", "what", *numbers, right=numbers)
    for name in given.models or MODELS:
        recipe = known[name]
        model, cost = recipe.model, gated_cost(recipe.model)
        config = cast(AmortizedConfig, model.encoder)
        dense, amortized = encoders(model)
        arbitrator = amortized.arbitrator
        gates_as_high = as_high(probability, config.blocks)
        step_s = model.frontend.step / model.frontend.sample_rate
        frames = round(SECONDS / step_s) // dense.stride * dense.stride
        cases = [("batch of", batch, n, frames) for n in given.rows]
        cases += [("streams:", stream, n, STEPS * dense.stride) for n in given.sessions]
        for ratio in given.ratio:
            gates = at_ratio(gates_as_high, cost, ratio)
            for what, make, rows, length in cases:
                remark(f"{name}, {ratio:g}, {what} {rows}")
                own = rows_of(gates, rows, length // dense.stride)
                logits = jnp.where(own.reshape(*own.shape[:2], -1), 30.0, -30.0)
                amortized.arbitrator = cast(Any, Replay(arbitrator, logits))
                runs = [make(encoder, rows, length) for encoder in (dense, amortized)]
                times = alternately(runs, given.runs)
                share = float(cost.ratio(own.mean(axis=(0, 1))))
                per = STEPS if make is stream else 1
                values = (f"{ratio:g}", f"{share:.3f}", f"{1 / share:.2f} x")
                values += tuple(f"{1000 * t / per:.2f}" for t in times)
                shown.add_row(name, f"{what} {rows}", *values, f"{times[0] / times[1]:.2f} x")
    console = stdout()
    console.print(
        f"{datetime.now(UTC).date()}, {device_name()}, jax {jax.__version__}, float32\n"
        f"Gates of {given.gates} on {given.data}; rows of {SECONDS:g} s; best of {given.runs} "
        "turns. Encoder only.\n"
    )
    console.print(shown)


if __name__ == "__main__":
    main()
