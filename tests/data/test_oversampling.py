"""Cohorts come as often as asked, and nothing changes where nothing is asked."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from parley.data.augment import AugmentConfig
from parley.data.batching import BatchPlan, whole_copies
from parley.data.corpus import Corpus
from parley.data.errors import InputError
from parley.data.loader import DataConfig, make_loader
from parley.data.oversampling import copies_of, with_replay
from parley.data.tokenizer import Tokenizer
from tones import ToneCorpus

ACCENTS = ["scotland"] * 6 + ["caribbean"] * 4 + ["rp"] * 50


def accented(count: int = 60) -> ToneCorpus:
    corpus = ToneCorpus(count)
    corpus.items = [
        replace(item, metadata={"accent": ACCENTS[i % 60], "rank": i % 60})
        for i, item in enumerate(corpus.items)
    ]
    return corpus


def plan_of(corpus: Corpus, copies, **options):
    seconds = np.asarray([corpus.utterance(i).duration for i in range(len(corpus))])
    options = {"seed": 0, "batch_seconds": 8.0, "buckets": 2, **options}
    return BatchPlan(seconds, copies=copies, **options)


def drawn(plan: BatchPlan, epochs: int) -> np.ndarray:
    steps = sum(plan.steps_in_epoch(e) for e in range(epochs))
    return np.concatenate([plan.batch(step).indices for step in range(steps)])


def shares(corpus: Corpus, indices: np.ndarray) -> dict[str, float]:
    counts = Counter(corpus.utterance(int(i)).metadata["accent"] for i in indices)
    return {accent: count / len(indices) for accent, count in counts.items()}


def test_a_factor_makes_a_cohort_come_so_many_times_as_often():
    corpus = accented()
    copies = copies_of(corpus, "accent=scotland,caribbean:4")
    assert copies is not None
    assert copies.tolist() == [4.0] * 10 + [1.0] * 50
    found = shares(corpus, drawn(plan_of(corpus, copies), 30))
    assert found["scotland"] == pytest.approx(24 / 90, abs=0.01)
    assert found["caribbean"] == pytest.approx(16 / 90, abs=0.01)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_share_of_a_cohort_goes_by_its_size_to_the_beta(beta):
    corpus = accented()
    copies = copies_of(corpus, "accent=caribbean:2", f"accent:{beta}")
    assert copies is not None
    wanted = {"scotland": 6**beta, "caribbean": 2 * 4**beta, "rp": 50**beta}
    found = shares(corpus, drawn(plan_of(corpus, copies), 40))
    for accent, weight in wanted.items():
        assert found[accent] == pytest.approx(weight / sum(wanted.values()), abs=0.015)


def test_ranges_and_several_rules_multiply():
    copies = copies_of(accented(), "rank=0-9:2&accent=scotland:1.5")
    assert copies is not None
    assert copies.tolist() == [3.0] * 6 + [2.0] * 4 + [1.0] * 50


def test_a_factor_of_one_is_the_plan_without():
    corpus = accented()
    assert copies_of(corpus) is None
    assert copies_of(corpus, "accent=scotland:1", "accent:1") is None
    plain = plan_of(corpus, None, speeds=(0.9, 1.0, 1.1))
    ones = plan_of(corpus, np.ones(60), speeds=(0.9, 1.0, 1.1))
    for step in range(12):
        a, b = plain.batch(step), ones.batch(step)
        for field in ("indices", "speeds", "copies"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_the_plan_stays_a_function_of_seed_and_step():
    corpus, copies = accented(), copies_of(accented(), "accent=scotland:2.5")
    forward = [plan_of(corpus, copies).batch(step) for step in range(20)]
    backward = plan_of(corpus, copies)
    for step in reversed(range(20)):
        np.testing.assert_array_equal(backward.batch(step).indices, forward[step].indices)
    other = plan_of(corpus, copies, seed=1).batch(0)
    assert not np.array_equal(other.indices, forward[0].indices)


def test_fractions_are_kept_on_average_and_in_sum():
    copies = np.asarray([2.3] * 10 + [0.4] * 20 + [1.0] * 5)
    totals = np.zeros(35)
    for seed in range(400):
        times = whole_copies(copies, np.random.default_rng(seed))
        assert abs(times.sum() - copies.sum()) <= 1
        assert set(np.unique(times[:10])) <= {2, 3}
        totals += times
    np.testing.assert_allclose(totals / 400, copies, atol=0.1)


def test_replayed_utterances_make_up_their_share():
    own, general = accented(120), accented()
    both, replayed = with_replay(own, general)
    copies = copies_of(both, "accent=scotland:3", replayed=replayed, share=0.25)
    indices = drawn(plan_of(both, copies), 60)
    assert np.mean(indices >= 120) == pytest.approx(0.25, abs=0.01)
    # All of the general population comes in its turn.
    assert set(indices[indices >= 120]) == set(range(120, 180))


def test_copies_of_one_epoch_sound_different():
    corpus = accented(10)
    tokenizer = Tokenizer.train([u.text for u in corpus.items], kind="char")
    config = DataConfig(batch_seconds=12.0, buckets=1, max_padding=1.0, max_seconds=4.0)
    augment = AugmentConfig(speed=(1.0,), noise_probability=1.0)
    loader = make_loader(corpus, tokenizer, config, augment, seed=0, copies=np.full(10, 3.0))
    planned = loader.plan.batch(0)
    assert set(planned.copies) == {0, 1, 2}
    plain = make_loader(corpus, tokenizer, config, augment, seed=0)
    alone = {int(i): row for i, row in zip(*_rows(plain.load(0)), strict=True)}
    heard: dict[int, list[bytes]] = {}
    for copy, index, row in zip(planned.copies, *_rows(loader.load(0)), strict=True):
        heard.setdefault(int(index), []).append(row.tobytes())
        if copy == 0 and int(index) in alone:
            np.testing.assert_array_equal(row, alone[int(index)])
    assert max(map(len, heard.values())) > 1
    assert all(len(set(rows)) == len(rows) for rows in heard.values())


def _rows(batch):
    return batch["index"], batch["samples"]


@pytest.mark.parametrize(
    ("oversample", "balance", "message"),
    [
        ("accent=scotland", "", "key=value:factor"),
        ("accent=scotland:0", "", "above 0"),
        ("accent=scotland:much", "", "'much'"),
        ("cohort_group=bottom:4", "", "no utterance has a field 'cohort_group'; there are accent"),
        ("accent=wales:4", "", "there are caribbean, rp, scotland"),
        ("", "accent", "key:beta"),
        ("", "cohort:0.5", "--data.balance: no utterance has a field 'cohort'"),
    ],
)
def test_what_cannot_be_understood_is_said(oversample, balance, message):
    with pytest.raises(InputError, match=message):
        copies_of(accented(), oversample, balance)


def test_what_is_drawn_anew_cannot_be_repeated():
    corpus = accented()
    corpus.endless = True  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="drawn anew"):
        copies_of(corpus, "accent=scotland:4")
