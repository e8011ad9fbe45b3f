"""Training low-rank adapters: they alone are trained, cost little, and end in a plain model."""

import dataclasses

import jax
import numpy as np
import pytest

from parley.data.errors import InputError
from parley.train.loop import train
from parley.train.optimizer import make_optimizer
from parley.train.recipe import AdaptConfig, LoraConfig
from parley.train.start import abstract_state
from parley.train.weights import flatten
from tones import ToneCorpus, recipe, untrained

LORA = LoraConfig(rank=2, layers="output$", alpha=4.0)


def adapting(lora: LoraConfig = LORA, **adapt):
    return recipe(init_from="tones", adapt=AdaptConfig(lora=lora, **adapt), steps=4, eval_every=100)


def test_adapters_alone_are_trained_and_end_in_the_weights(tmp_path):
    made = adapting(parts="encoder+joint")
    start = untrained(recipe())
    corpus, dev = ToneCorpus(32), ToneCorpus(8, seed=1)
    result = train(made, tmp_path / "run", start=start, corpus=corpus, dev=dev)
    before, after = flatten(start.weights), flatten(result.params) | flatten(result.frozen)
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"encoder.output.kernel", "joiner.output.kernel"}
    for name in changed:
        singular = np.linalg.svd(after[name] - before[name], compute_uv=False)
        assert singular[1] > 1e-7
        assert np.all(singular[2:] < 1e-6 * singular[0])


def test_a_state_holds_moments_of_adapters_alone():
    made = adapting(LoraConfig(rank=2, layers=r"(encoder|prediction)\.output$"))
    _, state = abstract_state(made, make_optimizer(made.optimizer, made.steps, made.adapt))
    names = flatten(state.params)
    assert {name.rpartition(".")[2] for name in names} == {"down", "up"}
    trained = sum(leaf.size for leaf in names.values())
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.optimizer))
    assert moments <= 2 * trained + 8  # and counters
    assert sum(leaf.size for leaf in jax.tree.leaves(state.ema)) == trained
    assert trained < 0.1 * sum(leaf.size for leaf in jax.tree.leaves(state.frozen))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (dataclasses.replace(adapting(), init_from=""), "--init-from"),
        (adapting(anchor="l2"), "leave out --adapt.anchor"),
        (adapting(LoraConfig(rank=-1)), "at least 1"),
        (adapting(LoraConfig(rank=2)), "no linear layer's name has"),
        (adapting(LoraConfig(rank=200, layers="output$")), "rank lies between"),
    ],
)
def test_what_cannot_be_adapted_is_said(made, message, tmp_path):
    with pytest.raises(InputError, match=message):
        train(made, tmp_path, start=untrained(recipe()), corpus=ToneCorpus(8), dev=ToneCorpus(8))


def test_nothing_is_born_beside_adapters(tmp_path):
    start = untrained(recipe())
    made = adapting()
    headless = {k: v for k, v in start.params.items() if k != "ctc"}
    with pytest.raises(InputError, match=r"'ctc'.* absent there"):
        train(
            made,
            tmp_path,
            start=dataclasses.replace(start, params=headless),
            corpus=ToneCorpus(8),
            dev=ToneCorpus(8),
        )
