"""A model folder: recipe.json, weights.safetensors, tokenizer.model, README.md (the card)."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
from flax import nnx

from ..data.errors import InputError
from ..data.files import replacing_folder
from ..data.tokenizer import Tokenizer
from ..models.encoders.amortized import AmortizedConfig
from ..models.keys import weight_keys
from ..models.transducer import Transducer
from ..train.recipe import Recipe, recipe_from_dict, recipe_to_dict
from ..train.speakers.recipe import is_speaker_recipe
from ..train.weights import load_weights, merge_trees, part_of, save_weights
from .cards import CARD, Card, write_card
from .recipe_limits import read_values

RECIPE, WEIGHTS, TOKENIZER = "recipe.json", "weights.safetensors", "tokenizer.model"


@dataclass(frozen=True)
class ModelPackage:
    """A model as read from its folder; `params` and `frozen` are nested dicts of arrays."""

    folder: Path
    recipe: Recipe
    graphdef: Any
    params: Any
    """Trained parameters."""
    frozen: Any
    """Variables that are not trained: the statistics of the features."""
    tokenizer: Tokenizer

    def model(self) -> Transducer:
        return nnx.merge(self.graphdef, self.params, self.frozen)

    def with_theta(self, theta: float) -> "ModelPackage":
        """The model whose gates open above the probability `theta`.

        Raises:
          InputError: it has no gates, or theta does not lie between 0 and 1.
        """
        encoder = self.recipe.model.encoder
        if not isinstance(encoder, AmortizedConfig):
            raise InputError(f"{self.recipe.name} has no gates: leave --theta out.")
        if not 0.0 < theta < 1.0:
            raise InputError(f"--theta is a probability between 0 and 1, not {theta:g}.")
        model = replace(self.recipe.model, encoder=replace(encoder, theta=theta))
        recipe = replace(self.recipe, model=model)
        return replace(self, recipe=recipe, graphdef=abstract_model(recipe)[0])


def write_model(
    folder: Path,
    recipe: Recipe,
    params: Mapping[Any, Any],
    frozen: Mapping[Any, Any],
    tokenizer: Tokenizer,
    card: Card,
    *,
    storage: Literal["float16", "float32"] = "float16",
) -> None:
    """Writes a model folder whole, in place of one that may be there.

    Raises:
      ValueError: weights that are not finite, or a tokenizer that does not fit the recipe.
    """
    if tokenizer.vocab_size != recipe.model.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {recipe.model.vocab_size}"
        )
    with replacing_folder(folder) as fresh:
        (fresh / RECIPE).write_text(json.dumps(recipe_to_dict(recipe), indent=1) + "\n")
        save_weights(fresh / WEIGHTS, merge_trees(params, frozen), storage=storage)
        tokenizer.save(fresh / TOKENIZER)
        write_card(fresh / CARD, card)


def read_model(folder: Path) -> ModelPackage:
    """Reads and checks a model folder; the card is not needed.

    Raises:
      InputError: a file is missing or damaged, or the files do not belong together.
    """
    folder = Path(folder)
    recipe = read_recipe(folder)
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    if tokenizer.vocab_size != recipe.model.vocab_size:
        raise InputError(
            f"{folder / TOKENIZER} has {tokenizer.vocab_size} tokens and {RECIPE} says "
            f"{recipe.model.vocab_size}: they belong to different models."
        )
    with building(folder):
        graphdef, params, frozen = abstract_model(recipe)
    weights = load_weights(folder / WEIGHTS, merge_trees(params, frozen))
    return ModelPackage(
        folder=folder,
        recipe=recipe,
        graphdef=graphdef,
        params=part_of(weights, params),
        frozen=part_of(weights, frozen),
        tokenizer=tokenizer,
    )


def read_recipe(folder: Path) -> Recipe:
    """Raises InputError where recipe.json is missing, damaged or of another version."""
    values = recipe_values(folder)
    if is_speaker_recipe(values):
        raise InputError(
            f"{folder} holds a model that tells speakers apart and writes no text: it is for "
            "parley verify, enrol, identify and evaluate."
        )
    with building(folder):
        return recipe_from_dict(values)


def recipe_values(folder: Path) -> Any:
    """What recipe.json says, of a model of any task. Raises InputError as `read_recipe`."""
    try:
        return read_values(Path(folder) / RECIPE)
    except FileNotFoundError:
        raise InputError(f"{folder} is no model folder: it has no {RECIPE}.") from None
    except ValueError as error:
        raise damaged_recipe(folder, error) from None


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """What a recipe's numbers make impossible is said of the recipe.

    A recipe's types are checked; that its numbers fit each other is for the parts of the model to
    say, and they raise what they like.
    """
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, IndexError, AssertionError) as error:
        raise damaged_recipe(folder, error) from None


def damaged_recipe(folder: Path, error: Exception) -> InputError:
    what = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return InputError(f"{Path(folder) / RECIPE} is damaged or of another version ({what}).")


def abstract_model(recipe: Recipe) -> tuple[Any, Any, Any]:
    """(graph definition, parameters, frozen variables) as shapes; nothing is computed.

    Inference runs in float32 whatever training's precision: a stream must give the text that the
    whole file gives.
    """
    return shapes_of(lambda: Transducer(recipe.model, rngs=weight_keys(0)))


def shapes_of(make: Callable[[], nnx.Module]) -> tuple[Any, Any, Any]:
    """(graph definition, parameters, frozen variables) of a model that is not computed."""
    graphdef, params, frozen = nnx.split(nnx.eval_shape(make), nnx.Param, ...)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(frozen)


def parameter_count(params: Any) -> int:
    """Number of trained parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
