"""How many seconds of audio a second this machine's loader gives, augmented and not.

    python -m parley.benchmarks.loader
    python -m parley.benchmarks.loader --data tfds:/data/clean100 --split train-clean-100
    parley plan conv-rnnt-30m --topology v5e:16x16 --json > plan.json
    python -m parley.benchmarks.loader --plan plan.json

Without --data, an hour of noise in utterances of 2 to 17 s is written as shards first, so that
reading from the disk is part of what is measured (files that were just written are in the system's
cache). The augmentation is that of the LibriSpeech presets: speed, noise and level on the host;
masks are the accelerator's. With --plan, what a host's chips take, by `parley plan`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..configs import presets
from ..data.audio import SAMPLE_RATE
from ..data.augment import AugmentConfig
from ..data.corpus import Corpus, Utterance, open_corpus
from ..data.loader import DataConfig, make_loader
from ..data.sharded import finish, write_shard
from ..data.tokenizer import Tokenizer
from ..train.plan_chips import parse_topology
from ..zoo.console import remark, stdout, table
from ..zoo.runtime import device_name

_PRESET = "conv-rnnt-30m"
_UTTERANCES = 400


class Noise:
    """Utterances of 2 to 17 s that hold noise and a few words of text."""

    name = "noise"

    def __init__(self, count: int):
        rng = np.random.default_rng(0)
        self.lengths = (rng.uniform(2.0, 17.0, count) * SAMPLE_RATE).astype(int)

    def __len__(self) -> int:
        return len(self.lengths)

    def utterance(self, i: int) -> Utterance:
        words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
        text = " ".join(words[k % 9] for k in range(int(self.lengths[i] / SAMPLE_RATE * 2.7)))
        return Utterance(f"noise-{i}", text, self.lengths[i] / SAMPLE_RATE, f"speaker-{i % 40}")

    def samples(self, i: int) -> np.ndarray:
        noise = np.random.default_rng(i).normal(0, 1000, self.lengths[i])
        return np.clip(noise, -32768, 32767).astype(np.int16)


def measure(corpus: Corpus, augment: AugmentConfig | None, workers: int, seconds: float) -> dict:
    """Audio a second over at least `seconds`, after one batch to begin with."""
    recipe = presets()[_PRESET]
    texts = [corpus.utterance(i).text for i in range(min(len(corpus), 2000))]
    tokenizer = Tokenizer.train(texts, kind="char")
    config = batches_of(recipe.data, workers)
    loader = make_loader(corpus, tokenizer, config, augment, seed=0)
    try:
        next(loader)
        audio, batches, began = 0.0, 0, time.monotonic()
        processor = time.process_time()
        while time.monotonic() - began < seconds:
            audio += float(next(loader)["sample_lengths"].sum()) / SAMPLE_RATE
            batches += 1
        taken = time.monotonic() - began
        return {
            "augmented": augment is not None,
            "batches": batches,
            "times_real_time": audio / taken,
            "processor_share": (time.process_time() - processor) / taken,
        }
    finally:
        loader.close()


def batches_of(data: DataConfig, workers: int) -> DataConfig:
    """The preset's batches, loaded by `workers` threads; nothing is kept in memory."""
    return replace(data, batch_seconds=300.0, workers=workers, prefetch=workers, cache_gb=0.0)


def needs_of(path: Path) -> list[tuple[str, float]]:
    """(what, seconds of audio a second) of the plans in a file of `parley plan --json`."""
    found = []
    for plan in json.loads(path.read_text())["plans"]:
        chip, chips = parse_topology(plan["topology"])
        if plan["estimate"]:
            each = plan["audio_seconds"] / plan["estimate"]["step"] / chips
            found.append((f"a chip of {plan['recipe']} on {plan['topology']}", each))
            found.append((f"its host of {chip.host} chips", each * min(chip.host, chips)))
    return found


def show(records: Sequence[dict], needs: Sequence[tuple[str, float]], workers: int) -> None:
    console = stdout()
    console.print(f"{workers} threads on {device_name()}; the program took of a core as much:")
    numbers = ("times real time", "batches", "of a core")
    made = table("batches", *numbers, right=numbers)
    for r in records:
        made.add_row(
            "augmented" if r["augmented"] else "clean",
            f"{r['times_real_time']:,.0f}",
            str(r["batches"]),
            f"{r['processor_share']:.2f}",
        )
    for what, rate in needs:
        made.add_row(f"{what} takes, by the plan", f"{rate:,.0f}", "", "")
    console.print(made)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.loader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", metavar="CORPUS", default="", help="default: an hour of noise")
    parser.add_argument("--split", default="train")
    parser.add_argument("--workers", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each row (default 15)")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="of `parley plan --json`")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    needs = needs_of(given.plan) if given.plan else []
    with tempfile.TemporaryDirectory() as folder:
        if given.data:
            corpus = open_corpus(given.data, given.split)
        else:
            remark("writing an hour of noise")
            noise, path = Noise(_UTTERANCES), Path(folder)
            finish(path, "noise", "train", [write_shard(noise, path, "noise", "train", 0, 1)])
            corpus = open_corpus(f"tfds:{folder}", "train")
        records = [
            measure(corpus, augment, given.workers, given.seconds)
            for augment in (None, presets()[_PRESET].augment)
        ]
    if given.json:
        print(json.dumps({"rows": records, "needs": dict(needs)}, indent=1))
    else:
        show(records, needs, given.workers)


if __name__ == "__main__":
    main()
