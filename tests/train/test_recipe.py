"""A recipe survives its own JSON, and refuses what is not one."""

import dataclasses
import json

import pytest

from parley.configs import presets
from parley.data.errors import InputError
from parley.train.recipe import AdaptConfig, identity, recipe_from_dict, recipe_to_dict


@pytest.mark.parametrize("name", sorted(presets()))
def test_presets_round_trip_through_json(name: str):
    recipe = presets()[name]
    assert recipe.name == name
    assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe


def changed(path: str, value: object) -> dict:
    values = json.loads(json.dumps(recipe_to_dict(presets()["rnnt-tiny"])))
    *folders, last = path.split(".")
    table = values
    for folder in folders:
        table = table[folder]
    table[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("optimizer.peak_rl", 1e-3, "has no field 'peak_rl'"),
        ("optimizer.peak_lr", "fast", "recipe.optimizer.peak_lr cannot be 'fast'"),
        ("precision", "float8", "recipe.precision cannot be 'float8'"),
        ("model.encoder", 3, "recipe.model.encoder should be a table"),
        ("model.encoder.kind", "oracle", "encoder.kind cannot be 'oracle': there are lstm, "),
        ("model.encoder.heads", 4, "recipe.model.encoder has no field 'heads'"),
        ("steps", True, "recipe.steps cannot be True"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: object, said: str):
    with pytest.raises(InputError, match=said):
        recipe_from_dict(changed(path, value))


def test_a_missing_field_is_named():
    values = changed("steps", 1)
    del values["model"]
    with pytest.raises(InputError, match="lacks the field 'model'"):
        recipe_from_dict(values)


def test_an_integer_serves_as_a_float():
    recipe = recipe_from_dict(changed("optimizer.clip_norm", 5))
    assert isinstance(recipe.optimizer.clip_norm, float)
    assert dataclasses.is_dataclass(recipe.model.encoder)


def test_fields_that_came_later_tell_no_recipe_apart_while_they_are_off():
    """Runs and results of recipes that were written before stay theirs."""
    plain = presets()["rnnt-tiny"]
    found = identity(plain)
    assert "adapt" not in found
    assert not {"oversample", "balance", "replay", "replay_share"} & found["data"].keys()
    assert "cohort" not in found["model"]
    assert found["optimizer"] == recipe_to_dict(plain)["optimizer"]
    changed = dataclasses.replace(plain, adapt=AdaptConfig(anchor="l2"))
    assert identity(changed)["adapt"]["anchor"] == "l2"
    assert identity(changed) != found
