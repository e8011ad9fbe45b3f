"""What presets are, as data: `parley list` must not build a model to count its parameters.

python -m parley.zoo.presets      # after a change in configs/: writes zoo/presets.json anew
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..data.files import replace_file
from .architecture import parts, turns_marked
from .cards import Facts
from .registry import PRESETS_FILE

if TYPE_CHECKING:
    from ..train.recipe import Recipe
    from ..train.speakers.recipe import SpeakerRecipe


def facts_of(recipe: "Recipe", **more: object) -> Facts:
    """Counts parameters and cost from shapes alone; `more` are further fields of `Facts`."""
    from flax import nnx

    from ..models.cost import gflop, model_cost, state_bytes
    from ..train.recipe import recipe_to_dict
    from .package import abstract_model, parameter_count

    graphdef, params, frozen = abstract_model(recipe)
    model = nnx.merge(graphdef, params, frozen)
    cost, state = model_cost(recipe.model), state_bytes(recipe.model)
    kind, compute = recipe.model.encoder.kind, recipe.loss.compute
    values = {
        "name": recipe.name,
        "family": "rnnt" if kind == "lstm" else kind,
        "description": recipe.description,
        "parameters": parameter_count(params),
        "vocab_size": recipe.model.vocab_size,
        "streaming": state is not None,
        "step_ms": round(1000 * model.samples_per_step / recipe.model.frontend.sample_rate, 3),
        "gflop_per_s": _rounded(gflop(cost.total)),
        "encoder_gflop_per_s": _rounded(gflop(cost.encoder)),
        "budget": compute.ratio if compute.objective in ("budget", "target") else None,
        "state_kib": None if state is None else _rounded(state / 1024),
        "turns": True if turns_marked(recipe_to_dict(recipe)) else None,
        "architecture": parts(recipe_to_dict(recipe)),
    }
    return Facts(**{**values, **more})


def speaker_facts_of(recipe: "SpeakerRecipe", **more: object) -> Facts:
    """Of a speaker model, likewise from shapes alone."""
    from ..models.cost import gflop
    from ..models.speakers.network import speaker_cost
    from ..train.recipe import recipe_to_dict

    cost = speaker_cost(recipe.model)
    values = {
        "name": recipe.name,
        "family": recipe.model.encoder.kind,
        "description": recipe.description,
        "parameters": cost.parameters,
        "vocab_size": 0,
        "streaming": False,
        "step_ms": 0.0,
        "gflop_per_s": _rounded(gflop(cost.frontend + cost.encoder)),
        "encoder_gflop_per_s": _rounded(gflop(cost.encoder)),
        "task": recipe.task,
        "embedding": recipe.model.encoder.output,
        "architecture": parts(recipe_to_dict(recipe)),
    }
    return Facts(**{**values, **more})


def _rounded(value: float) -> float:
    """To three digits: 0.0289, 1.47, 48.2."""
    return float(f"{value:.3g}")


def measure_presets() -> dict[str, Facts]:
    """Facts of every preset, from the recipes in configs/."""
    from ..configs import presets, speaker_presets

    found = {name: facts_of(recipe) for name, recipe in presets().items()}
    found |= {name: speaker_facts_of(recipe) for name, recipe in speaker_presets().items()}
    return dict(sorted(found.items()))


def write_presets() -> None:
    table = {name: asdict(facts) for name, facts in measure_presets().items()}
    for facts in table.values():
        del facts["training"]
        for field in ("task", "embedding", "turns", "source"):  # of few models
            if facts[field] is None:
                del facts[field]
    replace_file(PRESETS_FILE, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    write_presets()
    print(f"wrote {PRESETS_FILE}")
