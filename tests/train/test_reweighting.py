"""Adversarial reweighting: what equal weights give back, and which way each gradient goes."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from parley.train.speakers.recipe import AdversaryConfig, SpeakerLossConfig
from parley.train.speakers.regions import find_regions, speaker_means
from parley.train.speakers.reweighting import (
    accumulated_similarities,
    init_adversary,
    pair_weights,
    region_of,
    sample_weights,
    seen_by_adversary,
    weight_metrics,
)
from parley.train.speakers.step import (
    Heads,
    Weighing,
    adversary_optimizer,
    adversary_step,
    batch_losses,
    weighted_loss,
)
from tones import speaker_recipe

KINDS = ("pairs", "similarity", "pseudo")
N, M, D, K = 6, 2, 8, 4
LOSS = SpeakerLossConfig()
HEADS = Heads(jnp.float32(10.0), jnp.float32(-5.0), None)
SPEAKERS = jnp.arange(N)
ON = jnp.bool_(True)


def config(kind: str, **changes) -> AdversaryConfig:
    return AdversaryConfig(kind=kind, regions=K, **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def embeddings() -> jax.Array:
    """Half of the speakers near each other, so that some are harder than others."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(N, 1, D))
    centres[: N // 2] = centres[:1] + 0.4 * centres[: N // 2]
    return jnp.asarray(centres + 0.5 * rng.normal(size=(N, M, D)), jnp.float32)


@pytest.fixture(scope="module")
def regions(embeddings: jax.Array) -> jax.Array:
    means = speaker_means(np.asarray(embeddings).reshape(-1, D), np.repeat(np.arange(N), M))
    return jnp.asarray(find_regions(means, np.zeros((K, D), np.float32), seed=0))


def weighing(kind: str, regions: jax.Array, spread: float = 1.0, **changes) -> Weighing:
    """An adversary that has made up its mind: its output layer is not zero."""
    made = config(kind, **changes)
    params = init_adversary(jax.random.key(1), made, D)
    shape = params["output"]["kernel"].shape
    params["output"]["kernel"] = spread * jax.random.normal(jax.random.key(2), shape)
    count = jnp.zeros(1)
    return Weighing(params, adversary_optimizer(made).init(params), regions, count, count)


def loss_and_gradient(embeddings, weights, made):
    def loss(embeddings, heads):
        return weighted_loss(embeddings, heads, SPEAKERS, weights, LOSS, made)

    return jax.value_and_grad(loss, argnums=(0, 1))(embeddings, HEADS)


def plain(embeddings):
    def loss(embeddings, heads):
        return batch_losses(embeddings, heads, SPEAKERS, LOSS, None).mean()

    return jax.value_and_grad(loss, argnums=(0, 1))(embeddings, HEADS)


@pytest.mark.parametrize(("kind", "factor"), [("pairs", 1), ("similarity", 2), ("pseudo", 2)])
def test_an_adversary_that_weighs_all_alike_gives_back_the_loss(embeddings, regions, kind, factor):
    made = config(kind)
    seen = seen_by_adversary(embeddings, regions, made)
    fresh = init_adversary(jax.random.key(0), made, D)
    weights = sample_weights(fresh, seen, made)
    np.testing.assert_allclose(weights, 2.0, rtol=1e-6)
    found, wanted = loss_and_gradient(embeddings, weights, made), plain(embeddings)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, factor * b, rtol=2e-5, atol=1e-6), found, wanted
    )


def test_the_control_is_the_plain_loss_to_the_bit(embeddings, regions):
    made = config("constant")
    weights = sample_weights({}, seen_by_adversary(embeddings, regions, made), made)
    found, wanted = loss_and_gradient(embeddings, weights, made), plain(embeddings)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_mean_two_and_stay_within_their_bound(embeddings, regions, kind):
    made = config(kind)
    state = weighing(kind, regions, spread=50.0)
    weights = sample_weights(state.params, seen_by_adversary(embeddings, regions, made), made)
    assert float(weights.mean()) == pytest.approx(2.0, rel=1e-6)
    assert float(weights.std()) > 0.05
    given = np.asarray(weights) - 1.0
    # sigmoid(2) / sigmoid(-2) = 7.39: no sample is given more than so many times another's.
    assert given.max() / given.min() <= 7.4
    assert float(pair_weights(weights).max()) <= 4.2


