"""A model folder of the smallest size."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from parley.data.tokenizer import Tokenizer
from parley.models.frontend import FrontendConfig
from parley.models.transducer import PredictionConfig, Transducer, TransducerConfig
from parley.train.recipe import Recipe
from parley.zoo.cards import new_card
from parley.zoo.package import write_model
from parley.zoo.presets import facts_of

TEXTS = [
    "turn the light on in the kitchen",
    "set a timer for ten minutes",
    "what is the time in london",
    "play the song again please",
]


def write_tiny(
    folder: Path,
    encoder: Any,
    name: str = "tiny",
    *,
    spread: float = 0.0,
    markers: tuple[str, ...] = (),
) -> Path:
    """Random weights, scaled so that the text depends on the sound and ties are far away.

    `spread`: of the gates' logits about zero, where the encoder has gates. `markers`: of the
    tokenizer; they are a little likelier than its other tokens.
    """
    tokenizer = Tokenizer.train(TEXTS, vocab_size=40).with_markers(markers)
    config = TransducerConfig(
        vocab_size=tokenizer.vocab_size,
        frontend=FrontendConfig(bins=16, stack=2),
        encoder=encoder,
        prediction=PredictionConfig(embedding=8, width=16, layers=1, output=16),
    )
    recipe = Recipe(name=name, model=config, description="Random weights.")
    _, params, frozen = nnx.split(Transducer(config, rngs=nnx.Rngs(3)), nnx.Param, ...)
    params = jax.tree.map(lambda x: 3.0 * x, nnx.to_pure_dict(params))
    bias = np.array(params["joiner"]["output"]["bias"])
    bias[0] = 3.0  # blank, else every frame would speak
    bias[list(tokenizer.markers.values())] = 1.0
    params["joiner"]["output"]["bias"] = bias
    if spread:
        output = params["encoder"]["arbitrator"]["output"]
        output["bias"] = np.zeros_like(output["bias"])
        output["kernel"] = spread * np.sign(output["kernel"])
    frozen = nnx.to_pure_dict(frozen)
    frozen["frontend"]["mean"] = np.full(16, 12.0, np.float32)
    frozen["frontend"]["std"] = np.full(16, 3.0, np.float32)
    card = new_card(facts_of(recipe, status="trained"))
    write_model(folder, recipe, params, frozen, tokenizer, card)
    return folder
