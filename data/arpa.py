"""N-gram language models over a tokenizer's pieces: ARPA files, and their estimation.

A model is kept order by order as arrays; its last rows of the first order are the end and the
beginning of a sentence. `models.scoring.NGram.build` takes them as they are.

Sources: Doug Paul's ARPA format (ngram-format(5) of SRILM); Chen and Goodman 1999, "An empirical
study of smoothing techniques for language modeling", section 4, interpolated modified Kneser-Ney.
"""

import gzip
import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from .errors import InputError
from .files import replace_file

_NEVER = -99.0 * math.log(10.0)
"""How ARPA files write a probability of zero."""
_BEGIN, _END, _UNKNOWN = "<s>", "</s>", ("<unk>", "<UNK>")
_MARK = "▁"  # U+2581, with which tokens that begin a word are written
_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")
_SECTION = re.compile(r"\\(\d+)-grams:")

Order = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of n-grams, sorted: row of the context in the order before, last token, log p, log back-off."""


@dataclass(frozen=True)
class TokenNGrams:
    """N-grams over tokens 0 ... V - 1, V the end and V + 1 the beginning of a sentence; nats."""

    orders: tuple[Order, ...]

    @property
    def counts(self) -> list[int]:
        """N-grams of each order."""
        return [len(order[1]) for order in self.orders]


def read_arpa(path: Path, pieces: Sequence[str]) -> TokenNGrams:
    """Reads an ARPA file, plain or gzipped, whose words are `pieces` (0, the blank, left out).

    Raises:
      InputError: the file is missing, cut short or damaged, with the line; or is over words that
        are no tokens of the model.
    """
    ids = {piece: i for i, piece in enumerate(pieces) if i}
    ids |= {_END: len(pieces), _BEGIN: len(pieces) + 1}
    try:
        with _open(path) as file:
            grams, foreign, unknown = _read(file, path, ids)
    except FileNotFoundError:
        raise InputError(f"{path}: no such language model; check the path.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError):
        raise InputError(f"{path} is cut short or damaged; copy it again.") from None
    known = {t: grams[0][(t,)][0] for t in range(1, len(pieces)) if (t,) in grams[0]}
    # Words spelt like a token that goes on with a word (a, I) are none that begins one.
    if len(foreign) > len(known) or not any(pieces[t].startswith(_MARK) for t in known):
        named = f" ({', '.join(map(repr, foreign[:3]))})" if foreign else ""
        raise InputError(
            f"{path} is over words{named}, which are no tokens of this model: make one over its "
            "tokens with parley ngram."
        )
    # What the language model never saw may be said all the same, as unlikely as its rarest token.
    rare = unknown if unknown > _NEVER else min(known.values())
    for token in range(1, len(pieces)):
        grams[0].setdefault((token,), (rare, 0.0))
    return _ordered(grams, len(pieces) + 2)


def write_arpa(path: Path, model: TokenNGrams, pieces: Sequence[str]) -> None:
    """Writes the model, whole or not at all; gzipped where the name ends in .gz."""
    names = [*pieces, _END, _BEGIN]
    lines = ["\\data\\"]
    rows = [[(i,) for i in range(len(names))]]
    for parent, token, _, _ in model.orders[1:]:
        rows.append([(*rows[-1][p], int(t)) for p, t in zip(parent, token, strict=True)])
    written = [[i for i, gram in enumerate(grams) if gram != (0,)] for grams in rows]
    lines += [f"ngram {n}={len(kept)}" for n, kept in enumerate(written, start=1)]
    for n, (grams, kept, order) in enumerate(zip(rows, written, model.orders, strict=True), 1):
        lines += ["", f"\\{n}-grams:"]
        for i in kept:
            words = " ".join(names[t] for t in grams[i])
            line = f"{max(order[2][i], _NEVER) / math.log(10.0):.6f}\t{words}"
            if n < len(rows):
                line += f"\t{order[3][i] / math.log(10.0):.6f}"
            lines.append(line)
    text = "\n".join([*lines, "", "\\end\\", ""])
    replace_file(path, gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text)


def estimate(sentences: Iterable[Sequence[int]], vocab_size: int, *, order: int = 3) -> TokenNGrams:
    """Interpolated modified Kneser-Ney over token sequences.

    Args:
      sentences: tokens of each, none of them 0.
      vocab_size: V, blank included.
      order: longest n-grams.

    Raises:
      InputError: no sentence.
    """
    end, begin = vocab_size, vocab_size + 1
    full: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        # One mark is enough: contexts do not reach beyond it.
        line = (begin, *sentence, end)
        for n in range(1, order + 1):
            for i in range(len(line) - n + 1):
                if n > 1 or line[i] != begin:
                    full[n - 1][line[i : i + n]] += 1
    if not full[0]:
        raise InputError("there is no text to make a language model of; check the files.")
    # Of all but the longest n-grams, and those at a beginning, it counts what may come before.
    counts: list[dict[tuple[int, ...], int]] = []
    for n in range(1, order + 1):
        if n == order:
            counts.append(dict(full[n - 1]))
            continue
        before: Counter[tuple[int, ...]] = Counter(gram[1:] for gram in full[n])
        for gram, count in full[n - 1].items():
            if gram[0] == begin:
                before[gram] = count
        counts.append(dict(before))
    grams: list[dict[tuple[int, ...], tuple[float, float]]] = []
    symbols = vocab_size  # the tokens without the blank, and the end
    probability: dict[tuple[int, ...], float] = {}
    for n, level in enumerate(counts, start=1):
        discount = _discounts(level.values())
        totals: dict[tuple[int, ...], int] = defaultdict(int)
        spared: dict[tuple[int, ...], float] = defaultdict(float)
        for gram, count in level.items():
            totals[gram[:-1]] += count
            spared[gram[:-1]] += discount[min(count, 3)]
        if n == 1:
            left = spared[()] / totals[()]
            for token in (*range(1, vocab_size), end):
                count = level.get((token,), 0)
                seen = max(count - discount[min(count, 3)], 0.0) / totals[()]
                probability[(token,)] = seen + left / symbols
            grams.append({(t,): (math.log(probability[(t,)]), 0.0) for t in range(1, end + 1)})
            grams[0][(begin,)] = (_NEVER, 0.0)
            grams[0][(0,)] = (_NEVER, 0.0)
            continue
        for context, total in totals.items():
            if context in grams[n - 2]:
                logp, _ = grams[n - 2][context]
                grams[n - 2][context] = (logp, math.log(spared[context] / total))
        found = {}
        for gram, count in sorted(level.items(), key=lambda item: item[0]):
            context = gram[:-1]
            seen = (count - discount[min(count, 3)]) / totals[context]
            probability[gram] = seen + spared[context] / totals[context] * _lower(
                probability, grams, gram[1:]
            )
            found[gram] = (math.log(probability[gram]), 0.0)
        grams.append(found)
    return _ordered(grams, vocab_size + 2)


def _lower(
    probability: dict[tuple[int, ...], float],
    grams: list[dict[tuple[int, ...], tuple[float, float]]],
    gram: tuple[int, ...],
) -> float:
    """p of a shorter n-gram, by backing off where it was not seen."""
    factor = 1.0
    while gram not in probability:
        if gram[:-1] in grams[len(gram) - 2]:
            factor *= math.exp(grams[len(gram) - 2][gram[:-1]][1])
        gram = gram[1:]
    return factor * probability[gram]


def _discounts(counts: Iterable[int]) -> tuple[float, float, float, float]:
    """What counts of 0, 1, 2 and more give up, by counts of counts."""
    of = Counter(counts)
    if not all(of[k] for k in (1, 2, 3, 4)):
        return 0.0, 0.5, 0.75, 0.9  # too little text to tell
    share = of[1] / (of[1] + 2 * of[2])
    found = [k - (k + 1) * share * of[k + 1] / of[k] for k in (1, 2, 3)]
    one, two, more = (min(max(d, 0.05), k - 0.05) for k, d in zip((1, 2, 3), found, strict=True))
    return 0.0, one, two, more


def _ordered(grams: list[dict[tuple[int, ...], tuple[float, float]]], symbols: int) -> TokenNGrams:
    for token in range(symbols):
        grams[0].setdefault((token,), (_NEVER, 0.0))
    # A pruned model may lack a context; it is put in, with the probability that backing off gives.
    for n in range(len(grams) - 1, 1, -1):
        for gram in grams[n]:
            if gram[:-1] not in grams[n - 1]:
                grams[n - 1][gram[:-1]] = (_backed_off(grams, gram[:-1]), 0.0)
    orders = []
    row: dict[tuple[int, ...], int] = {(): 0}
    for level in grams:
        keys = sorted(level, key=lambda gram: (row[gram[:-1]], gram[-1]))
        orders.append(
            (
                np.array([row[gram[:-1]] for gram in keys], np.int64),
                np.array([gram[-1] for gram in keys], np.int64),
                np.array([level[gram][0] for gram in keys]),
                np.array([level[gram][1] for gram in keys]),
            )
        )
        row = {gram: i for i, gram in enumerate(keys)}
    return TokenNGrams(tuple(orders))


def _backed_off(
    grams: list[dict[tuple[int, ...], tuple[float, float]]], gram: tuple[int, ...]
) -> float:
    paid = 0.0
    while len(gram) > 1 and gram not in grams[len(gram) - 1]:
        paid += grams[len(gram) - 2].get(gram[:-1], (0.0, 0.0))[1]
        gram = gram[1:]
    return paid + grams[len(gram) - 1].get(gram, (_NEVER, 0.0))[0]


def _open(path: Path) -> TextIO:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return (
        gzip.open(path, "rt", encoding="utf-8-sig") if zipped else open(path, encoding="utf-8-sig")
    )


def _read(
    file: TextIO, path: Path, ids: dict[str, int]
) -> tuple[list[dict[tuple[int, ...], tuple[float, float]]], list[str], float]:
    """`(n-grams of each order, words that are no tokens, log p of the unknown word)`."""
    grams: list[dict[tuple[int, ...], tuple[float, float]]] = []
    foreign: list[str] = []
    unknown = _NEVER
    lines = _numbered(file)
    promised: list[int] = []
    for _, line in lines:  # whatever stands before it is a comment
        if line == "\\data\\":
            break
    else:
        raise InputError(f"{path} is no ARPA language model: it has no \\data\\ section.")
    seen = 0
    for number, line in lines:
        count, section = _COUNT.fullmatch(line), _SECTION.fullmatch(line)
        order = len(grams)
        if count and not order and int(count[1]) == len(promised) + 1:
            promised.append(int(count[2]))
        elif section or line == "\\end\\":
            if order and seen != promised[order - 1]:
                raise InputError(
                    f"{path}, line {number}: {seen:,} {order}-grams where {promised[order - 1]:,} "
                    "are promised; it is cut short or damaged: copy it again."
                )
            if not section:
                if not order or any(promised[order:]):
                    break
                while not grams[-1] and len(grams) > 1:
                    grams.pop()
                return grams, foreign, unknown
            if int(section[1]) != order + 1 or order == len(promised):
                raise InputError(f"{path}, line {number}: {line} is not promised or out of turn.")
            grams.append({})
            seen = 0
        else:
            seen += 1
            words, logp, backoff = _entry(line, order, f"{path}, line {number}")
            # N-grams of words that the model has no token for can never be said by it.
            if all(word in ids for word in words):
                gram = tuple(ids[word] for word in words)
                if gram in grams[-1]:
                    raise InputError(f"{path}, line {number}: {' '.join(words)!r} stands twice.")
                grams[-1][gram] = (logp, backoff)
            elif order == 1 and words[0] in _UNKNOWN:
                unknown = logp
            elif order == 1:
                foreign.append(words[0])
    raise InputError(f"{path} is cut short: it does not end as promised; copy it again.")


def _entry(line: str, order: int, where: str) -> tuple[list[str], float, float]:
    """`(words, log p, log back-off)` of one line."""
    fields = line.split()
    words = fields[1 : order + 1]
    try:
        logp, backoff = float(fields[0]), float([*fields, "0"][order + 1])
        # Probabilities of 1 may be rounded upwards; a weight may be above 1, but not infinite.
        usable = logp < 1e-3 and backoff < math.inf
        if len(words) != order or not order or len(fields) > order + 2 or not usable:
            raise ValueError
    except (ValueError, IndexError):
        what = f"{order}-gram" if order else "count"
        raise InputError(f"{where} is no {what}: {line[:60]!r}; the file is damaged.") from None
    scale = math.log(10.0)
    return words, max(min(logp, 0.0) * scale, _NEVER), max(backoff * scale, _NEVER)


def _numbered(file: TextIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, start=1):
        if text := line.strip():
            yield number, text
