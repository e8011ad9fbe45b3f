"""Against pocketsphinx, the recogniser that most small devices could run before.

    pip install pocketsphinx
    python -m parley.benchmarks.pocketsphinx --digits DIGITS/manifest.jsonl
    python -m parley.benchmarks.pocketsphinx --data "assistant?limit=300"

The US English model that its wheel brings, on the same audio. It is told the task: digits as a
grammar in which any follows any, sentences as a trigram language model of the training texts. Words
that its dictionary lacks are left out and counted. It was trained on people and knows none of these
synthetic speakers; the zoo's models were trained on this very task.
So the table says what a small model for a task is worth, not which recogniser is better.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
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


def sphinx(**options: Any) -> Callable[[Corpus], list[str]]:
    """Raises InputError where pocketsphinx is not installed."""
    try:
        from pocketsphinx import Decoder  # type: ignore[import-not-found]
    except ImportError:
        raise InputError("this needs pocketsphinx: pip install pocketsphinx.") from None
    decoder = Decoder(samprate=16_000, loglevel="FATAL", **options)

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


def dictionary() -> set[str]:
    from pocketsphinx import get_model_path  # type: ignore[import-not-found]

    path = Path(get_model_path("en-us/cmudict-en-us.dict"))
    return {line.split()[0] for line in path.read_text().splitlines() if line.strip()}


def grammar(words: Sequence[str], folder: Path) -> str:
    path = folder / "words.gram"
    path.write_text(f"#JSGF V1.0;\ngrammar words;\npublic <words> = ( {' | '.join(words)} )+;\n")
    return str(path)


def language_model(texts: Sequence[str], words: Sequence[str], folder: Path) -> str:
    ids = {word: i for i, word in enumerate(words, start=1)}
    known = [[ids[w] for w in text.split()] for text in texts if set(text.split()) <= ids.keys()]
    path = folder / "words.arpa"
    write_arpa(path, estimate(known, len(words) + 1, order=3), ["<blank>", *words])
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.pocketsphinx",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--digits", help="the Free Spoken Digit Dataset as a manifest")
    parser.add_argument("--data", default="assistant?limit=300")
    given = parser.parse_args()
    console = stdout()
    console.print(f"{device_name()}\n")
    rows = table("data", "recogniser", "WER (95 % interval)", "times real time")

    def compare(data: str, corpus: Corpus, name: str, hear: Callable[[Corpus], list[str]]) -> None:
        seconds = sum(corpus.utterance(i).duration for i in range(len(corpus)))
        began = time.monotonic()
        texts = hear(corpus)
        took = time.monotonic() - began
        errors = [
            word_errors(normalize(corpus.utterance(i).text), normalize(text))
            for i, text in enumerate(texts)
        ]
        low, high = speaker_bootstrap(
            [e.total for e in errors],
            [e.words for e in errors],
            [corpus.utterance(i).speaker for i in range(len(corpus))],
        )
        wer = percent(100 * total_errors(errors).wer, 100 * low, 100 * high)
        rows.add_row(data, name, wer, f"{seconds / took:,.1f}")
        remark(f"{data}: {name}: {wer}, {seconds / took:,.1f} times real time")

    def ours(name: str) -> Callable[[Corpus], list[str]]:
        model = zoo.load(name)

        def hear(corpus: Corpus) -> list[str]:
            audio = (corpus.samples(i) for i in range(len(corpus)))
            found = dict(model.transcribe_each(audio))
            texts = (found[i] for i in range(len(corpus)))
            return [r.text if isinstance(r, Transcript) else "" for r in texts]

        hear(corpus)  # compiles
        return hear

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.digits:
            corpus = open_corpus(f"{given.digits}?take=5-9&join=1-7&draws=400")
            words = DIGITS.split()
            compare("digits", corpus, "rnnt-digits-tiny", ours("rnnt-digits-tiny"))
            compare("digits", corpus, "pocketsphinx", sphinx(jsgf=grammar(words, folder)))
        corpus = open_corpus(given.data, "test")
        train = open_corpus("assistant", "train")
        texts = [normalize(train.utterance(i).text) for i in range(len(train))]
        vocabulary = {word for text in texts for word in text.split()}
        words = sorted(vocabulary & dictionary())
        remark(
            f"{len(vocabulary) - len(words)} of {len(vocabulary)} words are not in its dictionary"
        )
        compare(given.data, corpus, "rnnt-tiny", ours("rnnt-tiny"))
        # A grammar in which any of 530 words follows any takes it longer than real time.
        trigram = sphinx(lm=language_model(texts, words, folder))
        compare(given.data, corpus, "pocketsphinx, trigram", trigram)
    console.print(rows)


if __name__ == "__main__":
    main()
