"""Time and memory of the transducer losses, loss and gradient in float32.

    python -m parley.benchmarks.rnnt_loss                      # every shape that fits into memory
    python -m parley.benchmarks.rnnt_loss --small              # shapes of milliseconds
    python -m parley.benchmarks.rnnt_loss --only "joint T150" --repeats 9
    python -m parley.benchmarks.rnnt_loss --peer-python ~/torch/bin/python --plot figures
    python -m parley.benchmarks.rnnt_loss --small --json > losses.json

Two levels, on the device that JAX finds: `rnnt_loss` from logits, and `transducer_loss` through a
joint, loss and gradient to encoder, prediction network and output layer. Each form runs in a fresh
process, in an order that rotates from round to round, compiled and warmed up first. Losses of other
projects are measured beside them if the interpreter of --peer-python can import them (torchaudio,
fast_rnnt, warp_rnnt, warprnnt_pytorch) and their values agree with ours.

Floors are measured in the same run. Logits level: the time of `y = 2 x` written over its own input,
an array of the logits' size. Joint level: 6 D V operations for each cell within the lengths, at the
best rate of matrix products. On a shared machine trust the multiples, not the milliseconds.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..zoo.console import remark, stdout, table
from .rnnt_loss_cases import Case, all_cases, published
from .rnnt_loss_plot import plot_memory, plot_time

Record = dict[str, Any]

_OURS = [sys.executable, "-m", "parley.benchmarks.rnnt_loss_measure"]
_PEERS = str(Path(__file__).with_name("rnnt_loss_peers.py"))
_MAIN = ("rnnt_loss", "transducer_loss")
_FORMS = {"logits": ("rnnt_loss",), "joint": ("transducer_loss", "full logits")}
# Fresh pages cost 0.3 s a GiB and more on some machines, which would drown what is measured. So
# freed memory is kept, as by our commands (`zoo.runtime.keep_memory`), and pages are large ones;
# alike for every form, and what the environment asks for goes before it.
_MALLOC = ":".join(
    f"glibc.malloc.{setting}"
    for setting in ("arena_max=1", "mmap_max=0", f"trim_threshold={1 << 40}", "hugetlb=1")
)
_CHECKED = Case("logits", "check", (150, 120, 97, 60), (40, 31, 12, 5), 128)
_CLOSE = 1e-4


# --- Processes ----------------------------------------------------------------------------------


def ask(command: Sequence[str], request: Record | None = None) -> Record:
    """The answer of a fresh process; {"failed": reason} if it has none."""
    done = subprocess.run(
        command,
        input="" if request is None else json.dumps(request),
        env={"GLIBC_TUNABLES": _MALLOC, **os.environ},
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"failed": "killed, as for want of memory" if done.returncode == -9 else last[:200]}


def ask_ours(request: Record) -> Record:
    return ask(_OURS, request)


def find_peers(python: str, platform: str) -> dict[str, Record]:
    """Peers that can be imported, each with its version and how far its losses are from ours."""
    try:
        versions = ask([python, _PEERS, "--list"])
    except OSError as error:
        sys.exit(f"parley: --peer-python {python} cannot be run: {error.strerror}")
    if "failed" in versions:
        sys.exit(f"parley: --peer-python {python} failed: {versions['failed']}")
    if not versions:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        request = {"case": _CHECKED.as_json(), "path": f"{folder}/reference.npz"}
        made = ask_ours({"form": "reference", **request})
        if "failed" in made:
            sys.exit(f"parley: the reference losses failed: {made['failed']}")
        return {
            name: {
                "version": version,
                **ask([python, _PEERS], {"form": name, "platform": platform, **request}),
            }
            for name, version in versions.items()
        }


def agrees(peer: Record) -> bool:
    return peer.get("loss", float("nan")) < _CLOSE


def host_bytes() -> int | None:
    """Memory that the host has free; None where it does not say."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) << 10 if found else None


# --- Measuring ----------------------------------------------------------------------------------


