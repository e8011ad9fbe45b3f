"""What the benchmark of amortized encoders is made of: replayed gates. Nothing is timed."""

import numpy as np
import pytest

from parley.benchmarks.amortized import as_high, at_ratio, rows_of
from parley.models.cost import GatedCost

COST = GatedCost(gated=(30, 60), fixed=20, arbitrator=2, dense=198, rest=102)


def test_a_deeper_encoder_takes_the_gates_of_the_block_as_high():
    own = np.arange(2 * 6 * 2).reshape(2, 6, 2)
    assert as_high(own, 6).tolist() == own.tolist()
    assert as_high(own, 3)[0, :, 0].tolist() == [0, 4, 8]
    assert as_high(own, 12)[0, :4, 0].tolist() == [0, 0, 2, 2]


def test_the_threshold_gives_the_asked_share():
    probability = np.random.default_rng(0).uniform(size=(5_000, 2, 2))
    for ratio in (0.3, 0.5, 0.9):
        gates = at_ratio(probability, COST, ratio)
        assert COST.ratio(gates.mean(axis=0)) == pytest.approx(ratio, abs=0.002)


def test_rows_begin_elsewhere_and_go_round():
    rows = rows_of(np.arange(10), 2, 7)
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 9, 0, 1]]
