"""Weights as safetensors: plain arrays under dotted names, nothing that executes.

`encoder.layers.0.kernel` is the path of the parameter in the model. Matrices may be stored as
float16, which halves a file; vectors (biases, norms, feature statistics) stay float32.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.errors import InputError
from ..data.files import replace_file


def save_weights(
    path: Path,
    tree: Mapping[Any, Any],
    *,
    storage: Literal["float16", "float32"] = "float16",
) -> None:
    """Writes nested dicts of arrays, whole or not at all.

    Raises:
      ValueError: a weight is not finite, or too large for `storage`.
    """
    from safetensors.numpy import save

    arrays = {}
    for name, value in flatten(tree).items():
        array = np.asarray(value, np.float32)
        if storage == "float16" and array.ndim >= 2:
            with np.errstate(over="ignore"):  # found below
                array = array.astype(np.float16)
        if not np.isfinite(array).all():
            raise ValueError(f"weight {name} is not finite in {array.dtype}")
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)  # it makes [] a [1]
    replace_file(path, save(arrays, metadata={"format": "parley"}))


def load_weights(path: Path, template: Mapping[Any, Any]) -> dict[Any, Any]:
    """Reads weights into the structure, shapes and types of `template`.

    `template`: nested dicts whose leaves have `shape` and `dtype`; none is computed with.

    Raises:
      InputError: the file is missing or damaged, or holds the weights of another model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    expected = flatten(template)
    try:
        size, most = Path(path).stat().st_size, _most_bytes(expected)
        if size > most:
            raise InputError(
                f"{path} has {size:,} bytes, and this model's weights take at most {most:,}: it "
                "belongs to another recipe."
            )
        found = load(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: copy the model folder again, whole.") from None
    except InputError:
        raise
    except (SafetensorError, json.JSONDecodeError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is damaged ({_first_line(error)}): copy or export it again."
        ) from None
    if odd := sorted(expected.keys() ^ found.keys()):
        verb = "lacks" if odd[0] in expected else "has an unknown"
        raise InputError(f"{path} {verb} weight {odd[0]}: it belongs to another model or version.")
    for name, leaf in expected.items():
        if found[name].shape != tuple(leaf.shape):
            raise InputError(
                f"{path}: weight {name} has shape {list(found[name].shape)}, and this model's is "
                f"{list(leaf.shape)}: it belongs to another recipe."
            )
        if not np.isfinite(found[name]).all():
            raise InputError(f"{path}: weight {name} holds NaN or infinity: export it again.")
    return _fill(template, found, "")


def _most_bytes(expected: Mapping[str, Any]) -> int:
    """Of a file of these weights in float64, names and shapes included."""
    return (
        8 * sum(math.prod(leaf.shape) for leaf in expected.values())
        + 1_000 * len(expected)
        + (1 << 20)
    )


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {0: x}}` -> `{"a.0": x}`, in sorted order of names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return dict(sorted(flat.items()))


def _fill(tree: Mapping[Any, Any], found: Mapping[str, np.ndarray], prefix: str) -> dict[Any, Any]:
    filled: dict[Any, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            filled[key] = _fill(value, found, f"{name}.")
        else:
            filled[key] = found[name].astype(value.dtype)
    return filled


def merge_trees(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> dict[Any, Any]:
    """Nested dicts with the leaves of both; they share none."""
    merged = dict(a)
    for key, value in b.items():
        merged[key] = merge_trees(merged[key], value) if key in merged else value
    return merged


def part_of(tree: Mapping[Any, Any], template: Mapping[Any, Any]) -> dict[Any, Any]:
    """The leaves of `tree` that `template` has."""
    return {
        key: part_of(tree[key], value) if isinstance(value, Mapping) else tree[key]
        for key, value in template.items()
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
