"""One training step as a pure function, and the state that it maps to the next."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.typing import ArrayLike

from ..data.augment import spec_augment, warp_frequency
from ..data.errors import InputError
from ..models.adapters import Adapter, add_adapters, has_adapters, merged
from ..models.cost import gated_cost
from ..models.encoders.amortized import AmortizedEncoder
from ..models.encoders.separator import SeparatorEncoder
from ..models.frontend import append_tail
from ..models.keys import weight_keys
from ..models.remat import rematerialised
from ..models.transducer import Transducer
from .adaptation import (
    Held,
    penalty,
    proximal,
    trains,
    with_penalty_gradient,
    without_frozen,
)
from .losses import (
    compute,
    pruned_transducer_loss,
    tdt_transducer_loss,
    transducer_arcs,
    transducer_loss,
)
from .losses.distillation import collapsed_divergence, every_frame
from .losses.turns import activity_loss, marker_penalties
from .optimizer import guarded_update, keep_where, learning_rate
from .recipe import LoraConfig, Recipe
from .sharding import gathered
from .weights import merge_trees, part_of

Batch = Mapping[str, jax.Array]


class TrainState(NamedTuple):
    """All that a run is between two steps. Randomness is a function of (seed, step).

    The seed is an input and no constant of the program, so that runs which differ in it alone share
    what is compiled.
    """

    seed: jax.Array
    step: jax.Array
    params: Any
    ema: Any
    optimizer: optax.OptState
    frozen: Any
    """Variables without a gradient: statistics of the features, and of batch normalisation."""


def build_model(recipe: Recipe) -> Transducer:
    """Raises InputError where the recipe's adapters fit no layer of the model."""
    dtype = jnp.bfloat16 if recipe.precision == "bfloat16" else jnp.float32
    rngs = weight_keys(recipe.seed)
    model = Transducer(recipe.model, rngs=rngs, dtype=dtype)
    lora = recipe.adapt.lora
    if lora.rank:
        allowed = partial(trains, recipe.adapt)
        try:
            add_adapters(
                model, lora.layers, lora.rank, lora.alpha / lora.rank, rngs=rngs, allowed=allowed
            )
        except ValueError as error:
            raise InputError(f"--adapt.lora does not fit this model: {error}.") from None
    return model


def split_model(model: nnx.Module) -> tuple[Any, Any, Any]:
    """(graph definition, trained parameters, variables without a gradient) of a model; where it has
    adapters, these are what is trained."""
    trained = Adapter if has_adapters(model) else nnx.Param
    graphdef, params, frozen = nnx.split(model, trained, ...)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(frozen)


def without_adapters(recipe: Recipe, graphdef: Any, params: Any, frozen: Any) -> tuple[Any, ...]:
    """(graph definition, parameters, variables without a gradient) of a trained model as everybody
    else knows it: what adapters have learned is a part of its weights."""
    lora = recipe.adapt.lora
    if not lora.rank:
        return graphdef, params, frozen
    weights = merged(merge_trees(params, frozen), lora.alpha / lora.rank)
    plain = replace(recipe, adapt=replace(recipe.adapt, lora=LoraConfig()))
    graphdef, *shapes = split_model(nnx.eval_shape(lambda: build_model(plain)))
    return graphdef, *(part_of(weights, shape) for shape in shapes)


def merge_model(graphdef: Any, params: Any, frozen: Any) -> Transducer:
    return nnx.merge(graphdef, params, frozen)


