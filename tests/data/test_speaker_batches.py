"""Batches of speakers: nobody twice, everybody in turn, the same whatever came before."""

from collections import Counter

import numpy as np
import pytest

from parley.data.augment import AugmentConfig
from parley.data.corpus import Utterance
from parley.data.errors import InputError
from parley.data.speaker_batches import SpeakerDataConfig, SpeakerLoader, SpeakerPlan

CONFIG = SpeakerDataConfig(speakers=3, utterances=2, crop_s=0.5, min_seconds=0.3, cache_gb=0.0)


class Counted:
    """Speakers with the given numbers of recordings; a recording's samples are its number."""

    name = "counted"

    def __init__(self, counts: dict[str, int], seconds: float = 0.6):
        self.items = [
            Utterance(f"{name}-{i}", "", seconds, name)
            for name, count in counts.items()
            for i in range(count)
        ]
        self.unreadable: set[int] = set()

    def __len__(self) -> int:
        return len(self.items)

    def utterance(self, i: int) -> Utterance:
        return self.items[i]

    def samples(self, i: int) -> np.ndarray:
        if i in self.unreadable:
            raise InputError(f"{self.items[i].id} cannot be read.")
        return np.full(round(16_000 * self.items[i].duration), i, np.int16)


def loader(corpus: Counted, **changes) -> SpeakerLoader:
    return SpeakerLoader(corpus, CONFIG, None, **({"seed": 0} | changes))


def test_no_speaker_and_no_recording_is_in_a_batch_twice():
    corpus = Counted({c: 2 + i for i, c in enumerate("abcdefgh")})
    plan = SpeakerPlan(corpus, CONFIG, seed=1)
    for step in range(200):
        speakers, chosen = plan.batch(step)
        assert len(set(speakers.tolist())) == 3
        assert len(set(chosen.ravel().tolist())) == 6
        for speaker, items in zip(speakers, chosen, strict=True):
            assert {corpus.utterance(i).speaker for i in items} == {plan.names[speaker]}


def test_a_round_has_everybody_once_and_turns_go_through_all_recordings():
    plan = SpeakerPlan(Counted(dict.fromkeys("abcdef", 6)), CONFIG, seed=0)
    assert plan.round_steps == 2
    heard: Counter[int] = Counter()
    for number in range(3):
        speakers = [plan.batch(2 * number + part)[0] for part in range(2)]
        assert sorted(np.concatenate(speakers).tolist()) == list(range(6))
        for part in range(2):
            heard.update(plan.batch(2 * number + part)[1].ravel().tolist())
    assert set(heard.values()) == {1}, "three rounds of two: each of the six once"
    assert len(heard) == 36
    assert plan.epoch_steps == 6


def test_a_batch_is_a_function_of_seed_and_step():
    corpus = Counted(dict.fromkeys("abcdef", 4))
    first = [batch for batch, _ in zip(loader(corpus), range(5), strict=False)]
    later = next(loader(corpus, start_step=3))
    np.testing.assert_equal(later, first[3])
    assert any(
        (a["index"] != b["index"]).any()
        for a, b in zip(first, loader(corpus, seed=1), strict=False)
    )


def test_processes_share_a_batch_out():
    corpus = Counted(dict.fromkeys("abcdefgh", 4))
    config = SpeakerDataConfig(speakers=4, utterances=2, crop_s=0.5, cache_gb=0.0)
    whole = SpeakerLoader(corpus, config, None, seed=0).load(2)
    parts = [
        SpeakerLoader(corpus, config, None, seed=0, process_index=i, process_count=2).load(2)
        for i in range(2)
    ]
    for key, rows in whole.items():
        np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), rows)
    with pytest.raises(InputError, match="cannot be shared out among 2 processes"):
        loader(corpus, process_count=2)


def test_rows_hold_what_they_say():
    corpus = Counted(dict.fromkeys("abcd", 3))
    batch = loader(corpus).load(0)
    for row, index in enumerate(batch["index"].tolist()):
        assert batch["sample_lengths"][row] == 8_000, "a crop of 0.6 s"
        np.testing.assert_array_equal(batch["samples"][row], index)
        assert batch["speakers"][row] == "abcd".index(corpus.utterance(index).speaker)


def test_a_short_recording_is_padded_not_repeated():
    batch = loader(Counted(dict.fromkeys("abcd", 3), seconds=0.4)).load(0)
    assert set(batch["sample_lengths"].tolist()) == {6_400}
    assert not batch["samples"][:, 6_400:].any()


def test_speakers_with_one_recording_are_left_out_and_named():
    corpus = Counted({"a": 3, "b": 1, "c": 2, "d": 2})
    made = loader(corpus)
    assert made.plan.names == ["a", "c", "d"]
    reason = "has 1 usable recording and 2 are compared"
    assert any(r.where == "speaker b" and reason in r.reason for r in made.quarantine)
    with pytest.raises(InputError, match="has 2 speakers with 2 usable recordings"):
        loader(Counted({"a": 3, "b": 1, "c": 2}))


def test_short_recordings_and_unknown_speakers_are_left_out():
    corpus = Counted(dict.fromkeys("abcd", 3))
    corpus.items[0] = Utterance("brief", "", 0.2, "a")
    corpus.items[1] = Utterance("whose", "", 0.6, "")
    corpus.items += [Utterance(f"a-{i}", "", 0.6, "a") for i in (7, 8)]
    rejected = {r.where: r.reason for r in loader(corpus).quarantine}
    assert "less than --data.min-seconds" in rejected["brief"]
    assert rejected["whose"] == "has no speaker."


def test_a_recording_that_cannot_be_read_gives_way_to_another_of_the_speaker():
    corpus = Counted(dict.fromkeys("abc", 4))
    corpus.unreadable = {0, 1, 2}
    made = loader(corpus)
    with pytest.warns(UserWarning, match="left out of training"):
        batches = [made.load(step) for step in range(6)]
    for batch in batches:
        assert not corpus.unreadable & set(batch["index"].tolist())
    assert {r.where for r in made.quarantine} == {"a-0", "a-1", "a-2"}
    corpus.unreadable = set(range(4))
    with pytest.raises(InputError, match="no recording of speaker a can be read"):
        [loader(corpus).load(step) for step in range(2)]


@pytest.mark.parametrize(("speakers", "utterances"), [(1, 2), (2, 1)])
def test_a_batch_that_compares_nothing_is_refused(speakers: int, utterances: int):
    config = SpeakerDataConfig(speakers=speakers, utterances=utterances)
    with pytest.raises(InputError, match="both are at least 2"):
        SpeakerPlan(Counted(dict.fromkeys("abcd", 3)), config, seed=0)


def test_another_speed_is_another_voice():
    with pytest.raises(InputError, match=r"--augment\.speed 1"):
        SpeakerLoader(Counted(dict.fromkeys("abcd", 3)), CONFIG, AugmentConfig(), seed=0)
