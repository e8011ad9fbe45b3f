"""`parley list`, `parley search` and `parley show`."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import tyro

from ..data.errors import InputError
from .arguments import parse
from .cards import Measurement, body, percent
from .console import remark, stdout, table
from .registry import Entry, card
from .search import Query, Sort, asks_for_nothing, read_query, run


@dataclass(frozen=True)
class Conditions:
    """What models have to be, and how they are shown."""

    streaming: bool = False
    """Only models that answer while the audio arrives."""
    trained: bool = False
    """Only models with weights."""
    turns: bool = False
    """Only models whose text comes in turns of several talkers."""
    family: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """For example conformer."""
    max_params: Annotated[float | None, tyro.conf.arg(metavar="COUNT")] = None
    """Most parameters, for example 2e6."""
    max_latency: Annotated[float | None, tyro.conf.arg(metavar="MS")] = None
    """Longest step of the encoder, in milliseconds of audio."""
    max_cost: Annotated[float | None, tyro.conf.arg(metavar="GFLOP")] = None
    """Most GFLOP for a second of audio."""
    max_error: Annotated[float | None, tyro.conf.arg(metavar="PERCENT")] = None
    """Highest error rate of the card's first measurement."""
    license: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Licence, for example apache-2.0."""
    sort: Sort | None = None
    """The order; without it, trained models first, by name."""
    descending: bool = False
    """The other way round."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ListArguments(Conditions):
    """The models that there are; with conditions, those that meet all of them.

    Cost: billions of floating-point operations that a second of audio takes (GFLOP/s). Latency: the
    audio that a step of the encoder takes; no shipped model looks at anything after it. The error
    rate is the card's first one, with its 95 % interval; parley show NAME has the others.

    * parley list --streaming --max-params 2e6 --sort error
    * parley list digits --json
    """

    words: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="WORD...")] = ()
    """Words as `parley search` takes them."""


@dataclass(frozen=True)
class SearchArguments(Conditions):
    """Models by what is said of them, in words, by options or both.

    Understood are streaming, offline, trained, untrained, with turns, and bounds such as under 5M,
    at most 80 ms, below 0.1 GFLOP or under 5 %; any other word is looked for in name, family,
    description, language and data.

    * parley search "streaming under 5M with turns"
    * parley search conformer librispeech --sort cost
    """

    words: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="WORD...")] = ()
    """What to look for."""


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
    return _print(_query(given, given.words), given)


def search_command(argv: list[str]) -> int:
    given = parse(SearchArguments, argv, "parley search")
    query = _query(given, given.words)
    if asks_for_nothing(query):
        raise InputError('say what to look for, for example "streaming under 5M with turns".')
    remark(f"looking for: {query}")
    return _print(query, given)


def show_command(argv: list[str]) -> int:
    given = parse(ShowArguments, argv, "parley show")
    found = card(given.name)
    if given.json:
        results = [asdict(r) for r in (*found.results, *found.verification)]
        speed = [asdict(s) for s in found.speed]
        print(json.dumps({**asdict(found.facts), "results": results, "speed": speed}, indent=1))
        return 0
    console = stdout()
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(_without_marks(body(found))))
    else:
        print(body(found), end="")
    return 0


def _query(given: Conditions, words: tuple[str, ...]) -> Query:
    options = {
        "streaming": given.streaming or None,
        "trained": given.trained or None,
        "turns": given.turns or None,
        "family": given.family,
        "license": given.license,
        "max_params": given.max_params,
        "max_step_ms": given.max_latency,
        "max_cost": given.max_cost,
        "max_error": given.max_error,
    }
    return replace(
        read_query(" ".join(words)), **{k: v for k, v in options.items() if v is not None}
    )


def _print(query: Query, given: Conditions) -> int:
    entries = run(query, sort=given.sort, descending=given.descending)
    if given.json:
        print(json.dumps([record(entry) for entry in entries], indent=1))
        return 0
    if not entries:
        remark("no model meets these conditions; parley list shows all")
        return 0
    stdout().print(entry_table(entries))
    return 0


def entry_table(entries: list[Entry]):
    """One line a model: what it is, what it costs, what it scores."""
    counts = ("parameters", "GFLOP/s", "latency")
    rows = table("name", "family", *counts, "error rate (95 %)", "on", "licence", "status",
                 right=counts)  # fmt: skip
    for entry in entries:
        facts, first = entry.facts, entry.headline
        rows.add_row(
            facts.name,
            facts.family,
            f"{facts.parameters / 1e6:.2f} M",
            "-" if facts.gflop_per_s is None else f"{facts.gflop_per_s:.3g}",
            f"{facts.step_ms:g} ms" if facts.streaming else "-",
            rate(entry) or "-",
            first.data if first else "-",
            facts.license,
            "trained" if entry.trained else "untrained",
        )
    return rows


def rate(entry: Entry) -> str:
    """The headline's, `3.07 % (2.36 to 3.85)`; of speaker models marked as EER."""
    first = entry.headline
    if first is None:
        return ""
    if isinstance(first, Measurement):
        return percent(first.wer, first.low, first.high)
    return f"EER {percent(first.eer, first.low, first.high)}"


def record(entry: Entry) -> dict[str, Any]:
    """For a program."""
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


def _without_marks(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("<!--"))
