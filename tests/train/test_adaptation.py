"""Adapting a model: what is frozen stays, what is anchored moves less, a kill changes nothing."""

import dataclasses
import json
import shutil
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parley.data.errors import InputError
from parley.data.loader import make_loader
from parley.models.cohorts import CohortConfig
from parley.train.adaptation import Held, known_to, penalty, proximal, with_penalty_gradient
from parley.train.checkpoint import Checkpoints
from parley.train.fisher import FISHER, fisher_of_run
from parley.train.loop import train
from parley.train.optimizer import make_optimizer
from parley.train.recipe import AdaptConfig, FisherConfig, MeshConfig, OptimizerConfig
from parley.train.sharding import batch_sharding, make_mesh, put_batch, shardings
from parley.train.start import Start
from parley.train.step import TrainState, build_model, make_train_step, split_model
from tones import ToneCorpus, recipe

DEV, GENERAL = ToneCorpus(16, seed=1), ToneCorpus(24, seed=2)
PLAIN = OptimizerConfig(peak_lr=3e-3, warmup_steps=1, weight_decay=0.0, ema=0.0)


def adapting(**adapt):
    adapt = {"fisher": FisherConfig(utterances=16), **adapt}
    return recipe(
        name="adapted",
        init_from="tones",
        optimizer=PLAIN,
        adapt=AdaptConfig(**adapt),
        steps=8,
        eval_every=100,
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "run"
    result = train(recipe(), folder, corpus=ToneCorpus(), dev=DEV)
    return Start(result.params, result.frozen, result.tokenizer)


@pytest.fixture(scope="module")
def batches(start):
    loader = make_loader(ToneCorpus(seed=3), start.tokenizer, recipe().data, seed=0, multiple=8)
    found = [loader.load(i) for i in range(20)]
    shape = found[0]["samples"].shape
    return [batch for batch in found if batch["samples"].shape == shape][:6]


@pytest.fixture(scope="module")
def held(start):
    """Fisher information drawn at random, as unevenly as the real one, with some of it 0."""
    rng = np.random.default_rng(0)
    fisher = jax.tree.map(
        lambda p: np.exp(2.0 * rng.normal(size=p.shape)).astype(np.float32), start.params
    )
    bias = fisher["encoder"]["output"]["bias"]
    fisher["encoder"]["output"]["bias"] = np.zeros_like(bias)
    return Held(start.params, start.frozen, fisher)


def steps_of(start, held, batches, **adapt):
    """`run(lambda) -> parameters after a step on every batch`: one program for all lambdas."""
    made = adapting(**adapt)
    vocab_size = start.tokenizer.vocab_size
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, vocab_size=vocab_size))
    graphdef = split_model(build_model(made))[0]
    optimizer = make_optimizer(made.optimizer, made.steps, made.adapt)

    @jax.jit
    def step(state, batch, held, weight):
        adapted = dataclasses.replace(made.adapt, weight=weight)
        changed = dataclasses.replace(made, adapt=adapted)
        return make_train_step(graphdef, changed, optimizer)(state, batch, held)

    def run(weight: float):
        params = start.params
        state = TrainState(
            jnp.int32(0), jnp.int32(0), params, params, optimizer.init(params), start.frozen
        )
        for batch in batches:
            state, _ = step(state, batch, held, jnp.float32(weight))
        return jax.device_get(state.params)

    return run


def distance(params, held):
    """sum F (theta - theta*)^2 in float64."""
    parts = jax.tree.map(
        lambda p, s, f: np.sum(np.float64(f) * (np.float64(p) - np.float64(s)) ** 2),
        params,
        held.params,
        held.fisher,
    )
    return sum(jax.tree.leaves(parts))


def moved(held, size=1e-2):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + np.float32(size) * rng.normal(size=p.shape), held.params)


def test_the_penaltys_gradient_is_lambda_f_times_the_way_gone(held):
    params, weight = jax.tree.map(jnp.float32, moved(held)), 0.7
    assert float(penalty(params, held, weight)) == pytest.approx(
        0.5 * weight * distance(params, held), rel=1e-5
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    added = with_penalty_gradient(zeros, params, held, weight)
    by_autodiff = jax.grad(penalty)(params, held, weight)
    expected = jax.tree.map(
        lambda p, s, f: weight * np.float64(f) * (np.float64(p) - np.float64(s)),
        params,
        held.params,
        held.fisher,
    )
    for found in (added, by_autodiff):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
        )


