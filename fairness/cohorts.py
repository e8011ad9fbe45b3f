"""What cohorts are: a definition that puts any speaker into one of them, kept as a folder.

    write_cohorts(Path("regions"), cohorts, ranking)
    cohorts, ranking = read_cohorts(Path("regions"))
    cohorts.assign(population)                      # [S], -1 for a speaker of none

There are `Regions` of a map (`regions`), partitions by majorities in postal areas (`units`),
clusters of voices (`clusters`) and values of metadata (`ColumnCohorts`, here). A folder holds
`cohorts.json`, of some kinds `arrays.safetensors`, and `choosers.json`, by which the speakers who
found and ranked the cohorts are told from those whom they may be reported on. Reading it runs
nothing that it says.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..data.cohorts import GROUPS, Assignment
from ..data.errors import InputError
from ..data.files import replace_file
from .population import Population

DEFINITION = "cohorts.json"
ARRAYS = "arrays.safetensors"
CHOOSERS = "choosers.json"
_FORMAT = 1


class Cohorts(Protocol):
    """A definition of cohorts. `assign` may raise InputError where the speakers' metadata lack
    what it needs."""

    kind: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]: ...

    def assign(self, population: Population) -> np.ndarray:
        """Each speaker's cohort [S] as a number of `names`; -1 for none."""
        ...

    def fields(self) -> dict[str, Any]:
        """The definition but for names and arrays, for JSON."""
        ...

    def arrays(self) -> dict[str, np.ndarray]: ...

    @classmethod
    def restore(
        cls, names: tuple[str, ...], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Self:
        """Raises ValueError or KeyError for what `fields` and `arrays` cannot have given."""
        ...


class Ranking(NamedTuple):
    """Which cohorts are served worst; frozen when they were found."""

    order: tuple[str, ...]
    """All names: those ranked, worst first, then those of too few speakers."""
    groups: Mapping[str, str]
    """`bottom`, `middle` or `top` of the ranked ones."""

    def assignment(
        self, speakers: Sequence[str], names: Sequence[str], index: np.ndarray
    ) -> Assignment:
        """Of speakers whose cohorts are numbers [S] of `names`."""
        given = zip(speakers, index.tolist(), strict=True)
        return Assignment(self.order, self.groups, {s: names[int(i)] for s, i in given if i >= 0})


@dataclass(frozen=True)
class ColumnCohorts:
    """The values of a column of the metadata, or of several columns crossed."""

    kind: ClassVar[str] = "columns"
    names: tuple[str, ...]
    columns: tuple[str, ...]

    def assign(self, population: Population) -> np.ndarray:
        """See `Cohorts`; a value that was not there when the cohorts were made is of none."""
        numbers = {name: i for i, name in enumerate(self.names)}
        return population.labels(*self.columns).mapped(numbers)

    def fields(self) -> dict[str, Any]:
        """See `Cohorts`."""
        return {"columns": list(self.columns)}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Cohorts`."""
        return {}

    @classmethod
    def restore(
        cls, names: tuple[str, ...], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Self:
        """See `Cohorts`."""
        columns = texts(fields["columns"])
        if not columns:
            raise ValueError("no columns")
        return cls(names, columns)


def column_cohorts(population: Population, columns: Sequence[str]) -> ColumnCohorts:
    """A cohort for each value that there is.

    Raises:
      InputError: as `Population.labels`; or every speaker has a value of his own.
    """
    labels = population.labels(*columns)
    known = len(population.speakers) - labels.missing
    if len(labels.names) == known > 1:
        raise InputError(
            f"column {' '.join(columns)!r} has another value for each of {known:,} speakers: "
            "cohorts need a column whose values are shared."
        )
    return ColumnCohorts(labels.names, tuple(columns))


def write_cohorts(folder: Path, cohorts: Cohorts, ranking: Ranking) -> None:
    """Writes the definition into a folder, which may hold other files too."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "format": _FORMAT,
        "kind": cohorts.kind,
        "names": list(cohorts.names),
        "order": list(ranking.order),
        "groups": dict(ranking.groups),
        **cohorts.fields(),
    }
    arrays = cohorts.arrays()
    if arrays:
        replace_file(folder / ARRAYS, save(arrays))
    replace_file(
        folder / DEFINITION, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    )


def read_cohorts(folder: Path) -> tuple[Cohorts, Ranking]:
    """Reads and checks a folder that `write_cohorts` wrote.

    Raises:
      InputError: it is no such folder, or damaged.
    """
    path = Path(folder) / DEFINITION
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        kind = next((k for k in _kinds() if k.kind == _fields(record)["kind"]), None)
        if kind is None or record["format"] != _FORMAT:
            raise ValueError(f"kind {record['kind']!r}, format {record['format']!r}")
        names = _distinct(texts(record["names"]))
        ranking = _ranking(names, record)
        arrays = _arrays(path.with_name(ARRAYS))
        return kind.restore(names, record, arrays), ranking
    except OSError as error:
        raise InputError(
            f"{folder} holds no cohorts ({path.name}: {error.strerror}): give the folder that "
            "parley fairness discover wrote."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(
            f"{path} is damaged or of another version ({reason}): run parley fairness discover "
            "again."
        ) from None


@dataclass(frozen=True)
class Choosers:
    """The speakers who found or ranked cohorts: by digests of their names, for the folder may be
    given to people who are not to know these."""

    digests: frozenset[str]

    def __len__(self) -> int:
        return len(self.digests)

    def among(self, speakers: Sequence[str]) -> np.ndarray:
        """Which speakers are among them [S] bool."""
        return np.array([_digest(speaker) in self.digests for speaker in speakers], bool)


def choosers_of(speakers: Iterable[str]) -> Choosers:
    """By their names."""
    return Choosers(frozenset(map(_digest, speakers)))


def write_choosers(folder: Path, choosers: Choosers) -> None:
    """Beside the definition."""
    replace_file(folder / CHOOSERS, json.dumps(sorted(choosers.digests)))


def read_choosers(folder: Path) -> Choosers | None:
    """None where the folder does not say.

    Raises:
      InputError: what it says is damaged.
    """
    path = Path(folder) / CHOOSERS
    try:
        return Choosers(frozenset(texts(json.loads(path.read_text(encoding="utf-8")))))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is damaged: run parley fairness discover again.") from None


def _digest(speaker: str) -> str:
    return hashlib.blake2b(speaker.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts. Raises ValueError for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts is expected")
    return tuple(value)


def checked_array(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...], dtype: type
) -> np.ndarray:
    """An array of this shape (None: of any size) and kind. Raises ValueError for another."""
    array = arrays.get(name)
    if array is None:
        raise ValueError(f"no array {name}")
    fits = len(array.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        raise ValueError(f"array {name} is {array.dtype} {list(array.shape)}")
    return array


def _kinds() -> tuple[type[Cohorts], ...]:
    from .clusters import Clusters
    from .regions import Regions
    from .units import UnitCohorts

    return ColumnCohorts, Regions, UnitCohorts, Clusters


def _fields(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError("an object is expected")
    return record


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or len(set(names)) < len(names):
        raise ValueError("no names, or one twice")
    return names


def _ranking(names: tuple[str, ...], record: Mapping[str, Any]) -> Ranking:
    order, groups = _distinct(texts(record["order"])), _fields(record["groups"])
    if set(order) != set(names) or set(order[: len(groups)]) != groups.keys():
        raise ValueError("the order is not one of the cohorts")
    if not all(group in GROUPS for group in groups.values()):
        raise ValueError("groups other than bottom, middle and top")
    return Ranking(order, groups)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return load_file(path) if path.exists() else {}
