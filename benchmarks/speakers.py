"""How fast are recordings embedded, are two voices in one recording found, and is a convolution
over time better one product of matrices?

    python -m parley.benchmarks.speakers speaker-tiny
    python -m parley.benchmarks.speakers speaker-tiny --two-voices --data "assistant?seed=1"
    python -m parley.benchmarks.speakers --convolutions

Embedding is timed over a corpus whose recordings lie in memory, batches compiled before: the median
of several passes. Two voices: recordings of one speaker, and of two, strung together to 11 s, as
`parley enrol` looks at them. Convolutions: loss and gradient of [64, 40, 192] to 192 channels, 3
taps, by `TimeConv` and by XLA's own convolution.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..data.corpus import open_corpus
from ..data.views import CachedCorpus
from ..models.speakers.layers import TimeConv
from ..zoo.console import stdout, table
from ..zoo.enrolment import two_voices
from ..zoo.runtime import device_name
from ..zoo.speakers import load_speaker_model
from .attribution import enrolments

_SHAPE = (64, 40, 192)
_ENROLMENT_SECONDS = 11.0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.speakers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="*")
    parser.add_argument("--data", default="assistant")
    parser.add_argument("--split", default="test")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--two-voices", action="store_true")
    parser.add_argument("--convolutions", action="store_true")
    given = parser.parse_args()
    print(device_name())
    if given.convolutions:
        _convolutions(given.passes)
    if given.two_voices:
        _two_voices(given)
    elif given.model:
        _throughput(given)


def _throughput(given: argparse.Namespace) -> None:
    corpus = CachedCorpus(open_corpus(given.data, given.split, require_text=False), 1 << 32)
    seconds = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    columns = ("recordings", "minutes", "median s", "x real time", "best")
    rows = table("model", *columns, right=columns)
    for name in given.model:
        model = load_speaker_model(name)
        times = _times(lambda model=model: model.embed_corpus(corpus), given.passes)
        rows.add_row(
            name,
            f"{len(corpus):,}",
            f"{seconds / 60:.1f}",
            f"{median(times):.2f}",
            f"{seconds / median(times):,.0f}",
            f"{seconds / min(times):,.0f}",
        )
    stdout().print(rows)


def _two_voices(given: argparse.Namespace) -> None:
    corpus = open_corpus(given.data, given.split, require_text=False)
    columns = ("recordings", "two voices found", "one voice taken for two")
    rows = table("model", *columns, right=columns)
    for name in given.model:
        model = load_speaker_model(name)
        alike = [two_voices(model, x) for x in enrolments(corpus, _ENROLMENT_SECONDS)]
        refused = np.array([a is not None and a < model.threshold for a in alike])
        single = np.arange(len(refused)) % 2 == 0
        shares = (f"{100 * refused[chosen].mean():.1f} %" for chosen in (~single, single))
        rows.add_row(name, f"{len(refused):,}", *shares)
    stdout().print(rows)


def _convolutions(passes: int) -> None:
    batch, frames, width = _SHAPE
    x = jnp.asarray(np.random.default_rng(0).normal(size=_SHAPE), jnp.float32)
    lengths = jnp.full(batch, frames)
    columns = ("product, ms", "convolution, ms")
    rows = table("dilation", *columns, right=columns)
    for dilation in (1, 2, 3, 4):
        layer = TimeConv(width, width, 3, dilation=dilation, rngs=nnx.Rngs(0))
        graphdef, variables = nnx.split(layer)

        def product(variables: Any, x: jax.Array, graphdef: Any = graphdef) -> jax.Array:
            return (nnx.merge(graphdef, variables)(x, lengths) ** 2).sum()

        def convolution(variables: Any, x: jax.Array, dilation: int = dilation) -> jax.Array:
            y: Any = jax.lax.conv_general_dilated(
                x,
                variables["kernel"][...],
                (1,),
                "SAME",
                rhs_dilation=(dilation,),
                dimension_numbers=("NHC", "HIO", "NHC"),
            )
            return ((y + variables["bias"][...][None, None, :]) ** 2).sum()

        cells = []
        for function in (product, convolution):
            run = jax.jit(jax.value_and_grad(function, argnums=(0, 1)))
            times = _times(lambda run=run, v=variables: run(v, x), passes)
            cells.append(f"{1000 * median(times):.1f}")
        rows.add_row(f"{dilation}", *cells)
    stdout().print(rows)


def _times(function: Callable[[], Any], passes: int) -> list[float]:
    jax.block_until_ready(function())  # compiles, and reads what lies on the disk
    times = []
    for _ in range(passes):
        began = perf_counter()
        jax.block_until_ready(function())
        times.append(perf_counter() - began)
    return times


if __name__ == "__main__":
    main()
