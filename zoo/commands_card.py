"""`parley card lint`, `render`, `refresh`, `speed` and `examples`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .cards import CARD, Measurement, percent, read_card, render, write_card
from .commands import Command, Commands
from .console import remark, stdout, table
from .markdown import verdict
from .registry import Entry, as_folder, find, folder_of, list_models


@dataclass(frozen=True)
class LintArguments:
    """Whether cards can be trusted: their form, huggingface_hub's reading of them, that every
    number has command, data, date and device, and that figures agree with each other, with the
    recipe and with the experiments that they are from. A problem is one line; exit status 2 if
    there is one.

    * parley card lint
    * parley card lint rnnt-tiny runs/mine
    """

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL...")] = ()
    """Names that `parley list` shows, or models' folders; without any, all that are listed."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class RenderArguments:
    """Brings the generated parts of cards up to date: tables, pictures, and what the recipe's
    shapes say of parts, parameters and cost. Nothing is measured; what a person wrote stays.

    * parley card render runs/mine
    * parley card render rnnt-tiny --check
    """

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL...")]
    """Names that `parley list` shows, or models' folders."""
    check: bool = False
    """Write nothing; exit status 2 where something would change."""


@dataclass(frozen=True)
class RefreshArguments:
    """Measures a card's results again, by the commands that it states, and shows the difference.
    The card stays as it is, unless --write is given.

    * parley card refresh rnnt-tiny
    * parley card refresh runs/mine --write
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    write: bool = False
    """Enter what was measured."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class SpeedArguments:
    """How fast a model is on this machine, compilation left out: recordings in batches, and one
    stream. Close other programs first.

    * parley card speed rnnt-tiny
    * parley card speed runs/mine --data my.jsonl --write
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")] = "assistant"
    """As `parley evaluate` takes it."""
    split: str = "test"
    """Of an embedded corpus or LibriSpeech."""
    utterances: int = 256
    """How many recordings, from the first."""
    write: bool = False
    """Enter it into the model's card."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ExamplesArguments:
    """Puts recordings of a test set into a model's folder, with what the model made of them: the
    gallery plays them. They are spread evenly over the test set, so that nobody chose them.

    * parley card examples rnnt-tiny
    * parley card examples runs/mine --data my.jsonl --count 5
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    data: Annotated[str | None, tyro.conf.arg(metavar="CORPUS")] = None
    """As `parley evaluate` takes it; by default the first of the card's results."""
    split: str = "test"
    """Of an embedded corpus or LibriSpeech."""
    count: int = 3
    """How many."""


COMMANDS = Commands(
    "parley card",
    "Keeps model cards true.",
    {
        name: Command("commands_card", f"{name}_command", summary)
        for name, summary in (
            ("lint", "whether cards can be trusted"),
            ("render", "generated parts, brought up to date"),
            ("refresh", "results, measured again"),
            ("speed", "how fast a model is here"),
            ("examples", "recordings for the gallery"),
        )
    },
    "parley card lint\nparley card refresh rnnt-tiny",
)


def card_command(argv: list[str]) -> int:
    return COMMANDS.run(argv)


def lint_command(argv: list[str]) -> int:
    given = parse(LintArguments, argv, "parley card lint")
    from .card_lint import lint_folder, lint_model

    problems = {}
    for entry in [_entry(name) for name in given.models] or list_models():
        if isinstance(entry, Entry):
            problems[entry.name] = lint_model(entry)
        else:
            problems[str(entry)] = lint_folder(entry)
    if given.json:
        print(json.dumps(problems, indent=1))
    else:
        for line in (line for found in problems.values() for line in found):
            print(line)
        count = sum(map(bool, problems.values()))
        remark(f"{len(problems)} cards, {count or 'none'} with problems")
    return 2 if any(problems.values()) else 0


