"""Fisher information: each utterance's gradient squared, the same on one device and on eight."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.data.errors import InputError
from parley.data.tokenizer import Tokenizer
from parley.models.frontend import append_tail
from parley.train.fisher import ABOUT, FISHER, fisher_of_run, measure_fisher, save_fisher
from parley.train.losses import rnnt_loss
from parley.train.recipe import AdaptConfig, FisherConfig, MeshConfig
from parley.train.sharding import make_mesh, shardings
from parley.train.step import build_model, merge_model, split_model
from tones import ToneCorpus, recipe

UTTERANCES = 12
CORPUS = ToneCorpus(30)
TOKENIZER = Tokenizer.train([u.text for u in CORPUS.items], kind="char")


def of_tones(floor: float = 0.0):
    """A recipe with everything random that the Fisher information must not see."""
    made = recipe(adapt=AdaptConfig(fisher=FisherConfig(utterances=UTTERANCES, floor=floor)))
    model = dataclasses.replace(
        made.model,
        vocab_size=TOKENIZER.vocab_size,
        encoder=dataclasses.replace(made.model.encoder, dropout=0.3),
        prediction=dataclasses.replace(made.model.prediction, dropout=0.3),
    )
    return dataclasses.replace(made, model=model)


def mesh_of(devices: int, model: int = 1):
    if devices == 8:
        return make_mesh(MeshConfig(data=-1, fsdp=2, model=model))
    return jax.make_mesh(
        (devices, 1, 1),
        ("data", "fsdp", "model"),
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
        devices=jax.devices()[:devices],
    )


@pytest.fixture(scope="module")
def parts():
    graphdef, params, frozen = split_model(build_model(of_tones()))
    return graphdef, jax.device_get(params), jax.device_get(frozen)


def measured(parts, mesh, made=None):
    _, params, frozen = parts
    places = shardings(params, mesh)
    placed = jax.device_put(params, places)
    return measure_fisher(made or of_tones(), placed, frozen, places, CORPUS, TOKENIZER, mesh)


@pytest.fixture(scope="module")
def alone(parts):
    return measured(parts, mesh_of(1))


@pytest.fixture(scope="module")
def gradients(parts):
    """Every utterance's gradient, by itself: logits of all cells, no padding, one row."""
    graphdef, params, frozen = parts
    room = max(len(samples) for samples in CORPUS.audio)

    @jax.jit
    def of(params, samples, length, labels, count):
        def loss(params):
            model = merge_model(graphdef, params, frozen)
            x, frames = model.features(*append_tail(samples, length, model.config.frontend))
            encoded, frames = model.encode(x, frames)
            logits = model.joint(encoded[:, :, None], model.predict(labels)[:, None])
            return rnnt_loss(logits, labels, frames, count)[0]

        return jax.grad(loss)(params)

    found = []
    for i in np.linspace(0, len(CORPUS) - 1, UTTERANCES).astype(int):
        samples = CORPUS.samples(i)
        ids = TOKENIZER.encode(CORPUS.utterance(i).text)
        padded = np.pad(samples, (0, room - len(samples)))[None]
        labels = np.pad(ids, (0, 12 - len(ids)))[None].astype(np.int32)
        lengths = np.asarray([len(samples)], np.int32), np.asarray([len(ids)], np.int32)
        grads = of(params, padded, lengths[0], labels, lengths[1])
        found.append(jax.tree.map(lambda g: np.asarray(g, np.float64), grads))
    return found


def by_name(tree):
    return {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def test_it_is_the_mean_square_of_each_utterances_gradient(alone, gradients):
    fisher, facts = alone
    expected = jax.tree.map(lambda *g: np.mean(np.square(g), axis=0), *gradients)
    leaves = jax.tree.leaves(expected)
    mean = sum(leaf.sum() for leaf in leaves) / sum(leaf.size for leaf in leaves)
    assert facts["utterances"] == UTTERANCES
    assert facts["mean"] == pytest.approx(mean, rel=1e-3)
    for name, leaf in by_name(expected).items():
        np.testing.assert_allclose(
            by_name(fisher)[name], leaf / mean, rtol=2e-3, atol=1e-4, err_msg=name
        )


def test_it_is_normalised_to_a_mean_of_one(alone):
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(alone[0])]
    assert sum(leaf.sum() for leaf in leaves) / sum(leaf.size for leaf in leaves) == pytest.approx(
        1.0, rel=1e-5
    )


def test_the_square_of_a_batchs_mean_gradient_is_something_else(gradients):
    """Gradients of utterances cancel: what is squared after the mean is several times smaller."""
    each = jax.tree.map(lambda *g: np.mean(np.square(g), axis=0).sum(), *gradients)
    mean = jax.tree.map(lambda *g: np.square(np.mean(g, axis=0)).sum(), *gradients)
    ratio = sum(jax.tree.leaves(mean)) / sum(jax.tree.leaves(each))
    assert ratio < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("model", [1, 2])
def test_eight_devices_measure_what_one_does(parts, alone, model: int):
    mesh = mesh_of(8, model)
    fisher, facts = measured(parts, mesh)
    assert facts["utterances"] == UTTERANCES
    for name, leaf in by_name(alone[0]).items():
        np.testing.assert_allclose(by_name(fisher)[name], leaf, rtol=2e-3, atol=1e-5, err_msg=name)
    places = by_name(shardings(parts[1], mesh))
    assert any("fsdp" in place.spec for place in places.values())
    for name, leaf in by_name(fisher).items():
        assert leaf.sharding == places[name]


def test_no_value_is_below_the_floor(parts, alone):
    fisher, _ = measured(parts, mesh_of(1), of_tones(floor=0.5))
    for name, leaf in by_name(alone[0]).items():
        np.testing.assert_allclose(by_name(fisher)[name], np.maximum(leaf, 0.5), rtol=1e-5)


def test_a_run_folder_keeps_it_and_notices_damage(parts, alone, tmp_path, capsys):
    mesh = mesh_of(1)
    places = shardings(parts[1], mesh)
    assert fisher_of_run(tmp_path, parts[1], places) is None
    save_fisher(tmp_path, alone[0], alone[1])
    again = fisher_of_run(tmp_path, parts[1], places)
    jax.tree.map(np.testing.assert_array_equal, again, alone[0])
    assert json.loads((tmp_path / ABOUT).read_text())["utterances"] == UTTERANCES
    damaged = bytearray((tmp_path / FISHER).read_bytes())
    damaged[-3] ^= 1
    (tmp_path / FISHER).write_bytes(damaged)
    assert fisher_of_run(tmp_path, parts[1], places) is None
    assert "measured anew" in capsys.readouterr().err


def test_a_corpus_whose_texts_cannot_be_spelled_is_named(parts):
    made = of_tones()
    strange = ToneCorpus(4)
    strange.items = [dataclasses.replace(u, text="ü") for u in strange.items]
    mesh = mesh_of(1)
    places = shardings(parts[1], mesh)
    with pytest.raises(InputError, match=r"--adapt\.fisher\.data"):
        measure_fisher(made, parts[1], parts[2], places, strange, TOKENIZER, mesh)


def test_sums_are_kept_in_float32(parts, alone):
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(alone[0]))
