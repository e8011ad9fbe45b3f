"""Contextual biasing: names in noise, with and without a list of them.

    python -m parley.benchmarks.biasing
    python -m parley.benchmarks.biasing --model rnnt-tiny --noise 5 --weights 0.1 0.2 0.3

The test sentences of `assistant` that hold a name and those that hold none, in noise, and the whole
test set without. The list holds every name of the corpus. Counted are the names that the recognised
text lacks and the errors in all other words.
"""

import argparse

from .. import zoo
from ..data.corpus import Corpus, open_corpus
from ..data.embedded.assistant import assistant
from ..data.text import normalize
from ..metrics.bootstrap import speaker_bootstrap
from ..zoo.cards import percent
from ..zoo.console import stdout, table
from ..zoo.decoding import Decoding
from ..zoo.evaluation import evaluate
from ..zoo.runtime import device_name
from ..zoo.transcriber import Transcriber


def names() -> tuple[str, ...]:
    """First and last names of the corpus's people."""
    return tuple(sorted({n for key in ("first", "last") for n in assistant().alternatives(key)}))


def measure(model: Transcriber, corpus: Corpus, known: set[str]) -> tuple[str, str]:
    """(names missed, errors in other words), with intervals over speakers."""
    missed, spoken, others, words, speakers = [], [], [], [], []
    for utterance in evaluate(model, corpus).utterances:
        reference, heard = (
            normalize(t).split() for t in (utterance.reference, utterance.hypothesis)
        )
        called = [word for word in reference if word in known]
        lost = sum(max(0, called.count(n) - heard.count(n)) for n in set(called))
        missed.append(lost)
        spoken.append(len(called))
        # A name that is missed is one error at least; the rest are others' or its fragments.
        others.append(utterance.errors.total - lost)
        words.append(len(reference) - len(called))
        speakers.append(utterance.speaker)
    cells = []
    for errors, count in ((missed, spoken), (others, words)):
        low, high = speaker_bootstrap(errors, count, speakers)
        cells.append(percent(100 * sum(errors) / sum(count), 100 * low, 100 * high))
    return cells[0], cells[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="rnnt-tiny")
    parser.add_argument("--noise", type=float, default=5.0, help="signal to noise in dB")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    given = parser.parse_args()
    listed = names()
    noisy, clean = (open_corpus(f"assistant{q}", "test") for q in (f"?noise={given.noise}", ""))
    console = stdout()
    console.print(
        f"{given.model}, {len(clean):,} sentences; {len(listed)} names listed; {device_name()}\n"
    )
    at = f"{given.noise:g} dB"
    rows = table("decoding", f"names, {at}", f"other words, {at}", "names, clean", "other, clean")
    systems = [("greedy", Decoding()), ("beam 4", Decoding(beam=4))]
    for weight in given.weights:
        biased = Decoding(beam=4, phrases=listed, phrase_weight=weight)
        systems.append((f"beam 4, phrases, {weight:g} a letter", biased))
    for name, decoding in systems:
        model = zoo.load(given.model, decoding=decoding)
        rows.add_row(
            name, *(c for corpus in (noisy, clean) for c in measure(model, corpus, set(listed)))
        )
    console.print(rows)


if __name__ == "__main__":
    main()
