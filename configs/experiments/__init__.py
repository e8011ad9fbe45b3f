"""Experiments: one file a comparison, run by `parley experiment NAME`."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...train.experiment import Experiment

FILES = ("encoders", "losses", "amortized", "sts", "verification", "fairness")


def experiments() -> "dict[str, Experiment]":
    """Every experiment of every file, by name."""
    found: dict[str, Experiment] = {}
    for file in FILES:
        found |= importlib.import_module(f".{file}", __name__).EXPERIMENTS
    return found
