"""What a run that starts from a model goes on reading of it: weights, and their Fisher information.

Both are functions of the start and of the recipe, so checkpoints do not hold them. A run folder
keeps the start's fingerprint in start.json, since a start that changes between two parts of a run
would change what the run holds to; and the Fisher information, which is slow to measure, in
fisher.safetensors.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ..data.corpus import Corpus, open_corpus
from ..data.errors import InputError
from ..data.files import replace_file
from ..data.tokenizer import Tokenizer
from .adaptation import Held, is_anchored, known_to
from .checkpoint import fingerprint
from .fisher import fisher_of_run, measure_fisher, save_fisher
from .hosts import is_first
from .recipe import Recipe
from .start import Start
from .step import TrainState

START = "start.json"


def hold_start(
    recipe: Recipe,
    run_dir: Path,
    state: TrainState,
    places: TrainState,
    mesh: Mesh,
    start: Start | None,
    tokenizer: Tokenizer,
    general: Corpus | None,
) -> Held | None:
    """Weights, and Fisher information where it is asked for, of the state before the first step.

    None where the recipe asks for nothing that needs them. `general`: what the Fisher information
    is measured on, in place of what the recipe names.

    Raises InputError where there is no start, where it is not the one that the run began with, or
    where the corpus cannot be used.
    """
    adapt = recipe.adapt
    if not (is_anchored(adapt) or adapt.distill):
        return None
    if start is None:
        raise InputError(
            "--adapt.anchor and --adapt.distill hold a run to the model that it starts from: name "
            "it by --init-from."
        )
    _require_same(recipe, run_dir, state)
    # Copies of their own: the step donates its state.
    params, frozen = jax.jit(
        lambda trees: jax.tree.map(jnp.copy, trees),
        out_shardings=(places.params, places.frozen),
    )((state.params, state.frozen))
    fisher = None
    if is_anchored(adapt):
        fisher = known_to(start.params, params)
        if adapt.anchor == "ewc":
            full = fisher_of_run(run_dir, params, places.params)
            if full is None:
                corpus = general or _general(recipe, start)
                full, facts = measure_fisher(
                    recipe, params, frozen, places.params, corpus, tokenizer, mesh
                )
                save_fisher(run_dir, full, facts)
            fisher = jax.jit(
                lambda f, known: jax.tree.map(lambda a, b: a * b, f, known),
                out_shardings=places.params,
                donate_argnums=0,
            )(full, fisher)
    return Held(params, frozen, fisher)


def _general(recipe: Recipe, start: Start) -> Corpus:
    fisher = recipe.adapt.fisher
    data, split = (fisher.data, fisher.split) if fisher.data else start.data
    if not data:
        raise InputError(
            f"{recipe.init_from} does not say what it was trained on: name a corpus of the general "
            "population by --adapt.fisher.data."
        )
    return open_corpus(data, split)


def _require_same(recipe: Recipe, run_dir: Path, state: TrainState) -> None:
    """Writes the start's fingerprint, or holds a resumed run to the one that is there."""
    path, found = run_dir / START, int(fingerprint((state.params, state.frozen)))
    if not path.exists():
        about = {"init_from": recipe.init_from, "fingerprint": found}
        if is_first():
            replace_file(path, json.dumps(about) + "\n")
        return
    try:
        same = json.loads(path.read_text())["fingerprint"] == found
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is damaged: restore it, or train anew in another --run-dir."
        ) from None
    if not same:
        raise InputError(
            f"{recipe.init_from} is another model than the one that {run_dir} started from: bring "
            "that one back, or train anew in another --run-dir."
        )
