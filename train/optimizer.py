"""AdamW with warm-up, hold and decay; clipping; a guard against non-finite gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .adaptation import is_trained
from .recipe import AdaptConfig, OptimizerConfig


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then the peak for `hold_fraction` of the rest, then a cosine decay."""
    warmup = min(config.warmup_steps, max(1, steps // 4))
    hold = int((steps - warmup) * config.hold_fraction)
    decay = max(1, steps - warmup - hold)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.peak_lr, warmup),
            optax.constant_schedule(config.peak_lr),
            optax.cosine_decay_schedule(config.peak_lr, decay, config.final_lr_fraction),
        ],
        [warmup, warmup + hold],
    )


def make_optimizer(
    config: OptimizerConfig, steps: int, adapt: AdaptConfig | None = None
) -> optax.GradientTransformation:
    """Weight decay acts on matrices only: biases and norms have no scale to keep small.

    Parameters that `adapt` does not train have no state, and are not updated by a gradient of 0.
    """
    whole = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            b2=config.beta2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )
    if adapt is None or adapt.parts == "all":
        return whole
    return optax.masked(whole, partial(is_trained, adapt))


def ema_update(average: optax.Params, params: optax.Params, step: jax.Array, decay: float):
    """Exponential moving average whose decay warms up, so that early steps do not linger."""
    if not decay:
        return params
    rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1.0 - rate) * (p - a), average, params)


class Update(NamedTuple):
    """Parameters, their average and the optimiser's state after a step; as before it where the
    gradient was not finite."""

    params: Any
    ema: Any
    optimizer: optax.OptState
    norm: jax.Array
    finite: jax.Array

    def metrics(self, rate: Any) -> dict[str, Any]:
        """For the run's records; `rate` is the learning rate of the step."""
        return {"gradient_norm": self.norm, "learning_rate": rate, "finite": self.finite}


def guarded_update(
    optimizer: optax.GradientTransformation,
    grads: Any,
    params: Any,
    ema: Any,
    moments: optax.OptState,
    *,
    step: jax.Array,
    decay: float,
    after: Callable[[Any], Any] = lambda params: params,
) -> Update:
    """One step of the optimiser and then `after`, and of the average whose decay is `decay`."""
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(norm)
    updates, new_moments = optimizer.update(grads, moments, params)
    new_params = after(optax.apply_updates(params, updates))
    new_ema = ema_update(ema, new_params, step, decay)
    old = params, ema, moments
    kept = keep_where(finite, (new_params, new_ema, new_moments), old)
    return Update(kept[0], kept[1], kept[2], norm, finite)


def keep_where(fine: jax.Array, new: Any, old: Any) -> Any:
    """The tree `new` where `fine`, else the tree `old`."""
    return jax.tree.map(lambda n, o: jnp.where(fine, n, o), new, old)
