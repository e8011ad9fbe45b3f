"""Conversations: what is promised of turns, times, overlap and sound."""

import itertools
import json
import pickle

import numpy as np
import pytest
import soundfile

from parley.data.batching import BatchPlan
from parley.data.conversations import ConversationConfig, ConversationCorpus
from parley.data.corpus import Utterance, late_epoch, open_corpus
from parley.data.errors import InputError
from parley.data.loader import DataConfig, make_loader
from parley.data.tokenizer import Tokenizer
from parley.data.turns import assign_channels, most_at_once, overlap_share, turns_of
from parley.data.views import epoch_durations

BEFORE, AFTER = 0.2, 0.35


class Tones:
    """Six speakers' recordings: a tone between silences; its pitch says which recording it is."""

    name = "tones"

    def __init__(self, count: int = 48, longest: float = 2.5):
        rng = np.random.default_rng(5)
        self.seconds = np.round(rng.uniform(0.8, longest, count), 2)

    def __len__(self):
        return len(self.seconds)

    def utterance(self, i):
        seconds = float(self.seconds[i]) + BEFORE + AFTER
        return Utterance(f"t{i}", f"tone {i}", seconds, speaker=f"s{i % 6}")

    def samples(self, i):
        time = np.arange(round(float(self.seconds[i]) * 16_000)) / 16_000
        tone = 9000 * np.sin(2 * np.pi * (250 + 120 * i) * time)
        return np.pad(tone, (round(BEFORE * 16_000), round(AFTER * 16_000))).astype(np.int16)


def conversations(**settings) -> ConversationCorpus:
    return ConversationCorpus(Tones(), ConversationConfig(**{"draws": 40, **settings}))


@pytest.fixture(scope="module")
def clean() -> ConversationCorpus:
    return conversations(low=1, high=8, rooms=0.0, draws=300)


def test_what_is_promised_of_the_turns(clean):
    counts, gaps, talkers = [], [], []
    for i in range(300):
        utterance = clean.utterance(i)
        turns = turns_of(utterance)
        assert list(turns) == sorted(turns, key=lambda t: t.start)
        assert utterance.text == " ".join(t.text for t in turns)
        assert utterance.speaker == "+".join(sorted({t.speaker for t in turns}))
        assert utterance.metadata["turn_count"] == len(turns)
        assert utterance.metadata["speakers"] == len({t.speaker for t in turns}) <= 4
        assert utterance.metadata["overlap"] == pytest.approx(overlap_share(turns), abs=1e-4)
        assert utterance.duration <= 20.0
        assert turns[0].start >= 0.2
        assert 0.5 <= utterance.duration - max(t.end for t in turns) <= 3.0
        for a, b in itertools.pairwise(turns):
            assert b.start - a.start >= 0.5 - 1e-9
            gaps.append(b.start - a.end)
            assert a.speaker != b.speaker or b.start >= a.end
        assert most_at_once(turns) <= 2
        for rule in ("first_free", "stay_unless_overlap"):
            assert not assign_channels(turns, rule)[1]
        counts.append(len(turns))
        talkers.append(utterance.metadata["speakers"])
    assert np.mean(np.array(counts) == 1) == pytest.approx(0.2, abs=0.06)
    assert set(counts) == set(range(1, 9))
    assert set(talkers) == {1, 2, 3, 4}
    assert 0.3 < np.mean(np.array(gaps) < 0) < 0.6


def presence(samples: np.ndarray, hertz: float) -> np.ndarray:
    """Amplitude of a tone in frames of 20 ms every 10 ms; `[frames]`."""
    wave = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / 16_000)
    frames = np.lib.stride_tricks.sliding_window_view(samples * wave, 320)[::160]
    return np.abs(frames @ np.hanning(320)) / 160


def test_times_are_those_of_the_sound(clean):
    for i in range(12):
        samples = clean.samples(i).astype(float)
        assert len(samples) == round(clean.utterance(i).duration * 16_000)
        for turn in turns_of(clean.utterance(i)):
            found = presence(samples, 250 + 120 * int(turn.text.split()[1]))
            middle = found[int((turn.start + turn.end) / 2 * 100)]
            heard = np.flatnonzero(found > middle / 2) * 0.01 + 0.01
            assert heard[0] == pytest.approx(turn.start, abs=0.025)
            assert heard[-1] == pytest.approx(turn.end, abs=0.025)


