"""Low-rank adapters: a linear layer and what is learned beside it.

    y = W x + b + (alpha / r) B A x          A [r, D], B [O, r]

W and b are as they were; A is drawn and B is zero, so that a model with fresh adapters is the model
without. Afterwards B A is added to W, and nothing is left of them.

An adapted layer is a module around the layer, so that its weights lie one name deeper:
`query.kernel` is `query.base.kernel` then, beside `query.down` (A transposed) and `query.up`.

Source: Hu et al. 2021, "LoRA: Low-rank adaptation of large language models", arXiv 2106.09685,
section 4.1.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

_BASE, _DOWN, _UP = "base", "down", "up"
ADAPTERS = _DOWN, _UP
"""Names of an adapter's matrices."""


class Adapter(nnx.Param):
    """A matrix of an adapter: what is trained of a model that has any."""


class AdaptedLinear(nnx.Module):
    """A linear layer with an adapter of rank r, whose product counts `scale` = alpha / r times."""

    def __init__(self, base: nnx.Linear, rank: int, scale: float, *, rngs: nnx.Rngs):
        inputs, outputs = base.kernel.shape
        if not 1 <= rank <= min(inputs, outputs):
            raise ValueError(
                f"an adapter's rank lies between 1 and {min(inputs, outputs)}, which a layer "
                f"[{inputs}, {outputs}] has, not {rank}"
            )
        self.base = base
        self.scale = scale
        self.dtype = base.dtype
        draw = nnx.initializers.lecun_normal()
        self.down = Adapter(draw(rngs.params(), (inputs, rank)))
        self.up = Adapter(jnp.zeros((rank, outputs)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., O]."""
        y = self.base(x)
        # At the width r first: D r + r O products of an input, and not D O.
        down, up = (m[...].astype(self.dtype or x.dtype) for m in (self.down, self.up))
        low = x.astype(down.dtype) @ (self.scale * down)
        return y + (low @ up).astype(y.dtype)


def add_adapters(
    model: nnx.Module,
    layers: str,
    rank: int,
    scale: float,
    *,
    rngs: nnx.Rngs,
    allowed: Callable[[str], bool] = lambda part: True,
) -> None:
    """Gives a model's linear layers adapters, in place.

    Args:
      layers: regular expression that is looked for in a layer's name, as there is
        `encoder.blocks.0.first.widen`.
      allowed: of the first part of a name, whether layers under it may have one.

    Raises:
      ValueError: no layer is of such a name, `layers` is no expression, or the rank is too large.
    """
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise ValueError(f"{layers!r} is no regular expression: {error}") from None
    found = [
        (path, module)
        for path, module in nnx.iter_modules(model)
        if type(module) is nnx.Linear and allowed(str(path[0]))
    ]
    chosen = [(path, module) for path, module in found if pattern.search(_name(path))]
    if not chosen:
        some = ", ".join(_name(path) for path, _ in found[:3])
        raise ValueError(f"no linear layer's name has {layers!r} in it: there are {some} ...")
    for path, layer in chosen:
        parent: Any = model
        for key in path[:-1]:
            parent = parent[key] if isinstance(parent, nnx.List) else getattr(parent, str(key))
        adapted = AdaptedLinear(layer, rank, scale, rngs=rngs)
        if isinstance(parent, nnx.List):
            parent[path[-1]] = adapted
        else:
            setattr(parent, str(path[-1]), adapted)


def has_adapters(model: nnx.Module) -> bool:
    return any(isinstance(module, AdaptedLinear) for _, module in nnx.iter_modules(model))


def with_places(plain: Mapping[Any, Any], template: Mapping[Any, Any]) -> dict[Any, Any]:
    """A plain model's weights under the names that they have beside the adapters of `template`."""
    found: dict[Any, Any] = {}
    for key, value in plain.items():
        inner = template.get(key)
        if isinstance(inner, Mapping) and _UP in inner and _BASE in inner:
            found[key] = {_BASE: value}
        elif isinstance(value, Mapping) and isinstance(inner, Mapping):
            found[key] = with_places(value, inner)
        else:
            found[key] = value
    return found


def merged(weights: Mapping[Any, Any], scale: ArrayLike) -> dict[Any, Any]:
    """A plain model's weights, with what adapters have learned added to their layers'."""
    found: dict[Any, Any] = {}
    for key, value in weights.items():
        if isinstance(value, Mapping) and value.keys() == {_BASE, _DOWN, _UP}:
            base = value[_BASE]
            kernel = base["kernel"] + scale * (value[_DOWN] @ value[_UP])
            found[key] = {**base, "kernel": kernel.astype(base["kernel"].dtype)}
        else:
            found[key] = merged(value, scale) if isinstance(value, Mapping) else value
    return found


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
