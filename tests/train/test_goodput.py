"""Shares of a run's time add up; a trace is of a few steps."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from parley.train.goodput import Goodput
from parley.train.trace import AFTER, STEPS, Trace


def test_shares_are_of_all_time_and_compiling_counts_as_that():
    clock = Goodput()
    try:
        with clock.spent("data"):
            time.sleep(0.05)
        with clock.spent("train"):
            jax.jit(lambda x: jnp.sin(x) * 3.25 + jnp.cos(x))(jnp.ones(7)).block_until_ready()
        shares = clock.shares()
        assert sum(shares.values()) == pytest.approx(1.0)
        assert clock.seconds["data"] >= 0.05
        assert clock.seconds["compile"] > 0.0
        assert "waiting for data" in clock.sentence()
    finally:
        clock.close()


def test_a_trace_is_of_a_few_steps_after_the_first_ones(monkeypatch, tmp_path: Path):
    told = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: told.append(("start", step)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append(("stop", step)))
    trace = Trace(tmp_path, 100)
    for step in range(101, 140):
        trace.at(step)
    trace.close()
    assert told == [("start", 101 + AFTER), ("stop", 101 + AFTER + STEPS)]
    silent = Trace(tmp_path, None)
    for step in range(1, 40):
        silent.at(step)
    assert len(told) == 2