def test_the_proximal_map_is_the_papers(held):
    params, scale = jax.tree.map(jnp.float32, moved(held)), 3.0
    found = proximal(params, held, scale)
    for (path, p), s, f, got in zip(
        jax.tree_util.tree_leaves_with_path(params),
        jax.tree.leaves(held.params),
        jax.tree.leaves(held.fisher),
        jax.tree.leaves(found),
        strict=True,
    ):
        p, s, f = (np.asarray(x, np.float64) for x in (p, s, f))
        np.testing.assert_allclose(got, (p + scale * f * s) / (1 + scale * f), rtol=1e-4, atol=1e-6)
        if "['output']['bias']" in jax.tree_util.keystr(path) and not f.any():
            np.testing.assert_array_equal(got, p)


def test_a_head_that_the_start_does_not_have_is_held_to_nothing(held):
    given = {k: v for k, v in held.params.items() if k != "ctc"}
    known = known_to(given, held.params)
    assert not any(jax.tree.leaves(known["ctc"]))
    assert all(float(x) == 1.0 for x in jax.tree.leaves(known["encoder"]))


@pytest.mark.slow
@pytest.mark.parametrize("close", [False, True], ids=["gradient", "proximal"])
def test_a_stronger_anchor_holds_nearer(start, held, batches, close):
    run = steps_of(start, held, batches, anchor="ewc", proximal=close)
    # The proximal map pulls by eta lambda, and eta is small.
    scale = 300.0 if close else 1.0
    gone = [distance(run(scale * weight), held) for weight in (0.0, 0.01, 0.1, 1.0, 10.0)]
    assert all(a > b for a, b in pairwise(gone)), gone


@pytest.mark.slow
def test_a_huge_lambda_holds_by_the_proximal_map_alone(start, held, batches):
    free = distance(steps_of(start, held, batches)(0.0), held)
    by_gradient = steps_of(start, held, batches, anchor="ewc")(1e8)
    by_map = steps_of(start, held, batches, anchor="ewc", proximal=True)(1e8)
    assert distance(by_map, held) < 1e-6 * free
    assert distance(by_gradient, held) > 1e-2 * free


@pytest.mark.slow
@pytest.mark.parametrize("close", [False, True], ids=["gradient", "proximal"])
def test_lambda_zero_is_fine_tuning_and_so_are_parameters_without_information(
    start, held, batches, close
):
    # The warm-up begins at a rate of 0: the second step is the first that moves anything, and its
    # gradients know of no other parameter's anchor yet.
    run = steps_of(start, held, batches[:2], anchor="ewc", proximal=close)
    plain = steps_of(start, None, batches[:2])(0.0)
    jax.tree.map(np.testing.assert_array_equal, run(0.0), plain)
    tight, free, begun = (params["encoder"]["output"] for params in (run(1e3), plain, start.params))
    assert np.all(free["bias"] != begun["bias"])
    np.testing.assert_array_equal(tight["bias"], free["bias"])
    assert np.any(tight["kernel"] != free["kernel"]) == close


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["encoder", "prediction", "joint", "prediction+joint"])
def test_frozen_parts_are_the_starts_bit_for_bit(start, batches, parts):
    made = adapting(parts=parts)
    # Decay, and an average, which must not touch what is frozen.
    noisy = dataclasses.replace(made.optimizer, weight_decay=0.5, ema=0.9)
    made = dataclasses.replace(
        made,
        optimizer=noisy,
        model=dataclasses.replace(made.model, vocab_size=start.tokenizer.vocab_size),
    )
    graphdef = split_model(build_model(made))[0]
    optimizer = make_optimizer(noisy, made.steps, made.adapt)
    params = start.params
    state = TrainState(
        jnp.int32(0), jnp.int32(0), params, params, optimizer.init(params), start.frozen
    )
    step = jax.jit(make_train_step(graphdef, made, optimizer))
    for batch in batches[:3]:
        state, _ = step(state, batch)
    trained = {"encoder": {"encoder", "ctc"}, "prediction": {"prediction"}, "joint": {"joiner"}}
    expected = set().union(*(trained[part] for part in parts.split("+")))
    for part, tree in state.params.items():
        pairs = list(zip(*map(jax.tree.leaves, (tree, state.ema[part], params[part])), strict=True))
        same = all(np.array_equal(p, s) and np.array_equal(a, s) for p, a, s in pairs)
        assert same == (part not in expected), part
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.optimizer))
    assert moments < 2 * sum(leaf.size for leaf in jax.tree.leaves(params))


def run(start, folder, *, resume=False, **adapt):
    return train(
        adapting(**adapt),
        folder,
        resume=resume,
        start=start,
        corpus=ToneCorpus(seed=3),
        dev=DEV,
        general=GENERAL,
    )


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ewc") / "run"
    return folder, run(start, folder, anchor="ewc", weight=1.0)


