"""A model folder of 0.6 billion parameters: read in a minute, whole and over eight devices."""

import resource
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from parley.data.tokenizer import Tokenizer
from parley.models.centred_frontend import CentredFrontendConfig
from parley.models.encoders.fastconformer import FastConformerConfig
from parley.models.transducer import (
    JointConfig,
    PredictionConfig,
    Transducer,
    TransducerConfig,
    parameter_count,
)
from parley.train.recipe import Recipe
from parley.zoo.cards import new_card
from parley.zoo.package import abstract_model, read_model, write_model
from parley.zoo.presets import facts_of

pytestmark = pytest.mark.soak


def large(vocab_size: int) -> TransducerConfig:
    """parakeet-tdt-0.6b-v2 by its configuration, but for the vocabulary."""
    return TransducerConfig(
        vocab_size=vocab_size,
        encoder=FastConformerConfig(width=1024, heads=8, blocks=24, output=640),
        prediction=PredictionConfig(embedding=640, width=640, layers=2, output=640),
        frontend=CentredFrontendConfig(bins=128),
        joint=JointConfig(activation="relu", durations=(0, 1, 2, 3, 4)),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = Tokenizer.train(["turn the light on in the kitchen", "play that song"], 40)
    recipe = Recipe(name="large", model=large(tokenizer.vocab_size))
    _, params, frozen = abstract_model(recipe)
    random = np.random.default_rng(0)
    pool = (0.02 * random.standard_normal(1 << 22, dtype=np.float32)).astype(np.float16)

    def fill(leaf: Any) -> np.ndarray:
        return np.resize(pool, leaf.shape)

    path = tmp_path_factory.mktemp("models") / "large"
    write_model(
        path,
        recipe,
        jax.tree.map(fill, params),
        frozen,
        tokenizer,
        new_card(facts_of(recipe, status="imported")),
    )
    return path


def gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def test_it_loads_in_a_minute_and_fits_half_as_much_in_bfloat16(folder: Path, capsys):
    began = time.monotonic()
    package = read_model(folder)
    seconds = time.monotonic() - began
    leaves = jax.tree.leaves(package.params)
    count = sum(leaf.size for leaf in leaves)
    assert 0.55e9 < count < 0.65e9
    assert seconds < 60
    began = time.monotonic()
    narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), package.params)
    jax.block_until_ready(narrow)
    moved = time.monotonic() - began
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(narrow))
    assert held == 2 * count

    # Spread: every matrix by its last axis where eight devices share it evenly.
    mesh = Mesh(np.array(jax.devices()[:8]), ("model",))

    def place(x: jax.Array) -> NamedSharding:
        even = x.ndim and x.shape[-1] % 8 == 0
        return NamedSharding(mesh, P(*[None] * (x.ndim - 1), "model") if even else P())

    began = time.monotonic()
    spread = jax.block_until_ready(jax.device_put(narrow, jax.tree.map(place, narrow)))
    shared = time.monotonic() - began
    largest = max(
        sum(
            shard.data.nbytes
            for leaf in jax.tree.leaves(spread)
            for shard in leaf.addressable_shards
            if shard.device == device
        )
        for device in jax.devices()[:8]
    )
    assert largest < held / 7
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with capsys.disabled():
        print(
            f"\n{count / 1e6:.0f} M parameters: read in {seconds:.1f} s, float32 "
            f"{gib(4 * count)}; bfloat16 {gib(held)} in {moved:.1f} s; over 8 devices at most "
            f"{gib(largest)} each in {shared:.1f} s; most of the process {gib(peak)}"
        )


def test_golden_sizes():
    """Counted from shapes: the public models' own counts, to what their names round to."""
    sizes = {}
    for name, width, blocks, bins, layers in (
        ("0.1b", 512, 17, 80, 1),
        ("0.6b", 1024, 24, 128, 2),
    ):
        config = TransducerConfig(
            vocab_size=1025,
            encoder=FastConformerConfig(width=width, heads=8, blocks=blocks, output=640),
            prediction=PredictionConfig(embedding=640, width=640, layers=layers, output=640),
            frontend=CentredFrontendConfig(bins=bins),
            joint=JointConfig(activation="relu", durations=(0, 1, 2, 3, 4)),
        )
        shapes = nnx.eval_shape(lambda c=config: Transducer(c, rngs=nnx.Rngs(0)))
        sizes[name] = parameter_count(shapes)
    # transformers counts 0.1 M more of each: biases that add nothing here (zoo/import_weights.py).
    assert sizes == {"0.1b": 114_052_742, "0.6b": 618_140_294}
