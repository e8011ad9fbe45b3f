"""Imported models against transformers: real-time factors of both in one run, on this machine.

    python -m parley.benchmarks.imports
    python -m parley.benchmarks.imports --size 0.6b --rows 1 --seconds 8

A FastConformer transducer with random weights is made by transformers, written by it, imported and
run by both on the same sound: `generate` there, `Recognizer` here, greedy search, float32, all
cores of the process; and features and encoder by themselves, which is matrix work alone. "GiB more"
is what a run takes at most beyond what the process held before it, weights included in that. Random
weights speak in other places than trained ones; the blank is raised until about four tokens a
second are left, as English has. Needs PyTorch and transformers (pip install torch transformers),
which nothing else here does.
"""

import json
import re
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from ..data.audio import SAMPLE_RATE
from ..data.errors import InputError

SIZES: dict[str, dict[str, Any]] = {
    # parakeet-tdt_ctc-110m and parakeet-tdt-0.6b-v2, by their configurations.
    "0.1b": {
        "encoder": {"hidden_size": 512, "num_hidden_layers": 17, "intermediate_size": 2048},
        "num_decoder_layers": 1,
    },
    "0.6b": {
        "encoder": {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "intermediate_size": 4096,
            "num_mel_bins": 128,
            "attention_bias": False,
            "convolution_bias": False,
        },
        "num_decoder_layers": 2,
    },
}
VOCAB = 1025
TOKENS_A_SECOND = 4.0


@dataclass(frozen=True)
class Arguments:
    """Real-time factors of a random model, here and in transformers."""

    size: Literal["0.1b", "0.6b"] = "0.1b"
    rows: int = 4
    """Recordings of a batch."""
    seconds: float = 12.0
    """Of each recording."""
    repeat: int = 3
    """Times that each is run, in turns; the fastest counts."""


def main() -> None:
    given = tyro.cli(Arguments, description=__doc__)
    try:
        import torch  # pyright: ignore[reportMissingImports]
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "this compares with transformers: pip install torch transformers first."
        ) from None
    torch.manual_seed(0)
    sound = _sound(given.rows, given.seconds)
    model = _model(transformers, torch, given.size, sound)
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder) / "theirs", Path(folder) / "ours"
        model.save_pretrained(theirs)
        (theirs / "tokenizer.json").write_text(_tokenizer())
        began = time.perf_counter()
        from ..zoo.importing import import_model

        import_model(str(theirs), ours, storage="float32")
        imported = time.perf_counter() - began
        began = time.perf_counter()
        run_ours, encode_ours = _ours(ours, sound)
        loaded = time.perf_counter() - began
    run_theirs, encode_theirs = _theirs(transformers, torch, model, sound)
    began = time.perf_counter()
    here = run_ours()
    compiled = time.perf_counter() - began
    there = run_theirs()
    encode_ours()
    runs = {
        "parley": run_ours,
        "transformers": run_theirs,
        "parley, encoder": encode_ours,
        "transformers, encoder": encode_theirs,
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    taken: dict[str, float] = {}
    for _ in range(given.repeat):
        for name, run in runs.items():
            before = _memory_before()
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
            taken[name] = max(taken.get(name, 0.0), _memory("VmHWM") - before)
    audio = given.rows * given.seconds
    count = sum(p.numel() for p in model.parameters())
    print(
        f"{count / 1e6:.1f} M parameters, {4 * count / 2**30:.2f} GiB; "
        f"{given.rows} x {given.seconds:g} s; {_about(torch)}"
    )
    print(f"import {imported:.1f} s, load {loaded:.1f} s, compile and first run {compiled:.1f} s")
    same = sum(a == b for a, b in zip(here, there, strict=True))
    print(f"rows with the same tokens: {same} of {given.rows}; {sum(map(len, here))} tokens")
    print(f"{'':22}{'seconds':>9}{'RTFx':>8}{'GiB more':>10}")
    for name, seconds in times.items():
        best = min(seconds)
        print(f"{name:22}{best:9.2f}{audio / best:8.1f}{taken[name]:10.2f}")
    for end in ("", ", encoder"):
        ratio = min(times[f"transformers{end}"]) / min(times[f"parley{end}"])
        print(f"parley{end} is {ratio:.2f} times as fast")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"most memory of the process, both models in it: {peak:.1f} GiB")