def render_command(argv: list[str]) -> int:
    given = parse(RenderArguments, argv, "parley card render")
    from .card_lint import described

    stale = []
    for name in given.models:
        folder = folder_of(name)
        path = folder / CARD
        found = described(read_card(path), folder)
        if render(found) != path.read_text(encoding="utf-8"):
            stale.append(path)
            if not given.check:
                write_card(path, found)
    for path in stale:
        print(f"{path}: {'would change' if given.check else 'brought up to date'}")
    return 2 if given.check and stale else 0


def refresh_command(argv: list[str]) -> int:
    given = parse(RefreshArguments, argv, "parley card refresh")
    from .card_measure import remeasure

    folder = folder_of(given.model)
    found = read_card(folder / CARD)
    changes = []
    for old, new in remeasure(folder):
        remark(f"measured {old.name}")
        changes.append((old, new))
        found = found.with_result(new)
    if not changes:
        raise InputError(f"{folder / CARD} has no results: add one with parley evaluate.")
    if given.json:
        print(json.dumps([{"was": asdict(a), "now": asdict(b)} for a, b in changes], indent=1))
    else:
        rows = table("data", "was", "now", "difference", "")
        for old, new in changes:
            was, now = _rate(old), _rate(new)
            rows.add_row(
                f"{old.data}, {old.split}".rstrip(", "),
                percent(was, old.low, old.high),
                percent(now, new.low, new.high),
                f"{now - was:+.2f}",
                verdict(now, old.low, old.high),
            )
        stdout().print(rows)
    if given.write:
        write_card(folder / CARD, found)
        remark(f"the results are in {folder / CARD}")
    return 0


def speed_command(argv: list[str]) -> int:
    given = parse(SpeedArguments, argv, "parley card speed")
    if given.utterances < 1:
        raise InputError("--utterances is one recording or more.")
    import shlex

    from ..data.corpus import open_corpus
    from . import load
    from .card_measure import measure_speed, with_speed
    from .commands_evaluate import has_splits

    model = load(given.model)
    words = ["parley", "card", "speed", given.model, "--data", given.data]
    words += ["--split", given.split] if has_splits(given.data) else []
    words += ["--utterances", str(given.utterances)]
    corpus = open_corpus(given.data, given.split, require_text=False)
    found = measure_speed(model, corpus, given.utterances, shlex.join(words))
    if given.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        stream = "" if found.stream is None else f", one stream {found.stream:,.0f} times"
        print(f"{given.model}: batch {found.batch:,.0f} times real time{stream}, on {found.device}")
    if given.write:
        path = folder_of(given.model) / CARD
        write_card(path, with_speed(read_card(path), found))
        remark(f"the speed is in {path}")
    return 0


def examples_command(argv: list[str]) -> int:
    given = parse(ExamplesArguments, argv, "parley card examples")
    if not 1 <= given.count <= 100:
        raise InputError("--count is 1 to 100 recordings.")
    folder = folder_of(given.model)
    found = read_card(folder / CARD)
    first = next(iter((*found.results, *found.verification)), None)
    data = given.data or (first.data if first else None)
    if data is None:
        raise InputError(f"{folder / CARD} has no results yet: say what to take with --data.")
    import shlex

    from ..data.corpus import open_corpus
    from . import load
    from .card_examples import write_examples
    from .commands_evaluate import has_splits

    words = ["parley", "card", "examples", given.model, "--data", data]
    words += ["--split", given.split] if has_splits(data) else []
    words += ["--count", str(given.count)]
    corpus = open_corpus(data, given.split)
    made = write_examples(load(str(folder)), corpus, given.count, shlex.join(words), folder)
    for example in made.heard:
        print(f"{example.audio}\n  spoken  {example.reference}\n  heard   {example.hypothesis}")
    for pair in made.pairs:
        kind = "one speaker" if pair.same else "two speakers"
        print(f"{pair.audio} {pair.other}\n  {kind}, cosine {pair.cosine:g}")
    return 0


def _entry(name: str) -> Entry | Path:
    """A registered model, or a model's folder."""
    if name in {entry.name for entry in list_models()}:
        return find(name)
    return as_folder(name) or find(name).folder or Path(name)


def _rate(result) -> float:
    return result.wer if isinstance(result, Measurement) else result.eer
