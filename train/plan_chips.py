"""What the chips are on which a run is planned: their makers' numbers, and no measurements.

Sources, read in November 2026. TPU: cloud.google.com/tpu/docs/v5e, /v5p and /v6e; a chip's links
are half of the "bidirectional inter-chip interconnect bandwidth per chip" (400, 1,200 and 800
GB/s), its network its share of the "data center network bandwidth per pod" (6.4 and 25.6 Tbit/s for
256 chips of v5e and v6e; of v5p 50 Gbit/s a chip, as the page says). NVIDIA's data sheets of A100
80 GB, H100 and H200 (SXM): bfloat16 without sparsity; NVLink's 600 and 900 GB/s are of both
directions; between nodes the adapters that its DGX systems have for each GPU (A100 200 Gbit/s, H100
and H200 400). Of the pages' two figures for the memory of v5e (819 and 800 GB/s) and v5p (2,765
GB/s and 2,575 GiB/s) the first.
"""

import re
from dataclasses import dataclass

from ..data.errors import InputError

_GB = 1e9


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
      kind: how the name of a topology begins.
      name: as people call it.
      flops: operations a second in bfloat16, a multiply-add being two.
      memory: bytes of it.
      bandwidth: of its memory, bytes a second.
      link: bytes a second that it can send to its neighbours over all links together.
      axes: dimensions of the torus; a collective along one of several mesh axes has the links of
        one dimension. 0: a switch, where it has all of them.
      together: chips that the links connect in one slice; beyond, there is the network.
      network: bytes a second that a chip can send over it.
      host: chips whose batches one host loads.
      tile: rows, depth and columns to which a matrix product is filled up.
      launch_s: seconds that an operation takes at least. Of TPU: what the compiler's own estimates
        do not go below, 1,800 cycles of 1.5 GHz. Of GPU: about what starting a kernel takes.
    """

    kind: str
    name: str
    flops: float
    memory: float
    bandwidth: float
    link: float
    axes: int
    together: int
    network: float
    host: int
    tile: tuple[int, int, int]
    launch_s: float

    @property
    def is_tpu(self) -> bool:
        return self.kind.startswith("v")


_TPU = {"launch_s": 1.2e-6}
_GPU = {"axes": 0, "together": 8, "host": 8, "tile": (1, 1, 1), "launch_s": 3e-6}

CHIPS = {
    chip.kind: chip
    for chip in (
        Chip(
            "v5e", "TPU v5e", 197e12, 16 * _GB, 819 * _GB, 200 * _GB, 2, 256, 3.125 * _GB, 8,
            (8, 128, 128), **_TPU,
        ),
        Chip(
            "v5p", "TPU v5p", 459e12, 95 * _GB, 2765 * _GB, 600 * _GB, 3, 6144, 6.25 * _GB, 4,
            (8, 128, 128), **_TPU,
        ),
        Chip(
            "v6e", "TPU v6e", 918e12, 32 * _GB, 1600 * _GB, 400 * _GB, 2, 256, 12.5 * _GB, 8,
            (8, 256, 256), **_TPU,
        ),
        Chip(
            "a100", "NVIDIA A100 80 GB", 312e12, 80 * _GB, 2039 * _GB, 300 * _GB,
            network=25 * _GB, **_GPU,
        ),
        Chip(
            "h100", "NVIDIA H100", 989e12, 80 * _GB, 3350 * _GB, 450 * _GB,
            network=50 * _GB, **_GPU,
        ),
        Chip(
            "h200", "NVIDIA H200", 989e12, 141 * _GB, 4800 * _GB, 450 * _GB,
            network=50 * _GB, **_GPU,
        ),
    )
}  # fmt: skip


def parse_topology(name: str) -> tuple[Chip, int]:
    """(chip, number of chips) of `v5e:16x16`, `v5p:4x4x4` or `h100:8`.

    Raises InputError for a chip that is not known, and for a shape that its links cannot have.
    """
    kind, _, shape = name.partition(":")
    chip = CHIPS.get(kind)
    sizes = [int(n) for n in shape.split("x")] if re.fullmatch(r"\d+(x\d+)*", shape) else []
    if chip is None or not sizes or min(sizes) < 1:
        raise InputError(
            f"--topology {name} is none that is known: give CHIP:SHAPE, as v5e:16x16, v5p:4x4x4 "
            f"or h100:8; chips are {', '.join(CHIPS)}."
        )
    if len(sizes) != max(chip.axes, 1):
        raise InputError(
            f"--topology {name}: the shape of {chip.name} has {max(chip.axes, 1)} "
            f"number{'s' if chip.axes > 1 else ''}, as {_example(chip)}."
        )
    count = 1
    for size in sizes:
        count *= size
    if chip.is_tpu and count > chip.together:
        raise InputError(
            f"--topology {name}: a slice of {chip.name} has at most {chip.together:,} chips."
        )
    return chip, count


def _example(chip: Chip) -> str:
    return {0: f"{chip.kind}:8", 2: f"{chip.kind}:16x16", 3: f"{chip.kind}:4x4x4"}[chip.axes]
