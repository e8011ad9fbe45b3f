"""What a model costs: multiply-adds counted from its traced program, nothing of it run.

A program's jaxpr says every matrix product and convolution with its shapes, so the count is exact
and the same for every family of models; scans are multiplied by their length. The unit is the
multiply-add; papers' "FLOPs" count it as two, and so does `gflop`.

Counted are `dot_general` and `conv_general_dilated`. Elementwise arithmetic (gates, norms, softmax)
is not, with one exception: a depthwise convolution that is written as a sum of shifted products,
which is a function jitted under the name `depthwise_taps`; there each product counts. Padding
counts like audio, for it is multiplied like audio; what the compiler may find to be unused counts
too.

To be told apart, parts of a model enter `jax.named_scope("attention")`. It costs nothing, and
profilers show the same names.
"""

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from .decoding import DecoderState, init_decoder
from .encoders.amortized import AmortizedConfig
from .keys import weight_keys
from .transducer import StreamState, Transducer, TransducerConfig

DEPTHWISE = "depthwise_taps"
"""Name of the jitted function within which elementwise products count."""
OTHER = "other"
"""Part of what lies in no named scope."""
LABELS_PER_SECOND = 4.0
"""Wordpieces that a second of read English holds, about: 2.7 words of 1.5 pieces."""

# Higher-order primitives that run the one program they hold, once.
_CALLS = {
    *("jit", "pjit", "closed_call", "core_call"),
    *("remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"),
}
# Long enough for the front end, which fills small chunks up to a minimum of rows, to have no
# need of it.
_SECONDS = 10.0

