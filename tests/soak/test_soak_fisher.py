"""Memory of the Fisher program for models of 30 M parameters, as the compiler states it."""

import pytest

from parley.benchmarks.fisher import measure
from parley.configs import presets


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["rnnt-30m", "conv-rnnt-30m"])
def test_three_copies_of_the_parameters_and_one_row(name: str):
    memory = measure(presets()[name], seconds=15.0, tokens=80)
    print(f"{name}: {memory.copies:.2f} copies beside a row of {memory.row / 2**20:.0f} MiB")
    assert memory.copies <= 3.05  # the batch itself is counted too
