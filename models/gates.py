"""Gates: which components of an encoder run for which frames, and how the others cost nothing.

An arbitrator gives a logit for every frame and component. In training a gate is drawn from it,
straight through: 0 or 1 forward, and backward the sigmoid that it was drawn by,

    soft = sigmoid((logit + logistic noise) / temperature),     gate = soft > theta

with the logit kept within bounds: where a gate is surely open or closed the sigmoid is flat, and
what training then wants of it would not be felt. At inference there is no noise, and components run
on the frames whose gates are open and on no others (`on_active`).

Sources: Xie et al. 2022, "Compute Cost Amortized Transformer for Streaming ASR", arXiv 2207.02393
(arbitrators on the acoustic input and on block outputs, a component that is off gives zeros); Jang
et al. 2017, "Categorical reparameterization with Gumbel-softmax", arXiv 1611.01144.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

Carry = Any

OPEN_BIAS = 2.2
"""Logit that arbitrators begin with: nine gates in ten are open."""
GAIN = 4.0
"""Of arbitrators' outputs: Adam moves a weight by about its rate a step whatever its gradient, and
with 1 a gate that begins at 2.2 would need thousands of steps to close."""
BOUND = 6.0
"""Of logits in training: probabilities of 0.0025 and 0.9975."""
CHUNK = 128
"""Rows of a component's products: enough for a matrix product, few enough that the last, partly
empty chunk costs little."""


@dataclasses.dataclass(frozen=True)
class ArbitratorConfig:
    """What decides about the gates.

    Attributes:
      kind: "learned"; or one of the baselines that look at no word: "random" opens each component's
        gates at its rate, "periodic" every so many frames (and a component of rate 0 or 1 never or
        always: static pruning), "energy" all gates of frames that are louder than `threshold`.
      projection: values that a frame is projected to; the last `context` of them are looked at.
      context: frames, the present one included.
      hidden: units of the layer between.
      block_hidden: units of a head of each block, which adds to its logits what it sees of the
        block's normalised input; 0: no heads.
      rates: of "random" and "periodic", a rate for each component: attention and feed-forward of
        the first block, of the second ...
      threshold: of "energy", on the mean of a frame's normalised features.
    """

    kind: Literal["learned", "random", "periodic", "energy"] = "learned"
    projection: int = 16
    context: int = 4
    hidden: int = 24
    block_hidden: int = 0
    rates: tuple[float, ...] = ()
    threshold: float = 0.0


class Relaxation(NamedTuple):
    """How gates are drawn in a step of training; scalars.

    Attributes:
      temperature: of the sigmoid.
      noise: 1 with noise, 0 as at inference.
      open: bool, every gate is open whatever its logit: the dense start.
    """

    temperature: jax.Array | float
    noise: jax.Array | float
    open: jax.Array | bool


class Arbitrator(nnx.Module):
    """A small causal network on the features: [B, T, D] -> logits [B, T, components]."""

    def __init__(
        self,
        config: ArbitratorConfig,
        input_size: int,
        components: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.config, self.dtype = config, dtype
        width = config.projection
        self.project = nnx.Linear(input_size, width, dtype=dtype, rngs=rngs)
        self.hidden = nnx.Linear(config.context * width, config.hidden, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(
            config.hidden,
            components,
            dtype=dtype,
            kernel_init=nnx.initializers.normal(0.05 / math.sqrt(config.hidden)),
            bias_init=nnx.initializers.constant(OPEN_BIAS / GAIN),
            rngs=rngs,
        )

    def init_state(self, batch: int) -> jax.Array:
        """Projections of the frames before the first: zeros [B, context - 1, projection]."""
        return jnp.zeros((batch, self.config.context - 1, self.config.projection), self.dtype)

    @jax.named_scope("arbitrator")
    def __call__(self, x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] -> `(logits [B, T, components] float32, state)`."""
        frames = x.shape[1]
        seen = jnp.concatenate([state, jax.nn.relu(self.project(x))], axis=1)
        stacked = [seen[:, i : i + frames] for i in range(self.config.context)]
        hidden = jax.nn.relu(self.hidden(jnp.concatenate(stacked, axis=2)))
        return GAIN * self.output(hidden).astype(jnp.float32), seen[:, frames:]


class BlockArbitrator(nnx.Module):
    """What a block's input adds to the logits of its components: [B, T, D] -> [B, T, 2]."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.hidden = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(
            hidden, 2, kernel_init=nnx.initializers.zeros, dtype=dtype, rngs=rngs
        )

    @jax.named_scope("arbitrator")
    def __call__(self, x: jax.Array) -> jax.Array:
        return GAIN * self.output(jax.nn.relu(self.hidden(x))).astype(jnp.float32)


class ScheduledGates(nnx.Module):
    """Gates that no training moves: the baselines. Their logits are far from any threshold."""

    _SURE = 30.0

    def __init__(self, config: ArbitratorConfig, components: int):
        if config.kind != "energy" and len(config.rates) != components:
            raise ValueError(
                f"{config.kind} gates need a rate for each of {components} components, "
                f"not {len(config.rates)}"
            )
        self.config, self.components = config, components

    def init_state(self, batch: int) -> jax.Array:
        """Frames of each stream so far: [B] int32."""
        return jnp.zeros(batch, jnp.int32)

    def __call__(self, x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] -> `(logits [B, T, components], state)`."""
        batch, frames, _ = x.shape
        at = state[:, None] + jnp.arange(frames)[None, :]
        rates = jnp.asarray(self.config.rates)[None, None, :]
        if self.config.kind == "energy":
            loud = x.astype(jnp.float32).mean(axis=2, keepdims=True) > self.config.threshold
            open_ = jnp.broadcast_to(loud, (batch, frames, self.components))
        elif self.config.kind == "periodic":
            # In floating point a rate of 1/3 would miss a frame now and then.
            due = [jnp.floor((at + n)[..., None] * rates + 1e-4) for n in (0, 1)]
            open_ = due[1] > due[0]
        else:
            key = jax.random.key(0)
            draw = jax.vmap(
                lambda t: jax.random.uniform(jax.random.fold_in(key, t), (self.components,))
            )
            open_ = draw(at.reshape(-1)).reshape(batch, frames, -1) < rates
        return jnp.where(open_, self._SURE, -self._SURE), state + frames


