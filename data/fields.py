"""Frozen dataclasses out of plain JSON or YAML values, every field checked by its type.

Whoever wrote the values cannot bring in more than the dataclass has: nothing is called, imported or
evaluated. The light half of reading a recipe or a card; it imports nothing heavy.
"""

import contextlib
import dataclasses
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from .errors import InputError

T = TypeVar("T")


def build(cls: type[T], values: Any, path: str) -> T:
    """The dataclass `cls` with the fields of `values`; `path` names them in what is said of them.

    Raises InputError for an unknown field, a missing one or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{path} should be a table of fields, not {reprlib.repr(values)}.")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    unknown = sorted(map(str, set(values) - set(fields)))
    if unknown:
        raise InputError(
            f"{path} has no field {reprlib.repr(unknown[0])}; it has {', '.join(sorted(fields))}."
        )
    built = {name: _value(hints[name], v, f"{path}.{name}") for name, v in values.items()}
    missing = [
        name
        for name, f in fields.items()
        if name not in built
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{path} lacks the field {missing[0]!r}.")
    return cls(**built)


def _value(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, path)
    if origin in (typing.Union, types.UnionType):
        if all(dataclasses.is_dataclass(option) for option in arguments):
            return _of_its_kind(arguments, value, path)
        for option in arguments:
            if option is type(None):
                if value is None:
                    return None
                continue
            try:
                return _value(option, value, path)
            except InputError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(_value(arguments[0], v, path) for v in value)
        if len(arguments) == len(value):
            return tuple(_value(a, v, path) for a, v in zip(arguments, value, strict=True))
    elif origin is Mapping:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {k: _value(arguments[1], v, f"{path}.{k[:40]}") for k, v in value.items()}
    elif hint is Any:
        return value
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer may be beyond every float
            return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise InputError(f"{path} cannot be {reprlib.repr(value)}.")


def _of_its_kind(classes: tuple[Any, ...], values: Any, path: str) -> Any:
    """One of several dataclasses whose field `kind` has each its own default.

    The first is taken where no kind is given: recipes were written before there were several.
    """
    known = {cls.kind: cls for cls in classes}
    kind = values.get("kind", classes[0].kind) if isinstance(values, Mapping) else classes[0].kind
    if not isinstance(kind, str) or kind not in known:
        raise InputError(
            f"{path}.kind cannot be {reprlib.repr(kind)}: there are {', '.join(known)}."
        )
    return build(known[kind], values, path)
