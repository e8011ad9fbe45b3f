"""An experiment: a grid of recipes that are compared, as a Python value.

`configs/experiments/` holds the experiments and `parley experiment` runs them. A row is one recipe
with its seed; rows that differ in the seed alone share a group, which the table shows as one line.
Rows stand in the order in which they should be run: what the main claim rests on first, seed by
seed, so that a grid that is cut short still compares like with like.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ..data.cohort_rows import CohortTold
from .recipe import Recipe
from .speakers.recipe import AnyRecipe, SpeakerRecipe

R = TypeVar("R", Recipe, SpeakerRecipe)

DIGITS = "digits/manifest.jsonl"
"""The recording list of the Free Spoken Digit Dataset, as experiments name it; where it really
lies is said when the experiment is run, and enters no result."""


COHORTS = "cohorts.json"
"""In the specs of a row: to which cohorts its speakers belong, see `CohortsOf`."""

SPLITS = ("discovery", "ranking", "report")
"""Conditions under which a row looks for cohorts: on the speakers of the first they are found, on
those of the second ordered, on those of the third reported, and repair is judged on these."""

FROM_ROW = "row:"
"""`init_from="row:NAME"` starts a row from the model of another row."""


@dataclass(frozen=True)
class Condition:
    """Speech that rows are scored on."""

    name: str
    data: str
    """A corpus's spec, see `open_corpus`."""
    split: str = "test"
    told: CohortTold = "true"
    """What a model that is told cohorts is told of the speakers'."""


@dataclass(frozen=True)
class CohortsOf:
    """Cohorts that another row's errors have found, given to speakers of a row's training."""

    row: str
    kind: str
    """One of those that it `finds`."""
    speech: str
    """The corpus (its train split) whose speakers are assigned; `COHORTS` stands for the file, in
    training and in the conditions."""


@dataclass(frozen=True)
class Row:
    """One training run."""

    name: str
    group: str
    """What is compared: rows of one group differ in the seed alone."""
    recipe: AnyRecipe
    finds: tuple[str, ...] = ()
    """Kinds of cohorts to look for among its errors under the conditions `SPLITS`."""
    cohorts: CohortsOf | None = None

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def begins_as(self) -> str:
        """The row whose model it starts from, or none."""
        start = self.recipe.init_from
        return start.removeprefix(FROM_ROW) if start.startswith(FROM_ROW) else ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The rows whose files it takes: the model that it starts from, the cohorts."""
        return tuple(
            dict.fromkeys(filter(None, (self.begins_as, self.cohorts.row if self.cohorts else "")))
        )


@dataclass(frozen=True)
class Part:
    """Rows that share a table.

    `baseline` is the group that the others are compared with, of this part or another one; rows
    are paired by seed and speaker.
    """

    title: str
    rows: tuple[Row, ...]
    conditions: tuple[Condition, ...]
    text: str = ""
    """What the part asks."""
    baseline: str = ""
    plot: Literal["", "model", "encoder"] = ""
    """Draw word error against what the whole model or its encoder computes, under the first
    condition."""
    first: bool = False
    """Run its rows before those of the parts that stand above it on the page."""

    @property
    def groups(self) -> dict[str, list[Row]]:
        """Rows by group, in the order of first appearance."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.group, []).append(row)
        return groups


@dataclass(frozen=True)
class Experiment:
    """Parts in the order in which a reader wants them.

    Raises:
      ValueError: two rows or two conditions of one part share a name, a baseline is no group, or
        a row starts from one that is not run before it, or takes cohorts from one that does not
        find them, or the small version names a row that there is not, or lacks one that another
        needs.
    """

    name: str
    title: str
    question: str
    parts: tuple[Part, ...]
    small: tuple[str, ...] = ()
    """Names of the rows of its small version: what the main claim compares, with one seed. None
    where it has no small version."""

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        for part in self.parts:
            _unique(self.name, "conditions", [condition.name for condition in part.conditions])
            if part.baseline and part.baseline not in {row.group for row in self.rows}:
                raise ValueError(f"{self.name}: no group is called {part.baseline!r}")
        _unique(self.name, "rows", names)
        for i, row in enumerate(self.rows):
            if row.begins_as and row.begins_as not in names[:i]:
                raise ValueError(f"{self.name}: {row.name} starts from {row.begins_as!r}")
            if row.cohorts and not any(
                row.cohorts.row == other.name and row.cohorts.kind in other.finds
                for other in self.rows[:i]
            ):
                raise ValueError(f"{self.name}: {row.name} takes cohorts that are not found")
        for name in self.small:
            if name not in names:
                raise ValueError(f"{self.name}: its small version names {name!r}")
            if lacking := set(self.row(name).needs) - set(self.small):
                raise ValueError(f"{self.name}: its small version lacks {lacking.pop()!r}")

    @property
    def rows(self) -> tuple[Row, ...]:
        """In the order in which they are run."""
        parts = sorted(self.parts, key=lambda part: not part.first)
        return tuple(row for part in parts for row in part.rows)

    @property
    def needs_digits(self) -> bool:
        """Whether some row or condition reads the recorded digits."""
        return any(DIGITS in spec for spec in self._specs())

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def conditions_of(self, row: Row) -> tuple[Condition, ...]:
        return next(part.conditions for part in self.parts if row in part.rows)

    def _specs(self) -> Iterator[str]:
        for part in self.parts:
            yield from (condition.data for condition in part.conditions)
            for row in part.rows:
                yield from (row.recipe.data.train, row.recipe.data.dev)


def with_files(recipe: R, files: Mapping[str, str]) -> R:
    """The recipe with files of this machine in the place of what stands for them: `DIGITS`,
    `COHORTS`."""
    made: Any = recipe
    specs = [made.data.train, made.data.dev]
    for name, path in files.items():
        specs = [spec.replace(name, path) for spec in specs]
    data = dataclasses.replace(made.data, train=specs[0], dev=specs[1])
    return dataclasses.replace(made, data=data)


def _unique(experiment: str, kind: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{experiment}: two {kind} are called {twice[0]!r}")
