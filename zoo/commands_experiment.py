"""`parley experiment`."""

import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .console import remark, stdout, table
from .registry import unknown_name

if TYPE_CHECKING:
    from ..train.experiment import Experiment
    from .experiment_results import Results
    from .experiments import Options
    from .reproduction import WholePace


@dataclass(frozen=True)
class ExperimentArguments:
    """Runs what is left of an experiment: trains and scores each of its rows, and writes the table
    in docs/results anew after every one. Without a name, lists the experiments.

    Stop it at any time: the same command goes on from there.

    * parley experiment
    * parley experiment encoders --dry-run
    * parley experiment encoders --only "rnnt-*" "conv-rnnt-*" --max-minutes 60
    * parley experiment encoders-digits --digits digits/manifest.jsonl
    * parley experiment --all --small
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[NAME]")] = ""
    """One of those that `parley experiment` lists."""
    all: bool = False
    """Run every experiment; without --digits, those that need no recorded digits."""
    small: bool = False
    """Run the rows of the main claims once more, from nothing and with one seed, in runs/reproduce,
    and show what comes out differently: docs/results/reproduction.md."""
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATTERN...")] = ()
    """Only rows whose names fit, for example "conformer-*"."""
    max_minutes: Annotated[float | None, tyro.conf.arg(metavar="MINUTES")] = None
    """Begin no row that would not be finished by then."""
    digits: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """The list of the recorded digits, for experiments that read them."""
    dry_run: bool = False
    """Show the rows and what is done of them; run nothing."""
    retry: bool = False
    """Run rows that failed once more."""
    again: bool = False
    """Run the rows that --only names from the beginning, even if they are done."""
    results: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where tables and records are kept; docs/results by default."""
    runs: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where rows are trained; runs/experiments by default, runs/reproduce with --small."""


def experiment_command(argv: list[str]) -> int:
    given = parse(ExperimentArguments, argv, "parley experiment")
    from ..configs.experiments import experiments
    from .experiments import Options

    known = experiments()
    shared = {f.name: getattr(given, f.name) for f in fields(Options)}
    options = Options(**{name: value for name, value in shared.items() if value is not None})
    if given.again and not given.only:
        raise InputError("--again runs finished rows anew: say which with --only.")
    if given.name and given.name not in known:
        raise unknown_name(given.name, list(known), "experiment", "parley experiment")
    chosen = [known[given.name]] if given.name else list(known.values())
    if given.small:
        return _small(chosen, options, given)
    if given.all:
        began = time.monotonic()
        return max(_run(e, options.after(began), given) for e in _possible(chosen, options))
    if not given.name:
        _list(chosen, options)
        return 0
    return _run(chosen[0], options, given)


def _possible(known: "list[Experiment]", options: "Options") -> "list[Experiment]":
    found = []
    for experiment in known:
        if experiment.needs_digits and not Path(options.digits).exists():
            remark(f"{experiment.name} is left out: it needs --digits PATH/manifest.jsonl")
        else:
            found.append(experiment)
    return found


def _run(experiment: "Experiment", options: "Options", given: ExperimentArguments) -> int:
    """0 if no row that was asked for has failed, else 2."""
    from .experiments import open_results, run_experiment, select

    if given.dry_run:
        _show(open_results(experiment, options), options)
        return 0
    results = run_experiment(experiment, options)
    print(results.path.with_suffix(".md"))
    chosen = select(experiment, options.only)
    return 2 if any(results.state(row) == "failed" for row in chosen) else 0


def _small(chosen: "list[Experiment]", options: "Options", given: ExperimentArguments) -> int:
    """0 if every row that was begun is done, else 2."""
    from .reproduction import HEAD, PAGE, RUNS, WholePace, reproduce, small_ones

    if not (given.all or given.name):
        raise InputError("--small runs rows: name an experiment, or all of them with --all.")
    if given.only or given.again:
        raise InputError("--small says itself which rows are run: leave --only and --again out.")
    if not (chosen := small_ones(chosen)):
        raise InputError(f"{given.name} has no small version.")
    options = replace(options, runs=given.runs or RUNS)
    if given.dry_run:
        _show_small(WholePace(chosen, options))
        return 0
    found = reproduce(chosen, options)
    rows = table(*HEAD)
    for compared in found:
        rows.add_row(*compared.cells)
    stdout().print(rows)
    print(options.results / PAGE)
    states = [results.state(row) for results, row in WholePace(chosen, options).rows()]
    return 2 if "failed" in states else 0


def _show_small(pace: "WholePace") -> None:
    rows = table("experiment", "row", "state", "minutes", right=("minutes",))
    left = 0.0
    for results, row in pace.rows():
        state, seconds = results.state(row), pace.expected(results, row)
        minutes = "" if seconds is None else f"{seconds / 60:.1f}"
        rows.add_row(results.experiment.name, row.name, state, minutes)
        left += (seconds or 0.0) if state == "not run" else 0.0
    console = stdout()
    console.print(rows)
    console.print(f"\n{left / 3600:.1f} hours are left.")


def _list(known: "list[Experiment]", options: "Options") -> None:
    from .experiments import open_results

    numbers = ("rows", "done", "failed", "not run")
    rows = table("experiment", *numbers, "about", right=numbers)
    for experiment in known:
        results = open_results(experiment, options)
        counts = [len(results.rows(state)) for state in ("done", "failed", "not run")]
        shown = (str(n) for n in (len(experiment.rows), *counts))
        rows.add_row(experiment.name, *shown, experiment.title)
    stdout().print(rows)


def _show(results: "Results", options: "Options") -> None:
    from .experiments import Pace, select, to_run

    chosen = select(results.experiment, options.only)
    rows = table("row", "system", "seed", "state", "minutes", right=("seed", "minutes"))
    for row in chosen:
        seconds = results.estimate(row)
        minutes = "" if seconds is None else f"{seconds / 60:.1f}"
        rows.add_row(row.name, row.group, str(row.seed), results.state(row), minutes)
    console = stdout()
    console.print(rows)
    waiting = to_run(results, chosen, options)
    left = Pace().left(results, waiting)
    about = "" if left is None else f", about {left / 60:.0f} minutes"
    console.print(f"\n{len(waiting)} rows would be run{about}.")
