"""A speaker model: recipe.json, weights.safetensors, threshold.json, README.md (the card).

`threshold.json` says from which cosine on two recordings are taken for one speaker: where both
kinds of error were equally frequent on the development set, at the end of training.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..data.errors import InputError
from ..data.files import replacing_folder
from ..models.keys import weight_keys
from ..models.speakers.network import SpeakerNet
from ..train.recipe import recipe_to_dict
from ..train.speakers.recipe import SpeakerRecipe, is_speaker_recipe, speaker_recipe_from_dict
from ..train.weights import load_weights, merge_trees, part_of, save_weights
from .cards import CARD, Card, write_card
from .package import (
    RECIPE,
    WEIGHTS,
    building,
    recipe_values,
    shapes_of,
)

THRESHOLD = "threshold.json"


@dataclass(frozen=True)
class Threshold:
    cosine: float
    eer: float
    """A fraction."""
    data: str
    split: str


@dataclass(frozen=True)
class SpeakerPackage:
    """A speaker model as read from its folder; `params` and `frozen` are nested dicts of arrays."""

    folder: Path
    recipe: SpeakerRecipe
    graphdef: Any
    params: Any
    frozen: Any
    threshold: Threshold
    fingerprint: str
    """Of the weights: embeddings of two models have nothing in common."""


def is_speaker_folder(folder: Path) -> bool:
    """Whether a model folder holds a speaker model."""
    try:
        return is_speaker_recipe(recipe_values(folder))
    except InputError:
        return False


def write_speaker_model(
    folder: Path,
    recipe: SpeakerRecipe,
    params: Mapping[Any, Any],
    frozen: Mapping[Any, Any],
    threshold: Threshold,
    card: Card,
    *,
    storage: Literal["float16", "float32"] = "float16",
) -> None:
    """Writes a model folder whole, in place of one that may be there.

    Raises ValueError for weights that are not finite.
    """
    with replacing_folder(folder) as fresh:
        (fresh / RECIPE).write_text(json.dumps(recipe_to_dict(recipe), indent=1) + "\n")
        save_weights(fresh / WEIGHTS, merge_trees(params, frozen), storage=storage)
        (fresh / THRESHOLD).write_text(json.dumps(asdict(threshold), indent=1) + "\n")
        write_card(fresh / CARD, card)


def read_speaker_model(folder: Path) -> SpeakerPackage:
    """Raises InputError where a file is missing or damaged, or the model writes text."""
    folder = Path(folder)
    recipe = read_speaker_recipe(folder)
    with building(folder):
        graphdef, params, frozen = abstract_speaker_model(recipe)
    weights = load_weights(folder / WEIGHTS, merge_trees(params, frozen))
    return SpeakerPackage(
        folder=folder,
        recipe=recipe,
        graphdef=graphdef,
        params=part_of(weights, params),
        frozen=part_of(weights, frozen),
        threshold=_read_threshold(folder / THRESHOLD),
        fingerprint=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16],
    )


def read_speaker_recipe(folder: Path) -> SpeakerRecipe:
    """Raises InputError where recipe.json is missing, damaged or of a recogniser."""
    values = recipe_values(folder)
    if not is_speaker_recipe(values):
        raise InputError(
            f"{folder} holds a model that writes text and knows no speakers: name one that does, "
            "for example speaker-tiny."
        )
    with building(folder):
        return speaker_recipe_from_dict(values)


def abstract_speaker_model(recipe: SpeakerRecipe) -> tuple[Any, Any, Any]:
    """(graph definition, parameters, frozen variables) as shapes; nothing is computed."""
    return shapes_of(lambda: SpeakerNet(recipe.model, rngs=weight_keys(0)))


def _read_threshold(path: Path) -> Threshold:
    try:
        values = json.loads(path.read_text())
        found = Threshold(
            float(values["cosine"]), float(values["eer"]), values["data"], values["split"]
        )
    except FileNotFoundError:
        raise InputError(f"{path} is missing: copy the model's folder again.") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged: copy the model's folder again.") from None
    if not math.isfinite(found.cosine):
        raise InputError(f"{path} holds no finite cosine: copy the model's folder again.")
    return found
