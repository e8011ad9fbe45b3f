"""The runner of experiments: the rows that are not done yet, one process each, in their order.

    run_experiment(experiments()["encoders"], only=("conformer-*",))

A finished row is entered into the results file and the table at once, so whatever stops the runner
costs at most the steps since a checkpoint. A row that fails is recorded with its reason and the
next one begins. Each row has a process of its own: what JAX compiled and allocated for a model goes
with it.
"""

import dataclasses
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..data.errors import InputError
from ..data.files import replace_file
from ..train.checkpoint import lock_run
from ..train.experiment import DIGITS, Experiment, Row
from ..train.recipe import identity
from .cards import CARD
from .console import remark
from .experiment_report import write_report
from .experiment_results import Record, Results
from .experiment_row import FOUND, OUTCOME, TASK, Task, failure

RESULTS, RUNS = Path("docs/results"), Path("runs/experiments")


@dataclasses.dataclass(frozen=True)
class Options:
    """How a grid is run.

    Attributes:
      only: patterns of row names; none means all.
      max_minutes: no row is begun that would not be finished by then, as far as can be told.
      digits: where the recorded digits are listed.
      retry: run rows that failed once more.
      again: run the rows anew, also those that are done.
      results, runs: folders of the tables and of the training runs.
    """

    only: tuple[str, ...] = ()
    max_minutes: float | None = None
    digits: str = DIGITS
    retry: bool = False
    again: bool = False
    results: Path = RESULTS
    runs: Path = RUNS

    def after(self, began: float) -> "Options":
        """What is left of `max_minutes` since `began` (`time.monotonic()`)."""
        if self.max_minutes is None:
            return self
        spent = (time.monotonic() - began) / 60
        return dataclasses.replace(self, max_minutes=max(self.max_minutes - spent, 0.0))


Launch = Callable[[Task, Path], Record]


class Pace:
    """How long rows should take, and what is said of it before one begins."""

    def expected(self, results: Results, row: Row) -> float | None:
        """Seconds of one row; None where nothing is known."""
        return results.estimate(row)

    def left(self, results: Results, rows: Sequence[Row]) -> float | None:
        """Seconds that rows should take; None before a first row is finished."""
        expected = [self.expected(results, row) for row in rows]
        known = [seconds for seconds in expected if seconds is not None]
        return sum(known) if known else None

    def announcement(self, results: Results, row: Row, waiting: Sequence[Row]) -> str:
        rows = results.experiment.rows
        text = f"row {rows.index(row) + 1} of {len(rows)}: {row.group}, seed {row.seed}"
        left = self.left(results, waiting)
        if left is None:
            return text
        mine = self.expected(results, row) or 0.0
        return f"{text} (about {mine / 60:.0f} min; {len(waiting)} rows left, {left / 60:.0f} min)"


_PACE = Pace()


def run_experiment(
    experiment: Experiment,
    options: Options = Options(),
    *,
    launch: Launch | None = None,
    pace: Pace = _PACE,
) -> Results:
    """Runs what is left of an experiment, and returns all results.

    `launch` runs one task in a folder and returns its record; by default in a process of its own.

    Raises:
      InputError: a pattern fits no row, the digits are not there, or another runner is at work.
    """
    chosen = select(experiment, options.only)
    if experiment.needs_digits and not Path(options.digits).exists():
        raise InputError(
            f"{experiment.name} reads recorded digits and {options.digits} is not there: give "
            f"their list with --digits PATH/manifest.jsonl."
        )
    began = time.monotonic()
    with lock_run(options.runs / experiment.name):
        results = open_results(experiment, options)
        if options.again:
            results.forget(chosen)
            for row in chosen:
                for folder in (options.runs / experiment.name).glob(f"{row.name}-*"):
                    shutil.rmtree(folder)
        write_report(results)
        waiting = to_run(results, chosen, options)
        for i, row in enumerate(waiting):
            spent = (time.monotonic() - began) / 60
            expected = (pace.expected(results, row) or 0.0) / 60
            if options.max_minutes is not None and spent + expected > options.max_minutes:
                remark(f"{len(waiting) - i} rows are left for another time: {spent:.0f} min passed")
                break
            remark(pace.announcement(results, row, waiting[i:]))
            record = _run_row(results, row, options, launch or launch_process)
            results.put(row, record)
            write_report(results)
            if record["status"] == "failed":
                remark(f"{row.name} failed: {record['reason']}")
    return results


