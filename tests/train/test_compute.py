"""What an amortized encoder's computation costs the loss: by hand, and in a training step."""

import dataclasses
import json
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parley.data.errors import InputError
from parley.models.cost import GatedCost, gated_cost
from parley.models.encoders.amortized import AmortizedConfig
from parley.models.gates import GAIN, OPEN_BIAS, ArbitratorConfig
from parley.train.loop import train
from parley.train.losses import compute
from parley.train.losses.compute import Spent, penalty, relaxation, spent
from parley.train.recipe import ComputeConfig, LossConfig, Recipe
from parley.train.sharding import make_mesh
from parley.train.start import Start, initial_state
from parley.train.step import TrainState, build_model, losses, make_train_step, split_model
from tones import ToneCorpus, recipe

COST = GatedCost(gated=(30, 60), fixed=20, arbitrator=2, dense=198, rest=102)
"""Two blocks: 18 fixed, 2 of the arbitrator, 2 (30 + 60)."""


def test_ratio_by_hand():
    rates = np.array([[1.0, 0.5], [0.0, 0.25]])
    assert COST.ratio(rates) == pytest.approx((20 + 30 + 45) / 198)
    assert COST.model_ratio(rates) == pytest.approx((102 + 95) / 300)
    assert COST.ratio(np.ones((2, 2))) == pytest.approx(200 / 198)


def test_padding_is_not_spent():
    gates = jnp.zeros((2, 4, 2, 2)).at[0, :3].set(1.0).at[1, 0, 0, 0].set(1.0)
    now = spent(gates, jnp.array([3, 1]), COST)
    np.testing.assert_allclose(now.rates, [[1.0, 0.75], [0.75, 0.75]])
    longer = jnp.pad(gates, ((0, 0), (0, 5), (0, 0), (0, 0)))
    np.testing.assert_allclose(spent(longer, jnp.array([3, 1]), COST).ratio, now.ratio)


def test_schedule_of_the_gates():
    config = ComputeConfig(dense=0.1, temperature=(2.0, 0.5), hard=0.2)
    at = [relaxation(config, step, 100) for step in (0, 10, 30, 60, 79, 80)]
    assert [bool(r.open) for r in at] == [True, False, False, False, False, False]
    assert [float(r.temperature) for r in at] == pytest.approx([2, 1.75, 1.25, 0.5, 0.5, 0.5])
    assert [float(r.noise) for r in at] == [1, 1, 1, 1, 1, 0]


TWO = jnp.asarray(2.0)
"""The recogniser's loss."""


def at(ratio: float) -> Spent:
    return Spent(jnp.asarray(ratio), jnp.full((2, 2), 0.5))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ComputeConfig("linear", price=3.0), 3.0 * 0.7),
        (ComputeConfig("target", ratio=0.4, price=3.0), 3.0 * (0.3 + 0.09)),
        (ComputeConfig("budget", ratio=0.4), 2.0 * (1.5 * 0.3 + 0.5 * compute.STIFFNESS * 0.09)),
        (ComputeConfig("off"), 0.0),
    ],
)
def test_penalties_by_hand_after_the_ramp(config: ComputeConfig, expected: float):
    total, _ = penalty(config, at(0.7), jnp.asarray(1.5), TWO, 80, 100)
    assert float(total) == pytest.approx(expected)


def test_penalties_come_in_along_the_ramp():
    config = ComputeConfig("budget", ratio=0.4, ramp=0.4)
    # Half-way down the ramp the budget is 0.65.
    total, price = penalty(config, at(0.65), jnp.asarray(1.5), TWO, 20, 100)
    assert float(total) == pytest.approx(0.0, abs=1e-6)
    assert float(price) == pytest.approx(1.5)
    # Less than that is free on the way, and no reason to open gates.
    total, price = penalty(config, at(0.5), jnp.asarray(1.5), TWO, 20, 100)
    assert (float(total), float(price)) == (0.0, 1.5)
    linear = ComputeConfig("linear", price=3.0, ramp=0.4)
    assert float(penalty(linear, at(0.7), jnp.zeros(()), TWO, 10, 100)[0]) == pytest.approx(0.525)


@pytest.mark.parametrize(("ratio", "up"), [(0.5, True), (0.3, False)])
def test_the_price_follows_what_is_spent(ratio: float, up: bool):
    config = ComputeConfig("budget", ratio=0.4)
    _, price = penalty(config, at(ratio), jnp.asarray(1.0), TWO, 90, 100)
    assert float(price) == pytest.approx(1.0 + compute.RATE * (ratio - 0.4))
    assert (float(price) > 1.0) == up


def test_a_component_that_few_frames_use_is_pushed_open():
    unused = Spent(jnp.asarray(0.4), jnp.array([[0.0, 0.5], [0.02, 0.9]]))
    config = ComputeConfig("target", ratio=0.4, least=0.1)
    total = penalty(config, unused, jnp.zeros(()), TWO, 80, 100)[0]
    assert float(total) == pytest.approx(2.0 * compute.STIFFNESS * (0.1 + 0.08), rel=1e-5)


