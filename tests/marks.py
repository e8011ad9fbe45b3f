"""Which cases of a test `make quick` runs."""

from collections.abc import Iterable
from typing import Any

import pytest


def first_is_quick(names: Iterable[str]) -> list[Any]:
    """The names as parameters; all but the first are left to `make test`."""
    first, *rest = names
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in rest)]
