"""The grids that ship compare what they say they compare."""

import json
from dataclasses import replace

import pytest

from parley.configs.experiments import experiments
from parley.train.recipe import Recipe, recipe_to_dict
from parley.train.speakers.recipe import any_recipe_from_dict


def test_recipes_of_all_rows_are_known_again_when_they_are_read():
    for experiment in experiments().values():
        for row in experiment.rows:
            written = json.loads(json.dumps(recipe_to_dict(row.recipe)))
            assert any_recipe_from_dict(written) == row.recipe


@pytest.mark.parametrize("name", ["encoders", "encoders-digits"])
def test_families_differ_in_nothing_but_the_encoder_and_its_rates(name: str):
    part = next(p for p in experiments()[name].parts if p.title == "Families")
    assert {tuple(row.seed for row in rows) for rows in part.groups.values()} == {(0, 1, 2)}
    first = part.rows[0].recipe
    for row in part.rows:
        free = {"name": first.name, "seed": 0, "optimizer": first.optimizer}
        model = replace(row.recipe.model, encoder=first.model.encoder)
        assert replace(row.recipe, model=model, **free) == first
        rates = replace(row.recipe.optimizer, peak_lr=first.optimizer.peak_lr)
        assert rates == first.optimizer
    # Half a grid compares the families with one another, not seeds.
    assert len({row.group for row in part.rows[:5]}) == 5


def test_models_of_the_grid_are_of_matched_size():
    from parley.zoo.package import abstract_model, parameter_count

    families, ablations, *_ = experiments()["encoders"].parts
    sizes = {}
    for row in (*families.rows[:5], *ablations.rows):
        assert isinstance(row.recipe, Recipe)
        graphdef, params, _ = abstract_model(row.recipe)
        hash(graphdef)  # inference compiles with it as a static argument
        sizes[row.group] = parameter_count(params)
    matched = [sizes[row.group] for row in families.rows[:5]]
    assert max(matched) < 1.2 * min(matched), sizes
    assert all(sizes[row.group] <= sizes["conv-rnnt"] for row in ablations.rows), sizes
    assert sizes["no-convolution"] < sizes["global-only"] < sizes["conv-rnnt"]


def test_speaker_models_differ_in_nothing_but_the_adversary():
    rows = experiments()["verification"].rows
    for row in rows:
        assert not isinstance(row.recipe, Recipe)
        free = {"name": "", "seed": 0, "adversary": rows[0].recipe.adversary}  # pyright: ignore[reportAttributeAccessIssue]
        assert replace(row.recipe, **free) == replace(rows[0].recipe, name="")
    first = {row.group for row in rows[:6]}
    assert first == {"plain", "pairs"}, "what the claim rests on comes first"
