"""The verification losses against numpy in float64, and their gradients against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from parley.train.losses.speakers import aam_softmax, angular_prototypical, similarities


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embeddings(speakers: int = 5, each: int = 3, width: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(speakers, 1, width)) + rng.normal(size=(speakers, each, width))


def plain_loss(x: np.ndarray, w: float, b: float) -> np.ndarray:
    """Chung et al. 2020, equation 5, speaker by speaker."""
    losses = []
    for i in range(len(x)):
        cosines = [float(unit(x[i, 0]) @ unit(x[j, 1:].mean(axis=0))) for j in range(len(x))]
        s = w * np.array(cosines) + b
        losses.append(-s[i] + np.log(np.exp(s).sum()))
    return np.array(losses)


@pytest.mark.parametrize("each", [2, 3])
def test_angular_prototypical_is_the_papers(each: int):
    x = embeddings(each=each)
    found = angular_prototypical(similarities(jnp.asarray(x, jnp.float32)), 10.0, -5.0)
    np.testing.assert_allclose(found, plain_loss(x, 10.0, -5.0), rtol=2e-5, atol=1e-6)


def test_pair_weights_are_where_the_formula_has_them():
    x, rng = embeddings(), np.random.default_rng(1)
    weights = rng.uniform(0.5, 4.0, (5, 5))
    cosines = np.asarray(similarities(jnp.asarray(x, jnp.float32)), np.float64)
    s = 8.0 * cosines - 2.0
    wanted = [
        weights[i, i]
        * np.log(1 + sum(weights[i, j] * np.exp(s[i, j] - s[i, i]) for j in range(5) if j != i))
        for i in range(5)
    ]
    found = angular_prototypical(jnp.asarray(cosines, jnp.float32), 8.0, -2.0, jnp.asarray(weights))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


def test_ones_as_pair_weights_change_no_bit():
    cosines = similarities(jnp.asarray(embeddings(), jnp.float32))
    ones = angular_prototypical(cosines, 10.0, -5.0, jnp.ones((5, 5)))
    np.testing.assert_array_equal(ones, angular_prototypical(cosines, 10.0, -5.0))


def test_the_scale_never_turns_the_similarity_round():
    cosines = similarities(jnp.asarray(embeddings(), jnp.float32))
    even = angular_prototypical(cosines, -3.0, 0.0)
    np.testing.assert_allclose(even, np.log(5.0), rtol=1e-5)


def test_aam_softmax_by_angles():
    rng = np.random.default_rng(0)
    x, classes, labels = rng.normal(size=(6, 4)), rng.normal(size=(3, 4)), np.arange(6) % 3
    x[0] = classes[0]  # an angle of zero
    x[1] = -classes[1]  # and one beyond pi - m
    m, s = 0.2, 30.0
    wanted = []
    for row, label in zip(x, labels, strict=True):
        angles = np.arccos(np.clip(unit(classes) @ unit(row), -1, 1))
        logits = s * np.cos(angles)
        own = angles[label]
        logits[label] = s * (np.cos(own + m) if own < np.pi - m else np.cos(own) - m * np.sin(m))
        wanted.append(np.log(np.exp(logits).sum()) - logits[label])
    arguments = jnp.asarray(x, jnp.float32), jnp.asarray(classes, jnp.float32), jnp.asarray(labels)
    found = aam_softmax(*arguments, margin=m, scale=s)
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)
    gradient = jax.grad(lambda x: aam_softmax(x, *arguments[1:]).sum())(arguments[0])
    assert np.isfinite(gradient).all()


def test_without_a_margin_aam_is_a_softmax_of_cosines():
    rng = np.random.default_rng(2)
    x, classes, labels = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)), np.arange(6) % 5
    logits = 12.0 * unit(x) @ unit(classes).T
    wanted = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), labels]
    found = aam_softmax(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(classes),
        jnp.asarray(labels),
        margin=0.0,
        scale=12.0,
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_gradients_are_the_differences():
    x = jnp.asarray(embeddings(3, 2, 4), jnp.float32)
    classes = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).uniform(0.5, 2, (3, 3)), jnp.float32)

    def prototypical(x, scale, offset, weights):
        return angular_prototypical(similarities(x), scale, offset, weights).sum()

    def margin(x, classes):
        return aam_softmax(x.reshape(6, 4), classes, jnp.repeat(jnp.arange(3), 2), scale=5.0).sum()

    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, weights, classes)]
        check_grads(
            prototypical, (wide[0], jnp.float64(4.0), jnp.float64(-1.0), wide[1]), 1, ("rev",)
        )
        check_grads(margin, (wide[0], wide[2]), 1, ("rev",))
