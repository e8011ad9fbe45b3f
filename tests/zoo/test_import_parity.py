"""Imported models against transformers' own numbers: features, encoder, prediction network, joint
and greedy search, of small random models that tests/foreign.py made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from foreign import KINDS
from imported import relative, write_source
from parley.models.decoding import greedy
from parley.models.transducer import Transducer
from parley.zoo.import_weights import check_shapes, convert
from parley.zoo.importing import read_source, recipe_of
from parley.zoo.package import abstract_model


@pytest.fixture(scope="module", params=KINDS)
def imported(request, golden, tmp_path_factory):
    """(kind, reference arrays, our model)."""
    kind = request.param
    source = write_source(golden, kind, tmp_path_factory.mktemp(kind) / "source")
    foreign = read_source(str(source))
    params = convert(foreign.tensors, foreign.model, scale=foreign.scale)
    graphdef, template, frozen = abstract_model(recipe_of(foreign, kind))
    check_shapes(params, template)
    model = nnx.merge(graphdef, jax.tree.map(jnp.asarray, params), frozen)
    arrays = {k.removeprefix(f"{kind}/"): v for k, v in golden.items() if k.startswith(f"{kind}/")}
    return kind, arrays, model


def encode(model: Transducer, samples: np.ndarray):
    @jax.jit
    def run(samples, lengths):
        x, frames = model.features(samples, lengths)
        return x, frames, *model.encode(x, frames)

    return run(samples[None], jnp.array([len(samples)]))


def test_features(imported, golden):
    kind, arrays, model = imported
    x, frames, _, _ = encode(model, golden["samples"])
    wanted = arrays["features"]
    late = int(kind == "streaming")
    found = np.asarray(x)[0, late : late + len(wanted)]
    assert frames.tolist() == [len(wanted)]
    np.testing.assert_allclose(found, wanted[: len(found)], atol=1e-4)


def test_encoder(imported, golden):
    _, arrays, model = imported
    _, _, encoded, lengths = encode(model, golden["samples"])
    count = int(lengths[0])
    assert relative(encoded[0, :count], arrays["projected"][:count]) < 1e-4


def test_prediction_network_and_joint(imported):
    _, arrays, model = imported
    # Their class 0 is our last, and their last, the blank, our 0.
    predicted = jax.jit(lambda labels: model.predict(labels))(jnp.array([[3, 4, 5, 6]]))[0]
    assert relative(predicted, arrays["predicted"]) < 1e-5
    logits = jax.jit(model.joint_logits)(
        jnp.asarray(arrays["projected"])[::6, None], jnp.asarray(arrays["predicted"])[None]
    )
    wanted = arrays["logits"].copy()
    wanted[..., [0, 32]] = wanted[..., [32, 0]]
    assert relative(logits, wanted) < 1e-5


def test_greedy_search(imported, golden):
    _, arrays, model = imported

    @jax.jit
    def run(samples, lengths):
        encoded, frames = model.encode(*model.features(samples, lengths))
        return greedy(model, encoded, frames, max_symbols=10)[0], frames

    samples = golden["samples"]
    found, frames = run(samples[None], jnp.array([len(samples)]))
    inside = arrays["frames"] < int(frames[0])
    wanted = np.where(arrays["tokens"] == 0, 32, arrays["tokens"])[inside]
    count = int(found.counts[0])
    assert found.tokens[0, :count].tolist() == wanted.tolist()
    assert found.frames[0, :count].tolist() == arrays["frames"][inside].tolist()
    assert len(set(wanted.tolist())) > 2  # it says something