def _memory_before() -> float:
    """Resident GiB now; the most that is resident is counted anew from here."""
    with suppress(OSError):  # not of every system
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(field: str) -> float:
    """GiB of this process by /proc; not a number where there is none."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found[1]) / 1024**2 if found else float("nan")


def _sound(rows: int, seconds: float) -> np.ndarray:
    """Syllables of harmonics and noise, int16 [rows, N]."""
    random = np.random.default_rng(0)
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    x = np.zeros((rows, len(t)))
    for row in x:
        pitch = random.uniform(90, 220) * (1 + 0.2 * np.sin(2 * np.pi * 0.6 * t))
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        voice = sum(np.sin(k * phase) / k for k in range(1, 25))
        gate = np.maximum(0.0, np.sin(2 * np.pi * random.uniform(1.5, 3.0) * t))
        row[:] = 0.2 * gate * voice + 0.05 * (1 - gate) * random.normal(size=len(t))
    return np.round(np.clip(x, -1, 1) * 20_000).astype(np.int16)


def _model(transformers: Any, torch: Any, size: str, sound: np.ndarray) -> Any:
    shape = dict(SIZES[size])
    config = transformers.ParakeetTDTConfig(
        vocab_size=VOCAB,
        blank_token_id=VOCAB - 1,
        encoder_config=shape.pop("encoder"),
        **shape,
    )
    model = transformers.ParakeetForTDT(config).eval()
    model.generation_config.decoder_start_token_id = VOCAB - 1
    features = _features(transformers, model, sound)
    with torch.no_grad():
        model.joint.head.weight[:VOCAB] *= 30.0
        # Steps of one frame, mostly: as many joint products as there are frames.
        model.joint.head.bias[VOCAB + 1] += 2.0
        encoded = model.get_audio_features(**features).pooler_output
        start = model.decoder(torch.full((len(sound), 1), VOCAB - 1))
        logits = model.joint(start[:, None], encoded[:, :, None])[:, :, 0, :VOCAB]
        short = (logits[..., :-1].max(dim=-1).values - logits[..., -1]).flatten()
        share = TOKENS_A_SECOND * 0.08
        model.joint.head.bias[VOCAB - 1] += torch.quantile(short, 1.0 - share)
    return model


def _features(transformers: Any, model: Any, sound: np.ndarray) -> dict[str, Any]:
    bins = model.config.encoder_config.num_mel_bins
    extractor = transformers.ParakeetFeatureExtractor(feature_size=bins)
    rows = [row.astype(np.float32) / 32768 for row in sound]
    return dict(extractor(rows, sampling_rate=SAMPLE_RATE, return_tensors="pt"))


Runs = tuple[Callable[[], list[list[int]]], Callable[[], None]]
"""The whole, and features and encoder alone."""


def _theirs(transformers: Any, torch: Any, model: Any, sound: np.ndarray) -> Runs:
    def encode() -> None:
        with torch.no_grad():
            model.get_audio_features(**_features(transformers, model, sound))

    def run() -> list[list[int]]:
        with torch.no_grad():
            found = model.generate(**_features(transformers, model, sound)).sequences
        skipped = {VOCAB - 1, model.generation_config.pad_token_id}
        return [[t for t in row if t not in skipped] for row in found.tolist()]

    return run, encode


def _ours(folder: Path, sound: np.ndarray) -> Runs:
    import jax
    from flax import nnx

    from ..zoo.package import read_model
    from ..zoo.recognizer import Recognizer

    package = read_model(folder)
    recognizer = Recognizer(package)
    variables = jax.device_put((package.params, package.frozen))
    lengths = np.full(len(sound), sound.shape[1], np.int32)

    def run() -> list[list[int]]:
        found = recognizer.recognize(sound, lengths)
        return [[token.id for token in row[0].tokens if token.id != 2] for row in found]

    @jax.jit
    def encoded(variables: Any, sound: Any, lengths: Any) -> Any:
        model = nnx.merge(package.graphdef, *variables)
        return model.encode(*model.features(sound, lengths))[0]

    def encode() -> None:
        encoded(variables, sound, lengths).block_until_ready()

    return run, encode


def _tokenizer() -> str:
    pieces = ["<unk>", *(f"\u2581w{i}" for i in range(VOCAB - 2))]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    model = {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": []}
    return json.dumps({"model": model, "added_tokens": []})


def _about(torch: Any) -> str:
    import jax

    from ..zoo.runtime import device_name

    versions = f"torch {torch.__version__} with {torch.get_num_threads()} threads"
    return f"{device_name()}, jax {jax.__version__}, {versions}"


if __name__ == "__main__":
    main()
