"""Geodemographic cohorts: units such as postal areas, parted by what most people there are.

A table gives each unit's shares of attributes, as a census does:

    zip,accent:us,accent:scotland,gender:female
    10023,0.91,0.02,0.52

Attributes with the same word before the colon exclude each other, and the largest share of them is
the unit's majority. Each attribute parts the units in two: where it is the majority, and where
another is; kept is the partition with the largest relative gap in word error rate ("Toward Fairness
in Speech Recognition", Dheram et al., Interspeech 2022, arXiv 2207.11345).
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..data.errors import InputError
from ..data.files import replace_file
from .cohorts import texts
from .gaps import percent
from .population import Population
from .statistics import MIN_SPEAKERS, gap


@dataclass(frozen=True)
class UnitTable:
    """Units and their shares of attributes.

    Attributes:
      column: of the metadata, which names a speaker's unit.
      units: U names.
      attributes: A names, `kind:value` or `value`.
      shares: [U, A], 0 to 1; nan where nothing is known.
    """

    column: str
    units: tuple[str, ...]
    attributes: tuple[str, ...]
    shares: np.ndarray

    def rivals(self) -> dict[str, list[int]]:
        """Attributes that exclude each other, by the word before the colon ('' without one)."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, attribute in enumerate(self.attributes):
            found[attribute.rpartition(":")[0]].append(i)
        return dict(found)

    def majorities(self, rivals: Sequence[int]) -> np.ndarray:
        """Each unit's largest of these attributes [U]; of equal ones the first; -1 for none."""
        shares = np.nan_to_num(self.shares[:, rivals], nan=0.0)
        return np.where(shares.max(axis=1) > 0, np.array(rivals)[shares.argmax(axis=1)], -1)


class Partition(NamedTuple):
    """Speakers of units where an attribute is the majority, against those of the other units."""

    attribute: str
    speakers: tuple[int, int]
    """On either side: with the attribute, without it."""
    rates: tuple[float, float]
    gap: float
    """Of the two rates, relative to the lower one; nan where a side is too small."""

    def as_dict(self) -> dict[str, Any]:
        """In percent."""
        rates, gap = [percent(rate) for rate in self.rates], percent(self.gap)
        return {"attribute": self.attribute, "speakers": self.speakers, "wer": rates, "gap": gap}


