"""Storage that stutters is asked again; what stays silent is given up, and named."""

import threading

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.data.loader import DataConfig, make_loader
from parley.data.reading import Reader
from parley.data.tokenizer import Tokenizer
from tones import ToneCorpus


class Stuttering(ToneCorpus):
    """Fails `failures` times for each recording; number 3 never answers, if `silent`."""

    def __init__(self, failures: int, *, silent: bool = False):
        super().__init__(24)
        self.left = dict.fromkeys(range(len(self.items)), failures)
        self.silent = silent
        self.for_ever = threading.Event()

    def samples(self, i: int) -> np.ndarray:
        if self.silent and i == 3:
            self.for_ever.wait()
        if self.left[i]:
            self.left[i] -= 1
            raise OSError(5, "shard-00001 did not answer")
        return super().samples(i)


def read_all(loader) -> None:
    for step in range(loader.plan.steps_in_epoch()):
        loader.load(step)


def test_what_fails_twice_is_read_the_third_time():
    corpus = Stuttering(2)
    np.testing.assert_array_equal(Reader(corpus).samples(1), ToneCorpus(24).samples(1))


def test_what_fails_always_is_named_with_its_attempts():
    with pytest.raises(InputError, match=r"shard-00001 did not answer \(after 2 attempts\)"):
        Reader(Stuttering(9), attempts=2).samples(0)


def test_what_does_not_answer_is_given_up():
    corpus = Stuttering(0, silent=True)
    reader = Reader(corpus, attempts=2, patience_s=0.05)
    with pytest.raises(InputError, match=r"took more than 0.05 s"):
        reader.samples(3)
    assert len(reader.samples(4)), "others are read all the same"
    corpus.for_ever.set()


def test_a_loader_goes_on_without_what_it_cannot_read():
    """The first attempts fail for everything; one recording has no third that succeeds."""
    corpus = Stuttering(1)
    corpus.left[5] = 99
    tokenizer = Tokenizer.train([u.text for u in corpus.items], kind="char")
    config = DataConfig(batch_seconds=4.0, buckets=1, max_seconds=4.0)
    loader = make_loader(corpus, tokenizer, config, seed=0)
    with pytest.warns(UserWarning, match="tone-5"):
        read_all(loader)
    assert [r.where for r in loader.quarantine] == ["tone-5"]
    loader.close()
