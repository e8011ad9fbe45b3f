"""How long after a sentence's end is its last word emitted?

    python -m parley.benchmarks.latency rnnt-tiny runs/fastemit --data assistant

The end of speech is where the energy of the clean recording falls. Emission is the end of the frame
of the last token, so what it takes to compute comes on top. Trained with `--loss.fastemit 0.01` or
with less tail, a model emits earlier.
"""

import argparse

import numpy as np

from ..data.audio import SAMPLE_RATE
from ..data.corpus import open_corpus
from ..data.text import normalize
from ..metrics.latency import end_of_speech, summarize, word_latencies
from ..metrics.wer import total_errors, word_errors
from ..zoo import load
from ..zoo.console import stdout, table
from ..zoo.decoding import Decoding
from ..zoo.transcript import Transcript


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="+")
    parser.add_argument("--data", default="assistant")
    parser.add_argument("--split", default="test")
    parser.add_argument("--beam", type=int, default=1)
    given = parser.parse_args()
    corpus = open_corpus(given.data, given.split)
    audio = [corpus.samples(i) for i in range(len(corpus))]
    ends = [end_of_speech(samples, SAMPLE_RATE) for samples in audio]
    # Times are cut at a recording's end, and the last word may come after it.
    audio = [np.pad(samples, (0, SAMPLE_RATE)) for samples in audio]
    columns = ("P50", "P90", "P99", "not recognised", "WER")
    rows = table("last word, ms after its end", *columns, right=columns)
    for name in given.model:
        model = load(name, decoding=Decoding(beam=given.beam))
        latencies, errors = [], []
        for i, result in enumerate(model.transcribe(audio)):
            assert isinstance(result, Transcript)
            reference = normalize(corpus.utterance(i).text).split()
            emitted = [(normalize(w.text), w.end) for w in result.words]
            known = [(word, ends[i]) for word in reference]
            latencies.append(word_latencies(known, emitted)[-1])
            errors.append(word_errors(" ".join(reference), normalize(result.text)))
        found = summarize(latencies)
        cells = [f"{1000 * x:.0f}" for x in (found.p50, found.p90, found.p99)]
        missing = f"{100 * found.missing / found.words:.1f} %"
        rows.add_row(name, *cells, missing, f"{100 * total_errors(errors).wer:.2f} %")
    stdout().print(rows)


if __name__ == "__main__":
    main()
