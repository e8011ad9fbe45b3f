"""The diagonal Fisher information of a transducer's parameters, streamed over utterances.

F_i = 1/N sum_n (d log P(y_n | x_n) / d theta_i)^2, the empirical Fisher: each utterance's gradient
is squared and then averaged. (The square of a batch's mean gradient is about the batch's size too
small, since the utterances' gradients mostly cancel.) The model runs as in inference: no dropout,
no masks, normalisation by running statistics; the likelihood is the transducer's alone. It runs in
float32, whatever the precision of the run: gradients of single utterances are small, and squared.

Each device works through its own rows one by one and adds squares to a sum of its own, so beside
one row's activations it holds three copies of the parameters: themselves, a gradient, the sum. The
devices meet once, at the end, where the sum is placed as the parameters are.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..data.corpus import Corpus
from ..data.errors import InputError
from ..data.files import replace_file
from ..data.loader import evaluation_batches
from ..data.targets import Speller, Target, label_arrays
from ..data.tokenizer import Tokenizer
from ..data.views import SelectedCorpus
from ..models.frontend import append_tail
from ..models.transducer import Transducer, channels_of
from .checkpoint import fingerprint
from .hosts import is_first, to_host
from .losses import tdt_transducer_loss, transducer_loss
from .progress import counted, say
from .recipe import Recipe
from .sharding import BATCH, ROWS, put_batch
from .step import Batch, build_model, merge_model
from .validation import own_rows
from .weights import load_weights, save_weights

FISHER, ABOUT = "fisher.safetensors", "fisher.json"


def negative_log_likelihood(model: Transducer, batch: Batch) -> jax.Array:
    """-log P(labels | audio) summed over the rows of a batch, the model as in inference."""
    samples = append_tail(batch["samples"], batch["sample_lengths"], model.config.frontend)
    encoded, lengths = model.encode(*model.features(*samples))
    labels, counts = batch["labels"].reshape(len(encoded), -1), batch["label_lengths"].reshape(-1)
    sides = encoded, model.predict(labels), model.joint_logits, labels, lengths, counts
    joint = model.config.joint
    if joint.durations:
        return tdt_transducer_loss(*sides, durations=joint.durations).sum()
    return transducer_loss(*sides, hat=joint.hat).sum()


def make_fisher_step(graphdef: Any, mesh: Mesh) -> Any:
    """`step(sums, params, frozen, batch) -> sums`, compiled; the sums are donated.

    sums: of `empty_sums`. Rows whose index is -1 are padding, and a row whose gradient is not
    finite is left out.
    """

    def loss(params: Any, frozen: Any, row: Batch) -> jax.Array:
        return negative_log_likelihood(merge_model(graphdef, params, frozen), row)

    def of_device(sums: Any, params: Any, frozen: Any, batch: Batch):
        def add(sums: Any, row: Batch):
            squares, count = sums
            grads = jax.grad(loss)(params, frozen, {k: v[None] for k, v in row.items()})
            finite = [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
            used = jnp.stack(finite).all() & (row["index"] >= 0)
            squares = jax.tree.map(
                lambda s, g: s + jnp.where(used, g.astype(s.dtype) ** 2, 0.0)[None], squares, grads
            )
            return (squares, count + used), None

        return jax.lax.scan(add, sums, batch)[0]

    step = jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(P(ROWS), P(), P(), P(ROWS)),
        out_specs=P(ROWS),
        axis_names=set(ROWS),
        check_vma=False,
    )
    return jax.jit(step, donate_argnums=0)


def empty_sums(params: Any, places: Any, mesh: Mesh) -> tuple[Any, jax.Array]:
    """(squares, rows): a sum for each device that has rows of its own, `[devices, ...]`.

    `places`: the parameters' shardings. A sum is split as its parameter is over the other axes.
    """
    devices = int(np.prod([mesh.shape[axis] for axis in ROWS]))

    def spec(place: NamedSharding) -> NamedSharding:
        other = (axis if axis not in ROWS else None for axis in place.spec)
        return NamedSharding(mesh, P(ROWS, *other))

    where = jax.tree.map(spec, places), NamedSharding(mesh, BATCH)

    def zeros() -> tuple[Any, jax.Array]:
        sums = jax.tree.map(lambda p: jnp.zeros((devices, *p.shape), jnp.float32), params)
        return sums, jnp.zeros(devices, jnp.int32)

    return jax.jit(zeros, out_shardings=where)()


def normalised(squares: Any, floor: float) -> tuple[Any, jax.Array]:
    """(F with a mean of 1, the mean before) of the devices' sums, divided by no count.

    No value of F is below `floor`.
    """
    sums = jax.tree.map(lambda s: s.sum(axis=0), squares)
    mean = jnp.asarray(optax.tree.sum(sums)) / optax.tree.size(sums)
    scale = jnp.where(mean > 0.0, 1.0 / mean, 0.0)
    return jax.tree.map(lambda s: jnp.maximum(s * scale, floor), sums), mean


def fisher_graph(recipe: Recipe) -> Any:
    """The graph definition of the recipe's model in float32; nothing is computed."""
    wide = replace(recipe, precision="float32")
    return nnx.split(nnx.eval_shape(lambda: build_model(wide)))[0]