@dataclass(frozen=True)
class UnitCohorts:
    """The units where one attribute is the majority, and the other ones.

    Attributes:
      names: of two cohorts.
      column: see `UnitTable`.
      members: the units of each.
    """

    kind: ClassVar[str] = "units"
    names: tuple[str, ...]
    column: str
    members: tuple[tuple[str, ...], tuple[str, ...]]

    def assign(self, population: Population) -> np.ndarray:
        """See `Cohorts`; a speaker of no unit, or of one that is not in the table, is of none."""
        side = {unit: i for i, units in enumerate(self.members) for unit in units}
        return population.labels(self.column).mapped(side)

    def fields(self) -> dict[str, Any]:
        """See `Cohorts`."""
        return {"column": self.column, "members": [list(units) for units in self.members]}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Cohorts`."""
        return {}

    @classmethod
    def restore(
        cls, names: tuple[str, ...], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Self:
        """See `Cohorts`."""
        inside, outside = (texts(units) for units in fields["members"])
        (column,) = texts([fields["column"]])
        if len(names) != 2 or not set(inside).isdisjoint(outside):
            raise ValueError("these are not two cohorts of units")
        return cls(names, column, (inside, outside))


def fit_units(
    table: UnitTable,
    population: Population,
    errors: np.ndarray,
    words: np.ndarray,
    *,
    min_speakers: int = MIN_SPEAKERS,
) -> tuple[UnitCohorts, list[Partition]]:
    """Tries each attribute and keeps the partition with the largest gap.

    Args:
      errors, words: [S], a speaker's totals; zeros leave a speaker out.
      min_speakers: on either side.

    Returns:
      The cohorts, and all partitions, that with the largest gap first.

    Raises:
      InputError: no speaker lives in a unit of the table, or no partition has sides large enough.
    """
    labels = population.labels(table.column)
    unit = labels.mapped({unit: i for i, unit in enumerate(table.units)})
    if (unit < 0).all():
        raise InputError(
            f"no speaker's {table.column} is in the table of units ({table.units[0]}, ...; the "
            f"speakers have {', '.join(labels.names[:1])}, ...): give the table of their units."
        )
    partitions: list[Partition] = []
    sides: dict[str, np.ndarray] = {}
    for rivals in table.rivals().values():
        majority = table.majorities(rivals)
        for a in rivals:
            name = table.attributes[a]
            sides[name] = np.where(majority == a, 0, np.where(majority < 0, -1, 1))
            whose = np.where(unit >= 0, sides[name][unit], -1)
            partitions.append(_partition(name, whose, errors, words, min_speakers))
    partitions.sort(key=lambda p: -math.inf if math.isnan(p.gap) else p.gap, reverse=True)
    best = partitions[0]
    if math.isnan(best.gap):
        raise InputError(
            f"no attribute of the table parts the speakers into sides of {min_speakers} or more: "
            "give more speakers, or lower --min-speakers."
        )
    names = (best.attribute, f"not {best.attribute}")
    inside, outside = (
        tuple(table.units[i] for i in np.flatnonzero(sides[best.attribute] == k)) for k in (0, 1)
    )
    return UnitCohorts(names, table.column, (inside, outside)), partitions


def _partition(
    name: str, side: np.ndarray, errors: np.ndarray, words: np.ndarray, least: int
) -> Partition:
    inside, outside = ((side == k) & (words > 0) for k in (0, 1))
    counts = int(inside.sum()), int(outside.sum())
    if min(counts) < max(least, 1):
        return Partition(name, counts, (math.nan, math.nan), math.nan)
    rates = [float(errors[s].sum() / words[s].sum()) for s in (inside, outside)]
    return Partition(name, counts, (rates[0], rates[1]), gap(max(rates), min(rates)).of_top)


def read_units(path: Path) -> UnitTable:
    """Reads a table (.csv, or .tsv with tabs): the unit first, then a share for each attribute.

    Raises:
      InputError: it cannot be read, or is no such table.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{path} cannot be read ({reason}); check the path.") from None
    delimiter = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise InputError(f"{path} is no table ({error}): write it as CSV.") from None
    head = [name.strip() for name in rows[0]] if rows else []
    if len(head) < 2 or len(rows) < 2 or not all(head) or len(set(head)) < len(head):
        raise InputError(
            f"{path} is no table of units: its first row names the unit's column and, each once, "
            "the attributes, for example zip,accent:us,accent:scotland; then a row for each unit."
        )
    shares = np.full((len(rows) - 1, len(head) - 1), np.nan)
    for i, row in enumerate(rows[1:]):
        if len(row) != len(head):
            raise InputError(f"{path}: the row of unit {row[0]!r} has not {len(head)} cells.")
        shares[i] = [_share(path, row[0], cell.strip()) for cell in row[1:]]
    units = [row[0].strip() for row in rows[1:]]
    if len(set(units)) < len(units):
        twice = next(unit for unit in units if units.count(unit) > 1)
        raise InputError(f"{path} has unit {twice!r} twice: give each one row.")
    return UnitTable(head[0], tuple(units), tuple(head[1:]), shares)


def _share(path: Path, unit: str, cell: str) -> float:
    try:
        share = float(cell) if cell else math.nan
    except ValueError:
        share = -1.0
    if not (math.isnan(share) or 0 <= share <= 1):
        raise InputError(f"{path}: {cell!r} of unit {unit!r} is no share: give 0 to 1, or nothing.")
    return share


def unit_table(population: Population, column: str, attributes: Sequence[str]) -> UnitTable:
    """A table such as a census gives, counted from speakers: the shares of each column's values
    among those of a unit, named `column:value`.

    Raises:
      InputError: as `Population.labels`.
    """
    where = population.labels(column)
    names: list[str] = []
    shares: list[np.ndarray] = []
    for attribute in attributes:
        labels = population.labels(attribute)
        known = (where.index >= 0) & (labels.index >= 0)
        counts = np.zeros((len(where.names), len(labels.names)))
        np.add.at(counts, (where.index[known], labels.index[known]), 1)
        total = counts.sum(axis=1, keepdims=True)
        shares.append(np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0))
        names += [f"{attribute}:{value}" for value in labels.names]
    return UnitTable(column, where.names, tuple(names), np.concatenate(shares, axis=1))


def write_units(path: Path, table: UnitTable) -> None:
    """As `read_units` reads it."""
    text = io.StringIO()
    delimiter = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow([table.column, *table.attributes])
    for unit, shares in zip(table.units, table.shares, strict=True):
        writer.writerow([unit, *("" if np.isnan(s) else f"{s:.4g}" for s in shares)])
    replace_file(path, text.getvalue())
