"""ARPA files and their estimation, against plain recursion in float64."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from parley.data.arpa import TokenNGrams, estimate, read_arpa, write_arpa
from parley.data.errors import InputError

PIECES = ["<blank>", "▁a", "b", "▁c", "d", "e"]
V = len(PIECES)
END, BEGIN = V, V + 1


def as_dict(model: TokenNGrams) -> dict[tuple[int, ...], tuple[float, float]]:
    found: dict[tuple[int, ...], tuple[float, float]] = {}
    rows: list[tuple[int, ...]] = [()]
    for parent, token, logp, backoff in model.orders:
        rows = [(*rows[p], int(t)) for p, t in zip(parent, token, strict=True)]
        found |= {g: (p, b) for g, p, b in zip(rows, logp, backoff, strict=True)}
    return found


def log_p(grams: dict, context: tuple[int, ...], token: int) -> float:
    """Katz's recursion, as the format defines it."""
    if (*context, token) in grams:
        return grams[(*context, token)][0]
    if not context:
        return -math.inf
    return grams.get(context, (0.0, 0.0))[1] + log_p(grams, context[1:], token)


@pytest.fixture(scope="module")
def sentences() -> list[list[int]]:
    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.full(V - 1, 0.4), size=V)
    made = []
    for _ in range(300):
        sentence, at = [], 0
        for _ in range(rng.integers(1, 9)):
            at = 1 + int(rng.choice(V - 1, p=chain[at]))
            sentence.append(at)
        made.append(sentence)
    return made


@pytest.fixture(scope="module")
def model(sentences: list[list[int]]) -> TokenNGrams:
    return estimate(sentences, V, order=3)


def test_probabilities_sum_to_one_after_any_context(model: TokenNGrams):
    grams = as_dict(model)
    contexts = [(), (1,), (BEGIN,), (2, 3), (BEGIN, 4), (5, 5), (3, 1)]
    for context in contexts:
        total = sum(math.exp(log_p(grams, context, t)) for t in (*range(1, V), END))
        assert total == pytest.approx(1.0, abs=1e-9)


def test_it_expects_what_it_was_made_of(model: TokenNGrams, sentences: list[list[int]]):
    grams = as_dict(model)

    def perplexity(lines: list[list[int]]) -> float:
        total = count = 0.0
        for line in lines:
            context: tuple[int, ...] = (BEGIN,)
            for token in (*line, END):
                total += log_p(grams, context, token)
                context = (*context, token)[-2:]
                count += 1
        return math.exp(-total / count)

    shuffled = np.random.default_rng(1).permutation([t for s in sentences for t in s]).tolist()
    assert perplexity(sentences) < 0.8 * perplexity([shuffled[i : i + 5] for i in range(0, 900, 5)])


def test_a_case_by_hand():
    """Two sentences `1 2` and `1 3`: bigram counts 1 but (begin, 1), twice; fixed discounts."""
    grams = as_dict(estimate([[1, 2], [1, 3]], 4, order=2))
    # Kinds of contexts: 1 after begin; 2 and 3 after 1; the end after 2 and 3.
    unigram = {1: 1, 2: 1, 3: 1, 4: 2}
    total, spared = 5, 0.5 * 3 + 0.75
    p = {t: (c - {1: 0.5, 2: 0.75}[c]) / total + spared / total / 4 for t, c in unigram.items()}
    for token, expected in p.items():
        assert math.exp(grams[(token,)][0]) == pytest.approx(expected)
    assert math.exp(grams[(5, 1)][0]) == pytest.approx((2 - 0.75) / 2 + 0.75 / 2 * p[1])
    assert math.exp(grams[(1, 2)][0]) == pytest.approx((1 - 0.5) / 2 + 0.5 * p[2])
    assert math.exp(grams[(1,)][1]) == pytest.approx(0.5)


def by_definition(sentences: list[list[int]], vocab_size: int, order: int):
    """p(token | context), counted plainly (Chen and Goodman 1999, section 4)."""
    end, begin = vocab_size, vocab_size + 1
    lines = [(begin, *s, end) for s in sentences]
    grams = [
        Counter(line[i : i + n] for line in lines for i in range(len(line) - n + 1))
        for n in range(1, order + 1)
    ]

    def count(gram: tuple[int, ...]) -> int:
        if len(gram) == order or gram[0] == begin:
            return 0 if gram == (begin,) else grams[len(gram) - 1][gram]
        return sum(longer[1:] == gram for longer in grams[len(gram)])

    counts = [{gram: count(gram) for gram in level} for level in grams]
    discounts = []
    for level in counts:
        n1, n2, n3, n4 = (sum(c == k for c in level.values()) for k in (1, 2, 3, 4))
        assert n4, "too little text for this test"
        y = n1 / (n1 + 2 * n2)
        discounts.append((0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3))

    def p(context: tuple[int, ...], token: int) -> float:
        level, discount = counts[len(context)], discounts[len(context)]
        lower = p(context[1:], token) if context else 1 / vocab_size
        after = [c for gram, c in level.items() if gram[:-1] == context and c]
        if not after:
            return lower
        own = level.get((*context, token), 0)
        spared = sum(discount[min(c, 3)] for c in after)
        return (own - discount[min(own, 3)] + spared * lower) / sum(after)

    return p


