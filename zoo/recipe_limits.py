"""What no model of this package is: a recipe from elsewhere is measured by it before it is built.

A recipe is data and runs nothing, but one number in it could ask for a model that takes all memory
or a week to put together, before its weights were looked at.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.errors import InputError

MOST_BYTES = 1 << 20
_MOST = 1 << 20
"""Of any number."""
_MOST_LAYERS = 256
_LAYERS = frozenset(("layers", "blocks", "global_blocks", "mixture", "separation", "recognition"))
_FRONTEND = {
    "sample_rate": (1_000, 192_000),
    "bins": (1, 1_024),
    "window_s": (0.001, 1.0),
    "hop_s": (0.001, 1.0),
    "stack": (1, 256),
    "tail_s": (0.0, 60.0),
}
"""Least and most."""


def read_values(path: Path) -> Any:
    """What `recipe.json` says, if a model could be like that.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it is no JSON, or larger than any recipe, or it asks for what no model is.
    """
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError("it is larger than any recipe")
    try:
        values = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if isinstance(values, Mapping) and isinstance(values.get("model"), Mapping):
        _check(values["model"], "model")
        _check_frontend(values["model"].get("frontend"))
    return values


def _check(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check(inner, f"{path}.{str(name)[:40]}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > _MOST_LAYERS:
            raise InputError(f"{path} has {len(value)} entries, more than any model")
        for inner in value:
            _check(inner, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        most = _MOST_LAYERS if path.rpartition(".")[2] in _LAYERS else _MOST
        if not abs(value) <= most:
            raise InputError(f"{path} is {str(value)[:20]}, more than any model has")


def _check_frontend(values: Any) -> None:
    for name, (least, most) in _FRONTEND.items():
        value = values.get(name, least) if isinstance(values, Mapping) else least
        if isinstance(value, int | float) and not least <= value <= most:
            raise InputError(f"model.frontend.{name} is {value:g}, not {least:g} to {most:g}")
