"""`parley compare`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .cards import percent
from .compare import Comparison, Paired, compare, paired
from .console import remark, stdout, table


@dataclass(frozen=True)
class CompareArguments:
    """Models side by side: size, cost, latency, and the error rates of their cards on the same
    data. With the results of each, utterance by utterance, also whether their error rates differ:
    a 95 % interval of the difference over speakers, drawn with the errors of both.

    * parley compare rnnt-tiny tt-tiny-assistant
    * parley compare contextnet-tiny conformer-tiny lstm-tiny --plot comparison.svg
    * parley compare rnnt-tiny runs/mine --utterances rnnt.jsonl mine.jsonl
    """

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL...")]
    """Names that `parley list` shows, or models' folders; two or more."""
    utterances: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """What `parley evaluate --out` wrote for each model, in the same order; each is compared with
    the first."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw error rate against cost (.png, .svg or .pdf)."""
    json: bool = False
    """Print JSON."""


def compare_command(argv: list[str]) -> int:
    given = parse(CompareArguments, argv, "parley compare")
    if len(given.models) < 2:
        raise InputError("name two models or more, for example rnnt-tiny tt-tiny-assistant.")
    if given.utterances and len(given.utterances) != len(given.models):
        raise InputError(
            f"--utterances has {len(given.utterances)} files for {len(given.models)} models: give "
            "one for each, in their order."
        )
    found = compare(*given.models)
    tests = [paired(given.utterances[0], other) for other in given.utterances[1:]]
    if given.plot:
        from .compare_plot import write_comparison

        write_comparison(found, given.plot)
    if given.json:
        record = {
            **found.as_dict(),
            "paired": [{**asdict(t), "differs": t.differs} for t in tests],
        }
        print(json.dumps(record, indent=1))
        return 0
    _print(found, given.models)
    for name, test in zip(given.models[1:], tests, strict=False):
        print(f"\n{sentence(given.models[0], name, test)}")
    if not tests and any(sum(r is not None for r in c.rates) > 1 for c in found.conditions):
        remark("intervals of two rates say little of their difference: see --utterances")
    return 0


def sentence(first: str, other: str, test: Paired) -> str:
    """What a paired comparison found, in words."""
    over = f"{test.utterances:,} utterances of {test.speakers} speakers"
    left = f" ({test.left_out:,} of one file alone left out)" if test.left_out else ""
    line = f"{first} {test.first:.2f} %, {other} {test.other:.2f} %, {over}{left}: "
    if test.low is None or test.high is None:
        return f"{line}one speaker gives no interval."
    interval = f"{test.difference:+.2f} points ({test.low:+.2f} to {test.high:+.2f})"
    if not test.differs:
        return f"{line}{interval}; no difference shows."
    return f"{line}{interval}; {other} makes {'fewer' if test.difference < 0 else 'more'} errors."


def _print(found: Comparison, typed: tuple[str, ...]) -> None:
    """`typed`: what the models are called here; one that goes on from another has its name."""
    rows = table("", *typed, right=typed)
    rows.add_row("family", *(f.family for f in found.facts))
    rows.add_row("status", *(f.status for f in found.facts))
    rows.add_row("parameters", *(f"{f.parameters / 1e6:.2f} M" for f in found.facts))
    rows.add_row(
        "GFLOP/s",
        *("-" if f.gflop_per_s is None else f"{f.gflop_per_s:.3g}" for f in found.facts),
    )
    rows.add_row("latency", *(f"{f.step_ms:g} ms" if f.streaming else "-" for f in found.facts))
    rows.add_row("licence", *(f.license for f in found.facts))
    for condition in found.conditions:
        label = f"{condition.metric}, {condition.data}, {condition.split}".rstrip(", ")
        rows.add_row(label, *("-" if r is None else percent(*r) for r in condition.rates))
    stdout().print(rows)