def losses(
    model: Transducer,
    batch: Batch,
    key: jax.Array,
    recipe: Recipe,
    step: ArrayLike = 0,
    rows: NamedSharding | None = None,
    teacher: Transducer | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss of a batch of utterances, and its parts.

    batch: samples int16 [B, N], sample_lengths [B], labels [B, U], label_lengths [B]; `rows` says
    how they lie on a mesh. Of a model with channels, and of one with markers of turns, labels are
    [B, C, U] and label_lengths [B, C]; label_times [B, C, U] and turn_spans [B, C, K, 2] say in
    seconds when markers should come and turns are spoken. A conversation's loss is the sum of its
    channels'. Of a model that is told cohorts, cohort [B, K]. `teacher`: whom to stay near by
    distillation. Several weights depend on the step.
    """
    mask_key, warp_key, encoder_key, prediction_key = jax.random.split(key, 4)
    encoder_key = training_key(encoder_key, "encoder", recipe)
    prediction_key = training_key(prediction_key, "prediction", recipe)
    frontend = recipe.model.frontend
    x, lengths = model.features(*append_tail(batch["samples"], batch["sample_lengths"], frontend))
    x = warp_frequency(
        warp_key,
        jax.lax.stop_gradient(x),
        recipe.augment,
        bins=frontend.bins,
        low_hz=frontend.low_hz,
        high_hz=frontend.high_hz,
    )
    x = spec_augment(mask_key, x, lengths, recipe.augment, bins=frontend.bins)
    unaware, x = x, told(model, x, batch, key)
    encoder, now, heard, activity = model.encoder, None, lengths, None
    if isinstance(encoder, SeparatorEncoder):
        encoded, lengths, activity = encoder.separate(x, lengths, key=encoder_key)
    elif isinstance(encoder, AmortizedEncoder):
        relaxed = compute.relaxation(recipe.loss.compute, step, recipe.steps)
        encoded, lengths, gates = encoder.masked(x, lengths, key=encoder_key, relaxation=relaxed)
        now = compute.spent(gates, lengths, gated_cost(recipe.model))
    else:
        encoded, lengths = encoder(x, lengths, key=encoder_key)
    # A channel is a row like any other from here on.
    labels = batch["labels"].reshape(len(encoded), -1)
    label_lengths = batch["label_lengths"].reshape(-1)
    predicted = model.predict(labels, key=prediction_key)
    targets = labels, lengths, label_lengths
    fastemit, penalties = arc_options(model, encoded, batch, recipe, step)
    if recipe.loss.pruned_range:
        total, parts = pruned_losses(model, encoded, predicted, targets, recipe, fastemit, step)
    elif recipe.model.joint.durations:
        total = tdt_transducer_loss(
            encoded,
            predicted,
            model.joint_logits,
            *targets,
            durations=recipe.model.joint.durations,
            sigma=recipe.loss.sigma,
        ).mean()
        parts = {"transducer": total}
    else:
        total = transducer_loss(
            encoded,
            predicted,
            model.joint_logits,
            *targets,
            fastemit=fastemit,
            delay_penalty=recipe.loss.delay_penalty,
            label_penalties=penalties,
            hat=recipe.model.joint.hat,
            sharding=rows,
        ).mean()
        total = model.channels * total
        parts = {"transducer": total}
    if recipe.loss.ctc_weight:
        ctc = ctc_loss(model.ctc_logits(encoded), labels, lengths, label_lengths).mean()
        ctc = model.channels * ctc
        parts["ctc"] = ctc
        total = total + recipe.loss.ctc_weight * ctc
    if teacher is not None:
        said = teacher.encode(unaware, heard)[0], teacher.predict(labels)
        apart = divergence(model, teacher, (encoded, predicted), said, targets, recipe, step, rows)
        parts["distillation"] = apart
        total = total + recipe.adapt.distill * apart
    turns = recipe.loss.turns
    if turns.activity and activity is not None:
        spans = batch["turn_spans"].reshape(len(activity), -1, 2)
        frames = jnp.repeat(heard, model.channels)
        frame_s = frontend.step / frontend.sample_rate
        spoken = model.channels * activity_loss(activity, spans, frames, frame_s).mean()
        parts["activity"] = spoken
        total = total + from_step(turns.activity, turns.activity_after, step) * spoken
    if isinstance(encoder, AmortizedEncoder) and now is not None:
        added, price = compute.penalty(
            recipe.loss.compute, now, encoder.price[...], total, step, recipe.steps
        )
        encoder.price[...] = price
        total = total + added
        parts |= {"compute": now.ratio, "price": price, **gate_metrics(now.rates)}
    return total, {"loss": total, **parts}


def told(model: Transducer, x: jax.Array, batch: Batch, key: jax.Array) -> jax.Array:
    """Features with what the model is told of the batch's cohorts, some of them forgotten."""
    if model.cohort is None:
        return x
    # Beside the other keys, which are those of a model that is told nothing.
    return model.told(x, batch.get("cohort"), key=jax.random.fold_in(key, 0x636F68))


def training_key(key: jax.Array, part: str, recipe: Recipe) -> jax.Array | None:
    """The key of a part of the model; none where it runs as in inference, without dropout and by
    its running statistics: by the recipe's wish, or because it is not trained."""
    fixed = recipe.adapt.fixed_norms or not trains(recipe.adapt, part)
    return None if fixed else key


def divergence(
    model: Transducer,
    teacher: Transducer,
    own: tuple[jax.Array, jax.Array],
    said: tuple[jax.Array, jax.Array],
    targets: tuple[jax.Array, jax.Array, jax.Array],
    recipe: Recipe,
    step: ArrayLike,
    rows: NamedSharding | None,
) -> jax.Array:
    """How far the model's lattices lie from the teacher's: mean over utterances, in nats.

    own, said: (encoded [B, T, J], predicted [B, U+1, J]) of the model and of the teacher; targets:
    labels [B, U], lengths [B], label_lengths [B].
    """
    labels, lengths, label_lengths = targets
    stride = recipe.adapt.distill_stride
    first = jnp.asarray(step) % stride
    arcs = []
    for network, (encoded, predicted) in ((teacher, said), (model, own)):
        some, frames = every_frame(encoded, lengths, stride, first)
        sides = some, predicted, network.joint_logits, labels, frames, label_lengths
        arcs.append(transducer_arcs(*sides, hat=recipe.model.joint.hat, sharding=rows))
    apart = collapsed_divergence(jax.lax.stop_gradient(arcs[0]), arcs[1], frames, label_lengths)
    return model.channels * stride * apart.mean()


def arc_options(
    model: Transducer, encoded: jax.Array, batch: Batch, recipe: Recipe, step: ArrayLike
) -> tuple[ArrayLike, jax.Array | None]:
    """(FastEmit's lambda, nats [B, T, U] to take off label arcs or None) at this step."""
    loss, penalties = recipe.loss, None
    if loss.turns.late or loss.turns.early:
        times = batch["label_times"].reshape(len(encoded), -1)
        penalties = marker_penalties(loss.turns, times, encoded.shape[1], model.frame_s, step)
    return from_step(loss.fastemit, loss.fastemit_after, step), penalties


def from_step(weight: float, after: int, step: ArrayLike) -> ArrayLike:
    """`weight` once `after` steps are done, before that 0."""
    return jnp.where(jnp.asarray(step) >= after, weight, 0.0) if after else weight


def gate_metrics(rates: jax.Array) -> dict[str, jax.Array]:
    """Rates [blocks, 2] by name, for the run's records."""
    return {
        f"gates/{part}_{block}": rates[block, i]
        for block in range(rates.shape[0])
        for i, part in enumerate(("attention", "feed_forward"))
    }


def pruned_losses(
    model: Transducer,
    encoded: jax.Array,
    predicted: jax.Array,
    targets: tuple[jax.Array, jax.Array, jax.Array],
    recipe: Recipe,
    fastemit: ArrayLike,
    step: ArrayLike,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean of the pruned and the simple loss under their weights, and both without.

    targets: labels [B, U], lengths [B], label_lengths [B].
    """
    config = recipe.loss
    warmup = max(1, min(config.pruned_warmup, recipe.steps // 4))
    done = jnp.minimum(jnp.asarray(step) / warmup, 1.0)
    loss, pruned, simple = pruned_transducer_loss(
        encoded,
        predicted,
        model.joint,
        *model.simple_logits(encoded, predicted),
        *targets,
        s_range=config.pruned_range,
        simple_weight=1.0 + done * (config.simple_weight - 1.0),
        pruned_weight=0.1 + done * 0.9,
        fastemit=fastemit,
    )
    return model.channels * loss.mean(), {"pruned": pruned.mean(), "simple": simple.mean()}


def ctc_loss(
    logits: jax.Array, labels: jax.Array, lengths: jax.Array, label_lengths: jax.Array
) -> jax.Array:
    """CTC of each row [B]; 0 where the row has no alignment (too few frames for its labels)."""
    steps, units = jnp.arange(logits.shape[1]), jnp.arange(labels.shape[1])
    inside = units[None, :] < label_lengths[:, None]
    repeats = jnp.sum((labels[:, 1:] == labels[:, :-1]) & inside[:, 1:], axis=1)
    possible = lengths >= label_lengths + repeats
    loss = optax.ctc_loss(
        logits.astype(jnp.float32),
        (steps[None, :] >= lengths[:, None]).astype(jnp.float32),
        labels,
        (~inside).astype(jnp.float32),
    )
    return jnp.where(possible, loss, 0.0)


def make_train_step(
    graphdef: Any,
    recipe: Recipe,
    optimizer: optax.GradientTransformation,
    rows: NamedSharding | None = None,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """`step(state, batch, held)`: skips its update where the gradient is not finite, and says so.

    `rows`: how a batch's rows lie on the mesh. `held` is given where the recipe holds to a start.
    """
    adapt = recipe.adapt
    schedule = learning_rate(recipe.optimizer, recipe.steps)
    parts = recipe.optimizer.accumulate

    def whole(params: Any) -> Any:
        return params if rows is None else gathered(params, rows.mesh)

    def loss_of(
        params: Any, frozen: Any, batch: Batch, key: jax.Array, step: jax.Array, held: Held | None
    ):
        model = merge_model(graphdef, whole(without_frozen(adapt, params)), frozen)
        teacher = None
        if held is not None and adapt.distill:
            teacher = merge_model(graphdef, whole(held.params), held.frozen)
        with rematerialised(recipe.remat):
            loss, metrics = losses(model, batch, key, recipe, step, rows, teacher)
        # Batch normalisation has moved its running statistics.
        return loss, (metrics, split_model(model)[2])

    gradient = jax.grad(loss_of, has_aux=True)

    def gradients(state: TrainState, batch: Batch, key: jax.Array, held: Held | None):
        """Gradients, metrics and the variables without a gradient after this batch."""
        if parts == 1:
            grads, (metrics, frozen) = gradient(
                state.params, state.frozen, batch, key, state.step, held
            )
            return grads, metrics, frozen
        # Every part takes rows from every device, so that no rows move between devices.
        cut = {
            k: v.reshape(v.shape[0] // parts, parts, *v.shape[1:]).swapaxes(0, 1)
            for k, v in batch.items()
        }

        def add(carry: Any, part: Any):
            total, frozen = carry
            index, some = part
            grads, (metrics, frozen) = gradient(
                state.params, frozen, some, jax.random.fold_in(key, index), state.step, held
            )
            total = jax.tree.map(lambda t, r: t + r / parts, total, (grads, metrics))
            return (total, frozen), None

        first = {k: v[0] for k, v in cut.items()}
        grads, (metrics, _) = jax.eval_shape(
            gradient, state.params, state.frozen, first, key, state.step, held
        )
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (grads, metrics))
        indexed = (jnp.arange(parts), cut)
        ((grads, metrics), frozen), _ = jax.lax.scan(add, (zeros, state.frozen), indexed)
        return grads, metrics, frozen

    def train_step(state: TrainState, batch: Batch, held: Held | None = None):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        grads, metrics, frozen = gradients(state, batch, key, held)
        after: dict[str, Any] = {}
        if held is not None and held.fisher is not None:
            metrics = {**metrics, "penalty": penalty(state.params, held, adapt.weight)}
            if adapt.proximal:
                scale = adapt.weight * schedule(state.step)
                after = {"after": partial(proximal, held=held, scale=scale)}
            else:
                grads = with_penalty_gradient(grads, state.params, held, adapt.weight)
        done = guarded_update(
            optimizer,
            grads,
            state.params,
            state.ema,
            state.optimizer,
            step=state.step,
            decay=recipe.optimizer.ema,
            **after,
        )
        metrics = {**metrics, **done.metrics(schedule(state.step))}
        return (
            TrainState(
                state.seed,
                state.step + 1,
                done.params,
                done.ema,
                done.optimizer,
                keep_where(done.finite, frozen, state.frozen),
            ),
            metrics,
        )

    return train_step