def test_a_talker_keeps_his_level(clean):
    levels: dict[str, set] = {}
    for i in range(20):
        samples, levels = clean.samples(i).astype(float), {}
        for turn in turns_of(clean.utterance(i)):
            middle = int((turn.start + turn.end) / 2 * 100)
            found = presence(samples, 250 + 120 * int(turn.text.split()[1]))[middle]
            # `presence` finds half of a tone's amplitude, which is sqrt(2) times its power's root.
            level = 20 * np.log10(2 * found / np.sqrt(2) / 32767)
            levels.setdefault(turn.speaker, set()).add(round(level, 0))
            assert -38.5 <= level <= -17.5
        assert all(max(found) - min(found) <= 1 for found in levels.values())


def test_drawn_anew_in_every_epoch_and_alike_everywhere():
    one, two = conversations(low=2, rooms=0.5), conversations(low=2, rooms=0.5)
    other = conversations(low=2, rooms=0.5, seed=1)
    ids = [[c.utterance(i).id for i in range(80)] for c in (one, two, other)]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])
    assert len(set(ids[0])) == 80
    copy = pickle.loads(pickle.dumps(two))
    for i in (70, 3, 41):  # in any order
        assert np.array_equal(one.samples(i), copy.samples(i))
        assert one.utterance(i) == copy.utterance(i)


def test_rooms_and_noise():
    corpus, dry = conversations(low=2, rooms=0.5), conversations(low=2, rooms=0.0)
    wet = [i for i in range(60) if corpus.utterance(i).metadata["rt60"] > 0]
    assert 18 <= len(wet) <= 42
    for i in wet[:6]:
        utterance = corpus.utterance(i)
        turns = turns_of(utterance)
        samples = corpus.samples(i).astype(float)
        assert turns == turns_of(dry.utterance(i))
        assert 0.15 <= utterance.metadata["rt60"] <= 0.5
        talking = np.zeros(len(samples), bool)
        for turn in turns:
            talking[int(turn.start * 16_000) : int(turn.end * 16_000) + 12_000] = True
        speech = dry.samples(i).astype(float)[talking]
        noise_db = 10 * np.log10(np.mean(samples[~talking] ** 2) / np.mean(speech**2))
        # The mean power here includes half a second of silence after each turn.
        assert -noise_db == pytest.approx(utterance.metadata["snr_db"], abs=4.0)
        assert np.abs(samples).max() < 32767
    for i in set(range(60)) - set(wet):
        assert corpus.utterance(i).metadata["snr_db"] is None
        assert np.array_equal(corpus.samples(i), dry.samples(i))


def test_nothing_clips():
    corpus = conversations(low=4, high=6, rooms=0.5)
    assert max(np.abs(corpus.samples(i).astype(int)).max() for i in range(30)) <= 0.97 * 32767 + 1


@pytest.mark.parametrize("percent", [0, 10, 20, 30, 40])
def test_a_condition_of_overlap(percent):
    corpus = conversations(low=2, high=5, overlap=percent, rooms=0.0, seed=7)
    for i in range(60):
        turns = turns_of(corpus.utterance(i))
        assert len(turns) >= 2
        assert overlap_share(turns) == pytest.approx(percent / 100, abs=0.02)
        assert most_at_once(turns) <= 2


def test_no_conversation_is_longer_than_asked_for():
    corpus = conversations(low=2, high=8, seconds=9.0)
    found = [corpus.utterance(i) for i in range(100)]
    assert max(u.duration for u in found) <= 9.0
    counts = [u.metadata["turn_count"] for u in found]
    assert min(counts) == 2
    assert max(counts) > 3


def test_a_ramp_begins_with_single_turns_and_batches_know_what_comes():
    corpus = conversations(low=1, high=6, ramp=400, draws=100, rooms=0.0)
    counts = [corpus.utterance(i).metadata["turn_count"] for i in range(600)]
    assert set(counts[:30]) == {1}
    for i in range(400):
        assert counts[i] <= round(1 + 5 * i / 400)
    assert max(counts[400:]) == 6
    assert late_epoch(corpus) == 4
    plan = BatchPlan(
        lambda epoch: epoch_durations(corpus, epoch),
        seed=0,
        batch_seconds=60.0,
        endless=True,
        bucket_epoch=late_epoch(corpus),
    )
    late = epoch_durations(corpus, 4)
    assert plan.buckets[-1].seconds >= late.max()
    used = {int(i) for s in range(60) for i in plan.batch(s).indices}
    assert any(counts[i] >= 5 for i in used if i < 600)


def test_the_loader_takes_them():
    corpus = conversations(low=1, high=3, ramp=80, draws=40)
    tokenizer = Tokenizer.train((corpus.utterance(i).text for i in range(40)), kind="char")
    loader = make_loader(corpus, tokenizer, DataConfig(batch_seconds=40.0, workers=1), seed=0)
    assert loader.plan.buckets[-1].seconds > corpus.utterance(0).duration * 1.5
    batch = next(loader)
    loader.close()
    for row, index in enumerate(batch["index"].tolist()):
        labels = batch["labels"][row, : batch["label_lengths"][row]].tolist()
        assert tokenizer.decode(labels) == corpus.utterance(index).text
    assert not loader.quarantine


