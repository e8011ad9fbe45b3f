"""Is the text of a stream the text of the file?

    python -m parley.benchmarks.streaming rnnt-tiny --data "assistant?limit=200"

Every utterance is transcribed whole, and streamed in chunks of 1, 3, 7 and 50 encoder frames; the
table counts the texts that differ.
"""

import argparse
import sys
import time

from ..data.corpus import open_corpus
from ..zoo import load
from ..zoo.console import stdout, table
from ..zoo.transcript import Transcript

CHUNKS = (1, 3, 7, 50)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.streaming",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("--data", default="assistant?limit=200")
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    model = load(given.model)
    corpus = open_corpus(given.data, given.split)
    audio = [corpus.samples(i) for i in range(len(corpus))]
    seconds = sum(len(samples) for samples in audio) / 16_000
    whole = [r.text if isinstance(r, Transcript) else None for r in model.transcribe(audio)]
    rows = table("chunk", "milliseconds", "utterances", "texts that differ", "times real time")
    differing = 0
    for frames in CHUNKS:
        began = time.monotonic()
        size = round(frames * model.step_s * 16_000)
        different = 0
        for samples, text in zip(audio, whole, strict=True):
            stream = model.stream()
            for start in range(0, len(samples), size):
                stream.feed(samples[start : start + size])
            different += stream.finish().text != text
        took = time.monotonic() - began
        milliseconds = f"{1000 * frames * model.step_s:.0f}"
        rows.add_row(
            str(frames), milliseconds, str(len(audio)), str(different), f"{seconds / took:.0f}"
        )
        differing += different
    stdout().print(rows)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