def measure_fisher(
    recipe: Recipe,
    params: Any,
    frozen: Any,
    places: Any,
    corpus: Corpus,
    tokenizer: Tokenizer,
    mesh: Mesh,
) -> tuple[Any, dict[str, Any]]:
    """(F placed as the parameters, facts about it) at `params`, on the recipe's utterances.

    Raises InputError where nothing of the corpus can be used.
    """
    step = make_fisher_step(fisher_graph(recipe), mesh)
    sums = empty_sums(params, places, mesh)
    speller = Speller(tokenizer, channels_of(recipe.model), recipe.data.channel_rule)
    selected, targets = _usable(corpus, recipe, speller)
    with counted("Fisher information", "utterances", len(selected)) as advance:
        for batch in _batches(selected, targets, speller.by_turns, mesh):
            sums = step(sums, params, frozen, put_batch(batch, mesh))
            # Waits for the sums, or the batches of a slow device would pile up.
            advance(int(jnp.sum(sums[1])))
    squares, rows = sums
    count = int(jnp.sum(rows))
    if not count:
        raise InputError(f"{corpus.name}: no utterance has a gradient to measure Fisher on.")
    finish = jax.jit(normalised, static_argnums=1, out_shardings=(places, None), donate_argnums=0)
    fisher, mean = finish(squares, recipe.adapt.fisher.floor)
    facts = {
        "data": corpus.name,
        "utterances": count,
        "left_out": len(selected) - count,
        "mean": float(mean) / count,
    }
    return fisher, facts


def _usable(
    corpus: Corpus, recipe: Recipe, speller: Speller
) -> tuple[SelectedCorpus, list[Target]]:
    """Utterances spread evenly over a corpus that training could use, and their targets."""
    data = recipe.data
    kept: list[int] = []
    targets: list[Target] = []
    most = min(len(corpus), recipe.adapt.fisher.utterances)
    for i in np.linspace(0, len(corpus) - 1, most).astype(int).tolist():
        utterance = corpus.utterance(i)
        if not data.min_seconds <= utterance.duration <= data.max_seconds:
            continue
        try:
            targets.append(speller(utterance))
        except InputError:
            continue
        kept.append(i)
    if not kept:
        raise InputError(
            f"{corpus.name}: none of its texts can be used to measure the Fisher information on; "
            "name another corpus by --adapt.fisher.data."
        )
    return SelectedCorpus(corpus, kept, corpus.name), targets


def _batches(
    corpus: Corpus, targets: list[Target], by_turns: bool, mesh: Mesh
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of every batch, with labels."""
    room = -(-max(target.count for target in targets) // 4) * 4
    for batch in evaluation_batches(corpus, multiple=mesh.size):
        # Of rows that are padding, any target: they are not used.
        labels = label_arrays([targets[i] for i in batch["index"]], room, by_turns=by_turns)
        wanted = {k: labels[k] for k in ("labels", "label_lengths")}
        yield {k: own_rows(v) for k, v in (batch | wanted).items()}


def fisher_of_run(run_dir: Path, template: Any, places: Any) -> Any:
    """The Fisher information that a run folder holds, on the devices; None where there is none,
    or where it is damaged, which is said.

    `template`: the parameters, or their shapes.
    """
    path, about = run_dir / FISHER, run_dir / ABOUT
    if not (path.exists() and about.exists()):
        return None
    try:
        facts = json.loads(about.read_text())
        found = jax.jit(lambda tree: tree, out_shardings=places)(load_weights(path, template))
        if int(fingerprint(found)) == facts["fingerprint"]:
            return found
        reason = "its contents changed since they were written"
    except (InputError, ValueError, KeyError) as error:
        reason = str(error)
    say(f"{path} is measured anew: {reason}")
    return None


def save_fisher(run_dir: Path, fisher: Any, facts: Mapping[str, Any]) -> None:
    """Writes it beside the run's checkpoints, with its fingerprint; one process of several."""
    total = int(fingerprint(fisher))
    whole = to_host(fisher)
    if is_first():
        save_weights(run_dir / FISHER, whole, storage="float32")
        replace_file(run_dir / ABOUT, json.dumps({**facts, "fingerprint": total}, indent=1) + "\n")
