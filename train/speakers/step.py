"""One training step of a speaker model, with its adversary, as one compiled function.

The learner embeds the batch once. On those embeddings the adversary takes a step up the weighted
loss; by its new weights, taken as constants, the learner takes a step down.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ...data.augment import spec_augment
from ...models.keys import weight_keys
from ...models.speakers.network import SpeakerNet
from ..losses.speakers import aam_softmax, angular_prototypical, similarities
from ..optimizer import guarded_update, keep_where, learning_rate
from ..step import split_model
from .recipe import AdversaryConfig, SpeakerLossConfig, SpeakerRecipe
from .reweighting import (
    CONSTANT_WEIGHT,
    Params,
    pair_weights,
    sample_weights,
    seen_by_adversary,
    weight_metrics,
)

Batch = Mapping[str, jax.Array]


class Heads(NamedTuple):
    """What the losses learn beside the model; not part of it afterwards."""

    scale: jax.Array
    offset: jax.Array
    classes: jax.Array | None
    """[C, D]; None where the loss has no classifier."""


class Weighing(NamedTuple):
    """The adversary's own state."""

    params: Params
    optimizer: optax.OptState
    regions: jax.Array
    """[K, D] k-means centroids, which the host renews between steps."""
    weight_sum: jax.Array | None
    """[recordings] over the steps after the warm-up; divided by `weight_count`, a mean weight.
    None, like that, where nothing is weighed."""
    weight_count: jax.Array | None


class SpeakerState(NamedTuple):
    """All that a run is between two steps."""

    seed: jax.Array
    step: jax.Array
    params: Any
    """{"model": ..., "heads": Heads}."""
    ema: Any
    optimizer: optax.OptState
    frozen: Any
    weighing: Weighing


def build_speaker_model(recipe: SpeakerRecipe) -> SpeakerNet:
    dtype = jnp.bfloat16 if recipe.precision == "bfloat16" else jnp.float32
    return SpeakerNet(recipe.model, rngs=weight_keys(recipe.seed), dtype=dtype)


def new_heads(recipe: SpeakerRecipe, classes: int, key: jax.Array) -> Heads:
    width = recipe.model.encoder.output
    drawn = jax.random.normal(key, (classes, width)) / jnp.sqrt(1.0 * width)
    return Heads(
        scale=jnp.asarray(recipe.loss.scale, jnp.float32),
        offset=jnp.asarray(recipe.loss.offset, jnp.float32),
        classes=None if recipe.loss.kind == "prototypical" else drawn,
    )


def adversary_optimizer(config: AdversaryConfig) -> optax.GradientTransformation:
    """Adam: the gradient of a mean over a batch is small, and its size is nothing to learn from."""
    return optax.adam(config.peak_lr)


def batch_losses(
    embeddings: jax.Array,
    heads: Heads,
    speakers: jax.Array,
    config: SpeakerLossConfig,
    pairs: jax.Array | None,
) -> jax.Array:
    """The loss of each speaker of a batch [N], averaged over his recordings where it is theirs.

    Args:
      embeddings: [N, M, D].
      speakers: [N], classes of AAM-softmax.
      pairs: [N, N] weights of the angular prototypical loss; AAM-softmax compares no pairs.
    """
    count, each, width = embeddings.shape
    total = jnp.zeros(count)
    if config.kind != "aam":
        cosines = similarities(embeddings)
        total = total + angular_prototypical(cosines, heads.scale, heads.offset, pairs)
    if config.kind != "prototypical":
        assert heads.classes is not None
        losses = aam_softmax(
            embeddings.reshape(count * each, width),
            heads.classes,
            jnp.repeat(speakers, each),
            margin=config.margin,
            scale=config.aam_scale,
        )
        total = total + losses.reshape(count, each).mean(axis=1)
    return total


def weighted_loss(
    embeddings: jax.Array,
    heads: Heads,
    speakers: jax.Array,
    weights: jax.Array,
    loss: SpeakerLossConfig,
    config: AdversaryConfig,
) -> jax.Array:
    """The batch's loss under sample weights [N, M], which may or may not be constants."""
    if config.kind == "off":
        return batch_losses(embeddings, heads, speakers, loss, None).mean()
    if config.kind in ("pairs", "constant"):
        return batch_losses(embeddings, heads, speakers, loss, pair_weights(weights)).mean()
    plain = batch_losses(embeddings, heads, speakers, loss, None)
    return (weights.mean(axis=1) * plain).mean()


def plain_weights(weights: jax.Array, config: AdversaryConfig) -> jax.Array:
    """Weights that give back the plain loss: those of the warm-up."""
    even = CONSTANT_WEIGHT if config.kind in ("pairs", "constant") else 1.0
    return jnp.full_like(weights, even)


