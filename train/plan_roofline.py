"""Seconds of a training step by the roofline: what a program needs against what a chip gives.

Each operation takes the longest of three: its arithmetic at the chip's peak, its bytes at the
memory's bandwidth, and what starting any operation takes. Collectives come on top, as if nothing
went on beside them. So an estimate is no promise: kernels reach less than the peak, and what the
compiler overlaps is not counted as saved.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .plan_chips import Chip
from .plan_hlo import Op, Product, Program, Sent

HOP_S = 1e-6
"""Seconds that a collective takes at least, for each doubling of those that take part."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of one step, by what bounds them."""

    compute: float
    memory: float
    launch: float
    collective: float

    @property
    def step(self) -> float:
        return self.compute + self.memory + self.launch + self.collective

    def as_dict(self) -> dict[str, float]:
        return {**asdict(self), "step": self.step}


def estimate(program: Program, chip: Chip, chips: int) -> Estimate:
    """Of a chip's program on a topology of `chips`."""
    spent = {"compute": 0.0, "memory": 0.0, "launch": 0.0}
    collective = 0.0
    for op in program.ops:
        collective += op.times * sum(collective_s(sent, chip, chips) for sent in op.sent)
        bound, seconds = _of_operation(op, chip)
        spent[bound] += op.times * seconds
    return Estimate(**spent, collective=collective)


def _of_operation(op: Op, chip: Chip) -> tuple[str, float]:
    """What bounds it, and its seconds."""
    bounds = {
        "compute": sum(product_s(p, chip) for p in op.products),
        "memory": op.traffic / chip.bandwidth,
        # Copies that run in the background are not started by the core.
        "launch": 0.0 if op.sent or op.opcode.endswith("-start") else chip.launch_s,
    }
    bound = max(bounds, key=lambda name: bounds[name])
    return bound, bounds[bound]


def product_s(product: Product, chip: Chip) -> float:
    """Of a matrix product that is filled up to whole tiles of the matrix unit."""
    filled = 1.0
    if product.depth and product.columns:
        sizes = (product.rows, product.depth, product.columns)
        for size, tile in zip(sizes, chip.tile, strict=True):
            filled *= -(-size // tile) * tile / size
    return product.flops * filled * product.passes / chip.flops


def collective_s(sent: Sent, chip: Chip, chips: int) -> float:
    """Of one collective among `sent.group` of `chips`."""
    doublings = (sent.group - 1).bit_length()
    if chips <= chip.together:
        # One of several mesh axes lies along one dimension of the torus and has its links alone.
        part = chip.axes if chip.axes and sent.group < chips else 1
        return sent.wire / (chip.link / part) + doublings * HOP_S
    # First among those that links connect, then each with its share over the network.
    inside = Sent(sent.kind, sent.bytes, min(sent.group, chip.together))
    pods = -(-sent.group // chip.together)
    between = Sent(sent.kind, sent.bytes // inside.group, pods) if pods > 1 else None
    over = between.wire / chip.network if between else 0.0
    return inside.wire / chip.link + over + doublings * HOP_S


def weak_scaling(record: Mapping[str, Any], chip: Chip, sizes: tuple[int, ...]) -> list[dict]:
    """Steps on other numbers of chips, with as much work for each chip as in a compiled plan.

    A chip's own program stays what it is; collectives along `data` grow with the number of chips.
    Of plans that are split along `data` alone this is exact up to what the compiler chooses.
    """
    own = sum(record["estimate"][name] for name in ("compute", "memory", "launch"))
    rows = []
    for chips in sizes:
        collective = sum(
            each["count"]
            * collective_s(
                Sent(kind, round(each["bytes"] / each["count"]), _grown(each, record, chips)),
                chip,
                chips,
            )
            for kind, each in record["collectives"].items()
        )
        step = own + (collective if chips > 1 else 0.0)
        rows.append(
            {
                "chips": chips,
                "step": step,
                "collective": collective / step,
                "efficiency": own / step,
                "audio_per_second": record["audio_seconds"] / record["chips"] * chips / step,
            }
        )
    return rows


def _grown(each: Mapping[str, Any], record: Mapping[str, Any], chips: int) -> int:
    """Chips in a collective; those among all of them grow with their number."""
    return chips if each["group"] == record["chips"] else each["group"]


def advice(record: Mapping[str, Any]) -> list[str]:
    """What to change in a recipe whose step does not fit, or wastes the chips; best first."""
    said = []
    used, room = record["memory"]["total"], record["memory"]["capacity"]
    if used > room:
        over = f"{used / 2**30:.1f} GiB needed, {room / 2**30:.1f} GiB there"
        said.append(f"does not fit: {over}.")
        if record["remat"] == "none":
            said.append("recompute activations in the backward pass: --remat blocks.")
        parts = record["rows"] // (record["mesh"][0] * record["mesh"][1])
        if parts > record["accumulate"]:
            said.append(
                f"cut the batch into microbatches: --optimizer.accumulate "
                f"{min(parts, 2 * record['accumulate'])}."
            )
        else:
            said.append("take smaller batches: lower --data.batch-seconds or --data.max-seconds.")
        if record["memory"]["arguments"] > 0.3 * room and record["mesh"][1] < record["chips"]:
            said.append(
                f"split parameters and optimiser state: --mesh.fsdp "
                f"{min(record['chips'], 2 * record['mesh'][1])}."
            )
    spent = record["estimate"]
    if spent["collective"] > 0.2 * spent["step"]:
        said.append(
            f"{100 * spent['collective'] / spent['step']:.0f} % of a step is communication: more "
            f"audio a chip (--data.batch-seconds), or less fsdp and model in the mesh."
        )
    if spent["launch"] > 0.5 * spent["step"]:
        said.append(
            f"{100 * spent['launch'] / spent['step']:.0f} % of a step goes to starting small "
            f"operations, one after another: more rows a chip cost little more time."
        )
    return said
