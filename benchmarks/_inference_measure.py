"""What `inference` measures: a batch in parts and whole, and streams. Nothing is printed here."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..data.audio import SAMPLE_RATE
from ..data.corpus import Corpus
from ..data.tokenizer import Tokenizer
from ..models.beam import beam_search
from ..models.cost import cost, gflop, model_cost, state_bytes
from ..models.decoding import greedy
from ..models.encoders.lstm import LSTMEncoder
from ..models.frontend import append_tail
from ..models.keys import weight_keys
from ..models.layers import lstm_scan
from ..models.transducer import Transducer, TransducerConfig
from ..train.recipe import Recipe
from ..train.step import split_model
from ..zoo.decoding import Decoding
from ..zoo.package import ModelPackage, read_model
from ..zoo.packing import BUCKET_SECONDS
from ..zoo.recognizer import Recognizer
from ..zoo.registry import folder_of
from ..zoo.transcriber import Transcriber
from ..zoo.transcript import Assembler
from ._inference_timetable import TimetableTransducer

PARTS = ("padding", "copy", "front end", "encoder", "greedy", "text")
"""What the greedy program does, in its order; `beam 4` takes the place of `greedy`."""
BEAM = 4
_WARM_STEPS, _STEPS = 4, 20
"""Steps of a stream that are heard before the clock runs, and under it."""

Record = dict[str, Any]


class Timing(NamedTuple):
    """Seconds of several runs."""

    best: float
    median: float


class Machine(NamedTuple):
    """What the device reaches at its best; both a second."""

    multiply_adds: float
    bytes: float


def timed(function: Callable[[], Any], runs: int) -> Timing:
    """Of so many runs, after one that compiles."""
    jax.block_until_ready(function())
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - began)
    return Timing(min(found), statistics.median(found))


def machine(runs: int, *, size: int) -> Machine:
    """By a product of float32 matrices `size` wide, and by one of a matrix of `size` x 32,768 and a
    vector, which reads each number once."""
    multiply = jax.jit(jnp.matmul)
    square, long, vector = (jnp.ones(s) for s in ((size, size), (size, 32_768), (32_768,)))
    return Machine(
        size**3 / timed(partial(multiply, square, square), runs).best,
        long.nbytes / timed(partial(multiply, long, vector), runs).best,
    )


# --- What is heard, and by whom -----------------------------------------------------------------


def neighbours(corpus: Corpus, rows: int) -> list[np.ndarray]:
    """The recordings around the median of the lengths, shortest first."""
    order = sorted(range(len(corpus)), key=lambda i: corpus.utterance(i).duration)
    first = max(0, len(order) // 2 - rows // 2)
    return [corpus.samples(i) for i in order[first : first + rows]]


def seconds_of(audio: Sequence[np.ndarray]) -> float:
    return sum(map(len, audio)) / SAMPLE_RATE


def padded(audio: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Samples [B, N], N the bucket in which the longest would be transcribed, and lengths [B]."""
    lengths = np.array([len(samples) for samples in audio], np.int32)
    bucket = next(s for s in BUCKET_SECONDS if lengths.max() <= s * SAMPLE_RATE)
    samples = np.zeros((len(audio), bucket * SAMPLE_RATE), np.int16)
    for row, one in zip(samples, audio, strict=True):
        row[: len(one)] = one
    return samples, lengths


