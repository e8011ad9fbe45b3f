"""The training step with batch normalisation, and what is a constant of its program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parley.data.loader import make_loader
from parley.data.tokenizer import Tokenizer
from parley.models.encoders.conv_rnnt import ConvRNNTConfig
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.frontend import append_tail
from parley.models.transducer import JointConfig
from parley.train.losses import rnnt_loss
from parley.train.optimizer import make_optimizer
from parley.train.recipe import AdaptConfig, LossConfig
from parley.train.step import (
    TrainState,
    build_model,
    losses,
    make_train_step,
    merge_model,
    split_model,
)
from tones import ToneCorpus, recipe

ROWS = 8


def normed(**changes):
    """Tones through a ConvRNN-T with batch normalisation and nothing random."""
    made = recipe(**changes)
    encoder = ConvRNNTConfig(
        lstm=LSTMEncoderConfig(width=8, layers=1, output=16),
        width=8,
        bins=16,
        channels=(4,),
        frequency_strides=(4,),
        global_blocks=1,
        squeeze_reduction=4,
        dropout=0.0,
    )
    return dataclasses.replace(
        made,
        model=dataclasses.replace(made.model, vocab_size=5, encoder=encoder),
        augment=dataclasses.replace(made.augment, freq_masks=0, time_masks=0),
    )


def start(made):
    graphdef, params, frozen = split_model(build_model(made))
    optimizer = optax.sgd(1e-3)
    state = TrainState(
        jnp.int32(made.seed), jnp.int32(0), params, params, optimizer.init(params), frozen
    )
    return state, make_train_step(graphdef, made, optimizer)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "samples": rng.normal(0, 2000, (ROWS, 8000)).astype(np.int16),
        "sample_lengths": np.asarray([8000, 7000, 6000, 5000, 8000, 4000, 7500, 6500], np.int32),
        "labels": rng.integers(1, 5, (ROWS, 3)).astype(np.int32),
        "label_lengths": np.full(ROWS, 3, np.int32),
    }


@pytest.mark.slow
def test_the_step_moves_the_running_statistics(batch):
    state, step = start(normed())
    after, metrics = jax.jit(step)(state, batch)
    assert bool(metrics["finite"])
    norms = after.frozen["encoder"]["blocks"][0]["norms"]
    for index in norms:
        assert np.any(np.asarray(norms[index]["mean"]) != 0.0)
        assert np.any(np.asarray(norms[index]["var"]) != 1.0)
    # The statistics of the features belong to the data and not to the step.
    np.testing.assert_array_equal(
        after.frozen["frontend"]["mean"], state.frozen["frontend"]["mean"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("adapt", [AdaptConfig(fixed_norms=True), AdaptConfig(parts="joint")])
def test_statistics_stay_where_the_encoder_is_not_trained_or_should_keep_them(batch, adapt):
    state, step = start(normed(adapt=adapt))
    after, _ = jax.jit(step)(state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)
    kernels = (s.params["joiner"]["output"]["kernel"] for s in (after, state))
    assert not np.array_equal(*kernels)


def test_a_gradient_that_is_not_finite_leaves_the_statistics_alone(batch):
    state, step = start(normed())
    params = jax.tree.map(lambda p: p, state.params)
    params["joiner"]["output"]["bias"] = params["joiner"]["output"]["bias"] * jnp.nan
    broken = state._replace(params=params)
    after, metrics = jax.jit(step)(broken, batch)
    assert not bool(metrics["finite"])
    jax.tree.map(np.testing.assert_array_equal, after.frozen, state.frozen)


@pytest.mark.slow
def test_microbatches_pass_the_statistics_on(batch):
    """With an accumulation of 2 the running mean moves twice: m, then m + 0.99 (1 - 0.99) ..."""
    whole, once = start(normed())
    parts = dataclasses.replace(normed().optimizer, accumulate=2)
    halves, twice = start(normed(optimizer=parts))
    a, _ = jax.jit(once)(whole, batch)
    b, _ = jax.jit(twice)(halves, batch)

    def scale(state):
        norms = state.frozen["encoder"]["blocks"][0]["norms"]
        # An average that forgets 1 % a step has kept this much of its start, a variance of 1.
        return float(np.abs(np.asarray(norms[0]["mean"])).sum())

    assert scale(b) == pytest.approx(scale(a) * (1 + 0.99), rel=0.05)


def test_the_seed_is_no_constant_of_the_program(batch):
    """Runs that differ in the seed alone share what is compiled; their draws differ."""
    made = recipe()
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, vocab_size=5))
    programs, losses = [], []
    for seed in (0, 1):
        state, step = start(dataclasses.replace(made, seed=seed))
        programs.append(jax.jit(step).lower(state, batch).as_text())
        if seed == 0:
            compiled, first = jax.jit(step), state
    assert programs[0] == programs[1]
    for seed in (0, 1):
        state = jax.tree.map(jnp.copy, first)._replace(seed=jnp.int32(seed))
        losses.append(float(compiled(state, batch)[1]["loss"]))
    assert losses[0] != losses[1]


def test_a_hat_joint_trains_on_its_own_distribution(batch):
    """The loss that is told of `hat` is that of the log-probabilities the model decodes by."""
    plain = recipe().model
    made = recipe(
        model=dataclasses.replace(plain, vocab_size=5, joint=JointConfig(hat=True)),
        augment=dataclasses.replace(recipe().augment, freq_masks=0, time_masks=0),
    )
    parts = split_model(build_model(made))

    @jax.jit
    def both(params, batch):
        model = merge_model(parts[0], params, parts[2])
        _, metrics = losses(model, batch, jax.random.key(0), made)
        samples = append_tail(batch["samples"], batch["sample_lengths"], made.model.frontend)
        encoded, lengths = model.encode(*model.features(*samples))
        predicted = model.predict(batch["labels"])
        log_probs = model.joint(encoded[:, :, None], predicted[:, None])
        loss = rnnt_loss(log_probs, batch["labels"], lengths, batch["label_lengths"]).mean()
        return metrics["transducer"], loss, jnp.exp(log_probs).sum(axis=-1)

    told, decoded, total = both(parts[1], batch)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)
    np.testing.assert_allclose(told, decoded, rtol=1e-5)


@pytest.mark.slow
def test_training_lowers_the_pruned_loss_under_its_weights():
    plain, corpus = recipe(steps=48), ToneCorpus(16)
    made = dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, vocab_size=16, simple=True),
        loss=LossConfig(pruned_range=3, ctc_weight=0.0),
    )
    tokenizer = Tokenizer.train([u.text for u in corpus.items], kind="char")
    batch = next(iter(make_loader(corpus, tokenizer, made.data, made.augment, seed=0)))
    graphdef, params, frozen = split_model(build_model(made))
    optimizer = make_optimizer(made.optimizer, made.steps)
    state = TrainState(jnp.int32(0), jnp.int32(0), params, params, optimizer.init(params), frozen)
    step = jax.jit(make_train_step(graphdef, made, optimizer))
    records = []
    for _ in range(40):
        state, metrics = step(state, batch)
        records.append({k: float(v) for k, v in metrics.items()})
    first, last = records[0], records[-1]
    assert last["pruned"] < 0.5 * first["pruned"]
    assert last["simple"] < 0.5 * first["simple"]
    # A quarter of the steps is the warm-up, the default being longer.
    half = records[6]
    assert first["loss"] == pytest.approx(first["simple"] + 0.1 * first["pruned"], rel=1e-5)
    assert half["loss"] == pytest.approx(0.75 * half["simple"] + 0.55 * half["pruned"], rel=1e-5)
    assert last["loss"] == pytest.approx(0.5 * last["simple"] + last["pruned"], rel=1e-5)


@pytest.mark.slow
def test_the_delay_penalty_of_the_recipe_reaches_the_loss(batch):
    made, key = normed(), jax.random.key(0)

    @jax.jit
    def of(penalty: jax.Array) -> jax.Array:
        config = dataclasses.replace(made.loss, delay_penalty=penalty)
        return losses(build_model(made), batch, key, dataclasses.replace(made, loss=config))[1][
            "transducer"
        ]

    assert abs(float(of(jnp.float32(0.1))) - float(of(jnp.float32(0.0)))) > 0.01
