"""`parley ngram`."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.arpa import TokenNGrams, estimate, write_arpa
from ..data.corpus import open_corpus
from ..data.errors import InputError
from ..data.text import normalize
from ..data.tokenizer import Tokenizer
from .arguments import parse
from .console import remark
from .registry import folder_of


@dataclass(frozen=True)
class NgramArguments:
    """An n-gram language model over a model's tokens, for `--lm` in transcribe and evaluate.

    Interpolated modified Kneser-Ney, written as an ARPA file. Texts that the tokenizer cannot spell
    are left out and counted.

    * parley ngram rnnt-tiny sentences.txt --out lm.arpa --order 4
    * parley ngram rnnt-tiny assistant --split train --out lm.arpa --dev assistant
    * parley ngram rnnt-tiny sentences.txt --out lm.arpa --json
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Whose tokens: a name that `parley list` shows, or a model's folder."""
    text: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="TEXT...")]
    """Files of sentences, one a line, or corpora as `parley evaluate` takes them."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    order: int = 4
    """Longest n-grams."""
    split: str = "train"
    """Of a corpus."""
    dev: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Print the perplexity of this file, or of this corpus's dev split."""
    json: bool = False
    """Print JSON."""


def ngram_command(argv: list[str]) -> int:
    given = parse(NgramArguments, argv, "parley ngram")
    if not 1 <= given.order <= 8:
        raise InputError(f"an order of {given.order} is no use: give 1 to 8.")
    tokenizer = Tokenizer.load(folder_of(given.model) / "tokenizer.model")
    sentences, unknown = [], 0
    for source in given.text:
        found, odd = _tokens(tokenizer, source, given.split)
        sentences += found
        unknown += odd
    if unknown:
        remark(f"{unknown:,} texts hold what the tokenizer cannot spell and are left out")
    # Read first: where it is missing nothing has been counted for an hour.
    held = _held(tokenizer, given.dev) if given.dev else []
    if sentences:
        remark(f"counting the n-grams of {len(sentences):,} sentences")
    model = estimate(sentences, tokenizer.vocab_size, order=given.order)
    write_arpa(given.out, model, tokenizer.pieces)
    told = {
        "file": str(given.out),
        "sentences": len(sentences),
        "left_out": unknown,
        "ngrams": model.counts,
    }
    if given.dev:
        told |= {"dev": given.dev, "dev_sentences": len(held)}
        told["perplexity"] = _perplexity(model, held)
    if given.json:
        print(json.dumps(told, ensure_ascii=False))
        return 0
    counts = ", ".join(f"{n:,} of order {k}" for k, n in enumerate(model.counts, start=1))
    print(f"{given.out}: {len(sentences):,} sentences; n-grams: {counts}")
    if given.dev:
        print(
            f"perplexity of {given.dev}: {told['perplexity']:.2f} a token, over "
            f"{told['dev_sentences']:,} sentences"
        )
    return 0


def _held(tokenizer: Tokenizer, source: str) -> list[list[int]]:
    held, _ = _tokens(tokenizer, source, "dev")
    if not held:
        raise InputError(f"{source} holds no text to measure a perplexity on.")
    return held


def _perplexity(model: TokenNGrams, held: list[list[int]]) -> float:
    """Of held-out texts, a token, sentence ends counted."""
    import jax.numpy as jnp

    from ..models.scoring import NGram

    longest = max(map(len, held))
    padded = jnp.array([[*s, *[0] * (longest - len(s))] for s in held], jnp.int32)
    lengths = jnp.array([len(s) for s in held], jnp.int32)
    logp = NGram.build(model.orders, weight=1.0).sentences(padded, lengths)
    return math.exp(-float(logp.sum()) / float((lengths + 1).sum()))


def _tokens(tokenizer: Tokenizer, source: str, split: str) -> tuple[list[list[int]], int]:
    """Tokens of every text, and how many texts cannot be spelt."""
    found, unknown = [], 0
    for text in _texts(source, split):
        try:
            tokens = tokenizer.encode(text)
        except InputError:
            unknown += 1
            continue
        if tokens:
            found.append(tokens)
    return found, unknown


def _texts(source: str, split: str) -> Iterator[str]:
    path = Path(source).expanduser()
    if path.is_file() and path.suffix.lower() not in (".jsonl", ".json", ".csv", ".tsv"):
        try:
            with open(path, encoding="utf-8") as file:
                yield from map(normalize, file)
        except UnicodeDecodeError:
            raise InputError(f"{path} is no UTF-8 text: give sentences, one a line.") from None
    else:
        corpus = open_corpus(source, split)
        yield from (corpus.utterance(i).text for i in range(len(corpus)))