@pytest.mark.slow
def test_a_run_with_ewc_is_resumed_bit_for_bit(start, unbroken, tmp_path, monkeypatch):
    folder, whole = unbroken
    broken = tmp_path / "run"
    shutil.copytree(folder, broken)
    checkpoints = Checkpoints(broken / "checkpoints")
    assert checkpoints.steps() == [4, 8]
    checkpoints.close()
    shutil.rmtree(broken / "checkpoints" / "8")
    before = (broken / FISHER).stat().st_mtime_ns

    def measured_twice(*_):
        raise AssertionError("the Fisher information lies in the run folder")

    monkeypatch.setattr("parley.train.held.measure_fisher", measured_twice)
    resumed = run(start, broken, resume=True, anchor="ewc", weight=1.0)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    assert (broken / FISHER).stat().st_mtime_ns == before
    records = [json.loads(x) for x in (broken / "metrics.jsonl").read_text().splitlines()]
    penalties = [r["penalty"] for r in records if "penalty" in r]
    assert len(penalties) == 8
    assert penalties[0] == 0.0
    assert penalties[-1] > 0.0


@pytest.mark.slow
def test_another_start_does_not_resume_a_run(start, unbroken):
    other = dataclasses.replace(start, params=jax.tree.map(lambda p: p * 1.01, start.params))
    with pytest.raises(InputError, match="another model than the one"):
        run(other, unbroken[0], resume=True, anchor="ewc", weight=1.0)


@pytest.mark.slow
def test_ewc_holds_nearer_than_fine_tuning_where_it_matters(start, unbroken, tmp_path):
    free = run(start, tmp_path / "free", anchor="ewc", weight=0.0)
    assert not (tmp_path / "free" / FISHER).exists(), "without weight there is nothing to measure"
    places = shardings(start.params, make_mesh(MeshConfig()))
    fisher = jax.device_get(fisher_of_run(unbroken[0], start.params, places))
    near = Held(start.params, start.frozen, fisher)
    assert distance(unbroken[1].params, near) < 0.9 * distance(free.params, near)


@pytest.mark.slow
@pytest.mark.parametrize("close", [False, True], ids=["gradient", "proximal"])
def test_shards_compute_what_one_device_does(start, held, batches, close):
    """Weights and Fisher information split over `fsdp` and `model`, rows over `data` too."""
    made = adapting(anchor="ewc", weight=3.0, proximal=close)
    vocab_size = start.tokenizer.vocab_size
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, vocab_size=vocab_size))
    # Not Adam: it divides by the gradient's own size, which magnifies rounding near zero.
    optimizer = optax.sgd(1e-4)
    params = jax.tree.map(np.float32, moved(held))
    state = TrainState(
        jnp.int32(0), jnp.int32(3), params, params, optimizer.init(params), start.frozen
    )
    graphdef = split_model(build_model(made))[0]
    alone, metrics = jax.jit(make_train_step(graphdef, made, optimizer))(state, batches[0], held)

    mesh = make_mesh(MeshConfig(data=2, fsdp=2, model=2))
    placed, far = (jax.device_put(tree, shardings(tree, mesh)) for tree in (state, held))
    assert any("fsdp" in leaf.sharding.spec for leaf in jax.tree.leaves(far.fisher))
    step = jax.jit(make_train_step(graphdef, made, optimizer, batch_sharding(mesh)))
    spread, found = step(placed, put_batch(batches[0], mesh), far)
    assert float(found["penalty"]) == pytest.approx(float(metrics["penalty"]), rel=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (spread.params, alone.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


@pytest.mark.slow
def test_a_model_gets_to_know_cohorts(start, tmp_path):
    """It goes on from weights without the input, which begins at nothing and learns."""
    corpus = ToneCorpus(seed=3)
    corpus.items = [
        dataclasses.replace(u, metadata={"cohort_group": ["bottom", "top"][i % 2]})
        for i, u in enumerate(corpus.items)
    ]
    made = adapting()
    cohort = CohortConfig("learned", values=("bottom", "top"), width=2, dropout=0.2)
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, cohort=cohort))
    told = train(made, tmp_path / "run", start=start, corpus=corpus, dev=DEV)
    projection = told.params["cohort"]["projection"]
    assert projection.shape == (2, 64)
    assert np.all(projection != 0.0)
    assert not told.frozen["cohort"]["default"].any()
    with pytest.raises(InputError, match=r"--model\.cohort\.column"):
        train(made, tmp_path / "none", start=start, corpus=ToneCorpus(seed=3), dev=DEV)


def test_an_anchor_needs_a_start(tmp_path):
    with pytest.raises(InputError, match="--init-from"):
        run(None, tmp_path / "run", anchor="l2")