def make_arbitrator(
    config: ArbitratorConfig,
    input_size: int,
    components: int,
    *,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
) -> Arbitrator | ScheduledGates:
    """What decides about `components` gates a frame, for features of width `input_size`."""
    if config.kind == "learned":
        return Arbitrator(config, input_size, components, rngs=rngs, dtype=dtype)
    return ScheduledGates(config, components)


def is_open(logits: jax.Array, theta: float) -> jax.Array:
    """Gates at inference: sigmoid(logit) > theta, bool."""
    return logits > math.log(theta / (1.0 - theta))


def draw_gates(
    logits: jax.Array, key: jax.Array | None, relaxation: Relaxation | None, theta: float
) -> jax.Array:
    """Gates of training, straight through: float32, 0 or 1.

    Args:
      logits: float32, any shape.
      key: of the noise; None: none.
      relaxation: None: temperature 1 and no noise.
    """
    temperature, noise, open_ = relaxation or Relaxation(1.0, 0.0, False)
    logits = bounded(logits)
    if key is not None:
        logits = logits + noise * jax.random.logistic(key, logits.shape)
    soft = jax.nn.sigmoid((logits - math.log(theta / (1.0 - theta))) / temperature)
    # The brackets keep it 0 or 1 to the last bit.
    gates = (soft > 0.5).astype(soft.dtype) + (soft - jax.lax.stop_gradient(soft))
    return jnp.where(open_, jnp.ones_like(gates), gates)


@jax.custom_vjp
def bounded(x: jax.Array) -> jax.Array:
    """x within +-BOUND; beyond it, a gradient passes if it leads back."""
    return jnp.clip(x, -BOUND, BOUND)


def _bounded_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return bounded(x), x


def _bounded_backward(x: jax.Array, d: jax.Array) -> tuple[jax.Array]:
    # Descent goes against the gradient.
    back = (jnp.abs(x) <= BOUND) | (jnp.sign(x) == jnp.sign(d))
    return (jnp.where(back, d, 0.0),)


bounded.defvjp(_bounded_forward, _bounded_backward)


def chunk_of(rows: int) -> int:
    """Rows of a chunk where there are `rows`: of an exported program that may be a symbol."""
    return max(1, min(CHUNK, rows)) if isinstance(rows, int) else CHUNK


def for_active(
    step: Callable[[Carry, jax.Array], Carry],
    carry: Carry,
    active: jax.Array,
    chunk: int,
) -> Carry:
    """Hands the active rows to `step` in chunks, in order, as many as there are.

    The loop turns as often as active rows fill chunks: none is dropped, and at most the last is
    partly empty.

    Args:
      step: (carry, rows [chunk] int32) -> carry; a row that is not there is N, out of bounds.
      active: [N] bool.
    """
    rows = active.shape[0]
    if isinstance(rows, int) and not rows:
        return carry
    places = -(-rows // chunk) * chunk
    order = jnp.nonzero(active, size=places, fill_value=rows)[0].astype(jnp.int32)

    def turn(i: jax.Array, carry: Carry) -> Carry:
        return step(carry, jax.lax.dynamic_slice(order, (i * chunk,), (chunk,)))

    turns = (jnp.sum(active) + chunk - 1) // chunk
    return jax.lax.fori_loop(0, turns, turn, carry)


def on_active(
    function: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    active: jax.Array,
    width: int,
    chunk: int | None = None,
) -> jax.Array:
    """`function` of the active rows, zeros for the others.

    Only inference can run it: a loop whose length depends on data has no reverse derivative.

    Args:
      function: [n, D] -> [n, width], row by row.
      x: [..., D].
      active: [...] bool.

    Returns:
      [..., width] in the type of x.
    """
    lead, rows = x.shape[:-1], math.prod(x.shape[:-1])
    if rows == 1:
        y = jax.lax.cond(
            active.reshape(()),
            lambda row: function(row).astype(x.dtype),
            lambda row: jnp.zeros((1, width), x.dtype),
            x.reshape(1, -1),
        )
        return y.reshape(*lead, width)
    flat = x.reshape(rows, x.shape[-1])

    def step(y: jax.Array, some: jax.Array) -> jax.Array:
        found = function(flat.at[some].get(mode="clip"))
        return y.at[some].set(found.astype(y.dtype), mode="drop")

    y = jnp.zeros((rows, width), x.dtype)
    chunk = chunk_of(rows) if chunk is None else chunk
    return for_active(step, y, active.reshape(rows), chunk).reshape(*lead, width)
