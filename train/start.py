"""The state that a run begins with: fresh or from other weights, born on its devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ..data.corpus import Corpus
from ..data.errors import InputError
from ..data.tokenizer import Tokenizer
from ..models.adapters import ADAPTERS, with_places
from ..models.frontend import FrontendConfig, log_mel
from .recipe import Recipe
from .sharding import shardings
from .step import TrainState, build_model, merge_model, split_model
from .weights import merge_trees, part_of

STATISTICS_UTTERANCES = 256
ADDED_PARTS = (
    "arbitrator",
    "heads",
    "cohort",
    "price",
    "ctc",
    "simple",
    "label",
    "speech",
    "untied",
    "untied_norms",
)
"""Parts that a run may add to the weights that it starts from; they are born fresh."""


@dataclass(frozen=True)
class StartWeights:
    """Weights and feature statistics that a run begins from."""

    params: Any
    frozen: Any

    @property
    def weights(self) -> dict[Any, Any]:
        """Both in one tree, as files have them."""
        return merge_trees(self.params, self.frozen)


@dataclass(frozen=True)
class Start(StartWeights):
    """The same and the tokeniser, of a recogniser."""

    tokenizer: Tokenizer
    data: tuple[str, str] = ("", "")
    """The corpus that the weights were trained on and its split; '' where that is not known."""


def initial_state(
    recipe: Recipe,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    corpus: Corpus,
    start: Start | None,
) -> tuple[Any, TrainState, Any]:
    """(graph definition, state on the mesh, its shardings).

    Shapes come first, shardings from the shapes, and the arrays are made where they will live: no
    device ever holds the whole of a large model. Raises InputError if `start` does not fit.
    """

    def fresh() -> tuple[Any, Any]:
        return split_model(build_model(recipe))[1:]

    state_of = partial(_state_of, recipe, optimizer)
    graphdef, shapes = abstract_state(recipe, optimizer)
    places = shardings(shapes, mesh)
    if start is not None:
        given = start.weights
        wanted = merge_trees(shapes.params, shapes.frozen)
        if recipe.adapt.lora.rank:
            # What is born fresh would stay as it is born.
            given = with_places(given, wanted)
            fits(given, wanted, ADAPTERS, more_tokens=False)
        else:
            fits(given, wanted, ADDED_PARTS)

        def from_start(given: Any) -> TrainState:
            return state_of(*over(fresh(), given))

        state = jax.jit(from_start, out_shardings=places)(given)
        return graphdef, state, places
    state = jax.jit(lambda: state_of(*fresh()), out_shardings=places)()
    if not isinstance(recipe.model.frontend, FrontendConfig):  # without statistics of the data
        return graphdef, state, places
    model = merge_model(graphdef, state.params, state.frozen)
    mean, std = feature_statistics(corpus, recipe.model.frontend)
    frontend: Any = model.frontend
    frontend.mean[...], frontend.std[...] = mean, std
    frozen = split_model(model)[2]
    return graphdef, state._replace(frozen=jax.device_put(frozen, places.frozen)), places


def abstract_state(
    recipe: Recipe, optimizer: optax.GradientTransformation
) -> tuple[Any, TrainState]:
    """(graph definition, shapes of the state) of a run; nothing is allocated."""
    graphdef = None

    def born() -> TrainState:
        nonlocal graphdef
        graphdef, params, frozen = split_model(build_model(recipe))
        return _state_of(recipe, optimizer, params, frozen)

    shapes = jax.eval_shape(born)
    return graphdef, shapes


def _state_of(
    recipe: Recipe, optimizer: optax.GradientTransformation, params: Any, frozen: Any
) -> TrainState:
    # A copy of its own: the step donates its input, and one buffer cannot be given twice.
    average = jax.tree.map(jnp.copy, params)
    return TrainState(
        seed=jnp.asarray(recipe.seed, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=average,
        optimizer=optimizer.init(params),
        frozen=frozen,
    )


def fits(
    given: Any, shapes: Any, added_parts: tuple[str, ...] = (), *, more_tokens: bool = True
) -> None:
    """Raises InputError where weights are not those of a model with these shapes: it may have
    `added_parts` beyond them, and more tokens in its vocabulary."""

    def by_path(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(k): tuple(v.shape) for k, v in leaves}

    have, need = by_path(given), by_path(shapes)
    added = {k for k in need.keys() - have.keys() if any(f"['{p}']" in k for p in added_parts)}
    grown = {k for k in have.keys() & need.keys() if _more_tokens(k, have[k], need[k])}
    grown = grown if more_tokens else set()
    known = (have.keys() | need.keys()) - added - grown
    odd = sorted(k for k in known if have.get(k) != need.get(k))
    if odd:
        raise InputError(
            f"the weights of --init-from do not fit this recipe's model: {odd[0]} is "
            f"{have.get(odd[0], 'absent')} there and {need.get(odd[0], 'absent')} here."
        )


def _more_tokens(path: str, have: tuple[int, ...], need: tuple[int, ...]) -> bool:
    """Whether a leaf over the vocabulary is to get further tokens, at its end."""
    axis = 0 if "['embedding']" in path else -1
    if not any(f"['{part}']" in path for part in ("embedding", "joiner", "ctc", "simple")):
        return False
    others = [tuple(n for i, n in enumerate(s) if i != axis % len(s)) for s in (have, need)]
    return len(have) == len(need) and others[0] == others[1] and have[axis] < need[axis]


def over(fresh: tuple[Any, Any], weights: Any) -> tuple[Any, Any]:
    """(parameters, variables without a gradient) with the leaves that `weights` has of either; what
    a leaf has beyond stays fresh."""
    params, frozen = fresh
    whole = _over(merge_trees(params, frozen), weights)
    return part_of(whole, params), part_of(whole, frozen)


def _over(fresh: Any, given: Any) -> Any:
    if not isinstance(fresh, Mapping):
        if fresh.shape != given.shape:
            return fresh.at[tuple(slice(n) for n in given.shape)].set(given)
        return given
    return {k: _over(v, given[k]) if k in given else v for k, v in fresh.items()}


def feature_statistics(corpus: Corpus, config: FrontendConfig) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every log-mel bin [bins] over utterances spread evenly."""
    count = min(len(corpus), STATISTICS_UTTERANCES)
    features = jax.jit(partial(log_mel, config=config))
    hop = round(config.hop_s * config.sample_rate)
    frames, total, squares = 0, 0.0, 0.0
    for index in np.linspace(0, len(corpus) - 1, count).astype(int):
        samples = corpus.samples(int(index))
        whole = len(samples) // hop
        # Padded to whole 4 s, so that few shapes are compiled.
        block = 4 * config.sample_rate
        padded = np.pad(samples, (0, -len(samples) % block))
        x = np.asarray(features(padded[None])[0, :whole], np.float64)
        frames, total, squares = frames + whole, total + x.sum(0), squares + (x**2).sum(0)
    if not frames:
        raise InputError(f"{corpus.name} has no audio to measure features on.")
    mean = np.asarray(total / frames)
    variance = np.maximum(np.asarray(squares / frames) - mean**2, 1e-4)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