def measure(case: Case, peers: Sequence[str], given: argparse.Namespace, platform: str) -> Record:
    """All forms of one shape: milliseconds, floor, memory, and what was skipped and why."""
    forms = [*_FORMS[case.level], *peers]
    found: Record = {"case": case, "ms": {}, "floor_ms": [], "memory": {}, "skipped": {}}
    for turn in range(given.rounds):
        start = turn % len(forms)
        for form in forms[start:] + forms[:start]:
            if form in found["skipped"]:
                continue
            request = {
                "form": form,
                "case": case.as_json(),
                "repeats": given.repeats,
                "host_bytes": host_bytes(),
                "platform": platform,
            }
            said = ask([given.peer_python, _PEERS] if form in peers else _OURS, request)
            reason = said.get("skipped") or said.get("failed")
            if reason:
                found["skipped"][form] = reason
                remark(f"{case.name}: {form} skipped, {reason}")
                continue
            for name, times in said["ms"].items():
                found["ms"].setdefault(name, []).extend(times)
                # The tables come at the end: a run that is cut short has at least said this.
                remark(f"{case.name}: {name} {statistics.median(times):,.2f} ms")
            found["floor_ms"] += said.get("floor_ms", [])
            found["memory"] |= said.get("memory", {})
            found["flops_per_s"] = max(found.get("flops_per_s", 0), said.get("flops_per_s", 0))
    return found


def rows_of(found: Record, flops_per_s: float) -> list[Record]:
    """One record for each form of a shape."""
    case: Case = found["case"]
    floor = None
    if case.level == "joint" and flops_per_s:
        floor = 1e3 * case.flops / flops_per_s
    elif found["floor_ms"]:
        floor = statistics.median(found["floor_ms"])
    shape: Record = {
        "shape": case.shape,
        "level": case.level,
        **dict(zip(("rows", "frames", "labels", "classes"), case.dims, strict=True)),
        "width": case.width,
        "padded_share": case.padded,
        "logits_bytes": case.logits_bytes,
        "floor_ms": floor,
    }
    rows = []
    for form, times in found["ms"].items():
        ms = statistics.median(times)
        rows.append(
            {
                **shape,
                "form": form,
                "ms": ms,
                "fastest_ms": min(times),
                "runs": len(times),
                "times_floor": ms / floor if floor else None,
                "memory_bytes": found["memory"].get(form) or None,
            }
        )
    return rows + [{**shape, "form": f, "skipped": why} for f, why in found["skipped"].items()]


# --- The tables ---------------------------------------------------------------------------------


def show(rows: Sequence[Record], about: Record) -> None:
    console = stdout()
    conditions(about)
    for level in _FORMS:
        here = [row for row in rows if row["level"] == level]
        if not here:
            continue
        joint = level == "joint"
        numbers = (
            *(("padded",) if joint else ()),
            *("floor ms", "ms", "times floor", "temporary MiB"),
            *("of dense logits", "with gradient"),
        )
        made = table(f"{level} level", "form", *numbers, right=numbers)
        for row in here:
            padding = [f"{100 * row['padded_share']:.0f} %"] if joint else []
            made.add_row(_shape(row), _form(row), *padding, *_numbers(row))
        console.print(made)
        for row in here:
            if "skipped" in row:
                console.print(f"{row['shape']}: {_form(row)} skipped, {row['skipped']}.")
        console.print()
    console.print(
        "Temporary: what the compiler plans for one evaluation, in MiB and as a multiple of the\n"
        "dense logits; with gradient: results counted too, except those over donated logits."
    )
    if about["flops_per_s"]:
        console.print(f"Best rate of matrix products: {about['flops_per_s'] / 1e9:,.0f} GFLOP/s.")
    show_published(rows, about)


def conditions(about: Record) -> None:
    console = stdout()
    console.print(
        f"{about['platform']}, {about['device']}, {about['threads']} threads, jax {about['jax']}, "
        f"float32, loss + gradient, medians of {about['rounds']} x {about['repeats']} runs"
    )
    console.print(f"GLIBC_TUNABLES={about['malloc']}")
    if not about["peers"]:
        console.print(f"Other projects' losses: none that {about['peer_python']} can import.")
    for name, peer in about["peers"].items():
        if agrees(peer):
            note = f"largest relative difference of losses to ours {peer['loss']:.0e}, "
            note += f"of the gradient {peer['gradient']:.0e}"
        else:
            said = peer.get("skipped") or peer.get("failed")
            note = f"not measured, {said or 'its losses differ from ours'}"
        console.print(f"{name} {peer['version']}: {note}.")
    console.print()


def _shape(row: Record) -> str:
    rows, frames, labels = row["rows"], row["frames"], row["labels"]
    return row["shape"] + (f" (B{rows} T{frames} U{labels})" if row["padded_share"] else "")


