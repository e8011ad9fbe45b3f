"""What is held out to validate on where the user names nothing."""

import dataclasses

import numpy as np
import pytest

from parley.data.corpus import Corpus
from parley.data.errors import InputError
from parley.data.joined import JoinedCorpus
from parley.data.views import ConcatCorpus
from parley.train.validation import hold_out
from tones import ToneCorpus


def ids(corpus: Corpus) -> set[str]:
    return {corpus.utterance(i).id for i in range(len(corpus))}


def speakers(corpus: Corpus) -> set[str]:
    return {corpus.utterance(i).speaker for i in range(len(corpus))}


def with_speakers(count: int) -> ToneCorpus:
    corpus = ToneCorpus(60)
    corpus.items = [
        dataclasses.replace(u, speaker=f"s{i % count}" if count else "")
        for i, u in enumerate(corpus.items)
    ]
    return corpus


def test_a_tenth_of_the_speakers_is_held_out():
    corpus = with_speakers(20)
    train, dev, said = hold_out(corpus)
    assert ids(train) | ids(dev) == ids(corpus)
    assert not speakers(train) & speakers(dev)
    assert len(speakers(dev)) == 2
    assert said.startswith("2 of 20 speakers (6 utterances) of tones are held out")
    i = next(i for i in range(len(corpus)) if corpus.utterance(i).id == dev.utterance(0).id)
    np.testing.assert_array_equal(dev.samples(0), corpus.samples(i))


@pytest.mark.parametrize("count", [0, 1, 9])
def test_few_or_unknown_speakers_give_a_tenth_of_the_utterances(count: int):
    corpus = with_speakers(count)
    train, dev, said = hold_out(corpus)
    assert ids(train) | ids(dev) == ids(corpus)
    assert not ids(train) & ids(dev)
    assert len(dev) == 6
    assert said.startswith("6 of 60 utterances")


def test_the_choice_depends_on_names_alone():
    corpus, turned = with_speakers(20), with_speakers(20)
    turned.items, turned.audio = turned.items[::-1], turned.audio[::-1]
    assert ids(hold_out(corpus)[1]) == ids(hold_out(turned)[1])
    shorter = with_speakers(0)
    shorter.items = shorter.items[:55]
    kept = ids(hold_out(shorter)[1]) & ids(hold_out(with_speakers(0))[1])
    assert len(kept) >= 4, "most of it stays when recordings are added"


def test_strings_that_are_joined_anew_share_no_recording():
    corpus = JoinedCorpus(with_speakers(4), 1, 3, draws=50, seed=1)
    train, dev, _ = hold_out(corpus)
    assert (len(train), len(dev)) == (50, 5)
    parts = [{p for i in range(300) for p in c.utterance(i).id.split("+")} for c in (train, dev)]
    assert not parts[0] & parts[1]
    with pytest.raises(InputError, match=r"--data\.dev"):
        hold_out(ConcatCorpus([corpus, ToneCorpus(5)]))


def test_a_single_utterance_is_trained_on():
    train, dev, _ = hold_out(ToneCorpus(1))
    assert (len(train), len(dev)) == (1, 0)