def gated(**changes) -> Recipe:
    made = recipe(loss=LossConfig(compute=ComputeConfig("budget", ratio=0.5, **changes)))
    encoder = AmortizedConfig(
        width=16,
        heads=2,
        blocks=2,
        output=16,
        left=4,
        expansion=2,
        dropout=0.0,
        arbitrator=ArbitratorConfig(projection=4, context=2, hidden=8),
    )
    return dataclasses.replace(
        made, model=dataclasses.replace(made.model, vocab_size=5, encoder=encoder)
    )


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "samples": rng.normal(0, 2000, (8, 8000)).astype(np.int16),
        "sample_lengths": np.asarray([8000, 7000, 6000, 5000, 8000, 4000, 7500, 6500], np.int32),
        "labels": rng.integers(1, 5, (8, 3)).astype(np.int32),
        "label_lengths": np.full(8, 3, np.int32),
    }


@pytest.mark.slow
def test_a_step_reports_what_is_spent_and_moves_price_and_arbitrator(batch):
    made = gated()
    graphdef, params, frozen = split_model(build_model(made))
    optimizer = optax.sgd(1e-2)
    state = TrainState(jnp.int32(0), jnp.int32(9), params, params, optimizer.init(params), frozen)
    after, metrics = jax.jit(make_train_step(graphdef, made, optimizer))(state, batch)
    assert 0.5 < float(metrics["compute"]) < 1.05
    rates = [float(v) for k, v in metrics.items() if k.startswith("gates/")]
    assert len(rates) == 4
    assert all(0.6 < r <= 1.0 for r in rates), "nine gates in ten begin open"
    # The ramp has come to 0.5.
    moved = compute.RATE * (float(metrics["compute"]) - 0.5)
    assert float(after.frozen["encoder"]["price"]) == pytest.approx(moved, abs=1e-6)
    change = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, params)
    assert all(c > 0 for c in jax.tree.leaves(change["encoder"]["arbitrator"]))


@pytest.mark.slow
def test_the_gradient_of_the_ratio_reaches_every_gate(batch):
    temperature = 1.25
    made = gated(hard=1.0, temperature=(temperature, temperature))

    def ratio(bias: jax.Array) -> jax.Array:
        model = build_model(made)
        output = cast(Any, model.encoder).arbitrator.output
        output.kernel[...] = jnp.zeros_like(output.kernel[...])
        output.bias[...] = bias
        return losses(model, batch, jax.random.key(0), made, 6)[1]["compute"]

    slope = jax.jit(jax.grad(ratio))(jnp.full(4, 0.3))
    p, cost = float(jax.nn.sigmoid(GAIN * 0.3 / temperature)), gated_cost(made.model)
    expected = np.array(cost.gated) / cost.dense * p * (1 - p) * GAIN / temperature
    np.testing.assert_allclose(slope.reshape(2, 2), [expected, expected], rtol=1e-4)


@pytest.mark.slow
def test_a_dense_model_starts_an_amortized_one():
    made, corpus = gated(), ToneCorpus(8)
    encoder = made.model.encoder
    assert isinstance(encoder, AmortizedConfig)
    dense = dataclasses.replace(
        made, model=dataclasses.replace(made.model, encoder=encoder.dense), seed=7
    )
    _, params, frozen = split_model(build_model(dense))
    start = Start(params, frozen, tokenizer=None)  # pyright: ignore[reportArgumentType]
    mesh = make_mesh(made.mesh)
    _, state, _ = initial_state(made, mesh, optax.sgd(1e-2), corpus, start)
    own = state.params["encoder"]
    for part in ("input", "blocks", "output"):
        for a, b in zip(
            jax.tree.leaves(own[part]), jax.tree.leaves(params["encoder"][part]), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(own["arbitrator"]["output"]["bias"], OPEN_BIAS / GAIN)
    # The other way round there is a part too many.
    amortized = Start(state.params, state.frozen, tokenizer=None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"do not fit.*arbitrator.*absent here"):
        initial_state(dense, mesh, optax.sgd(1e-2), corpus, amortized)


@pytest.mark.slow
def test_a_run_keeps_its_budget_and_says_so(tmp_path, capsys):
    made = gated(ramp=0.3, least=0.0)  # what no gate can save is much of so small an encoder
    one_shape = dataclasses.replace(made.data, buckets=1)
    made = dataclasses.replace(
        made, steps=240, eval_every=240, checkpoint_every=240, data=one_shape
    )
    result = train(made, tmp_path, corpus=ToneCorpus(64), dev=ToneCorpus(16, seed=1))
    assert result.wer is not None
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    ratios = [r["compute"] for r in records if "compute" in r]
    assert ratios[0] > 0.8
    assert np.mean(ratios[-10:]) == pytest.approx(0.5, abs=0.1)
    assert {"gates/attention_0", "gates/feed_forward_1", "price"} <= records[0].keys()
    assert "compute 0." in capsys.readouterr().err
