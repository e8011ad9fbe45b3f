"""What an experiment has shown so far: one JSON file, kept in git, a line for every row.

A row's record holds the errors of every speaker, so that intervals and paired differences are
computed when a table is printed, from the file alone. It also holds the recipe in full: a row whose
recipe has changed since counts as not run, and so does one that lacks a condition.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from ..data.errors import InputError
from ..data.files import replace_file
from ..train.experiment import Condition, Experiment, Row
from ..train.speakers.recipe import AnyRecipe, any_recipe_from_dict

State = Literal["done", "failed", "not run"]
Record = dict[str, Any]


class Results:
    """Records of rows by name; those of rows that the experiment no longer has are kept too."""

    def __init__(self, experiment: Experiment, path: Path):
        """Reads `path` if it is there. Raises InputError where it is no results file."""
        self.experiment = experiment
        self.path = path
        self.records: dict[str, Record] = {}
        if path.exists():
            try:
                self.records = dict(json.loads(path.read_text())["rows"])
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{path} is no results file: restore it, or move it away to begin anew."
                ) from None

    def put(self, row: Row, record: Record) -> None:
        """Enters a row's record and writes the file."""
        self.records[row.name] = record
        self.write()

    def forget(self, rows: Iterable[Row]) -> None:
        """Takes out the records of rows that are to be run anew."""
        for row in rows:
            self.records.pop(row.name, None)
        self.write()

    def write(self) -> None:
        """A line for every row, so that a difference between two versions can be read."""
        order = {row.name: i for i, row in enumerate(self.experiment.rows)}
        names = sorted(self.records, key=lambda name: (order.get(name, len(order)), name))
        lines = ",\n".join(f"{json.dumps(n)}: {json.dumps(self.records[n])}" for n in names)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = json.dumps(self.experiment.name)
        replace_file(self.path, f'{{"experiment": {head}, "rows": {{\n{lines}\n}}}}\n')

    def state(self, row: Row) -> State:
        record = self.records.get(row.name)
        if record is None or not _same_recipe(record, row.recipe):
            return "not run"
        if any(self.state(self.experiment.row(name)) == "not run" for name in row.needs):
            return "not run"  # what it began with is no longer there
        if record["status"] == "failed":
            return "failed"
        conditions = self.experiment.conditions_of(row)
        found = record.get("cohorts", {})
        complete = all(_has(record, c) for c in conditions) and set(row.finds) <= found.keys()
        return "done" if complete else "not run"

    def done(self, row: Row) -> Record | None:
        """The record of a finished row."""
        return self.records[row.name] if self.state(row) == "done" else None

    def rows(self, state: State) -> list[Row]:
        return [row for row in self.experiment.rows if self.state(row) == state]

    def finished(self) -> list[Record]:
        """The records of finished rows, in their order."""
        return [r for row in self.experiment.rows if (r := self.done(row)) is not None]

    def estimate(self, row: Row) -> float | None:
        """Seconds that a row should take, by the experiment's finished ones."""
        return expected_seconds(row, self.finished())


def expected_seconds(row: Row, finished: Iterable[Record]) -> float | None:
    """Seconds that a row should take: what it took when it was run, else by finished rows of its
    kind of encoder, else by all of them; None where there is none.

    By the fastest of them: others may have shared the machine.
    """
    timed = [record for record in finished if record["train_seconds"]]
    for record in timed:
        if _same_recipe(record, row.recipe):
            return record["train_seconds"] + _scoring_seconds(record)
    encoder = type(row.recipe.model.encoder).__name__
    kin = [r for r in timed if _encoder_of(r) == encoder] or timed
    if not kin:
        return None
    step = min(r["train_seconds"] / r["steps"] for r in kin)
    return step * row.recipe.steps + mean(map(_scoring_seconds, kin))


def _scoring_seconds(record: Record) -> float:
    return sum(e["seconds"] for e in record["evaluations"].values())


def encoder_cost(record: Record, condition: str) -> float:
    """Multiply-adds per second of audio that the encoder spent under a condition: of an amortized
    one what its open gates let through, of others all."""
    compute = record.get("compute")
    if compute is None:
        return record["cost"]["encoder"]
    found = compute["conditions"][condition]
    return found["ratio"] * found["dense"]


def _same_recipe(record: Record, recipe: AnyRecipe) -> bool:
    """Fields that recipes have gained since take their defaults, as they did when it ran."""
    try:
        return any_recipe_from_dict(record["recipe"]) == recipe
    except (InputError, KeyError, TypeError):  # a recipe of another version
        return False


def _has(record: Record, condition: Condition) -> bool:
    found = record["evaluations"].get(condition.name)
    return found is not None and (found["data"], found["split"]) == (
        condition.data,
        condition.split,
    )


def _encoder_of(record: Record) -> str:
    return type(any_recipe_from_dict(record["recipe"]).model.encoder).__name__
