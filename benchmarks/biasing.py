"""Contextual biasing: names in noise, with and without a list of them.

    python -m parley.benchmarks.biasing
    python -m parley.benchmarks.biasing --model rnnt-tiny --noise 5 --weights 0.1 0.2 0.3

The test sentences of `assistant`, in noise and without. One list holds every name of the corpus;
others are a speaker's own, as a telephone's contacts are: the names that he says and as many others
as make it --contacts long. Counted are the names that the recognised text lacks and the errors in
all other words.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

from .. import zoo
from ..data.corpus import Corpus, open_corpus
from ..data.embedded.assistant import assistant
from ..data.text import normalize
from ..metrics.bootstrap import speaker_bootstrap
from ..metrics.wer import word_errors
from ..zoo.cards import percent
from ..zoo.console import stdout, table
from ..zoo.decoding import Decoding
from ..zoo.runtime import device_name
from ..zoo.transcriber import Transcriber
from ..zoo.transcript import Transcript


def names() -> tuple[str, ...]:
    """First and last names of the corpus's people."""
    return tuple(sorted({n for key in ("first", "last") for n in assistant().alternatives(key)}))


def measure(
    model_of: Callable[[str], Transcriber], corpus: Corpus, known: set[str]
) -> tuple[str, str]:
    """(names missed, errors in other words), with intervals over speakers; each speaker has a
    model."""
    missed, spoken, others, words, speakers = [], [], [], [], []
    for speaker, items in by_speaker(corpus).items():
        heard = model_of(speaker).transcribe([corpus.samples(i) for i in items])
        for i, transcript in zip(items, heard, strict=True):
            assert isinstance(transcript, Transcript)  # the corpus is ours: nothing is rejected
            reference, hypothesis = (
                normalize(text) for text in (corpus.utterance(i).text, transcript.text)
            )
            called = [word for word in reference.split() if word in known]
            found = hypothesis.split()
            lost = sum(max(0, called.count(n) - found.count(n)) for n in set(called))
            missed.append(lost)
            spoken.append(len(called))
            # A name that is missed is one error at least; the rest are others' or its fragments.
            others.append(word_errors(reference, hypothesis).total - lost)
            words.append(len(reference.split()) - len(called))
            speakers.append(speaker)
    cells = []
    for errors, count in ((missed, spoken), (others, words)):
        low, high = speaker_bootstrap(errors, count, speakers)
        cells.append(percent(100 * sum(errors) / sum(count), 100 * low, 100 * high))
    return cells[0], cells[1]


def by_speaker(corpus: Corpus) -> dict[str, list[int]]:
    """Indices of each speaker's recordings."""
    own: dict[str, list[int]] = defaultdict(list)
    for i in range(len(corpus)):
        own[corpus.utterance(i).speaker].append(i)
    return own


def contacts(corpus: Corpus, listed: Sequence[str], count: int) -> dict[str, tuple[str, ...]]:
    """Each speaker's list: the names that he says in `corpus`, and others up to `count`."""
    found = {}
    for speaker, items in by_speaker(corpus).items():
        spoken = {word for i in items for word in normalize(corpus.utterance(i).text).split()}
        own = [name for name in listed if name in spoken]
        rest = [name for name in listed if name not in spoken]
        more = random.Random(speaker).sample(rest, max(0, count - len(own)))
        found[speaker] = tuple(sorted(own + more))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="rnnt-tiny")
    parser.add_argument("--noise", type=float, default=5.0, help="signal to noise in dB")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    parser.add_argument("--contacts", type=int, default=25, help="names on a speaker's own list")
    given = parser.parse_args()
    listed = names()
    noisy, clean = (open_corpus(f"assistant{q}", "test") for q in (f"?noise={given.noise}", ""))
    console = stdout()
    console.print(
        f"{given.model}, {len(clean):,} sentences; {len(listed)} names listed; {device_name()}\n"
    )
    at = f"{given.noise:g} dB"
    rows = table("decoding", f"names, {at}", f"other words, {at}", "names, clean", "other, clean")
    own = contacts(clean, listed, given.contacts)

    @lru_cache(1)  # most systems have one decoding for all speakers
    def load(decoding: Decoding) -> Transcriber:
        return zoo.load(given.model, decoding=decoding)

    def add(name: str, decoding_of: Callable[[str], Decoding]) -> None:
        def model_of(speaker: str) -> Transcriber:
            return load(decoding_of(speaker))

        cells = (c for corpus in (noisy, clean) for c in measure(model_of, corpus, set(listed)))
        rows.add_row(name, *cells)

    add("greedy", lambda _: Decoding())
    add("beam 4", lambda _: Decoding(beam=4))
    for phrases_of, lists in ((lambda _: listed, "all names"), (own.__getitem__, "own list")):
        for weight in given.weights:
            add(
                f"{lists}, {weight:g} a letter",
                lambda speaker, of=phrases_of, weight=weight: Decoding(
                    beam=4, phrases=of(speaker), phrase_weight=weight
                ),
            )
    console.print(rows)


if __name__ == "__main__":
    main()
