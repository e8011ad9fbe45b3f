"""Rules place arrays; the numbers do not depend on where they are."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from parley.data.errors import InputError
from parley.data.loader import make_loader
from parley.data.tokenizer import Tokenizer
from parley.train.optimizer import make_optimizer
from parley.train.plan_compile import plan_step
from parley.train.plan_hlo import COLLECTIVES
from parley.train.recipe import MeshConfig
from parley.train.sharding import batch_sharding, make_mesh, put_batch, shardings, spec_for
from parley.train.start import abstract_state, initial_state
from parley.train.step import make_train_step
from tones import ToneCorpus, recipe

ALL = set(COLLECTIVES)
SIZES = {"data": 2, "fsdp": 2, "model": 2}


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params/prediction/embedding", (128, 64), P("model", "fsdp")),
        ("params/encoder/layers/0/recurrent", (192, 768), P("fsdp", "model")),
        ("optimizer/1/0/mu/encoder/layers/0/kernel", (192, 768), P("fsdp", "model")),
        ("params/encoder/layers/0/kernel", (191, 768), P(None, "model")),
        ("params/encoder/layers/0/bias", (768,), P()),
        ("step", (), P()),
    ],
)
def test_the_rules(path: str, shape: tuple, spec: P):
    assert spec_for(path, shape, SIZES) == spec


@pytest.mark.parametrize(
    "config", [MeshConfig(data=3), MeshConfig(data=-1, fsdp=-1), MeshConfig(data=0)]
)
def test_a_mesh_that_does_not_fit_is_refused(config: MeshConfig):
    with pytest.raises(InputError):
        make_mesh(config)


def test_the_rest_of_the_devices_goes_to_the_open_axis():
    assert dict(make_mesh(MeshConfig(data=-1, fsdp=2, model=2)).shape) == SIZES


@pytest.fixture(scope="module")
def tones():
    corpus = ToneCorpus(48)
    texts = [u.text for u in corpus.items]
    return corpus, Tokenizer.train(texts, kind="char")


def two_steps(tones, config: MeshConfig, devices: int, **changes):
    corpus, tokenizer = tones
    made = recipe(mesh=config, **changes)
    made = dataclasses.replace(
        made, model=dataclasses.replace(made.model, vocab_size=tokenizer.vocab_size)
    )
    mesh = jax.make_mesh(
        (devices, 1, 1),
        ("data", "fsdp", "model"),
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
        devices=jax.devices()[:devices],
    )
    if devices == 8:
        mesh = make_mesh(config)
    # Not Adam: it divides by the gradient's own size, which magnifies rounding near zero.
    optimizer = optax.sgd(1e-4, momentum=0.9)
    graphdef, state, places = initial_state(made, mesh, optimizer, corpus, None)
    step = jax.jit(make_train_step(graphdef, made, optimizer, batch_sharding(mesh)))
    loader = make_loader(corpus, tokenizer, made.data, made.augment, seed=0, multiple=8)
    losses = []
    for batch, _ in zip(loader, range(2), strict=False):
        state, metrics = step(state, put_batch(batch, mesh))
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params), places


@pytest.fixture(scope="module")
def alone(tones):
    """What one device computes."""
    return two_steps(tones, MeshConfig(), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [MeshConfig(data=8), MeshConfig(data=2, fsdp=2, model=2), MeshConfig(1, 8, 1)]
)
def test_eight_devices_compute_what_one_does(tones, alone, config: MeshConfig):
    one, params_one, _ = alone
    eight, params_eight, places = two_steps(tones, config, 8)
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(params_one), jax.tree.leaves(params_eight), strict=True):
        # Split over `model`, sums over the vocabulary are made in another order.
        np.testing.assert_allclose(a, b, atol=1e-5 if config.model == 1 else 5e-5)
    if config.fsdp > 1:
        kernel = places.params["encoder"]["layers"][0]["recurrent"].spec
        moment = jax.tree.leaves(places.optimizer)
        assert "fsdp" in kernel
        assert any("fsdp" in s.spec for s in moment)


def test_moments_and_average_lie_where_their_parameters_do():
    made = recipe()
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, vocab_size=16))
    optimizer = make_optimizer(made.optimizer, made.steps)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, model=2))
    places = shardings(abstract_state(made, optimizer)[1], mesh)

    def specs(tree) -> list:
        return [place.spec for place in jax.tree.leaves(tree)]

    found = jax.tree.leaves(places.optimizer, is_leaf=lambda part: hasattr(part, "mu"))
    adam = next(part for part in found if hasattr(part, "mu"))
    assert specs(adam.mu) == specs(adam.nu) == specs(places.ema) == specs(places.params)
    joint = places.params["joiner"]["output"]["kernel"].spec
    assert joint == P("fsdp", "model"), "the vocabulary over `model`"
    assert places.params["prediction"]["embedding"].spec == P("model", "fsdp")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "expected", "share"),
    [
        (MeshConfig(data=8), {"all-reduce"}, 1.0),
        (MeshConfig(data=1, fsdp=8), {"all-reduce", "all-gather"}, 0.3),
        (MeshConfig(data=4, fsdp=1, model=2), ALL, 0.7),
    ],
)
def test_a_compiled_step_sends_what_its_mesh_means(mesh, expected: set, share: float):
    """Data parallel sums gradients and does nothing else; fsdp gathers parameters, each once and
    none in a loop over time, and keeps only its part of the state. Read from the program of eight
    devices."""
    made = recipe(mesh=mesh)
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, vocab_size=16))
    plan = plan_step(made, "h100:8", 2.0)
    assert set(plan["collectives"]) <= expected
    assert "all-reduce" in plan["collectives"]
    assert ("all-gather" in plan["collectives"]) == (mesh.data < 8)
    if mesh.fsdp > 1:
        arrays = len(
            jax.tree.leaves(abstract_state(made, make_optimizer(made.optimizer, 1))[1].params)
        )
        assert plan["collectives"]["all-gather"]["count"] <= 2 * arrays
    state = 4 * 4 * plan["parameters"]
    batch = 2 * plan["audio_seconds"] * 16_000 / (mesh.data * mesh.fsdp)
    assert plan["memory"]["arguments"] - batch < share * state + 8_192


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_whole_batch(tones):
    plain = dataclasses.replace(recipe().augment, noise_probability=0.0, freq_masks=0, time_masks=0)
    whole, params, _ = two_steps(tones, MeshConfig(), 1, augment=plain)
    optimizer = dataclasses.replace(recipe().optimizer, accumulate=4)
    parts, params_parts, _ = two_steps(tones, MeshConfig(), 1, augment=plain, optimizer=optimizer)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(params_parts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