def test_a_recording_that_cannot_be_read_is_left_out():
    class Damaged(Tones):
        def samples(self, i):
            if i == 3:
                raise InputError("t3.flac is cut short.")
            return super().samples(i)

    corpus = ConversationCorpus(Damaged(), ConversationConfig(1, 4, draws=60))
    texts = " ".join(corpus.utterance(i).text for i in range(60)).split()
    assert "3" not in texts
    assert [str(row) for row in corpus.quarantine] == ["t3: t3.flac is cut short."]


def spoken(folder, name, **fields):
    """A manifest of six speakers, whose recordings are `Tones`."""
    tones = Tones(24)
    with open(folder / name, "w") as out:
        for i in range(len(tones)):
            soundfile.write(folder / f"{i}.flac", tones.samples(i), 16_000)
            said = {"audio_filepath": f"{i}.flac", "text": "yes", "speaker": f"s{i % 6}", "take": i}
            out.write(json.dumps({**said, **fields}) + "\n")
    return folder / name


def test_by_spec(tmp_path):
    path = spoken(tmp_path, "m.jsonl")
    corpus = open_corpus(f"{path}?take=0-17&turns=2-3&draws=9&rooms=1&seconds=12", root=tmp_path)
    assert isinstance(corpus, ConversationCorpus)
    assert len(corpus) == 9
    assert corpus.config == ConversationConfig(2, 3, seconds=12.0, rooms=1.0, draws=9)
    assert len(corpus.base) == 18
    assert corpus.utterance(0).metadata["rt60"] > 0
    assert list((tmp_path / "speech_bounds").iterdir())
    tests = open_corpus(f"{path}?turns=2-3&overlap=20&limit=5&seed=7&noise=20", root=tmp_path)
    assert len(tests) == 5
    assert tests.utterance(0).metadata["rt60"] == 0.0  # conditions differ in overlap alone
    assert tests.utterance(0).metadata["snr_db"] == 20.0
    assert abs(tests.utterance(0).metadata["overlap"] - 0.2) <= 0.02
    both = open_corpus(f"{path} + {path}?turns=2&ramp=50&draws=10", root=tmp_path)
    assert (len(both), late_epoch(both)) == (34, 5)
    joined = open_corpus(f"{path}?join=2-3&turns=2&draws=6", root=tmp_path)
    assert all(3 < len(joined.utterance(i).text.split()) < 7 for i in range(6))
    assert all(len(turns_of(joined.utterance(i))) == 2 for i in range(6))
    # Without turns, the words are fields like any other.
    with pytest.raises(InputError, match="no recording has a field 'overlap'"):
        open_corpus(f"{path}?overlap=20")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("turns=3-1", "turns must be a count or a range such as 1-4"),
        ("turns=0-2", "turns must be"),
        ("turns=1-2&overlap=20", "overlap needs two turns or more, for example turns=2-4"),
        ("turns=2&overlap=70", "overlap must be from 0 to 50 percent"),
        ("turns=2&overlap=much", "overlap must be a number"),
        ("turns=2&overlap=20&ramp=9", "ramp is for training, overlap for tests"),
        ("turns=2&ramp=-1", "ramp must be a whole number"),
        ("turns=2&rooms=3", "rooms must be a share from 0 to 1"),
        ("turns=4&seconds=2", "seconds must be from 3.5 to 3600 for 4 turns"),
        ("turns=4&seconds=4", "last at most 0.6 s .4 turns in 4 s., and there are those of 0"),
        ("turns=2&speaker=s1", "recordings of two speakers or more"),
        ("turns=2&spreker=s1", "no recording has a field 'spreker'"),
    ],
)
def test_a_wrong_spec_is_explained(tmp_path, query, message):
    path = spoken(tmp_path, "m.jsonl")
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(f"{path}?{query}", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_speakers_must_be_known(tmp_path):
    path = spoken(tmp_path, "m.jsonl", speaker="")
    with pytest.raises(InputError, match=r"conversations need speakers, and 0[.]flac has none"):
        open_corpus(f"{path}?turns=2", root=tmp_path)


def test_an_overlap_that_cannot_be_had_is_said_at_once():
    class Short(Tones):
        def samples(self, i):
            return super().samples(i)[: round((BEFORE + 0.4) * 16_000)]

    with pytest.raises(InputError, match="no overlap of 40 % can be had of recordings so short"):
        ConversationCorpus(Short(), ConversationConfig(2, 4, overlap=40))
