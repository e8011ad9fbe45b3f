"""Blocks whose activations are computed again in the backward pass, instead of being kept.

    with rematerialised("blocks"):
        encoded, lengths = model.encode(x, lengths, key=key)

A policy holds for the blocks that are traced inside, and changes no number. Encoders call their
blocks by `run_block`; a stream has no backward pass, and is not concerned.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv 1604.06174.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import jax
from flax import nnx

Policy = Literal["none", "blocks", "products"]
"""What a block keeps: everything; only its input; its input and its matrix products' results."""

_SAVED: dict[str, Callable[..., Any] | None] = {
    "blocks": None,
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
_POLICY: ContextVar[Policy] = ContextVar("remat", default="none")


@contextmanager
def rematerialised(policy: Policy) -> Iterator[None]:
    """Encoders traced inside keep of their blocks what `policy` says."""
    token = _POLICY.set(policy)
    try:
        yield
    finally:
        _POLICY.reset(token)


def run_block(block: Any, *args: Any, **kwargs: Any) -> Any:
    """`block(*args, **kwargs)` under the policy that holds; the block is a module."""
    policy = _POLICY.get()
    if policy == "none":
        return block(*args, **kwargs)

    split: Any = nnx.split(block, nnx.Param, ...)
    graphdef, params, rest = split

    def pure(params: Any, rest: Any, args: Any, kwargs: Any) -> Any:
        inner = nnx.merge(graphdef, params, rest)
        out = inner(*args, **kwargs)
        moved: Any = nnx.split(inner, nnx.Param, ...)
        return out, nnx.to_pure_dict(moved[2])

    # Plain dicts: variables would bring the trace along that they were made in.
    plain = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    out, rest = jax.checkpoint(pure, policy=_SAVED[policy])(*plain, args, kwargs)
    nnx.update(block, rest)  # batch normalisation has moved its running statistics
    return out


def run_blocks(
    blocks: Iterable[Any], x: Any, states: Iterable[Any], keys: Iterable[Any], *args: Any
) -> tuple[Any, tuple[Any, ...]]:
    """Blocks one after another, `x, state = block(x, state, *args, key=key)` by `run_block`.

    Returns:
      `(x, the blocks' states)`.
    """
    after = []
    for block, state, key in zip(blocks, states, keys, strict=True):
        x, state = run_block(block, x, state, *args, key=key)
        after.append(state)
    return x, tuple(after)
