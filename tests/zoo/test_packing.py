"""Every recording is in one batch, the shapes are few, and little is padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.zoo.packing import BATCH_SECONDS, BUCKET_SECONDS, ROWS, pack

RATE = 100


@given(st.lists(st.integers(0, BUCKET_SECONDS[-1] * RATE), max_size=90))
def test_each_recording_once_in_a_row_that_holds_it(lengths: list[int]):
    batches = pack(lengths, RATE)
    assert sorted(i for batch in batches for i in batch.items) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch.items) <= batch.rows
        assert batch.rows in ROWS
        assert batch.rows * batch.length <= BATCH_SECONDS * RATE
        assert all(lengths[i] <= batch.length for i in batch.items)
        assert all(lengths[i] > batch.length / 2 for i in batch.items) or batch.length == RATE


def test_many_recordings_fill_their_rows():
    lengths = [250] * 100
    assert [len(b.items) / b.rows for b in pack(lengths, RATE)[:-1]] == [1.0, 1.0, 1.0]


def test_a_recording_longer_than_the_last_bucket_is_refused():
    with pytest.raises(ValueError, match="more than 32 s"):
        pack([BUCKET_SECONDS[-1] * RATE + 1], RATE)
