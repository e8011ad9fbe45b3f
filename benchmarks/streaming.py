"""Is the text of a stream, of a pool and of an exported model the text of the file?

    python -m parley.benchmarks.streaming rnnt-tiny --data "assistant?limit=200"
    parley export rnnt-tiny --to rnnt-tiny.export
    python -m parley.benchmarks.streaming rnnt-tiny --exported rnnt-tiny.export --beam 4

Every utterance is transcribed whole, streamed in chunks of 1, 3, 7 and 50 encoder frames, and heard
among others in a pool; the table counts the texts that differ.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from ..data.corpus import open_corpus
from ..zoo import load
from ..zoo.console import stdout, table
from ..zoo.decoding import Decoding
from ..zoo.transcriber import Transcriber
from ..zoo.transcript import Transcript

CHUNKS = (1, 3, 7, 50)


def texts(model: Transcriber, audio: list[np.ndarray]) -> list[str | None]:
    return [r.text if isinstance(r, Transcript) else None for r in model.transcribe(audio)]


def streamed(model: Transcriber, samples: np.ndarray, size: int) -> str:
    stream = model.stream()
    for start in range(0, len(samples), size):
        stream.feed(samples[start : start + size])
    return stream.finish().text


def pooled(model: Transcriber, audio: list[np.ndarray], slots: int) -> list[str | None]:
    """Every slot takes the next recording when its last one is heard."""
    pool = model.pool(slots)
    found: list[str | None] = [None] * len(audio)
    waiting, running = list(enumerate(audio))[::-1], {}
    while waiting or running:
        while waiting and len(running) < slots:
            number, samples = waiting.pop()
            running[number] = session = pool.open()
            session.feed(samples)
        if not pool.run():
            for number, session in running.items():
                found[number] = session.finish().text
            running = {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.streaming",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("--data", default="assistant?limit=200")
    parser.add_argument("--split", default="test")
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--exported", help="a folder that `parley export` wrote; greedy search")
    parser.add_argument("--sessions", type=int, default=64, help="slots of the pool")
    given = parser.parse_args()
    model = load(given.model, decoding=Decoding(beam=given.beam))
    corpus = open_corpus(given.data, given.split)
    audio = [corpus.samples(i) for i in range(len(corpus))]
    seconds = sum(len(samples) for samples in audio) / 16_000
    whole = texts(model, audio)
    rows = table("how", "utterances", "texts that differ", "times real time")
    differing = 0

    def compare(how: str, expected: list[str | None], hear: Callable[[], list[str | None]]) -> None:
        nonlocal differing
        began = time.monotonic()
        found = hear()
        took = time.monotonic() - began
        different = sum(a != b for a, b in zip(found, expected, strict=True))
        differing += different
        rows.add_row(how, str(len(audio)), str(different), f"{seconds / took:.0f}")

    for frames in CHUNKS:
        size = round(frames * model.step_s * 16_000)
        compare(
            f"chunks of {1000 * frames * model.step_s:.0f} ms",
            whole,
            lambda size=size: [streamed(model, samples, size) for samples in audio],
        )
    compare(f"a pool of {given.sessions}", whole, lambda: pooled(model, audio, given.sessions))
    if given.exported:
        exported = load(given.exported)
        greedy = whole if given.beam == 1 else texts(load(given.model), audio)
        compare("exported, whole", greedy, lambda: texts(exported, audio))
        size = round(CHUNKS[2] * model.step_s * 16_000)
        compare("exported, chunks", greedy, lambda: [streamed(exported, a, size) for a in audio])
    stdout().print(rows)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
