"""Parley: streaming transducer speech recognition in JAX.

Nothing of parley is imported here: `parley.zoo`, `parley.models`, ... load when they are asked for.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"
_ROOMS = ("benchmarks", "configs", "data", "fairness", "metrics", "models", "train", "zoo")


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
