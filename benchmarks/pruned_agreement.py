"""How far the pruned loss is from the exact one while a model is trained by it.

    python -m parley.benchmarks.pruned_agreement                          # minutes on two cores
    python -m parley.benchmarks.pruned_agreement --steps 1200 --s-range 3 --json

Trains a preset on `words` by the pruned loss, and every few steps takes both losses and their
gradients on one batch of the development set's longest targets, without augmentation. Tokens are
characters: of wordpieces a window of five holds whole utterances, and the losses are one. One row
each time: how many label positions the batch has, of which the windows keep s_range; the means of
exact, pruned and simple loss; the share of the alignments' probability that the windows keep, mean
exp(exact - pruned); and the cosine between the gradients of exact and pruned loss to all parameters
but the simple joiner's.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..configs import presets
from ..data.corpus import open_corpus
from ..data.loader import make_loader
from ..data.tokenizer import Tokenizer, TokenizerConfig
from ..models.frontend import append_tail
from ..train.losses import pruned_transducer_loss, transducer_loss
from ..train.optimizer import make_optimizer
from ..train.recipe import Recipe
from ..train.sharding import make_mesh, put_batch
from ..train.start import initial_state
from ..train.step import Batch, make_train_step, merge_model
from ..zoo.console import stdout, table
from ..zoo.runtime import device_name, use_compilation_cache

Record = dict[str, float]
BATCHES = 20
"""Of the development set, among which the longest is sought."""


def agreement(graphdef: Any, recipe: Recipe) -> Callable[[Any, Any, Batch], Record]:
    """Compares both losses of a model's parameters on a batch."""

    def both(params: Any, frozen: Any, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        model = merge_model(graphdef, params, frozen)
        samples = append_tail(batch["samples"], batch["sample_lengths"], recipe.model.frontend)
        encoded, lengths = model.encode(*model.features(*samples))
        predicted = model.predict(batch["labels"])
        targets = batch["labels"], lengths, batch["label_lengths"]
        exact = transducer_loss(encoded, predicted, model.joint, *targets)
        out = pruned_transducer_loss(
            encoded,
            predicted,
            model.joint,
            *model.simple_logits(encoded, predicted),
            *targets,
            s_range=recipe.loss.pruned_range,
        )
        return exact, out.pruned, out.simple

    def compare(params: Any, frozen: Any, batch: Batch) -> dict[str, Any]:
        (exact, pruned, simple), pull = jax.vjp(lambda p: both(p, frozen, batch), params)
        mean, none = jnp.full_like(exact, 1 / exact.size), jnp.zeros_like(exact)
        (of_exact,), (of_pruned,) = pull((mean, none, none)), pull((none, mean, none))
        cosine = optax.tree.vdot(of_exact, of_pruned) / (
            optax.tree.norm(of_exact) * optax.tree.norm(of_pruned)
        )
        return {
            "positions": batch["labels"].shape[1] + 1,
            "exact": exact.mean(),
            "pruned": pruned.mean(),
            "simple": simple.mean(),
            "kept": jnp.exp(exact - pruned).mean(),
            "cosine": cosine,
        }

    compiled = jax.jit(compare)
    return lambda *args: {name: float(value) for name, value in compiled(*args).items()}


def records(recipe: Recipe, every: int) -> Iterator[Record]:
    """Trains, and yields a row at step 0 and every `every` steps."""
    corpus = open_corpus(recipe.data.train, recipe.data.train_split)
    dev = open_corpus(recipe.data.dev, recipe.data.dev_split)
    texts = (corpus.utterance(i).text for i in range(len(corpus)))
    tokenizer = Tokenizer.train(texts, recipe.tokenizer.vocab_size, recipe.tokenizer.kind)
    model = dataclasses.replace(recipe.model, vocab_size=tokenizer.vocab_size)
    recipe = dataclasses.replace(recipe, model=model)
    mesh = make_mesh(recipe.mesh)
    optimizer = make_optimizer(recipe.optimizer, recipe.steps)
    graphdef, state, _ = initial_state(recipe, mesh, optimizer, corpus, None)
    step = jax.jit(make_train_step(graphdef, recipe, optimizer), donate_argnums=0)
    compare = agreement(graphdef, recipe)
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    held = make_loader(dev, tokenizer, recipe.data, seed=recipe.seed, multiple=rows)
    # The longest of them: short targets fit a window as a whole.
    batch = max(itertools.islice(held, BATCHES), key=lambda batch: batch["labels"].shape[1])
    batch = put_batch(batch, mesh)
    loader = make_loader(
        corpus, tokenizer, recipe.data, recipe.augment, seed=recipe.seed, multiple=rows
    )
    yield {"step": 0, **compare(state.params, state.frozen, batch)}
    for done, heard in zip(range(1, recipe.steps + 1), loader, strict=False):
        state, _ = step(state, put_batch(heard, mesh))
        if done % every == 0:
            yield {"step": done, **compare(state.params, state.frozen, batch)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.pruned_agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", default="lstm-tiny", help="what is trained")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=50, help="steps between two rows")
    parser.add_argument("--s-range", type=int, default=5, help="label positions a frame")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if min(given.steps, given.every) < 1 or given.s_range < 2:
        parser.error("--steps and --every must be above 0, --s-range above 1")
    known = presets()
    if given.preset not in known:
        parser.error(f"no preset is called {given.preset!r}; see parley list")
    preset = known[given.preset]
    recipe = dataclasses.replace(
        preset,
        model=dataclasses.replace(preset.model, simple=True),
        loss=dataclasses.replace(preset.loss, pruned_range=given.s_range),
        tokenizer=TokenizerConfig(kind="char"),
        steps=given.steps,
    )
    use_compilation_cache()
    rows = list(records(recipe, given.every))
    if given.json:
        conditions = {k: getattr(given, k) for k in ("preset", "steps", "s_range")}
        print(json.dumps({"device": device_name(), **conditions, "rows": rows}, indent=1))
        return
    columns = ("step", "positions", "exact", "pruned", "simple", "kept", "cosine")
    shown = table(*columns, right=columns)
    for row in rows:
        losses = (f"{row[name]:.3f}" for name in ("exact", "pruned", "simple"))
        counts = (f"{row[name]:.0f}" for name in ("step", "positions"))
        shown.add_row(*counts, *losses, f"{row['kept']:.4f}", f"{row['cosine']:.4f}")
    console = stdout()
    console.print(shown)
    console.print(f"{given.preset}, s_range {given.s_range}, {device_name()}.")


if __name__ == "__main__":
    main()
