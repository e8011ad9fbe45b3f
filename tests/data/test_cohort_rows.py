"""An utterance's cohort as numbers: unit vectors, posteriors, zeros where nothing is known."""

from dataclasses import replace

import numpy as np
import pytest

from parley.data.cohort_rows import CohortRows
from parley.data.corpus import Utterance
from parley.data.errors import InputError
from parley.data.loader import DataConfig, make_loader
from parley.data.tokenizer import Tokenizer
from tones import ToneCorpus

ROWS = CohortRows("cohort_group", ("bottom", "top"))


@pytest.mark.parametrize(
    ("value", "row"),
    [
        ("bottom", [1, 0]),
        ("top", [0, 1]),
        ("middle", [0, 0]),
        (None, [0, 0]),
        ([0.25, 0.75], [0.25, 0.75]),
        ({"top": 0.5}, [0, 0.5]),
    ],
)
def test_a_row(value, row):
    metadata = {} if value is None else {"cohort_group": value}
    found = ROWS(Utterance("a", "red", 1.0, "s", metadata))
    assert found.dtype == np.float32
    assert found.tolist() == row


def test_numbers_name_cohorts_too():
    rows = CohortRows("cohort", ("3", "17"))
    assert rows(Utterance("a", "red", 1.0, "s", {"cohort": 17})).tolist() == [0, 1]


def test_probabilities_of_another_number_of_cohorts_are_refused():
    with pytest.raises(InputError, match="a: cohort_group should be 2 probabilities"):
        ROWS(Utterance("a", "red", 1.0, "s", {"cohort_group": [0.1, 0.2, 0.7]}))


def grouped() -> ToneCorpus:
    corpus = ToneCorpus(24)
    corpus.items = [
        replace(u, metadata={"cohort_group": ["bottom", "top", "other"][i % 3]})
        for i, u in enumerate(corpus.items)
    ]
    return corpus


def test_a_batch_has_the_rows_of_its_utterances():
    corpus = grouped()
    tokenizer = Tokenizer.train([u.text for u in corpus.items], kind="char")
    config = DataConfig(batch_seconds=4.0, buckets=1, max_padding=1.0, max_seconds=4.0)
    batch = make_loader(corpus, tokenizer, config, seed=0, cohorts=ROWS).load(0)
    assert batch["cohort"].tolist() == [
        [float(i % 3 == 0), float(i % 3 == 1)] for i in batch["index"]
    ]
    plain = make_loader(corpus, tokenizer, config, seed=0).load(0)
    assert "cohort" not in plain


def test_a_corpus_without_cohorts_is_named():
    with pytest.raises(InputError, match="cohorts=FILE"):
        ROWS.of(ToneCorpus(4))
