"""Distillation: the divergence of lattices whose cells are collapsed to three classes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.train.losses import transducer_arcs
from parley.train.losses.distillation import collapsed_divergence, every_frame
from parley.train.recipe import AdaptConfig
from parley.train.step import build_model, losses, merge_model, split_model
from tones import recipe

B, T, U, J, V = 3, 11, 4, 6, 9
FRAMES, COUNTS = jnp.asarray([11, 7, 0]), jnp.asarray([4, 2, 1])


@pytest.fixture(scope="module")
def drawn():
    """Two networks' sides of the joint, a matrix of each, and labels."""
    rng = np.random.default_rng(0)
    sides = [
        (rng.normal(size=(B, T, J)), rng.normal(size=(B, U + 1, J)), rng.normal(size=(J, V)))
        for _ in range(2)
    ]
    return jax.tree.map(np.float32, sides), rng.integers(1, V, (B, U)).astype(np.int32)


def arcs_of(side, labels, frames=FRAMES, sharding=None):
    encoded, predicted, matrix = side

    def joint(f, g):
        return jnp.tanh(f + g) @ matrix

    return transducer_arcs(encoded, predicted, joint, labels, frames, COUNTS, sharding=sharding)


def probabilities(side):
    """[B, T, U+1, V] in float64."""
    encoded, predicted, matrix = (np.asarray(x, np.float64) for x in side)
    logits = np.tanh(encoded[:, :, None] + predicted[:, None]) @ matrix
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def expected(drawn):
    (teacher, student), labels = drawn
    p, q = probabilities(teacher), probabilities(student)
    total = np.zeros(B)
    for b in range(B):
        for t in range(FRAMES[b]):
            for u in range(COUNTS[b] + 1):
                classes = [0, labels[b, u]] if u < COUNTS[b] else [0]
                three = [np.append(x[b, t, u, classes], 0.0) for x in (p, q)]
                for x in three:
                    x[-1] = 1.0 - x[:-1].sum()
                total[b] += np.sum(three[0] * np.log(three[0] / three[1])) / (COUNTS[b] + 1)
    return total


def test_it_is_the_divergence_of_three_classes_in_every_cell(drawn):
    (teacher, student), labels = drawn
    found = collapsed_divergence(arcs_of(teacher, labels), arcs_of(student, labels), FRAMES, COUNTS)
    np.testing.assert_allclose(found, expected(drawn), rtol=1e-4, atol=1e-5)


def test_frames_left_out_are_those_of_another_step(drawn):
    """The parts of all steps of a cycle make up the whole."""
    (teacher, student), labels = drawn
    total = np.zeros(B)
    for first in range(4):
        parts = []
        for encoded, predicted, matrix in (teacher, student):
            some, frames = every_frame(encoded, FRAMES, 4, first)
            parts.append(arcs_of((some, predicted, matrix), labels, frames))
        total += collapsed_divergence(parts[0], parts[1], frames, COUNTS)
    np.testing.assert_allclose(total, expected(drawn), rtol=1e-4, atol=1e-5)


def test_a_model_does_not_differ_from_itself(drawn):
    (teacher, _), labels = drawn
    constant = arcs_of(teacher, labels)

    def loss(side):
        return collapsed_divergence(constant, arcs_of(side, labels), FRAMES, COUNTS).sum()

    value, grads = jax.value_and_grad(loss)(teacher)
    assert float(value) == 0.0
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-5)


def test_certain_models_give_finite_numbers(drawn):
    (teacher, student), labels = drawn
    sharp, other = ((f, g, 200.0 * w) for f, g, w in (teacher, student))
    constant = arcs_of(sharp, labels)

    def loss(side):
        return collapsed_divergence(constant, arcs_of(side, labels), FRAMES, COUNTS).sum()

    value, grads = jax.value_and_grad(loss)(other)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
def test_the_recipes_weight_reaches_the_loss():
    made = recipe(adapt=AdaptConfig(distill=0.5))
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, vocab_size=V))
    rng = np.random.default_rng(1)
    batch = {
        "samples": rng.normal(0, 2000, (4, 8000)).astype(np.int16),
        "sample_lengths": np.full(4, 8000, np.int32),
        "labels": rng.integers(1, V, (4, 3)).astype(np.int32),
        "label_lengths": np.full(4, 3, np.int32),
    }
    model = build_model(made)
    graphdef, params, frozen = split_model(model)

    @jax.jit
    def apart(moved):
        student = merge_model(graphdef, moved, frozen)
        teacher = merge_model(graphdef, params, frozen)
        total, parts = losses(student, batch, jax.random.key(0), made, 0, None, teacher)
        return total, parts

    total, parts = apart(params)
    assert abs(float(parts["distillation"])) < 1e-4
    total, parts = apart(jax.tree.map(lambda p: 1.1 * p, params))
    assert float(parts["distillation"]) > 1e-3
    rest = parts["transducer"] + made.loss.ctc_weight * parts["ctc"]
    assert float(total) == pytest.approx(float(rest + 0.5 * parts["distillation"]), rel=1e-5)
