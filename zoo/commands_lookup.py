"""`parley list` and `parley show`."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from .arguments import parse
from .cards import body, percent
from .console import stdout, table
from .registry import Entry, card, search


@dataclass(frozen=True)
class ListArguments:
    """The models that there are; with conditions, those that meet all of them.

    GFLOP/s: billions of floating-point operations that a second of audio takes.

    * parley list --streaming --max-params 2e6
    * parley list digits --json
    """

    words: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="WORD...")] = ()
    """Words that must occur in name, family or description."""
    streaming: bool = False
    """Only models that answer while the audio arrives."""
    trained: bool = False
    """Only models with weights."""
    max_params: Annotated[float | None, tyro.conf.arg(metavar="COUNT")] = None
    """Most parameters, for example 2e6."""
    license: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Licence, for example apache-2.0."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ShowArguments:
    """A model's card: what it is, how it was made, what it scores and how that was measured.

    * parley show rnnt-tiny
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    json: bool = False
    """Print JSON."""


def list_command(argv: list[str]) -> int:
    given = parse(ListArguments, argv, "parley list")
    entries = search(
        " ".join(given.words),
        streaming=given.streaming or None,
        trained=given.trained or None,
        max_params=given.max_params,
        license=given.license,
    )
    if given.json:
        print(json.dumps([_record(entry) for entry in entries], indent=1))
        return 0
    counts = ("parameters", "GFLOP/s")
    rows = table("name", "status", *counts, "step", "error rate", "what", right=counts)
    for entry in entries:
        facts = entry.facts
        rows.add_row(
            facts.name,
            "trained" if entry.trained else "untrained",
            f"{facts.parameters / 1e6:.2f} M",
            "-" if facts.gflop_per_s is None else f"{facts.gflop_per_s:.3g}",
            f"{facts.step_ms:g} ms" if facts.streaming else "-",
            "\n".join(_rates(entry)) or "-",
            facts.description,
        )
    stdout().print(rows)
    return 0


def show_command(argv: list[str]) -> int:
    given = parse(ShowArguments, argv, "parley show")
    found = card(given.name)
    if given.json:
        results = [asdict(r) for r in (*found.results, *found.verification)]
        record = asdict(found.facts) | {"results": results}
        print(json.dumps(record, indent=1))
        return 0
    console = stdout()
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(_without_marks(body(found))))
    else:
        print(body(found), end="")
    return 0


def _without_marks(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("<!--"))


def _rates(entry: Entry) -> list[str]:
    """Word error rates; of speaker models, equal error rates."""
    return [f"{r.wer:.2f} % {r.data}" for r in entry.results] + [
        f"EER {r.eer:.2f} % {r.data}" for r in entry.verification
    ]


def _record(entry: Entry) -> dict[str, Any]:
    return {
        **asdict(entry.facts),
        "status": "trained" if entry.trained else "untrained",
        "folder": str(entry.folder) if entry.folder else None,
        "results": [
            {"data": r.data, "split": r.split, "wer": r.wer, "text": percent(r.wer, r.low, r.high)}
            for r in entry.results
        ]
        + [
            {"data": r.data, "split": r.split, "eer": r.eer, "text": percent(r.eer, r.low, r.high)}
            for r in entry.verification
        ],
    }
