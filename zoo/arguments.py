"""Command-line arguments from a dataclass, in one manner for all commands."""

from typing import TypeVar

import tyro

T = TypeVar("T")


def parse(kind: type[T], argv: list[str], prog: str, *, default: T | None = None) -> T:
    """Reads `argv` into `kind`; its docstrings are the help. Exits on --help and on bad arguments.

    Booleans are plain switches (`--words`); those that are true by default are `--no-...`.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    if default is None:
        return tyro.cli(kind, args=argv, prog=prog, config=config)
    return tyro.cli(kind, args=argv, prog=prog, default=default, config=config)