def adversary_step(
    weighing: Weighing,
    embeddings: jax.Array,
    heads: Heads,
    speakers: jax.Array,
    recipe: SpeakerRecipe,
    active: jax.Array,
) -> tuple[Weighing, jax.Array]:
    """One step up the weighted loss, where `active`; and the weights [N, M] after it.

    The learner's embeddings and heads are constants to it. The weights are constants to whoever
    uses them.
    """
    config = recipe.adversary
    embeddings, heads = jax.lax.stop_gradient((embeddings, heads))
    seen = seen_by_adversary(embeddings, weighing.regions, config)

    def objective(params: Params) -> jax.Array:
        weights = sample_weights(params, seen, config)
        return -weighted_loss(embeddings, heads, speakers, weights, recipe.loss, config)

    if config.kind != "constant":
        grads = jax.grad(objective)(weighing.params)
        updates, moments = adversary_optimizer(config).update(grads, weighing.optimizer)
        params = optax.apply_updates(weighing.params, updates)
        fine = active & jnp.isfinite(optax.tree.norm(grads))
        old = weighing.params, weighing.optimizer
        params, moments = keep_where(fine, (params, moments), old)
        weighing = weighing._replace(params=params, optimizer=moments)
    weights = sample_weights(weighing.params, seen, config)
    weights = jnp.where(active, weights, plain_weights(weights, config))
    return weighing, jax.lax.stop_gradient(weights)


def counted(weighing: Weighing, index: jax.Array, weights: jax.Array, count: jax.Array) -> Weighing:
    """With the weights [N M] of a batch's recordings added to what they had."""
    assert weighing.weight_sum is not None
    assert weighing.weight_count is not None
    return weighing._replace(
        weight_sum=weighing.weight_sum.at[index].add(weights),
        weight_count=weighing.weight_count.at[index].add(count),
    )


def warmup_steps(recipe: SpeakerRecipe) -> int:
    """Steps before the adversary begins."""
    return round(recipe.adversary.warmup * recipe.steps)


def speaker_losses(
    model: SpeakerNet,
    heads: Heads,
    weighing: Weighing,
    batch: Batch,
    key: jax.Array,
    recipe: SpeakerRecipe,
    step: jax.Array,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Weighing]]:
    """The loss of a batch, its parts, and the adversary after its step."""
    each = recipe.data.utterances
    x, frames = model.features(batch["samples"], batch["sample_lengths"])
    x = spec_augment(
        key, jax.lax.stop_gradient(x), frames, recipe.augment, bins=recipe.model.frontend.bins
    )
    flat = model.embed(x, frames, train=True)
    embeddings = flat.reshape(-1, each, flat.shape[-1])
    speakers = batch["speakers"].reshape(-1, each)[:, 0]
    if recipe.adversary.kind == "off":
        weights = jnp.ones(embeddings.shape[:2])
        metrics: dict[str, jax.Array] = {}
    else:
        active = step >= warmup_steps(recipe)
        weighing, weights = adversary_step(weighing, embeddings, heads, speakers, recipe, active)
        weighing = counted(weighing, batch["index"], active * weights.reshape(-1), 1.0 * active)
        metrics = weight_metrics(weights)
    total = weighted_loss(embeddings, heads, speakers, weights, recipe.loss, recipe.adversary)
    plain = batch_losses(
        jax.lax.stop_gradient(embeddings), jax.lax.stop_gradient(heads), speakers, recipe.loss, None
    )
    return total, ({"loss": plain.mean(), "weighted_loss": total, **metrics}, weighing)


def make_speaker_step(
    graphdef: Any, recipe: SpeakerRecipe, optimizer: optax.GradientTransformation
) -> Callable[[SpeakerState, Batch], tuple[SpeakerState, dict[str, jax.Array]]]:
    """A step that skips its update where the gradient is not finite, and says so."""
    schedule = learning_rate(recipe.optimizer, recipe.steps)

    def loss_of(params: Any, state: SpeakerState, batch: Batch, key: jax.Array):
        model = nnx.merge(graphdef, params["model"], state.frozen)
        loss, (metrics, weighing) = speaker_losses(
            model, params["heads"], state.weighing, batch, key, recipe, state.step
        )
        # Batch normalisation has moved its running statistics.
        return loss, (metrics, weighing, split_model(model)[2])

    gradient = jax.grad(loss_of, has_aux=True)

    def train_step(state: SpeakerState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        grads, (metrics, weighing, frozen) = gradient(state.params, state, batch, key)
        done = guarded_update(
            optimizer,
            grads,
            state.params,
            state.ema,
            state.optimizer,
            step=state.step,
            decay=recipe.optimizer.ema,
        )
        metrics = {**metrics, **done.metrics(schedule(state.step))}
        frozen, weighing = keep_where(
            done.finite, (frozen, weighing), (state.frozen, state.weighing)
        )
        after = SpeakerState(
            state.seed, state.step + 1, done.params, done.ema, done.optimizer, frozen, weighing
        )
        return after, metrics

    return train_step