_Path = tuple[str, ...]
_Tally = Counter[_Path]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Multiply-adds per second of audio, and numbers of trained parameters, of each part."""

    frontend: int
    encoder: int
    prediction: int
    joint: int
    parameters: Mapping[str, int]
    """Part -> trained parameters; `ctc` is the auxiliary head, which only training runs."""

    @property
    def total(self) -> int:
        """Multiply-adds per second of audio of the whole model."""
        return self.frontend + self.encoder + self.prediction + self.joint


@dataclasses.dataclass(frozen=True)
class GatedCost:
    """Multiply-adds per second of audio of an amortized encoder, as its stream computes them.

    Attributes:
      gated: of a block's attention and feed-forward part where their gates are open.
      fixed: of what every frame pays for, arbitrators included.
      arbitrator: of the arbitrators alone.
      dense: of the same encoder without gates.
      rest: of the other parts of the model.
    """

    gated: tuple[int, int]
    fixed: int
    arbitrator: int
    dense: int
    rest: int

    def ratio(self, rates: Any) -> Any:
        """What the encoder spends of the dense one's multiply-adds.

        Args:
          rates: array [..., blocks, 2], the share of frames for which each gate is open.
        """
        attention, feed_forward = rates[..., 0].sum(-1), rates[..., 1].sum(-1)
        gated = attention * self.gated[0] + feed_forward * self.gated[1]
        return (self.fixed + gated) / self.dense

    def model_ratio(self, rates: Any) -> Any:
        """What the whole model spends of the multiply-adds of the one with the dense encoder."""
        return (self.rest + self.dense * self.ratio(rates)) / (self.rest + self.dense)


def gflop(multiply_adds: float) -> float:
    """Billions of floating-point operations, a multiply-add being two."""
    return 2e-9 * multiply_adds


def cost(function: Callable[..., Any], *args: Any, loop_bound: int | None = None) -> int:
    """Multiply-adds of one call of `function`.

    Args:
      args: pytrees of arrays or of `jax.ShapeDtypeStruct`; only shapes and types are looked at.
      loop_bound: iterations that a `while` loop of unknown length is taken to make.

    Raises:
      ValueError: products inside a `while` loop without `loop_bound`, or inside a primitive that
        is none of those counted (a kernel, a `shard_map`).
    """
    return _tally_of(function, args, loop_bound).total()


def cost_by_scope(
    function: Callable[..., Any], *args: Any, depth: int = 1, loop_bound: int | None = None
) -> dict[str, int]:
    """`cost`, split by the `jax.named_scope`s that the products lie in.

    Args:
      depth: scopes within scopes that are told apart, the outermost first: `layers/attention` at 2.

    Returns:
      Scope -> multiply-adds, in the order of the program; `OTHER` is what lies outside of all.
    """
    return _grouped(_tally_of(function, args, loop_bound), depth)


def model_cost(config: TransducerConfig, *, labels_per_second: float = LABELS_PER_SECOND) -> Cost:
    """What a deployed stream of the model computes in a second of audio.

    The encoder is its `step` on the smallest chunk; one that cannot stream, its whole form on ten
    seconds. The prediction network runs once a label and the joint once an encoder frame and once
    a label, which is what label-looping greedy search needs.
    """
    model = _abstract(config)
    prediction = model.tally(
        lambda model, *args: model.predict_step(*args),
        _struct(1, dtype=jnp.int32),
        model.outputs(lambda model: model.init_prediction(1)),
    )
    width = _struct(1, config.encoder.output)
    joint = model.tally(lambda model, *args: model.joint(*args), width, width)
    evaluations = 1.0 / model.shapes.frame_s + labels_per_second
    return Cost(
        frontend=_frontend_cost(model),
        encoder=sum(by_part(config).values()),
        prediction=round(prediction.total() * labels_per_second),
        joint=round(joint.total() * evaluations),
        parameters=_parameters(model.shapes),
    )


def by_part(config: TransducerConfig, *, depth: int = 1) -> dict[str, int]:
    """Multiply-adds per second of audio of the encoder's parts, as `model_cost` counts them.

    Args:
      depth: as in `cost_by_scope`.
    """
    model = _abstract(config)
    step_s = config.frontend.step / config.frontend.sample_rate
    stride = model.shapes.encoder.stride
    state = _stream_state(model)
    if state is not None:
        frames = stride * model.shapes.encoder.chunk
        tally = model.tally(
            lambda model, *args: model.encoder.step(*args),
            _struct(1, frames, config.frontend.size),
            state[0].encoder,
        )
    else:
        frames = math.ceil(_SECONDS / step_s / stride) * stride
        tally = model.tally(
            lambda model, *args: model.encode(*args),
            _struct(1, frames, config.frontend.size),
            _struct(1, dtype=jnp.int32),
        )
    parts = _grouped(tally, depth)
    return {part: round(count / (frames * step_s)) for part, count in parts.items()}


@functools.lru_cache
def gated_cost(config: TransducerConfig) -> GatedCost:
    """What the parts of an amortized encoder cost.

    Raises:
      ValueError: the encoder has no gates.
    """
    encoder = config.encoder
    if not isinstance(encoder, AmortizedConfig):
        raise ValueError(f"a {encoder.kind} encoder has no gates")
    dense = by_part(dataclasses.replace(config, encoder=encoder.dense))
    parts = by_part(config, depth=2)
    # In their scopes lie what the gates of all blocks open, and keys that no gate closes.
    every_key = sum(n for name, n in parts.items() if "every_key" in name.split("/"))
    attention = sum(n for name, n in parts.items() if name.startswith("attention")) - every_key
    feed_forward = sum(n for name, n in parts.items() if name.startswith("feed_forward"))
    whole = model_cost(config)
    return GatedCost(
        gated=(attention // encoder.blocks, feed_forward // encoder.blocks),
        fixed=sum(parts.values()) - attention - feed_forward,
        arbitrator=sum(n for name, n in parts.items() if name.startswith("arbitrator")),
        dense=sum(dense.values()),
        rest=whole.total - whole.encoder,
    )


def state_bytes(config: TransducerConfig) -> int | None:
    """Bytes that one stream keeps between two chunks: front end, encoder and greedy search.

    None: the encoder cannot stream.
    """
    state = _stream_state(_abstract(config))
    if state is None:
        return None
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


class _Abstract:
    """A model of shapes: no parameter is ever allocated.

    Attributes:
      shapes: the model with shapes in the place of arrays.
    """

    def __init__(self, config: TransducerConfig):
        self.shapes: Transducer = nnx.eval_shape(lambda: Transducer(config, rngs=weight_keys(0)))
        self._graphdef, self._variables = nnx.split(self.shapes)

    def tally(self, function: Callable[..., Any], *args: Any) -> _Tally:
        """Of `function(model, *args)`."""
        return _tally_of(self._on_variables(function), (self._variables, *args), None)

    def outputs(self, function: Callable[..., Any], *args: Any) -> Any:
        """Shapes of what `function(model, *args)` returns."""
        return jax.eval_shape(self._on_variables(function), self._variables, *args)

    def _on_variables(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda variables, *args: function(nnx.merge(self._graphdef, variables), *args)


# A caller asks for cost, parts and state of one model: it is built once for them.
_abstract = functools.lru_cache(maxsize=1)(_Abstract)


def _stream_state(model: _Abstract) -> tuple[StreamState, DecoderState] | None:
    """Shapes of what a stream carries; None where the encoder refuses to stream."""
    samples = _struct(1, model.shapes.samples_per_step, dtype=jnp.int16)
    try:
        state = model.outputs(lambda model: (model.init_stream(1), init_decoder(model, 1)))
        model.outputs(lambda model, *args: model.stream_step(*args), samples, state[0])
    except ValueError:
        return None
    return state


def _frontend_cost(model: _Abstract) -> int:
    config = model.shapes.config.frontend
    samples = math.ceil(_SECONDS * config.sample_rate / config.step) * config.step
    tally = model.tally(
        lambda model, *args: model.features(*args),
        _struct(1, samples, dtype=jnp.int16),
        _struct(1, dtype=jnp.int32),
    )
    return round(tally.total() * config.sample_rate / samples)


def _parameters(model: Transducer) -> dict[str, int]:
    parts: Counter[str] = Counter(frontend=0, encoder=0, prediction=0, joint=0)
    for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        parts["joint" if path[0] == "joiner" else str(path[0])] += math.prod(leaf.shape)
    return dict(parts)


def _struct(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _tally_of(function: Callable[..., Any], args: Sequence[Any], loop_bound: int | None) -> _Tally:
    program = jax.make_jaxpr(function)(*args)
    return _tally(program.jaxpr, (), False, loop_bound)


def _tally(jaxpr: Jaxpr, scope: _Path, depthwise: bool, bound: int | None) -> _Tally:
    """Multiply-adds of a program by scope path; inside a `depthwise` one, products count."""
    total: _Tally = Counter()
    for equation in jaxpr.eqns:
        total += _of_equation(equation, (*scope, *_scopes(equation)), depthwise, bound)
    return total


def _of_equation(equation: JaxprEqn, path: _Path, depthwise: bool, bound: int | None) -> _Tally:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return Counter({path: _of_product(equation)})
    if name == "conv_general_dilated":
        return Counter({path: _of_convolution(equation)})
    if name == "mul" and depthwise:
        return Counter({path: math.prod(_shape(equation.outvars[0]))})
    if name == "scan":
        return _times(params["length"], _tally(params["jaxpr"].jaxpr, path, depthwise, bound))
    if name == "cond":
        return _of_branches([_tally(b.jaxpr, path, depthwise, bound) for b in params["branches"]])
    if name == "while":
        condition = _tally(params["cond_jaxpr"].jaxpr, path, depthwise, bound)
        turn = condition + _tally(params["body_jaxpr"].jaxpr, path, depthwise, bound)
        if turn and bound is None:
            raise ValueError(
                f"a while loop{_within(path)} holds products and does not say how often it turns: "
                "give loop_bound, or write a loop of fixed length as a scan"
            )
        return _times(bound or 0, turn) + condition
    depthwise = depthwise or params.get("name") == DEPTHWISE
    inner: _Tally = Counter()
    for program in _programs(params):
        inner += _tally(program, path, depthwise, bound)
    if inner and name not in _CALLS:
        raise ValueError(f"products inside {name}{_within(path)} cannot be counted")
    return inner


def _of_branches(branches: Sequence[_Tally]) -> _Tally:
    """What a `cond` costs: its dearest branch."""
    return max(branches, key=Counter.total)


def _of_product(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = _shape(equation.invars[0])
    return math.prod(_shape(equation.outvars[0])) * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation: JaxprEqn) -> int:
    """Each output takes one product for each input channel of its group and each tap.

    A dilated kernel has no more taps for it; of a dilated input (a transposed convolution) only
    the taps that meet a value and not a hole count.
    """
    params = equation.params
    _, kernel_spec, out_spec = params["dimension_numbers"]
    kernel = _shape(equation.invars[1])
    out = _shape(equation.outvars[0])
    pairs = 1  # of an output position and a tap
    for axis, (out_axis, kernel_axis) in enumerate(zip(out_spec[2:], kernel_spec[2:], strict=True)):
        position = np.arange(out[out_axis])[:, None] * params["window_strides"][axis]
        tap = np.arange(kernel[kernel_axis])[None, :] * params["rhs_dilation"][axis]
        at = position + tap - params["padding"][axis][0]
        pairs *= int(np.sum(at % params["lhs_dilation"][axis] == 0))
    channels = out[out_spec[0]] * out[out_spec[1]] * kernel[kernel_spec[1]]
    return channels * pairs


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _scopes(equation: JaxprEqn) -> list[str]:
    """Names of the scopes around an equation, out of `transpose(jvp(layers))/attention/vmap()`."""
    stack = re.sub(r"\w+\(|\)", "", str(equation.source_info.name_stack))
    return [name for name in stack.split("/") if name]


def _programs(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """The programs among a primitive's parameters."""
    for value in params.values():
        for entry in value if isinstance(value, tuple | list) else (value,):
            if isinstance(entry, ClosedJaxpr):
                yield entry.jaxpr
            elif isinstance(entry, Jaxpr):
                yield entry


def _grouped(tally: _Tally, depth: int) -> dict[str, int]:
    parts: Counter[str] = Counter()
    for path, count in tally.items():
        parts["/".join(path[:depth]) or OTHER] += count
    return dict(parts)


def _times(count: int, tally: _Tally) -> _Tally:
    return Counter({path: count * value for path, value in tally.items()})


def _within(path: _Path) -> str:
    return f" in {'/'.join(path)}" if path else ""
