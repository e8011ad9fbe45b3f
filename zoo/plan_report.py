"""What `parley plan` prints."""

from collections.abc import Sequence
from typing import Any

from ..train.plan_chips import parse_topology
from ..train.plan_roofline import advice
from .console import stdout, table

Record = dict[str, Any]
_PARTS = {
    "compute": "arithmetic",
    "memory": "memory",
    "launch": "starting operations",
    "collective": "communication",
}


def show_plan(record: Record, largest: float | None) -> None:
    """One plan: the batch, memory, work, time, and what to change."""
    console = stdout()
    data, fsdp, model = record["mesh"]
    console.print(
        f"{record['recipe']}: {record['parameters'] / 1e6:.1f} M parameters, "
        f"{record['precision']}, remat {record['remat']}, on {record['chips']} x {record['chip']} "
        f"({record['topology']}), mesh data {data} x fsdp {fsdp} x model {model}.\n"
        f"A batch is {record['rows']:,} rows of {record['utterance_seconds']:.2f} s and "
        f"{record['tokens']} tokens, {record['audio_seconds']:,.0f} s of audio, in "
        f"{record['accumulate']} part{'s' if record['accumulate'] > 1 else ''}. Compiled in "
        f"{record['compile_seconds']:.0f} s ({record['compile_processor_seconds']:.0f} s of "
        f"processor), not run.\n"
    )
    console.print(_memory(record))
    if record["estimate"]:
        console.print()
        console.print(_work(record))
        console.print(_times(record))
    if largest is not None:
        console.print(
            f"Largest batch that fits: {largest:,.0f} s of audio (on the line through two compiled "
            f"batches)."
        )
    for line in advice(record) if record["estimate"] else [*advice(_without_time(record))]:
        console.print(f"* {line}")


def _without_time(record: Record) -> Record:
    """For advice on a step that the compiler refused."""
    return record | {"estimate": dict.fromkeys((*_PARTS, "step"), 0.0)}


def _memory(record: Record) -> Any:
    memory = record["memory"]
    made = table("memory of a chip", "GiB", right=("GiB",))
    names = {
        "arguments": "state and batch",
        "outputs": "results",
        "temporary": "activations and other temporary",
        "program": "program",
    }
    for name, title in names.items():
        if name in memory:
            made.add_row(title, f"{memory[name] / 2**30:.2f}")
    made.add_row("together", f"{memory['total'] / 2**30:.2f}")
    made.add_row(
        f"of {'which it fits into' if record['fits'] else 'which it does NOT fit into'}",
        f"{memory['capacity'] / 2**30:.2f}",
    )
    return made


def _work(record: Record) -> Any:
    made = table("a step of a chip", "", right=("",))
    made.add_row("arithmetic", f"{record['flops'] / 1e12:,.2f} TFLOP")
    made.add_row("of that not computed twice", f"{record['useful_flops'] / 1e12:,.2f} TFLOP")
    made.add_row("bytes to and from memory", f"{record['traffic'] / 1e9:,.2f} GB")
    made.add_row("operations started", f"{record['operations']:,.0f}")
    for kind, each in record["collectives"].items():
        made.add_row(
            f"{kind}, {each['count']:,.0f} times, up to {each['group']} chips",
            f"{each['bytes'] / 1e6:,.1f} MB",
        )
    return made


def _times(record: Record) -> str:
    spent, chips = record["estimate"], record["chips"]
    step = spent["step"]
    parts = ", ".join(f"{n} {100 * spent[p] / step:.0f} %" for p, n in _PARTS.items())
    rate = record["audio_seconds"] / step
    chip = parse_topology(record["topology"])[0]
    return (
        f"\nBy the roofline a step takes {1000 * step:,.1f} ms ({parts}); MFU "
        f"{100 * record['mfu']:.1f} %.\n{record['steps']:,} steps: {record['hours']:.2f} hours, "
        f"{record['chip_hours']:,.1f} chip-hours.\nThe hosts must load {rate:,.0f} s of audio a "
        f"second, {rate / chips * min(chip.host, chips):,.0f} for each host of {chip.host} chips."
    )


def show_sweep(records: Sequence[Record]) -> None:
    """Batches and meshes beside each other."""
    numbers = ("audio s", "GiB a chip", "step ms", "communication", "MFU", "hours", "chip-hours")
    made = table("mesh", *numbers, "fits", right=numbers)
    for r in records:
        spent = r["estimate"]
        times = (
            (
                f"{1000 * spent['step']:,.1f}",
                f"{100 * spent['collective'] / spent['step']:.1f} %",
                f"{100 * r['mfu']:.1f} %",
                f"{r['hours']:.2f}",
                f"{r['chip_hours']:,.1f}",
            )
            if spent
            else ("",) * 5
        )
        made.add_row(
            "x".join(map(str, r["mesh"])),
            f"{r['audio_seconds']:,.0f}",
            f"{r['memory']['total'] / 2**30:.2f}",
            *times,
            "yes" if r["fits"] else "no",
        )
    console = stdout()
    console.print()
    console.print(made)


def show_scaling(rows: Sequence[Record], record: Record) -> None:
    """Steps from few chips to many, each with the same work."""
    numbers = ("chips", "step ms", "communication", "efficiency", "audio s a second")
    made = table(*numbers, right=numbers)
    for r in rows:
        made.add_row(
            f"{r['chips']:,}",
            f"{1000 * r['step']:,.1f}",
            f"{100 * r['collective']:.1f} %",
            f"{100 * r['efficiency']:.1f} %",
            f"{r['audio_per_second']:,.0f}",
        )
    console = stdout()
    each = record["audio_seconds"] / record["chips"]
    console.print(f"\nWeak scaling, {each:,.0f} s of audio a chip, computed from the plan above:")
    console.print(made)