class _AnyTokens:
    """A tokenizer for a model that it was not made for: tokens beyond its own come round again."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self.pieces, self.markers = tokenizer.pieces, tokenizer.markers

    def _own(self, token: int) -> int:
        return 1 + (token - 1) % (self._tokenizer.vocab_size - 1)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([self._own(token) for token in ids])

    def starts_word(self, token: int) -> bool:
        return self._tokenizer.starts_word(self._own(token))


def random_package(recipe: Recipe) -> ModelPackage:
    """The preset with random weights, speaking by the timetable."""
    of_tiny = read_model(folder_of("rnnt-tiny"))
    model = TimetableTransducer(recipe.model, rngs=weight_keys(recipe.seed))
    tokenizer = cast(Tokenizer, _AnyTokens(of_tiny.tokenizer))
    return ModelPackage(of_tiny.folder, recipe, *split_model(model), tokenizer)


# --- A batch ------------------------------------------------------------------------------------


def measure_batch(
    package: ModelPackage, audio: Sequence[np.ndarray], runs: int, machine: Machine
) -> Record:
    """Seconds of each part and of the whole program; what follows from them."""
    parts, frames, spoken = _parts(package, audio, runs)
    whole = {
        name: timed(partial(_transcriber(package, beam).transcribe, list(audio)), runs)
        for name, beam in (("greedy", 1), ("beam 4", BEAM))
    }
    counted = model_cost(package.recipe.model)
    step_s = package.recipe.model.frontend.step / SAMPLE_RATE
    multiply_adds = counted.encoder * len(audio) * frames * step_s
    encoder = package.model().encoder
    floor = None
    if isinstance(encoder, LSTMEncoder):
        floor = sum(timed(run, runs).best for run in bare(encoder, len(audio), frames))
    took = {part: timing.best for part, timing in parts.items()}
    seconds = seconds_of(audio)
    return {
        "rows": len(audio),
        "seconds": seconds,
        "tokens_per_s": spoken / seconds,
        "parts_ms": {part: _milliseconds(timing) for part, timing in parts.items()},
        "whole_ms": {name: _milliseconds(timing) for name, timing in whole.items()},
        "times_real_time": seconds / whole["greedy"].best,
        "beam_times_real_time": seconds / whole["beam 4"].best,
        "search_share": took["greedy"] / (took["front end"] + took["encoder"] + took["greedy"]),
        "beam_ratio": took["beam 4"] / took["greedy"],
        "encoder_gflop_per_s": gflop(multiply_adds / took["encoder"]),
        "peak_share": multiply_adds / took["encoder"] / machine.multiply_adds,
        "over_bare": None if floor is None else took["encoder"] / floor,
    }


def _parts(
    package: ModelPackage, audio: Sequence[np.ndarray], runs: int
) -> tuple[dict[str, Timing], int, int]:
    """Time of each part, a program of its own; frames that the encoder hears; tokens found."""
    recognizer = Recognizer(package)
    variables = jax.device_put((package.params, package.frozen))
    took: dict[str, Timing] = {}

    def part(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        @jax.jit
        @jax.default_matmul_precision("float32")  # as the recogniser's programs
        def program(variables: Any, *arguments: Any) -> Any:
            return function(nnx.merge(package.graphdef, *variables), *arguments)

        took[name] = timed(lambda: program(variables, *arguments), runs)
        return program(variables, *arguments)

    def features(model: Transducer, samples: jax.Array, lengths: jax.Array) -> Any:
        return model.features(*append_tail(samples, lengths, model.config.frontend))

    took["padding"] = timed(lambda: padded(audio), runs)
    host = padded(audio)
    took["copy"] = timed(lambda: jax.device_put(host), runs)
    x, lengths = part("front end", features, *jax.device_put(host))
    encoded = part("encoder", lambda model, *args: model.encode(*args), x, lengths)
    found = part("greedy", lambda model, *args: greedy(model, *args)[0], *encoded)
    part("beam 4", lambda model, *args: beam_search(model, *args, width=BEAM), *encoded)

    def text() -> list[str]:
        texts = []
        for hypotheses in recognizer.fetch(found):
            words = Assembler(package.tokenizer, recognizer.frame_s, recognizer.calibrator)
            words.push(hypotheses[0].tokens)
            texts.append(words.finish(1.0).text)
        return texts

    took["text"] = timed(text, runs)
    return took, x.shape[1], int(found.counts.sum())


def bare(encoder: LSTMEncoder, rows: int, frames: int) -> list[Callable[[], jax.Array]]:
    """The products and scans of an LSTM encoder and nothing between them: a program each.

    Each finds its input ready in the layout that it likes best.
    """
    rng = np.random.default_rng(0)

    def sound(length: int, width: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=(length, rows, width)), jnp.float32)

    @jax.jit
    def layer(x: jax.Array, kernel: jax.Array, recurrent: jax.Array) -> jax.Array:
        zeros = jnp.zeros((rows, recurrent.shape[0]))
        return lstm_scan(x @ kernel, recurrent, zeros, zeros)[0]

    programs: list[Callable[[], jax.Array]] = []
    length = frames // encoder.stride * encoder.stride
    for i, one in enumerate(encoder.layers):
        if i == encoder.config.reduce_after:
            length //= 2
        kernel, recurrent = one.kernel[...], one.recurrent[...]
        programs.append(partial(layer, sound(length, kernel.shape[0]), kernel, recurrent))
    out = encoder.output.kernel[...]
    programs.append(partial(jax.jit(jnp.matmul), sound(length, out.shape[0]), out))
    return programs


def bare_cost(encoder: LSTMEncoder, rows: int, frames: int) -> int:
    """Multiply-adds of `bare`."""
    return sum(cost(run) for run in bare(encoder, rows, frames))


def _transcriber(package: ModelPackage, beam: int) -> Transcriber:
    recognizer = Recognizer(package, Decoding(beam=beam))
    return Transcriber(package.recipe.name, package.folder, recognizer)


def _milliseconds(timing: Timing) -> Record:
    return {name: 1000 * value for name, value in timing._asdict().items()}


# --- Streams ------------------------------------------------------------------------------------


def measure_streams(
    package: ModelPackage,
    audio: Sequence[np.ndarray],
    sessions: Sequence[int],
    runs: int,
    machine: Machine,
) -> list[Record]:
    """Of each number of sessions, one encoder step of all: the mean over a piece of speech, in
    which some steps have tokens and some have none."""
    recognizer = Recognizer(package)
    config = package.recipe.model
    records = []
    for count in sessions:
        timing = _stream(recognizer, audio, count, runs)
        arithmetic, memory = least_seconds(config, count, recognizer.frame_s, machine)
        least = max(arithmetic, memory)
        records.append(
            {
                "sessions": count,
                "step_ms": _milliseconds(timing),
                "times_real_time": count * recognizer.frame_s / timing.best,
                "bound": "memory" if memory > arithmetic else "arithmetic",
                "bound_share": least / timing.best,
            }
        )
    alone = next((r["step_ms"]["best"] for r in records if r["sessions"] == 1), None)
    for r in records:
        r["gain"] = alone and r["sessions"] * alone / r["step_ms"]["best"]
    return records


def least_seconds(
    config: TransducerConfig, sessions: int, step_s: float, machine: Machine
) -> tuple[float, float]:
    """What a step of all sessions takes at the least, by its arithmetic and by its memory.

    Encoder and joint are read once, every session's state is read and written; the prediction
    network is left out, for most steps have no token.
    """
    counted = model_cost(config)
    weights = counted.parameters["encoder"] + counted.parameters["joint"]
    moved = 4 * weights + 2 * sessions * (state_bytes(config) or 0)
    arithmetic = counted.total * step_s * sessions
    return arithmetic / machine.multiply_adds, moved / machine.bytes


def _stream(
    recognizer: Recognizer, audio: Sequence[np.ndarray], sessions: int, runs: int
) -> Timing:
    # All the speech in a ring, of which each session hears another piece.
    ring = np.concatenate(audio)
    begins = np.random.default_rng(0).integers(0, len(ring), (sessions, 1))
    ahead = np.arange((_WARM_STEPS + _STEPS) * recognizer.samples_per_step)[None]
    chunks = np.split(ring[(begins + ahead) % len(ring)], _WARM_STEPS + _STEPS, axis=1)
    means = []
    for run in range(runs + 1):
        state = recognizer.start_streams(sessions)
        for chunk in chunks[:_WARM_STEPS]:
            _, state = recognizer.step(chunk, state)
        began = time.perf_counter()
        for chunk in chunks[_WARM_STEPS:]:
            _, state = recognizer.step(chunk, state)
        if run:  # the first compiles
            means.append((time.perf_counter() - began) / _STEPS)
    return Timing(min(means), statistics.median(means))
