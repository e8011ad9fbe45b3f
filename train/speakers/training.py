"""Training of speaker models: a recipe and a folder in, averaged weights out.

    result = train_speakers(recipe, Path("runs/mine"))

By the loop of `train.loop`, whose promises about kills and resumption hold here too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from ...data.corpus import Corpus, open_corpus, quarantined
from ...data.errors import InputError
from ...data.speaker_batches import SpeakerLoader, SpeakerPlan
from ...data.views import SelectedCorpus
from ..hosts import rows_of_process, to_host
from ..loop import Driven, Task, drive, opened
from ..optimizer import make_optimizer
from ..run_folder import claim
from ..sharding import make_mesh, shardings
from ..start import StartWeights, feature_statistics, fits, over
from ..step import split_model
from ..validation import hold_out
from ..weights import merge_trees
from .recipe import SpeakerRecipe
from .regions import find_regions, speaker_means
from .reweighting import init_adversary
from .step import (
    SpeakerState,
    Weighing,
    adversary_optimizer,
    build_speaker_model,
    make_speaker_step,
    new_heads,
    warmup_steps,
)
from .validation import Embedder, SpeakerValidation, take_of_each

LEAST_HELD_OUT = 2
"""Speakers of a development set: of one alone, nobody is told apart."""


@dataclass(frozen=True)
class WeighedRecording:
    """What the adversary made of a training recording."""

    id: str
    speaker: str
    weight: float
    """Mean over the steps that took it, after the warm-up; 2 is the mean of all."""
    steps: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SpeakerResult:
    recipe: SpeakerRecipe
    params: Any
    """Averaged weights (EMA) of the model alone, nested dicts of arrays."""
    frozen: Any
    steps: int
    eer: float
    """Of the development set, at the end."""
    threshold: float
    """The cosine at which it is."""
    speakers: int
    seconds: float
    audio_seconds: float
    weights: list[WeighedRecording]
    """Heaviest first; none without an adversary."""


def train_speakers(
    recipe: SpeakerRecipe,
    run_dir: Path,
    *,
    resume: bool = False,
    start: StartWeights | None = None,
    corpus: Corpus | None = None,
    dev: Corpus | None = None,
    profile: bool = False,
) -> SpeakerResult:
    """Trains `recipe` in `run_dir`; `start` gives the weights of `recipe.init_from`.

    Raises InputError as `train.loop.train`.
    """
    _require(recipe)
    with opened(run_dir):
        claim(recipe, run_dir, resume)
        corpus = corpus or open_corpus(
            recipe.data.train, recipe.data.train_split, require_text=False
        )
        notes: list[str] = []
        if dev is None and recipe.data.dev:
            dev = open_corpus(recipe.data.dev, recipe.data.dev_split, require_text=False)
        elif dev is None:
            corpus, dev, held_out = hold_out(corpus, least=LEAST_HELD_OUT)
            notes.append(held_out)
        task, plan = _task(recipe, corpus, dev, start)
        done = drive(task, run_dir, resume=resume, notes=notes, profile=profile)
        return _result(recipe, corpus, plan, done)


def _require(recipe: SpeakerRecipe) -> None:
    if recipe.optimizer.accumulate != 1:
        raise InputError(
            "a batch's speakers are compared with each other, so it cannot be cut: leave out "
            "--optimizer.accumulate, or lower --data.speakers."
        )
    if recipe.adversary.kind in ("pairs", "constant") and recipe.loss.kind == "aam":
        raise InputError(
            "AAM-softmax compares no pairs that could be weighed: take --adversary.kind similarity "
            "or pseudo, or --loss.kind prototypical."
        )


def _task(
    recipe: SpeakerRecipe, corpus: Corpus, dev: Corpus, start: StartWeights | None
) -> tuple[Task, SpeakerPlan]:
    mesh = make_mesh(recipe.mesh)
    optimizer = make_optimizer(recipe.optimizer, recipe.steps)
    plan = SpeakerPlan(corpus, recipe.data, seed=recipe.seed)
    rows = recipe.data.speakers * recipe.data.utterances
    if rows % (mesh.shape["data"] * mesh.shape["fsdp"]):
        raise InputError(
            f"a batch of {rows} recordings cannot be shared out among {mesh.size} devices: change "
            "--data.speakers."
        )
    graphdef, state, places = _initial_state(recipe, mesh, optimizer, corpus, plan, start)
    validation = SpeakerValidation(graphdef, recipe, dev, mesh)

    part, parts = rows_of_process(mesh)

    def batches(first: int) -> SpeakerLoader:
        return SpeakerLoader(
            corpus,
            recipe.data,
            recipe.augment,
            seed=recipe.seed,
            start_step=first,
            process_index=part,
            process_count=parts,
        )

    task = Task(
        recipe=recipe,
        mesh=mesh,
        state=state,
        places=places,
        step=make_speaker_step(graphdef, recipe, optimizer),
        batches=batches,
        about=lambda _: f"{corpus.name}: {len(corpus):,} utterances, {plan.describe()}",
        validate=lambda state: validation(state.ema["model"], state.frozen),
        rate="eer",
        left_out=quarantined(corpus),
        prepare=_regions_renewed(recipe, graphdef, corpus, plan, mesh),
    )
    return task, plan


def _initial_state(
    recipe: SpeakerRecipe,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    corpus: Corpus,
    plan: SpeakerPlan,
    start: StartWeights | None,
) -> tuple[Any, SpeakerState, Any]:
    """(graph definition, state on the mesh, its shardings); see `train.start.initial_state`."""
    graphdef: Any = None
    width = recipe.model.encoder.output

    def fresh() -> SpeakerState:
        nonlocal graphdef
        graphdef, model, frozen = split_model(build_speaker_model(recipe))
        if start is not None:
            model, frozen = over((model, frozen), start.weights)
        head_key, adversary_key = jax.random.split(jax.random.key(recipe.seed))
        params = {"model": model, "heads": new_heads(recipe, len(plan.names), head_key)}
        adversary = init_adversary(adversary_key, recipe.adversary, width)
        weighed = None if recipe.adversary.kind == "off" else jnp.zeros(len(corpus))
        return SpeakerState(
            seed=jnp.asarray(recipe.seed, jnp.int32),
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema=jax.tree.map(jnp.copy, params),
            optimizer=optimizer.init(params),
            frozen=frozen,
            weighing=Weighing(
                params=adversary,
                optimizer=adversary_optimizer(recipe.adversary).init(adversary),
                regions=jnp.zeros((recipe.adversary.regions, width)),
                weight_sum=weighed,
                weight_count=weighed,
            ),
        )

    if start is not None:
        shapes = jax.eval_shape(lambda: split_model(build_speaker_model(recipe))[1:])
        fits(start.weights, merge_trees(*shapes))
    places = shardings(jax.eval_shape(fresh), mesh)
    state = jax.jit(fresh, out_shardings=places)()
    if start is not None:
        return graphdef, state, places
    model = nnx.merge(graphdef, state.params["model"], state.frozen)
    mean, std = feature_statistics(corpus, recipe.model.frontend)
    model.frontend.mean[...] = mean
    model.frontend.std[...] = std
    frozen = jax.device_put(split_model(model)[2], places.frozen)
    return graphdef, state._replace(frozen=frozen), places


def _regions_renewed(
    recipe: SpeakerRecipe, graphdef: Any, corpus: Corpus, plan: SpeakerPlan, mesh: Mesh
) -> Callable[[int, Any], Any]:
    """What the loop does between steps: new centroids when the warm-up ends, then every epoch."""
    config = recipe.adversary
    begin, every = warmup_steps(recipe), config.refresh_steps or plan.epoch_steps
    embedder: Embedder | None = None
    count = config.refresh_recordings
    speakers = np.repeat(
        np.arange(len(plan.members)), [min(len(items), count) for items in plan.members]
    )

    def prepare(step: int, state: SpeakerState) -> SpeakerState:
        nonlocal embedder
        if step < begin or (step - begin) % every:
            return state
        if embedder is None:
            chosen = SelectedCorpus(corpus, take_of_each(plan.members, count), corpus.name)
            embedder = Embedder(
                graphdef,
                chosen,
                recipe.model.encoder.output,
                mesh,
                batch_s=recipe.data.batch_seconds,
            )
        embedded = embedder(state.params["model"], state.frozen)
        before = np.asarray(jax.device_get(state.weighing.regions))
        found = find_regions(speaker_means(embedded, speakers), before, seed=recipe.seed)
        regions = jax.device_put(found, state.weighing.regions.sharding)
        return state._replace(weighing=state.weighing._replace(regions=regions))

    return prepare if config.kind in ("pairs", "pseudo") else lambda step, state: state


def _result(
    recipe: SpeakerRecipe, corpus: Corpus, plan: SpeakerPlan, done: Driven
) -> SpeakerResult:
    return SpeakerResult(
        recipe=recipe,
        params=to_host(done.state.ema["model"]),
        frozen=to_host(done.state.frozen),
        steps=recipe.steps,
        eer=done.rates["eer"],
        threshold=done.rates["threshold"],
        speakers=len(plan.names),
        seconds=done.seconds,
        audio_seconds=done.audio_seconds,
        weights=_weighed(corpus, done.state.weighing),
    )


def _weighed(corpus: Corpus, weighing: Weighing) -> list[WeighedRecording]:
    """Recordings that the adversary weighed, the heaviest first."""
    if weighing.weight_sum is None:
        return []
    sums, counts = jax.device_get((weighing.weight_sum, weighing.weight_count))
    taken = np.flatnonzero(counts)
    means = sums[taken] / counts[taken]
    found = []
    for i in np.argsort(-means, kind="stable").tolist():
        utterance = corpus.utterance(int(taken[i]))
        weight, steps = round(float(means[i]), 4), int(counts[taken[i]])
        found.append(
            WeighedRecording(utterance.id, utterance.speaker, weight, steps, utterance.metadata)
        )
    return found