def _form(row: Record) -> str:
    if row["form"] == "donated":
        return "rnnt_loss, donated"
    if row["level"] == "joint" and row["form"] not in _FORMS["joint"]:
        return f"torch + {row['form']}"
    return row["form"]


def _numbers(row: Record) -> list[str]:
    if "skipped" in row:
        return ["-"] * 6
    memory, floor, times = row["memory_bytes"], row["floor_ms"], row["times_floor"]
    cells = ["-"] * 3
    if memory:
        dense = row["logits_bytes"]
        cells = [
            f"{memory['temporary'] / 2**20:,.2f}",
            f"{memory['temporary'] / dense:.3f}",
            f"{memory['extra'] / dense:.3f}",
        ]
    return [
        f"{floor:,.2f}" if floor else "-",
        f"{row['ms']:,.2f}",
        f"{times:,.2f}" if times else "-",
        *cells,
    ]


def show_published(rows: Sequence[Record], about: Record) -> None:
    """Figures of other projects below ours, by shape."""
    numbers = ("ms", "peak MB")
    made = table("shape", "implementation", "hardware", "source", *numbers, right=numbers)
    found = published()
    for shape in dict.fromkeys(row["shape"] for row in rows):
        known = [p for p in found if p.shape == shape]
        if not known:
            continue
        made.add_section()
        for row in rows:
            if row["shape"] == shape and row["form"] in _MAIN and "skipped" not in row:
                memory = row["memory_bytes"]
                peak = f"{memory['total'] / 1e6:,.1f}" if memory else "-"
                made.add_row(shape, row["form"], "this machine", "-", f"{row['ms']:,.2f}", peak)
        for p in known:
            ms = "out of memory" if p.ms is None else f"{p.ms:,.2f}"
            peak = "-" if p.peak_mb is None else f"{p.peak_mb:,.1f}"
            made.add_row(shape, p.implementation, p.hardware, p.source, ms, peak)
    if not made.row_count:
        return
    console = stdout()
    console.print(
        f"\nAs published, each on its own hardware; this machine is {about['device']}.\n"
        "Our peak: inputs, results and temporaries as compiled; theirs by PyTorch's profiler, on\n"
        "lengths of train-clean-100 itself."
    )
    console.print(made)


# --- The command --------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.rnnt_loss",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs in each process")
    parser.add_argument("--rounds", type=int, default=2, help="fresh processes of each form")
    parser.add_argument("--small", action="store_true", help="only shapes of milliseconds")
    parser.add_argument("--only", metavar="PATTERN", help='only names that hold it: "joint T150"')
    parser.add_argument(
        "--peer-python", metavar="PATH", default=sys.executable, help="default: this interpreter"
    )
    parser.add_argument("--plot", metavar="DIR", type=Path, help="also draw two figures there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if min(given.repeats, given.rounds) < 1:
        parser.error("--repeats and --rounds must be at least 1")
    cases = [
        case
        for case in all_cases()
        if (case.small or not given.small) and (given.only or "").lower() in case.name.lower()
    ]
    if not cases:
        names = "\n  ".join(case.name for case in all_cases())
        parser.error(f"no shape left with --only {given.only!r}; the names are\n  {names}")

    about = ask_ours({"form": "describe"})
    if "failed" in about:
        sys.exit(f"parley: JAX finds no device: {about['failed']}")
    peers = find_peers(given.peer_python, about["platform"])
    about |= {
        "repeats": given.repeats,
        "rounds": given.rounds,
        "malloc": os.environ.get("GLIBC_TUNABLES", _MALLOC),
        "peer_python": given.peer_python,
        "peers": peers,
    }
    measured = []
    for at, case in enumerate(cases, 1):
        remark(f"{case.name} ({at} of {len(cases)})")
        usable = [name for name, peer in peers.items() if agrees(peer)]
        measured.append(measure(case, usable, given, about["platform"]))
    about["flops_per_s"] = max(found.get("flops_per_s", 0) for found in measured)
    rows = [row for found in measured for row in rows_of(found, about["flops_per_s"])]
    if given.json:
        figures = [p._asdict() for p in published()]
        print(json.dumps({**about, "rows": rows, "published": figures}, indent=1))
    else:
        show(rows, about)
    if given.plot:
        given.plot.mkdir(parents=True, exist_ok=True)
        remark(f"drawing {plot_memory(given.plot, ask_ours, given.small)}")
        remark(f"drawing {plot_time(given.plot, ask_ours, given.small, about, given.repeats)}")


if __name__ == "__main__":
    main()
