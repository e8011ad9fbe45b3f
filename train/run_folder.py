"""What a run folder holds beside checkpoints and metrics: recipe, tokeniser, what was left out.

Of several processes the first one writes. What is there already is read by all of them before, so
that a mistake stops them all alike.
"""

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path

import jax

from ..data.corpus import Corpus
from ..data.errors import InputError, Rejected
from ..data.fields import build
from ..data.files import replace_file
from ..data.tokenizer import MARKERS, Tokenizer
from .hosts import is_first, wait_for_all
from .recipe import Recipe, RunRecipe, recipe_to_dict
from .start import Start

_BATCHES = "batches.json"


def claim(recipe: RunRecipe, run_dir: Path, resume: bool) -> None:
    """Writes recipe.json, or holds a resumed run to the one that is there."""
    path = run_dir / "recipe.json"
    if resume and path.exists():
        try:
            before = build(type(recipe), json.loads(path.read_text())["recipe"], "recipe")
        except (ValueError, KeyError) as error:
            raise InputError(f"{path} is not a recipe of this version: {error}") from None
        # Where the arrays lie changes no number, so a run may go on with other devices.
        before = dataclasses.replace(before, mesh=recipe.mesh)
        if before != recipe:
            a, b = recipe_to_dict(before), recipe_to_dict(recipe)
            changed = ", ".join(sorted(k for k in a if a[k] != b[k]))
            raise InputError(
                f"{run_dir} was trained with another recipe (it differs in: {changed}); resume "
                f"with the same options, or choose another --run-dir."
            )
        return
    if (run_dir / "checkpoints").exists() and not resume:
        raise InputError(
            f"{run_dir} already holds a run: continue it with --resume, or choose another "
            f"--run-dir."
        )
    wait_for_all("claim")  # all have looked before the first one writes
    if not is_first():
        return
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    facts = {"recipe": recipe_to_dict(recipe), "packages": {p: version(p) for p in packages}}
    replace_file(path, json.dumps(facts, indent=1) + "\n")


def write_quarantine(run_dir: Path, rejected: list[Rejected]) -> list[str]:
    """Writes what could not be used to quarantine.jsonl; returns a sentence if there is any."""
    if not rejected:
        return []
    process = "" if is_first() else f".{jax.process_index()}"
    path = run_dir / f"quarantine{process}.jsonl"
    rows = [json.dumps({"where": r.where, "reason": r.reason}) for r in rejected]
    replace_file(path, "\n".join(rows) + "\n")
    return [f"{len(rejected):,} recordings left out, see {path}; the first: {rejected[0]}"]


def own_tokenizer(recipe: Recipe, run_dir: Path, corpus: Corpus, start: Start | None) -> Tokenizer:
    path = run_dir / "tokenizer.model"
    if not path.exists() and is_first():
        _make_tokenizer(recipe, path, corpus, start)
    wait_for_all("tokenizer")
    return Tokenizer.load(path)


def _make_tokenizer(recipe: Recipe, path: Path, corpus: Corpus, start: Start | None) -> None:
    if start is not None:
        tokenizer = start.tokenizer
    else:
        texts = (corpus.utterance(i).text for i in range(len(corpus)))
        tokenizer = Tokenizer.train(texts, recipe.tokenizer.vocab_size, recipe.tokenizer.kind)
    if recipe.tokenizer.markers != "none":
        tokenizer = tokenizer.with_markers(MARKERS[recipe.tokenizer.markers])
    replace_file(path, tokenizer.to_bytes())


def row_multiple(run_dir: Path, wanted: int) -> int:
    """What the batches' sizes are multiples of: as the run began, so that a run which goes on with
    other devices makes the same batches.

    Raises InputError where the run's batches cannot be divided among the `wanted` parts of these.
    """
    path = run_dir / _BATCHES
    if path.exists():
        kept = int(json.loads(path.read_text())["row_multiple"])
        if kept % wanted:
            raise InputError(
                f"the batches of {run_dir} are multiples of {kept} rows, which data x fsdp x "
                f"accumulate = {wanted} parts cannot share: let --mesh.data, --mesh.fsdp and "
                f"--optimizer.accumulate multiply to a divisor of {kept}."
            )
        return kept
    wait_for_all("batches")
    if is_first():
        replace_file(path, json.dumps({"row_multiple": wanted}) + "\n")
    return wanted
