"""Against pocketsphinx, the recogniser that most small devices could run before.

    pip install pocketsphinx
    python -m parley.benchmarks.pocketsphinx --digits DIGITS/manifest.jsonl
    python -m parley.benchmarks.pocketsphinx --data "assistant?limit=300"

The US English model that its wheel brings, on the same audio and the same one core of the CPU. It
is told the task: digits as a grammar in which any follows any, and as a trigram model of strings
that other takes are joined to; sentences as a trigram model of the training texts. Words that its
dictionary lacks are left out and counted. Among its settings the best on other recordings than
those tested (takes 10 to 19, the development set) were taken: no noise removal and eight Gaussians
a frame. Language weight, insertion penalty, wider beams, the filters' range and bigrams made little
difference or none for the better.

It was trained on people and knows none of these synthetic speakers; the zoo's models were trained
on this very task. So the table says what a small model for a task is worth, not which recogniser
is better.
"""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import zoo
from ..data.arpa import estimate, write_arpa
from ..data.corpus import Corpus, open_corpus
from ..data.errors import InputError
from ..data.text import normalize
from ..metrics.bootstrap import speaker_bootstrap
from ..metrics.wer import total_errors, word_errors
from ..zoo.cards import percent
from ..zoo.console import remark, stdout, table
from ..zoo.runtime import device_name
from ..zoo.transcript import Transcript

DIGITS = "zero one two three four five six seven eight nine"
TESTED = "take=5-9&join=1-7&draws=400"
"""Of the digits, as the results of rnnt-digits-tiny are measured."""
TRAINED = "take=10-49&join=1-7&draws=4000"

Hear = Callable[[Corpus], list[str]]
"""The texts of a corpus."""


class Sphinx:
    """pocketsphinx with the model of its wheel, noise removal switched off.

    Raises:
      InputError: pocketsphinx is not installed.
    """

    def __init__(self, folder: Path):
        try:
            pocketsphinx: Any = importlib.import_module("pocketsphinx")
        except ImportError:
            raise InputError("this needs pocketsphinx: pip install pocketsphinx.") from None
        self._decoder: Any = pocketsphinx.Decoder
        self._model = folder / "en-us"
        shutil.copytree(pocketsphinx.get_model_path("en-us/en-us"), self._model)
        # What stands there goes before a decoder's options.
        settings = self._model / "feat.params"
        settings.write_text(settings.read_text().replace("-remove_noise yes", "-remove_noise no"))
        words = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
        self.dictionary = {line.split()[0] for line in words.read_text().splitlines() if line}

    def told(self, **task: str) -> Hear:
        """One that is told the task: `lm` or `jsgf`, a file."""
        options = {"samprate": 16_000, "loglevel": "FATAL", "hmm": str(self._model), "topn": 8}
        if "jsgf" in task:
            options["lw"] = 1.0  # a language model's 6.5 makes it leave words out
        decoder = self._decoder(**options, **task)

        def hear(corpus: Corpus) -> list[str]:
            found = []
            for i in range(len(corpus)):
                decoder.start_utt()
                decoder.process_raw(corpus.samples(i).tobytes(), full_utt=True)
                decoder.end_utt()
                best = decoder.hyp()
                found.append(best.hypstr if best else "")
            return found

        return hear


def grammar(words: Sequence[str], folder: Path) -> str:
    """A JSGF file in which any word follows any."""
    path = folder / "words.gram"
    path.write_text(f"#JSGF V1.0;\ngrammar words;\npublic <words> = ( {' | '.join(words)} )+;\n")
    return str(path)


def language_model(texts: Sequence[str], words: Sequence[str], folder: Path) -> str:
    """An ARPA file: a trigram model of those texts that need no other words."""
    ids = {word: i for i, word in enumerate(words, start=1)}
    known = [[ids[w] for w in text.split()] for text in texts if set(text.split()) <= ids.keys()]
    path = folder / "words.arpa"
    write_arpa(path, estimate(known, len(words) + 1, order=3), ["<blank>", *words])
    return str(path)


def texts_of(corpus: Corpus) -> list[str]:
    return [normalize(corpus.utterance(i).text) for i in range(len(corpus))]


def ours(name: str, corpus: Corpus) -> Hear:
    """A model of the zoo, compiled for the shapes of this corpus."""
    model = zoo.load(name)

    def hear(corpus: Corpus) -> list[str]:
        audio = (corpus.samples(i) for i in range(len(corpus)))
        found = dict(model.transcribe_each(audio))
        texts = (found[i] for i in range(len(corpus)))
        return [r.text if isinstance(r, Transcript) else "" for r in texts]

    hear(corpus)
    return hear


def compare(corpus: Corpus, hear: Hear) -> tuple[str, float]:
    """(WER with its interval, times real time), reading included."""
    began = time.monotonic()
    texts = hear(corpus)
    took = time.monotonic() - began
    seconds = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    pairs = zip(texts_of(corpus), texts, strict=True)
    errors = [word_errors(reference, normalize(text)) for reference, text in pairs]
    low, high = speaker_bootstrap(
        [e.total for e in errors],
        [e.words for e in errors],
        [corpus.utterance(i).speaker for i in range(len(corpus))],
    )
    return percent(100 * total_errors(errors).wer, 100 * low, 100 * high), seconds / took


def one_core() -> None:
    """Before the first computation: XLA's threads inherit it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def run(given: argparse.Namespace, folder: Path) -> None:
    sphinx = Sphinx(folder)
    console = stdout()
    rows = table("data", "recogniser", "WER (95 % interval)", "times real time")

    def add(data: str, corpus: Corpus, name: str, hear: Hear) -> None:
        wer, speed = compare(corpus, hear)
        rows.add_row(data, name, wer, f"{speed:,.1f}")
        remark(f"{data}: {name}: {wer}, {speed:,.1f} times real time")

    if given.digits:
        corpus = open_corpus(f"{given.digits}?{TESTED}")
        said = f"digits, {len(corpus)} strings"
        words = DIGITS.split()
        trigram = language_model(texts_of(open_corpus(f"{given.digits}?{TRAINED}")), words, folder)
        add(said, corpus, "rnnt-digits-tiny", ours("rnnt-digits-tiny", corpus))
        add(said, corpus, "pocketsphinx, grammar", sphinx.told(jsgf=grammar(words, folder)))
        add(said, corpus, "pocketsphinx, trigram", sphinx.told(lm=trigram))
    corpus = open_corpus(given.data, "test")
    texts = texts_of(open_corpus("assistant", "train"))
    vocabulary = {word for text in texts for word in text.split()}
    words = sorted(vocabulary & sphinx.dictionary)
    missing = sorted(vocabulary - sphinx.dictionary)
    add(given.data, corpus, "rnnt-tiny", ours("rnnt-tiny", corpus))
    # A grammar in which any of these words follows any takes it longer than real time.
    trigram = sphinx.told(lm=language_model(texts, words, folder))
    add(given.data, corpus, "pocketsphinx, trigram", trigram)
    processor = device_name().partition(" of ")[2]
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, one core of {processor}\n")
    console.print(rows)
    console.print(
        f"{len(missing)} of the sentences' {len(vocabulary)} words are not in pocketsphinx's "
        f"dictionary{': ' if missing else ''}{', '.join(missing[:20])}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.pocketsphinx",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--digits", help="the Free Spoken Digit Dataset as a manifest")
    parser.add_argument("--data", default="assistant?limit=300", help="sentences of assistant")
    given = parser.parse_args()
    one_core()
    try:
        with tempfile.TemporaryDirectory() as name:
            run(given, Path(name))
    except InputError as error:
        print(f"parley: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
