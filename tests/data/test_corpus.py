"""Specs and the views they name: selection, joining, concatenation, noise, cache."""

import pickle
from collections import Counter

import numpy as np
import pytest

from parley.data.corpus import data_root, open_corpus, parse_spec
from parley.data.errors import InputError
from parley.data.noise import noisy
from parley.data.views import CachedCorpus, epoch_durations


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 60),
        ("speaker=ann", 20),
        ("speaker=!ann", 40),
        ("speaker=ann,bob", 40),
        ("take=1-3", 30),
        ("take=!1-3", 30),
        ("take=0,5", 20),
        ("take=0.0", 10),
        ("take=1-3&speaker=cy&accent=us", 5),
        ("limit=7", 7),
        ("speaker=cy&limit=7", 7),
        ("id=3.flac", 1),
    ],
)
def test_selection(manifest, query, expected):
    corpus = open_corpus(f"{manifest}?{query}")
    assert len(corpus) == expected
    assert len({corpus.utterance(i).id for i in range(len(corpus))}) == expected


def test_selection_tells_rows_by_their_values(manifest):
    corpus = open_corpus(f"{manifest}?take=2-3&accent=rp")
    for i in range(len(corpus)):
        utterance = corpus.utterance(i)
        assert 2 <= utterance.metadata["take"] <= 3
        assert utterance.metadata["accent"] == "rp"
        assert len(corpus.samples(i)) == round(utterance.duration * 16_000)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "no corpus 'nowhere'"),
        ("nowhere.jsonl", "cannot be read"),
        ("{}?tak=3", "no recording has a field 'tak'; there are accent,"),
        ("{}?take=70-80", "no recording is left"),
        ("{}?take", "is not key=value"),
        ("{}?take=1&take=2", "given twice"),
        ("{}?limit=0", "limit must be a whole number from 1 on"),
        ("{}?limit=-3", "limit must be"),
        ("{}?join=3-1", "join must be"),
        ("{}?join=0-2", "join must be"),
        ("{}?draws=5", "draws needs join"),
        ("{}?speakers=5", "speakers is for words and assistant only"),
        ("{}?noise=loud", "noise must be a number"),
        ("{}?noise=nan", "noise must be a number"),
        ("{} + ", "nothing between"),
        ("?take=3", "names no source"),
        ("words?draws=3", "draws needs join"),
        ("librispeech:/nowhere", "LibriSpeech has no split 'train'"),
    ],
)
def test_a_wrong_spec_is_explained(manifest, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(spec.format(manifest))
    assert "\n" not in str(caught.value)


def test_parse_spec():
    assert parse_spec("a.jsonl?take=1-3&name=a%26b") == ("a.jsonl", {"take": "1-3", "name": "a&b"})


def test_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("PARLEY_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(tmp_path / "x") == tmp_path / "x"


def test_joined_strings_are_the_recordings_with_pauses(manifest):
    corpus = open_corpus(f"{manifest}?join=2-4&draws=50")
    base = open_corpus(str(manifest))
    samples_of = {base.utterance(i).id: base.samples(i) for i in range(len(base))}
    assert len(corpus) == 50
    counts = Counter()
    for i in range(50):
        utterance, samples = corpus.utterance(i), corpus.samples(i)
        parts = utterance.id.split("+")
        counts[len(parts)] += 1
        assert len(utterance.text.split()) == len(parts)
        assert {int(part.split(".")[0]) % 3 for part in parts} == {
            ("ann", "bob", "cy").index(utterance.speaker)
        }
        position = 0
        for number, part in enumerate(parts):
            piece = samples_of[part]
            if number:
                # A tone begins with a zero, so the pause is told from it to within a sample.
                pause = int(np.argmax(samples[position:] != 0)) - 1
                assert 0.05 * 16_000 - 2 <= pause <= 0.4 * 16_000
                position += pause
            assert np.array_equal(samples[position : position + len(piece)], piece)
            position += len(piece)
        assert position == len(samples)
        assert utterance.duration == pytest.approx(len(samples) / 16_000, abs=1e-3)
    assert set(counts) == {2, 3, 4}


def test_joined_draws_are_new_in_every_epoch_and_the_same_each_time(manifest):
    spec = f"{manifest}?join=1-7&draws=40"
    one, two, other = open_corpus(spec), open_corpus(spec), open_corpus(spec + "&seed=1")
    texts = [[c.utterance(i).id for i in range(80)] for c in (one, two, other)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert not set(texts[0][:40]) & {t for t in texts[0][40:] if "+" in t}
    assert np.array_equal(one.samples(70), pickle.loads(pickle.dumps(two)).samples(70))
    assert np.array_equal(
        epoch_durations(one, 1), [one.utterance(i).duration for i in range(40, 80)]
    )


def test_metadata_that_the_parts_share_is_kept(manifest):
    corpus = open_corpus(f"{manifest}?join=3&accent=us&draws=30")
    for i in range(30):
        assert corpus.utterance(i).metadata["accent"] == "us"


def test_concatenation(manifest):
    corpus = open_corpus(f"{manifest}?speaker=ann + {manifest}?speaker=bob&join=2&draws=5")
    assert len(corpus) == 25
    assert corpus.utterance(0).speaker == "ann"
    assert corpus.utterance(24).speaker == "bob"
    # The next epoch: the same recordings of ann, other strings of bob.
    assert corpus.utterance(25) == corpus.utterance(0)
    assert corpus.utterance(49).id != corpus.utterance(24).id
    assert len(corpus.samples(49)) / 16_000 == pytest.approx(
        corpus.utterance(49).duration, abs=1e-3
    )


@pytest.mark.parametrize("snr", [20.0, 10.0, 5.0, -5.0])
def test_noise_has_the_ratio_asked_for(make_tone, snr):
    clean = make_tone(2.0)
    mixed = noisy(clean, snr, np.random.default_rng(0))
    noise = mixed.astype(float) - clean
    ratio = 10 * np.log10(np.mean(clean.astype(float) ** 2) / np.mean(noise**2))
    assert ratio == pytest.approx(snr, abs=0.1)


def test_silence_has_no_ratio():
    assert not noisy(np.zeros(1000, np.int16), 10.0, np.random.default_rng(0)).any()


def test_noise_by_spec_is_the_same_each_time(manifest):
    clean = open_corpus(str(manifest))
    one, two = (open_corpus(f"{manifest}?noise=10") for _ in range(2))
    assert np.array_equal(one.samples(5), two.samples(5))
    assert not np.array_equal(one.samples(5), clean.samples(5))
    assert one.utterance(5).text == clean.utterance(5).text
    assert one.utterance(5).metadata["snr_db"] == 10.0


def test_cache_reads_once_and_keeps_to_its_bound(manifest):
    class Counting:
        name = "counting"
        reads = 0

        def __init__(self):
            self.base = open_corpus(str(manifest))

        def __len__(self):
            return len(self.base)

        def utterance(self, i):
            return self.base.utterance(i)

        def samples(self, i):
            self.reads += 1
            return self.base.samples(i)

    base = Counting()
    first = base.samples(0)
    base.reads = 0
    corpus = CachedCorpus(base, first.nbytes + 10)
    assert all(np.array_equal(corpus.samples(0), first) for _ in range(3))
    assert base.reads == 1
    corpus.samples(1)
    corpus.samples(1)  # there was no room for it
    assert base.reads == 3
    assert corpus.cached_bytes == first.nbytes
    with pytest.raises(ValueError, match="read-only"):
        corpus.samples(0)[0] = 1
    # A copy for another process takes no samples along.
    assert len(pickle.dumps(CachedCorpus(base.base, 10**9))) < 100_000
