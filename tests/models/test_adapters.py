"""Low-rank adapters: nothing at first, a low rank afterwards, and a plain model at the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.adapters import (
    ADAPTERS,
    Adapter,
    add_adapters,
    has_adapters,
    merged,
    with_places,
)
from parley.models.encoders.fastconformer import FastConformerConfig, FastConformerEncoder

CONFIG = FastConformerConfig(
    width=8, heads=2, blocks=2, output=6, chunk=1, left=3, kernel=3, channels=4, expansion=2
)
LAYERS = r"blocks\..*(query|widen)$|subsampling\.points"
SCALE = 2.0


@pytest.fixture(scope="module")
def plain() -> FastConformerEncoder:
    return FastConformerEncoder(CONFIG, 16, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def adapted() -> FastConformerEncoder:
    """The same encoder, with adapters that have learned nothing yet."""
    model = FastConformerEncoder(CONFIG, 16, rngs=nnx.Rngs(0))
    add_adapters(model, LAYERS, 2, SCALE, rngs=nnx.Rngs(1))
    return model


def encode(model: nnx.Module, weights) -> np.ndarray:
    graphdef, shapes = nnx.split(model)
    nnx.replace_by_pure_dict(shapes, weights)

    @jax.jit
    def run(state, x):
        return nnx.merge(graphdef, state)(x, jnp.array([48, 24]))[0]

    return np.asarray(run(shapes, jax.random.normal(jax.random.key(0), (2, 48, 16))))


def weights_of(model: nnx.Module):
    return nnx.to_pure_dict(nnx.state(model))


def test_fresh_adapters_change_nothing(plain, adapted):
    assert has_adapters(adapted)
    assert not has_adapters(plain)
    own = weights_of(plain)
    np.testing.assert_array_equal(encode(adapted, weights_of(adapted)), encode(plain, own))
    moved = with_places(own, weights_of(adapted))["blocks"][0]["first"]["widen"]
    assert moved == {"base": own["blocks"][0]["first"]["widen"]}


def test_what_they_learn_can_be_added_to_the_weights(plain, adapted):
    weights = weights_of(adapted)
    rng = np.random.default_rng(0)
    learned = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            rng.normal(0, 0.3, leaf.shape).astype(np.float32)
            if getattr(path[-1], "key", None) in ADAPTERS
            else leaf
        ),
        weights,
    )
    beside, before = encode(adapted, learned), encode(plain, weights_of(plain))
    assert np.abs(beside - before).max() > 0.1
    np.testing.assert_allclose(encode(plain, merged(learned, SCALE)), beside, atol=1e-5)


def test_only_layers_of_such_names_have_adapters(adapted):
    matrices = nnx.to_flat_state(nnx.state(adapted, Adapter))
    names = {".".join(map(str, path[:-1])) for path, _ in matrices}
    inside = "first.widen", "second.widen", "convolution.widen", "attention.attention.query"
    blocks = {f"blocks.{i}.{layer}" for i in range(2) for layer in inside}
    assert names == {*blocks, "subsampling.points.0", "subsampling.points.1"}


@pytest.mark.parametrize(
    ("layers", "rank", "message"),
    [
        ("nowhere", 2, "no linear layer's name has 'nowhere' in it: there are "),
        ("(", 2, "no regular expression"),
        ("query", 9, "between 1 and 8"),
    ],
)
def test_what_fits_no_layer_is_said(layers: str, rank: int, message: str):
    model = nnx.Dict(query=nnx.Linear(8, 12, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=message):
        add_adapters(model, layers, rank, 1.0, rngs=nnx.Rngs(0))
