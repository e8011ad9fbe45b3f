"""What an amortized encoder's computation costs the loss.

Of a batch, with r the share of valid frames for which a component's gate is open, R is the share of
the dense encoder's multiply-adds that is spent, arbitrators included (`models.cost.GatedCost`). To
the recogniser's loss comes

    linear    lambda R
    target    lambda (|R - R*| + (R - R*)^2)
    budget    L (p (R - R*) + c / 2 (R - R*)^2),    after each step  p <- p + eta (R - R*)

where L is the value of the recogniser's loss, so that c and eta need not know how long utterances
are. `budget` is the augmented Lagrangian of "R = R*" with its multiplier, the price p, which rises
until the budget is kept and falls, below zero too, when more could be spent. R* (and lambda) come
in along a ramp. To all three comes L c times what each component's r lacks of `least`: a component
whose gates have closed learns nothing more, and what has learned less is opened less.

Source: Xie et al. 2022, arXiv 2207.02393, has the linear form; the other two, the ramp and the
schedule of the gates are choices of this implementation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ...models.cost import GatedCost
from ...models.gates import Relaxation
from ..recipe import ComputeConfig

STIFFNESS, RATE = 10.0, 0.1
"""c and eta of the budget."""
FIRST = 0.9
"""Where the ramp begins: what arbitrators open at first. From 1 on down, they would open the rest
before they close any."""
ANNEAL = 0.6
"""Share of the steps over which the temperature falls."""


class Spent(NamedTuple):
    """Of a batch: R, and for each component the share of frames that use it [blocks, 2]."""

    ratio: jax.Array
    rates: jax.Array


def relaxation(config: ComputeConfig, step: ArrayLike, steps: int) -> Relaxation:
    """How gates are drawn in a step."""
    done = jnp.asarray(step, jnp.float32) / steps
    first, last = config.temperature
    return Relaxation(
        temperature=first + (last - first) * jnp.minimum(done / ANNEAL, 1.0),
        # At full strength to the last: noise is what makes gates decide. Under noise that fades
        # they end beside the threshold, where a little less of anything closes half of them.
        noise=(done < 1.0 - config.hard).astype(jnp.float32),
        open=done < config.dense,
    )


def spent(gates: jax.Array, lengths: jax.Array, cost: GatedCost) -> Spent:
    """R of gates [B, T, blocks, 2] that are 0 on padding, with valid lengths [B]."""
    frames = jnp.maximum(lengths.sum(), 1).astype(gates.dtype)
    rates = gates.sum(axis=(0, 1)) / frames
    return Spent(cost.ratio(rates), rates)


def penalty(
    config: ComputeConfig,
    now: Spent,
    price: jax.Array,
    loss: jax.Array,
    step: ArrayLike,
    steps: int,
) -> tuple[jax.Array, jax.Array]:
    """`(what is added to the loss, the price after the step)`; scalars, differentiable in `now`."""
    if config.objective == "off":
        return jnp.zeros(()), price
    done = jnp.asarray(step, jnp.float32) / steps
    since = jnp.maximum(done - config.dense, 0.0)
    ramp = jnp.minimum(since / max(config.ramp, 1e-6), 1.0)
    scale = jax.lax.stop_gradient(loss)
    total = scale * STIFFNESS * jax.nn.relu(config.least - now.rates).sum()
    first = max(FIRST, config.ratio)
    over = now.ratio - (first + ramp * (config.ratio - first))
    # On the way down it is no fault to spend less: nothing should open what is closed early.
    over = jnp.where(ramp < 1.0, jnp.maximum(over, 0.0), over)
    if config.objective == "linear":
        total += ramp * config.price * now.ratio
    elif config.objective == "target":
        total += config.price * (jnp.abs(over) + over**2)
    elif config.objective == "budget":
        total += scale * (price * over + 0.5 * STIFFNESS * over**2)
        moved = price + RATE * jax.lax.stop_gradient(over)
        price = jnp.where(since > 0.0, moved, price)
    return total, price
