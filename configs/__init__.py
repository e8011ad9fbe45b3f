"""Presets: one file a family, each a table of recipes."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..train.recipe import Recipe
    from ..train.speakers.recipe import SpeakerRecipe

FAMILIES = ("rnnt", "conv_rnnt", "conformer", "contextnet", "transformer", "amortized", "sts")


def presets() -> "dict[str, Recipe]":
    """Every preset of every family of recognisers, by name."""
    found: dict[str, Recipe] = {}
    for family in FAMILIES:
        found |= importlib.import_module(f".{family}", __name__).PRESETS
    return found


def speaker_presets() -> "dict[str, SpeakerRecipe]":
    """Every preset of a speaker model, by name."""
    return importlib.import_module(".speakers", __name__).PRESETS
