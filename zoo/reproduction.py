"""The small version of every experiment run once more, and what came out differently.

    reproduce(experiments().values(), Options(runs=RUNS))

Rows are run from nothing, with results of their own under `runs/reproduce`, from which a run that
was stopped goes on. What docs/results says stays as it is, because cards of shipped models rest on
it; a row that it did not have is entered. docs/results/reproduction.md shows the numbers of then
and now side by side.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..data.files import replace_file
from ..train.experiment import Condition, Experiment, Row
from .experiment_report import pooled, write_report
from .experiment_results import Record, Results, expected_seconds
from .experiments import Launch, Options, Pace, open_results, run_experiment
from .markdown import markdown_table, percent, replace_block, verdict
from .verification_report import rates

RUNS = Path("runs/reproduce")
PAGE = "reproduction.md"
_BAR = 20
_INTRODUCTION = """\
# Reproduced

`make reproduce` runs the rows that each experiment's main claim rests on once more, from nothing,
with their first seed, and compares. It goes on where it was stopped; delete `runs/reproduce` to
have it begin again. The same recipe and seed give the same numbers on the same machine; on another
one they scatter as other seeds do. What the experiments' own pages say stays, because cards of
shipped models rest on it; a row that they did not have is entered there.
"""


class Rate(NamedTuple):
    """An error rate of one row, percents; `low` and `high` are None where there is no interval."""

    metric: str
    value: float
    low: float | None
    high: float | None


class Compared(NamedTuple):
    """A row under one condition."""

    experiment: str
    row: str
    condition: str
    then: Rate | None
    now: Rate | None

    @property
    def cells(self) -> list[str]:
        place = [self.experiment, self.row, self.condition]
        shown = ["not run" if r is None else _shown(r) for r in (self.then, self.now)]
        if self.then is None or self.now is None:
            return [*place, *shown, "", ""]
        change = self.now.value - self.then.value
        same = round(change, 3) == 0
        how = "the same" if same else verdict(self.now.value, self.then.low, self.then.high)
        return [*place, *shown, f"{change:+.2f}", how]


HEAD = ("experiment", "row", "condition", "then", "now", "difference", "")


class WholePace(Pace):
    """Of small versions of several experiments, as one piece of work."""

    def __init__(self, experiments: Sequence[Experiment], options: Options):
        self._experiments, self._options = experiments, options
        self._known = [r for e in experiments for r in open_results(e, options).finished()]

    def rows(self) -> list[tuple[Results, Row]]:
        """All of them, with the new results as they are on the disk."""
        opened = [open_results(e, _fresh(self._options)) for e in self._experiments]
        return [(r, row) for r in opened for row in map(r.experiment.row, r.experiment.small)]

    def expected(self, results: Results, row: Row) -> float | None:
        return expected_seconds(row, [*results.finished(), *self._known])

    def announcement(self, results: Results, row: Row, waiting: Sequence[Row]) -> str:
        seconds = [(r.state(at), self.expected(r, at) or 0.0) for r, at in self.rows()]
        todo = [expected for state, expected in seconds if state == "not run"]
        left, whole = sum(todo), sum(expected for _, expected in seconds)
        filled = round(_BAR * (1 - left / whole)) if whole else 0
        mine = self.expected(results, row) or 0.0
        return (
            f"[{'#' * filled}{'.' * (_BAR - filled)}] row {len(seconds) - len(todo) + 1} of "
            f"{len(seconds)}: {results.experiment.name}, {row.name} "
            f"(about {mine / 60:.0f} min; {len(todo)} rows left, {left / 60:.0f} min)"
        )


def small_ones(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Those that have a small version."""
    return [experiment for experiment in experiments if experiment.small]


def reproduce(
    experiments: Iterable[Experiment], options: Options, *, launch: Launch | None = None
) -> list[Compared]:
    """Runs what is left of the small versions, enters rows that `options.results` did not have and
    writes its page of differences.

    Training runs and the new results lie in `options.runs`. `launch`: as `run_experiment` has it.

    Raises InputError as `run_experiment` does.
    """
    chosen = small_ones(experiments)
    pace = WholePace(chosen, options)
    began = time.monotonic()
    for experiment in chosen:
        given = replace(_fresh(options.after(began)), only=experiment.small)
        run_experiment(experiment, given, launch=launch, pace=pace)
        _enter(experiment, options)
        _write_page(compare(chosen, options), pace, options)
    return compare(chosen, options)


def compare(experiments: Iterable[Experiment], options: Options) -> list[Compared]:
    """Every row of the small versions under every condition, as far as numbers are there. One that
    was entered from here has none of then."""
    found = []
    for experiment in small_ones(experiments):
        then, now = open_results(experiment, options), open_results(experiment, _fresh(options))
        for row in map(experiment.row, experiment.small):
            entered = then.records.get(row.name) == now.records.get(row.name)
            for condition in experiment.conditions_of(row):
                old = None if entered else _rate(then, row, condition)
                new = _rate(now, row, condition)
                found.append(Compared(experiment.name, row.name, condition.name, old, new))
    return found


def _fresh(options: Options) -> Options:
    return replace(options, results=options.runs / "results")


def _enter(experiment: Experiment, options: Options) -> None:
    """Enters finished rows that the kept results lack, unless they go on from a row that the kept
    results have from elsewhere."""
    kept, fresh = open_results(experiment, options), open_results(experiment, _fresh(options))
    for row in map(experiment.row, experiment.small):
        record = fresh.done(row)
        ours = all(kept.records.get(name) == fresh.records.get(name) for name in row.needs)
        if record is not None and ours and kept.state(row) == "not run":
            kept.put(row, record)
    if kept.path.exists():
        write_report(kept)


def _write_page(found: Sequence[Compared], pace: WholePace, options: Options) -> None:
    path = options.results / PAGE
    text = path.read_text(encoding="utf-8") if path.exists() else _INTRODUCTION
    rows = pace.rows()
    done = [record for results, row in rows if (record := results.done(row)) is not None]
    sections = ["\n".join(_header(done, len(rows)))]
    sections.append(markdown_table(HEAD, [compared.cells for compared in found]))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, replace_block(text, "reproduced", "\n\n".join(sections)))


def _header(done: Sequence[Record], rows: int) -> list[str]:
    lines = ["- command: `make reproduce`", f"- rows: {len(done)} of {rows} done"]
    if done:
        hours = sum(record["train_seconds"] for record in done) / 3600
        lines.append(f"- device: {', '.join(sorted({r['device'] for r in done}))}")
        lines.append(f"- date: {max(r['date'] for r in done)}")
        lines.append(f"- training: {hours:.1f} h")
    return lines


def _rate(results: Results, row: Row, condition: Condition) -> Rate | None:
    record = results.done(row)
    if record is None:
        return None
    if "eer" in record["evaluations"][condition.name]:
        rate = rates(results, [row], condition.name)["all"]
        return Rate("EER", rate.mean, *_bounds(*rate.interval))
    pool = pooled(results, [row], condition.name)
    assert pool is not None
    return Rate("WER", pool.wer, *_bounds(*pool.interval))


def _bounds(low: float, high: float) -> tuple[float | None, float | None]:
    return (None, None) if math.isnan(low) else (low, high)


def _shown(rate: Rate) -> str:
    return f"{rate.metric} {percent(rate.value, rate.low, rate.high)}"
