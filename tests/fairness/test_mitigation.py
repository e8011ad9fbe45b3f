"""Methods as recipes: what each changes, and that nothing else differs between them."""

import json
from dataclasses import fields, replace

import pytest

from parley.configs import presets
from parley.data.errors import InputError
from parley.fairness.mitigation import METHODS, mitigation
from parley.train.adaptation import is_anchored, trains
from parley.train.recipe import recipe_from_dict, recipe_to_dict
from parley.train.requirements import require_consistent

BASE = presets()["rnnt-tiny"]
PARTS = ("encoder", "prediction", "joiner")


def made(method: str):
    return mitigation(BASE, method, "rnnt-tiny")


def differences(a, b) -> set[str]:
    return {f.name for f in fields(a) if getattr(a, f.name) != getattr(b, f.name)}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_a_recipe_of_the_training_loop(method):
    recipe = made(method)
    require_consistent(recipe)
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe
    assert recipe.init_from == "rnnt-tiny"
    assert recipe.optimizer.weight_decay == 0.0
    assert recipe.optimizer.peak_lr <= 1e-4
    assert recipe.data.train == BASE.data.train
    assert recipe.augment == BASE.augment


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("ewc", {"adapt"}),
        ("l2", {"adapt"}),
        ("freeze-encoder", {"adapt"}),
        ("freeze-prediction", {"adapt"}),
        ("distill", {"adapt"}),
        ("replay", {"data"}),
        ("oversample", {"data"}),
        ("cohort-input", {"model"}),
    ],
)
def test_methods_differ_in_what_they_are_about(method, changed):
    assert differences(made(method), made("finetune")) == changed | {"name", "description"}


def test_what_each_trains():
    trained = {m: {p for p in PARTS if trains(made(m).adapt, p)} for m in METHODS}
    assert trained.pop("freeze-encoder") == {"prediction", "joiner"}
    assert trained.pop("freeze-prediction") == {"encoder", "joiner"}
    assert all(parts == set(PARTS) for parts in trained.values())
    assert {m for m in METHODS if is_anchored(made(m).adapt)} == {"ewc", "l2"}


def test_waits_of_a_first_training_are_over():
    slow = replace(
        BASE,
        loss=replace(
            BASE.loss, fastemit_after=9, turns=replace(BASE.loss.turns, late_after=9, late=1.0)
        ),
    )
    loss = mitigation(slow, "ewc", "x").loss
    assert (loss.fastemit_after, loss.turns.late_after, loss.turns.late) == (0, 0, 1.0)
    assert loss.fastemit == BASE.loss.fastemit


def test_an_unknown_method_is_named():
    with pytest.raises(InputError, match="no method 'pray': there are finetune, ewc"):
        mitigation(BASE, "pray", "rnnt-tiny")
