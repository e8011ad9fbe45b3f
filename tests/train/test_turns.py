"""Penalties on turn markers and speech activity: by hand, and in the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.train.losses import rnnt_loss
from parley.train.losses.turns import (
    activity_loss,
    activity_targets,
    emission_times,
    marker_penalties,
)
from parley.train.recipe import TurnLossConfig

NAN = np.nan
CONFIG = TurnLossConfig(late=2.0, buffer=0.2, cap=1.5, early=1.0, late_after=10)


def test_penalties_by_hand():
    times = jnp.array([[0.4, NAN]])
    found = marker_penalties(CONFIG, times, 6, 0.2, 10)
    # Emission at 0.2, 0.4, ... 1.2 s: 0.2 s early costs 0.2; 0.2 s late is free, then 2 a second.
    np.testing.assert_allclose(found[0, :, 0], [0.2, 0.0, 0.0, 0.4, 0.8, 1.2], atol=1e-6)
    assert not np.asarray(found[0, :, 1]).any()
    assert float(marker_penalties(CONFIG, times, 20, 0.2, 10).max()) == CONFIG.cap
    assert not np.asarray(marker_penalties(CONFIG, times, 6, 0.2, 9)).any()


def test_a_late_marker_loses_and_pulls_its_emission_forward():
    """The probability of the alignment that emits at frame t is exp(-penalty[t]) as large."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(1, 5, 2, 3)), jnp.float32)
    labels, frames, units = jnp.array([[2]]), jnp.array([5]), jnp.array([1])
    config = dataclasses.replace(CONFIG, buffer=0.0, early=0.0, late_after=0, cap=9.0)
    penalties = marker_penalties(config, jnp.array([[0.2]]), 5, 0.1, 0)
    logp = np.asarray(jax.nn.log_softmax(logits, axis=-1))[0]
    paths = [
        logp[:t, 0, 0].sum() + logp[t, 0, 2] + logp[t:, 1, 0].sum() - float(penalties[0, t, 0])
        for t in range(5)
    ]
    loss = rnnt_loss(logits, labels, frames, units, label_penalties=penalties)
    np.testing.assert_allclose(loss[0], -np.logaddexp.reduce(paths), rtol=1e-5)


def test_activity_by_hand():
    spans = jnp.array([[[0.0, 0.3], [0.47, 0.6], [NAN, NAN]]])
    assert activity_targets(spans, 7, 0.1).tolist() == [[1, 1, 1, 0, 0, 1, 0]]
    logits = jnp.array([[0.0, 2.0, -1.0, 3.0, NAN, NAN, NAN]])
    expected = np.log(2) + np.log1p(np.exp(-2)) + np.log1p(np.exp(1)) + np.log1p(np.exp(3))
    loss, gradient = jax.value_and_grad(
        lambda x: activity_loss(x, spans, jnp.array([4]), 0.1).sum()
    )(logits)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert np.isfinite(np.asarray(gradient)).all()
    assert not np.asarray(gradient)[0, 4:].any()


@pytest.mark.parametrize("frame_s", [0.04, 0.08])
def test_penalties_are_of_seconds_not_of_frames(frame_s: float):
    frames = round(2.0 / frame_s)
    found = marker_penalties(CONFIG, jnp.array([[0.5]]), frames, frame_s, 10)[0, :, 0]
    at = np.flatnonzero(np.isclose(np.asarray(emission_times(frames, frame_s)), 1.2))[0]
    np.testing.assert_allclose(found[at], 1.0, atol=1e-5)