def test_pair_weights_are_half_the_sum_of_halves(embeddings):
    weights = jnp.asarray(np.random.default_rng(0).uniform(1, 3, (N, 3)), jnp.float32)
    found = pair_weights(weights)
    for i in range(N):
        for j in range(N):
            prototype = float(weights[j, 1:].mean())
            assert float(found[i, j]) == pytest.approx((float(weights[i, 0]) + prototype) / 4)
    assert float(pair_weights(jnp.full((N, 2), 2.0)).mean()) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_ascent_raises_the_loss_on_a_fixed_batch(embeddings, regions, kind):
    made = speaker_recipe(adversary=config(kind, peak_lr=5e-3))
    state = weighing(kind, regions, spread=0.1)
    seen = seen_by_adversary(embeddings, regions, made.adversary)

    def loss(params):
        weights = sample_weights(params, seen, made.adversary)
        return float(weighted_loss(embeddings, HEADS, SPEAKERS, weights, LOSS, made.adversary))

    losses = [loss(state.params)]
    climb = jax.jit(lambda s: adversary_step(s, embeddings, HEADS, SPEAKERS, made, ON)[0])
    for _ in range(30):
        state = climb(state)
        losses.append(loss(state.params))
    assert losses[-1] > losses[0] * 1.01
    assert sum(b > a for a, b in pairwise(losses)) >= 25


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_of_the_learner_passes_through_the_weights(embeddings, regions, kind):
    made = speaker_recipe(adversary=config(kind))
    state = weighing(kind, regions)

    def through_the_step(embeddings, heads):
        _, weights = adversary_step(state, embeddings, heads, SPEAKERS, made, ON)
        return weighted_loss(embeddings, heads, SPEAKERS, weights, LOSS, made.adversary)

    _, weights = adversary_step(state, embeddings, HEADS, SPEAKERS, made, ON)
    found = jax.grad(through_the_step, argnums=(0, 1))(embeddings, HEADS)
    wanted = loss_and_gradient(embeddings, weights, made.adversary)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, wanted)
    # And weights by themselves have none, though they depend on where the embeddings lie.
    alone = jax.grad(lambda e: adversary_step(state, e, HEADS, SPEAKERS, made, ON)[1].sum())
    np.testing.assert_array_equal(alone(embeddings), 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_adversarys_step_is_up_the_gradient_and_touches_nothing_else(embeddings, regions, kind):
    made = speaker_recipe(adversary=config(kind))
    before = weighing(kind, regions)
    after, _ = adversary_step(before, embeddings, HEADS, SPEAKERS, made, ON)
    np.testing.assert_array_equal(after.regions, before.regions)
    seen = seen_by_adversary(embeddings, regions, made.adversary)

    def loss(params):
        weights = sample_weights(params, seen, made.adversary)
        return weighted_loss(embeddings, HEADS, SPEAKERS, weights, LOSS, made.adversary)

    gradient = jax.grad(loss)(before.params)
    moved = jax.tree.map(lambda a, b, g: float(jnp.sum((a - b) * g)), after.params, before.params,
                         gradient)  # fmt: skip
    assert sum(jax.tree.leaves(moved)) > 0
    idle, weights = adversary_step(before, embeddings, HEADS, SPEAKERS, made, jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, idle, before)
    assert len(np.unique(weights)) == 1
    warm = weighted_loss(embeddings, HEADS, SPEAKERS, weights, LOSS, made.adversary)
    assert float(warm) == float(plain(embeddings)[0]), "in the warm-up the loss is the plain one"


def test_unbounded_logits_look_at_few_samples_and_bounded_ones_do_not(embeddings, regions):
    shares = {}
    for bound in (2.0, 1e6):
        made = speaker_recipe(adversary=config("pairs", bound=bound, peak_lr=0.05))
        state = weighing("pairs", regions, spread=0.1)
        climb = jax.jit(
            lambda s, made=made: adversary_step(s, embeddings, HEADS, SPEAKERS, made, ON)
        )
        for _ in range(200):
            state, weights = climb(state)
        shares[bound] = float(weight_metrics(weights)["adversary/effective_share_given"])
    assert shares[2.0] > 0.4
    assert shares[1e6] < 0.6 * shares[2.0]


def test_weight_metrics():
    found = weight_metrics(jnp.array([[1.0, 1.0], [1.0, 5.0]]))
    assert {k.removeprefix("adversary/"): float(v) for k, v in found.items()} == pytest.approx(
        {
            "mean_weight": 2.0,
            "max_weight": 5.0,
            "effective_share": 64 / 28 / 4,
            "effective_share_given": 0.25,
        }
    )


def test_metrics_of_the_warm_up_are_finite():
    found = weight_metrics(jnp.ones((3, 2)))
    assert {float(v) for v in found.values()} == {1.0}


def test_accumulated_similarities_against_loops(embeddings):
    x = np.asarray(embeddings, np.float64)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    own, others = np.zeros((N, M)), np.zeros((N, M))
    for i in range(N):
        for m in range(M):
            own[i, m] = np.mean([x[i, m] @ x[i, k] for k in range(M) if k != m])
            others[i, m] = np.mean(
                [x[i, m] @ x[j, k] for j in range(N) if j != i for k in range(M)]
            )
    wanted = np.stack([(a - a.mean()) / a.std() for a in (own, others)], axis=-1)
    np.testing.assert_allclose(accumulated_similarities(embeddings), wanted, rtol=1e-3, atol=1e-3)


def test_regions_keep_their_numbers_while_the_space_moves():
    rng = np.random.default_rng(0)
    centres = np.eye(4, 6)
    means = np.repeat(centres, 20, axis=0) + 0.05 * rng.normal(size=(80, 6))
    first = find_regions(means, np.zeros((4, 6), np.float32), seed=3)
    ids = np.asarray(region_of(jnp.asarray(means, jnp.float32), jnp.asarray(first)))
    assert len(set(ids.tolist())) == 4
    for group in range(4):
        assert len(set(ids[20 * group : 20 * group + 20].tolist())) == 1
    skew = rng.normal(size=(6, 6))
    moved = means @ expm(0.1 * (skew - skew.T))  # a rotation
    second = find_regions(moved, first, seed=99)
    again = np.asarray(region_of(jnp.asarray(moved, jnp.float32), jnp.asarray(second)))
    np.testing.assert_array_equal(again, ids)


def test_regions_of_few_speakers_and_of_none_are_finite():
    means = np.eye(2, 3)
    assert np.isfinite(find_regions(means, np.zeros((5, 3), np.float32), seed=0)).all()
    lonely = np.array([[1, 0, 0], [-9, -9, -9]], np.float32)
    kept = find_regions(means, lonely, seed=0)
    np.testing.assert_array_equal(kept[1], lonely[1])


def test_speaker_means_leave_out_what_could_not_be_read():
    embeddings = np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 2.0], [2.0, 0.0]])
    means = speaker_means(embeddings, np.array([0, 0, 2, 2]))
    np.testing.assert_allclose(means, [[1, 0], [2**-0.5, 2**-0.5]])


def test_the_sum_of_losses_is_reweighted_pair_by_pair(embeddings, regions):
    """AAM-softmax compares no pairs: beside PW it stays as it is."""
    made, both = config("pairs"), replace(LOSS, kind="both")
    heads = HEADS._replace(classes=jax.random.normal(jax.random.key(0), (N, D)))
    weights = jnp.asarray(np.random.default_rng(0).uniform(1, 3, (N, M)), jnp.float32)
    total = weighted_loss(embeddings, heads, SPEAKERS, weights, both, made)
    pairs = weighted_loss(embeddings, heads, SPEAKERS, weights, LOSS, made)
    aam = batch_losses(embeddings, heads, SPEAKERS, replace(LOSS, kind="aam"), None).mean()
    assert float(total) == pytest.approx(float(pairs + aam), rel=1e-6)