def open_results(experiment: Experiment, options: Options) -> Results:
    return Results(experiment, options.results / f"{experiment.name}.json")


def select(experiment: Experiment, patterns: Sequence[str]) -> list[Row]:
    """The rows whose names fit one of the patterns. Raises InputError for one that fits none."""
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in experiment.rows):
            names = ", ".join(row.name for row in experiment.rows)
            raise InputError(f"no row of {experiment.name} fits {pattern!r}: there are {names}.")
    return [
        row
        for row in experiment.rows
        if not patterns or any(fnmatchcase(row.name, pattern) for pattern in patterns)
    ]


def to_run(results: Results, chosen: Sequence[Row], options: Options) -> list[Row]:
    """Those of the chosen rows that are to be run, in their order."""
    states = {"not run", "failed"} if options.retry else {"not run"}
    return [row for row in chosen if results.state(row) in states]


def _run_row(results: Results, row: Row, options: Options, launch: Launch) -> Record:
    experiment = results.experiment
    needs: list[tuple[str, Path]] = []  # another row, and what is taken from it
    start = cohorts = ""
    if row.begins_as:
        model = _folder(experiment, experiment.row(row.begins_as), options) / "model"
        needs.append((row.begins_as, model / CARD))
        start = str(model)
    if row.cohorts:
        finder = _folder(experiment, experiment.row(row.cohorts.row), options)
        needs.append((row.cohorts.row, finder / FOUND / row.cohorts.kind))
        cohorts = str(needs[-1][1])
    for name, path in needs:
        if not path.exists():
            # Its numbers may be known from another machine: its files are needed.
            remark(f"{row.name} needs {name}, which is run first")
            before = experiment.row(name)
            record = _run_row(results, before, options, launch)
            results.put(before, record)
            if record["status"] == "failed":
                return failure(row.recipe, f"{name}, which it needs, failed.")
    command = ["parley", "experiment", experiment.name, "--only", row.name]
    if experiment.needs_digits:
        command += ["--digits", DIGITS]
    conditions = experiment.conditions_of(row)
    task = Task(
        recipe=row.recipe,
        conditions=conditions,
        command=shlex.join(command),
        digits=options.digits,
        start=start,
        finds=row.finds,
        cohorts=cohorts,
        speech=row.cohorts.speech if row.cohorts else "",
    )
    folder = _folder(experiment, row, options)
    # A process that outlived its runner may still be saving: that is no fault of the row.
    with lock_run(folder):
        pass
    return launch(task, folder)


def _folder(experiment: Experiment, row: Row, options: Options) -> Path:
    """Where a row is trained: another recipe, start, or place of the digits is another run."""
    made_of: list[Any] = [identity(row.recipe)]
    named = row.name
    if row.cohorts:
        before = _folder(experiment, experiment.row(row.cohorts.row), options)
        made_of += [before.name, dataclasses.asdict(row.cohorts)]
    while row.begins_as:
        before = experiment.row(row.begins_as)
        made_of.append(identity(before.recipe))
        row = before
    key = json.dumps([*made_of, options.digits], sort_keys=True)
    digest = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
    return options.runs / experiment.name / f"{named}-{digest}"


def launch_process(task: Task, folder: Path) -> Record:
    """Runs a task in a process of its own; a process that dies is a row that failed.

    On Ctrl-C the process saves its checkpoint before KeyboardInterrupt goes on.
    """
    replace_file(folder / TASK, task.as_json())
    (folder / OUTCOME).unlink(missing_ok=True)
    command = [sys.executable, "-m", "parley.zoo.experiment_row", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.communicate()  # closes its standard input, which tells it to stop
        raise
    finally:
        if process.stdin:
            process.stdin.close()
    if status == 0 and (folder / OUTCOME).exists():
        return json.loads((folder / OUTCOME).read_text())
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return failure(task.recipe, f"its process {how}; if memory ran out, make its batches smaller.")
