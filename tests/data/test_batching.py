"""The plan: a function of durations, seed and step, with little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.data.batching import GRAIN, BatchPlan, choose_bounds
from parley.data.errors import InputError


def _lengths(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        # Read books: most sentences fill 12 to 16 s, a tail is short (as LibriSpeech's).
        "books": np.clip(np.where(rng.random(4000) < 0.7, rng.normal(14, 1.5, 4000),
                                  rng.uniform(1.5, 14, 4000)), 1.3, 17),
        "commands": rng.lognormal(0.8, 0.4, 4000),
        "strings": rng.uniform(0.3, 6.0, 4000),
        "words": rng.uniform(0.5, 2.5, 4000),
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", ["books", "commands", "strings", "words"])
def test_padding_is_at_most_15_percent(name):
    plan = BatchPlan(_lengths(name), seed=0, batch_seconds=120, speeds=(0.9, 1.0, 1.1), multiple=2)
    assert all(plan.padding(epoch) <= 0.15 for epoch in range(3))
    assert 4 <= len(plan.buckets) <= 16
    assert f"{100 * plan.padding():.1f} % padding" in plan.describe()


def test_padding_counts_what_is_there():
    """Two lengths, two buckets: nothing is padded but to whole grains."""
    seconds = np.repeat([24 * GRAIN / 16_000, 8 * GRAIN / 16_000], 40)
    plan = BatchPlan(seconds, seed=0, batch_seconds=20, buckets=2)
    assert plan.padding() == 0.0
    assert [b.samples for b in plan.buckets] == [8 * GRAIN, 24 * GRAIN]
    one = BatchPlan(seconds, seed=0, batch_seconds=20, buckets=1, max_padding=1.0)
    assert one.padding() == pytest.approx(1 / 3, abs=0.1)


@given(st.lists(st.integers(1, 40 * GRAIN), min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_bounds_are_the_best_there_are(lengths, buckets):
    from itertools import combinations

    lengths = np.asarray(lengths)
    bounds = choose_bounds(lengths, buckets)
    grains = np.unique(-(-lengths // GRAIN)) * GRAIN

    def room(chosen):
        return sum(chosen[np.searchsorted(chosen, lengths)])

    k = min(buckets, len(grains))
    best = min(room(np.asarray(c)) for c in combinations(grains, k) if c[-1] == grains[-1])
    assert room(np.asarray(bounds)) == best
    assert bounds == sorted(set(bounds))


def test_shapes_are_static_and_items_fit():
    seconds = _lengths("commands")
    plan = BatchPlan(seconds, seed=0, batch_seconds=60, speeds=(0.9, 1.1), multiple=8)
    shapes = set()
    for step in range(2 * plan.steps_in_epoch()):
        batch = plan.batch(step)
        shapes.add((len(batch.indices), batch.bucket_samples))
        samples = seconds[batch.indices] * 16_000 / batch.speeds
        assert samples.max() <= batch.bucket_samples
        assert batch.bucket_samples % GRAIN == 0
        assert len(batch.indices) % 8 == 0
        assert batch.step == step
    assert shapes <= {(b.size, b.samples) for b in plan.buckets}


def test_an_epoch_has_every_item_once_but_for_less_than_one_batch():
    seconds = _lengths("words")
    plan = BatchPlan(seconds, seed=3, batch_seconds=60, speeds=(0.9, 1.0, 1.1))
    first = 0
    left_out = []
    for epoch in range(3):
        steps = plan.steps_in_epoch(epoch)
        batches = [plan.batch(step) for step in range(first, first + steps)]
        first += steps
        assert {batch.epoch for batch in batches} == {epoch}
        items = np.concatenate([batch.indices for batch in batches])
        assert len(np.unique(items)) == len(items)
        assert len(items) > len(seconds) - plan.buckets[-1].size
        left_out.append(frozenset(range(len(seconds))) - set(items.tolist()))
    assert len(set(left_out)) == 3  # others in every epoch


def test_the_plan_is_a_function_of_seed_and_step():
    seconds = _lengths("words")[:500]

    def plan(seed):
        return BatchPlan(seconds, seed=seed, batch_seconds=30, speeds=(0.9, 1.0))

    one, two = plan(1), plan(1)
    steps = list(range(100))
    forward = {step: one.batch(step) for step in steps}
    for step in np.random.default_rng(0).permutation(steps):
        batch = two.batch(int(step))  # in any order
        assert np.array_equal(batch.indices, forward[step].indices)
        assert np.array_equal(batch.speeds, forward[step].speeds)
    other = plan(2)
    assert not all(
        np.array_equal(other.batch(step).indices, forward[step].indices) for step in steps
    )


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_processes_share_a_batch(count):
    batch = BatchPlan(_lengths("words"), seed=0, batch_seconds=60, multiple=8).batch(5)
    rows = [row for index in range(count) for row in batch.process_rows(index, count)]
    assert rows == list(range(len(batch.indices)))


def test_a_corpus_smaller_than_a_batch_repeats_itself():
    plan = BatchPlan(np.asarray([1.0, 1.1, 1.2]), seed=0, batch_seconds=60)
    assert plan.steps_in_epoch() == 1
    for step in range(3):
        assert set(plan.batch(step).indices.tolist()) == {0, 1, 2}


def test_lengths_outside_the_limits_are_left_out():
    seconds = np.asarray([0.05, 1.0, 1.5, 30.0, np.nan] * 20)
    plan = BatchPlan(seconds, seed=0, batch_seconds=10, max_seconds=10)
    seen = {int(i) % 5 for step in range(20) for i in plan.batch(step).indices}
    assert seen == {1, 2}


def test_what_slowing_down_makes_too_long_keeps_its_speed():
    plan = BatchPlan(np.full(50, 9.9), seed=0, batch_seconds=60, max_seconds=10, speeds=(0.9, 1.1))
    speeds = np.concatenate([plan.batch(step).speeds for step in range(20)])
    assert set(speeds.tolist()) == {1.0, 1.1}


def test_nothing_usable_is_an_input_error():
    with pytest.raises(InputError, match=r"none of 3 recordings \(30.00 to 40.00 s\) lasts"):
        BatchPlan(np.asarray([30.0, 40.0, 35.0]), seed=0)


def test_an_endless_corpus_has_new_indices_in_every_epoch():
    plan = BatchPlan(
        lambda epoch: np.random.default_rng(epoch).uniform(0.5, 2.0, 100),
        seed=0,
        batch_seconds=10,
        endless=True,
    )
    first, second = plan.steps_in_epoch(0), plan.steps_in_epoch(1)
    for step in range(first + second):
        epoch = int(step >= first)
        assert set(plan.batch(step).indices // 100) == {epoch}


def test_a_late_step_is_found_at_once():
    plan = BatchPlan(_lengths("words"), seed=0, batch_seconds=60)
    late = plan.batch(200 * plan.steps_in_epoch())
    assert late.epoch == 200


def test_hours_beside_seconds_are_no_trouble():
    lengths = np.concatenate([np.arange(1, 3000) * 16_000, [3 * 3600 * 16_000]])
    bounds = choose_bounds(lengths, 4)
    assert len(bounds) == 4
    assert bounds[-1] == 3 * 3600 * 16_000