def test_estimates_are_what_the_definition_says():
    rng, size = np.random.default_rng(2), 40
    draw = 1 / np.arange(1, size) ** 1.2
    text = [
        (1 + rng.choice(size - 1, size=rng.integers(1, 7), p=draw / draw.sum())).tolist()
        for _ in range(100)
    ]
    grams, p = as_dict(estimate(text, size, order=3)), by_definition(text, size, 3)
    begin = size + 1
    for context in [(), (1,), (begin,), (5,), (begin, 1), (1, 1), (2, 1), (39, 38)]:
        for token in range(1, size + 1):
            assert math.exp(log_p(grams, context, token)) == pytest.approx(p(context, token))


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_a_file_gives_back_what_was_written(model: TokenNGrams, tmp_path: Path, name: str):
    path = tmp_path / name
    write_arpa(path, model, PIECES)
    again = read_arpa(path, PIECES)
    assert name.endswith("gz") == (path.read_bytes()[:2] == b"\x1f\x8b")
    assert again.counts == model.counts
    for old, new in zip(model.orders, again.orders, strict=True):
        for a, b in zip(old, new, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_usual_variants_are_read(tmp_path: Path):
    path = tmp_path / "lm.arpa"
    path.write_text(
        "made by hand\n\n\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-0.5 </s>\n-99 <s> -0.3\n"
        "-0.4\t▁a\t-0.2\n-1.0 house\n\n\\2-grams:\n-0.1 <s> ▁a\n-0.2 ▁a house\n\n\\end\\\n"
    )
    grams = as_dict(read_arpa(path, PIECES))
    assert grams[(1,)] == pytest.approx((-0.4 * math.log(10), -0.2 * math.log(10)))
    assert grams[(BEGIN, 1)][0] == pytest.approx(-0.1 * math.log(10))
    assert len(grams) == V + 2 + 1  # the n-gram of a word that is no piece is left out
    assert grams[(2,)] == (grams[(1,)][0], 0.0)  # never seen: as unlikely as the rarest


def test_the_unknown_word_stands_for_tokens_never_seen(tmp_path: Path):
    path = tmp_path / "lm.arpa"
    path.write_text(
        "\\data\\\nngram 1=4\nngram  2 = 1\nngram 3=0\n\n\\1-grams:\n-inf <s>\n-1 </s>\n-2 <unk>\n"
        "-0.4 ▁a\n\n\\2-grams:\n-0.3 ▁a <unk>\n\n\\end\\\n",
        encoding="utf-8-sig",
    )
    model = read_arpa(path, PIECES)
    assert model.counts == [V + 2]
    assert [as_dict(model)[(t,)][0] / math.log(10) for t in (2, 5)] == pytest.approx([-2, -2])


def test_a_damaged_archive_is_one_sentence(model: TokenNGrams, tmp_path: Path):
    path = tmp_path / "lm.arpa.gz"
    write_arpa(path, model, PIECES)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:40] + b"\xff\xff" + whole[42:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cut short or damaged"):
            read_arpa(path, PIECES)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text[: len(text) // 2], "line|cut short"),
        (lambda text: text.replace("\\end\\", ""), "cut short"),
        (lambda text: text.replace("ngram 2=", "ngram 2=9"), "promised"),
        (lambda text: text.replace("\\data\\", ""), "no ARPA"),
        (lambda text: text.replace("-0.", "x.", 1), "line .* is no .-gram"),
        (lambda text: text.replace("▁c", "▁C"), None),
        (lambda text: text.replace("▁", "_").replace("\tb\t", "\tB\t"), "over words .'_a'"),
        (lambda text: text.replace("ngram 2=", "ngram 2=x"), "line 3 is no count"),
        (lambda text: text.replace("ngram 3=", "ngram 4="), "line 4 is no count"),
        (lambda text: text.replace("\\2-grams", "\\3-grams"), "out of turn"),
        (lambda text: "\\data\\\n\\end\\\n", "cut short"),
        (lambda text: text.replace("\td\t", "\te\t"), "'e' stands twice"),
        (lambda text: text.replace("\n-", "\n", 1), "line .* is no .-gram"),
        (lambda text: text.replace("\td\t", "\td\tinf "), "line .* is no .-gram"),
        (lambda text: "", "no ARPA"),
    ],
)
def test_damage_is_one_sentence(model: TokenNGrams, tmp_path: Path, damage, sentence: str | None):
    path = tmp_path / "lm.arpa"
    write_arpa(path, model, PIECES)
    path.write_text(damage(path.read_text()))
    if sentence is None:  # some words are no tokens: that alone is no damage
        assert read_arpa(path, PIECES).counts[0] == V + 2
        return
    with pytest.raises(InputError, match=sentence):
        read_arpa(path, PIECES)


def test_words_that_are_no_tokens_are_named(tmp_path: Path):
    path = tmp_path / "lm.arpa"
    path.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1 </s>\n-99 <s>\n-1 house\n\n\\end\\\n")
    with pytest.raises(InputError, match="parley ngram"):
        read_arpa(path, PIECES)
    path.write_text(path.read_text().replace("house", "e"))  # as the English word `a` is a letter
    with pytest.raises(InputError, match="parley ngram"):
        read_arpa(path, PIECES)
    with pytest.raises(InputError, match="no such language model"):
        read_arpa(tmp_path / "none.arpa", PIECES)
    with pytest.raises(InputError, match="no text"):
        estimate([], V)
