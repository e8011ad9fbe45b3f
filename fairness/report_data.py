"""What a report is made of: systems that heard the same speech, and groups of its speakers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..data.cohorts import Assignment
from ..data.errors import InputError
from .cohorts import Choosers, Cohorts, Ranking, column_cohorts
from .population import Population, population_of
from .scores import Scores


@dataclass(frozen=True)
class Systems:
    """Scores of K systems on the same U utterances.

    Attributes:
      names: of the systems, the first being what the others are compared with.
      scores: of the first: speakers, their metadata, durations.
      counts: [K, U, 4]: substitutions, deletions, insertions and reference words.
      left_out: utterances that some system has not scored.
    """

    names: tuple[str, ...]
    scores: Scores
    counts: np.ndarray
    left_out: int = 0

    @property
    def population(self) -> Population:
        return self.scores.population

    @cached_property
    def kinds(self) -> np.ndarray:
        """Each speaker's substitutions, deletions and insertions [K, S, 3]."""
        found = np.zeros((len(self.names), len(self.scores.speakers), 3))
        for k, counts in enumerate(self.counts):
            np.add.at(found[k], self.population.owner, counts[:, :3])
        return found

    @property
    def words(self) -> np.ndarray:
        """Each speaker's reference words [S]."""
        return self.scores.words.astype(np.float64)


def pair_systems(scores: Sequence[Scores], names: Sequence[str]) -> Systems:
    """Brings systems together on the utterances that all of them have scored.

    Raises:
      InputError: they have none in common, one has an utterance twice, or they were scored against
        different references.
    """
    rows = [_rows(s) for s in scores]
    common = [key for key in rows[0] if all(key in other for other in rows[1:])]
    if not common:
        raise InputError(
            f"{scores[0].source} and {scores[-1].source} have no utterance in common: evaluate the "
            "systems on the same data."
        )
    counts = np.stack(
        [s.counts[[r[key] for key in common]] for s, r in zip(scores, rows, strict=True)]
    )
    for k in range(1, len(scores)):
        wrong = np.flatnonzero(counts[k, :, 3] != counts[0, :, 3])
        if len(wrong):
            raise InputError(
                f"{scores[0].source} and {scores[k].source} do not agree on the reference of "
                f"{len(wrong):,} utterances, first of {common[wrong[0]][1]}: evaluate the systems "
                "on the same data."
            )
    first = scores[0]
    if len(common) < len(first.ids):
        first = _subset(first, [rows[0][key] for key in common])
    every = set().union(*rows)
    return Systems(tuple(names), first, counts, len(every) - len(common))


def _rows(scores: Scores) -> dict[tuple[str, str], int]:
    """Where each utterance is; those of two speakers may have one name."""
    speakers = scores.population.speakers
    owners = scores.population.owner.tolist()
    keys = [(speakers[o], id) for o, id in zip(owners, scores.ids, strict=True)]
    found = {key: i for i, key in enumerate(keys)}
    if len(found) < len(keys):
        seen: set[tuple[str, str]] = set()
        twice = next(key for key in keys if key in seen or seen.add(key))
        raise InputError(f"{scores.source} has utterance {twice[1]} twice: keep one of them.")
    return found


def _subset(scores: Scores, rows: Sequence[int]) -> Scores:
    population = scores.population

    def spoken() -> Any:
        for i in rows:
            yield population.speakers[population.owner[i]], {c: v[i] for c, v in columns}

    columns = list(population.columns.items())
    gathered = population_of(spoken())
    kept = Population(
        gathered.speakers, gathered.owner, gathered.columns, population.without_speaker
    )
    ids = tuple(scores.ids[i] for i in rows)
    return Scores(scores.source, kept, ids, scores.counts[rows], scores.durations[rows])


@dataclass(frozen=True)
class Grouping:
    """Groups of speakers.

    Attributes:
      name: a column, or what the cohorts are.
      source: where the groups come from, a sentence.
      names: G groups.
      index: [S], each speaker's; -1 for none.
      kept: [S] bool, the speakers that are reported: not those who found or ranked the groups.
      roles: bottom, middle or top of the groups that were ranked beforehand, by other speakers;
        empty where nobody has.
      disjoint: what is known of these speakers and those who found and ranked the groups; empty
        where the groups are nobody's choice.
      of_cohorts: whether they are cohorts, not values of a column.
      boxes: west, east, south and north of each group [G, 4], of regions.
      examples: speakers nearest to the centre of each group, of clusters of voices.
    """

    name: str
    source: str
    names: tuple[str, ...]
    index: np.ndarray
    kept: np.ndarray
    roles: Mapping[str, str] = field(default_factory=dict)
    disjoint: str = ""
    of_cohorts: bool = False
    boxes: np.ndarray | None = None
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)


def column_grouping(population: Population, column: str) -> Grouping:
    """By the values of a column of the metadata.

    Raises:
      InputError: as `column_cohorts`.
    """
    cohorts = column_cohorts(population, [column])
    return Grouping(
        name=column,
        source=f"The values of the column {column} of the metadata.",
        names=cohorts.names,
        index=cohorts.assign(population),
        kept=np.ones(len(population.speakers), bool),
    )


def cohort_grouping(
    population: Population,
    cohorts: Cohorts,
    ranking: Ranking,
    *,
    assignment: Assignment | None = None,
    choosers: Choosers | None = None,
    examples: Mapping[str, Sequence[str]] | None = None,
) -> Grouping:
    """By cohorts that `parley fairness discover` has found.

    Args:
      assignment: of the speakers, where their metadata do not say it (voices).
      choosers: who found or ranked the cohorts, None where that is not known; they are not
        reported.

    Raises:
      InputError: no speaker is of any cohort, or all of those who are have chosen it; or an
        assignment is needed.
    """
    if assignment is not None:
        number = {name: i for i, name in enumerate(cohorts.names)}
        found = [assignment.speakers.get(speaker) for speaker in population.speakers]
        index = np.array([number.get(name, -1) if name else -1 for name in found])
    else:
        try:
            index = cohorts.assign(population)
        except InputError:
            raise
        except ValueError:
            raise InputError(
                "these cohorts are of voices, which scores do not hold: let parley fairness "
                "assign write which speaker is of which, and give that file with --assigned."
            ) from None
    if (index < 0).all():
        raise InputError("no speaker of the scores is of any of the cohorts: check --cohorts.")
    kept = np.ones(len(index), bool)
    if choosers is not None:
        kept = ~choosers.among(population.speakers)
    if (index[kept] < 0).all():
        raise InputError(
            "all speakers of the scores have found or ranked the cohorts themselves: evaluate on "
            "other speakers."
        )
    return Grouping(
        name="cohorts",
        source=f"Cohorts of kind {cohorts.kind}, found by parley fairness discover.",
        names=cohorts.names,
        index=index,
        kept=kept,
        roles=ranking.groups,
        of_cohorts=True,
        disjoint=_disjoint(choosers, int((~kept).sum())),
        boxes=getattr(cohorts, "boxes", None),
        examples=examples or {},
    )


def _disjoint(choosers: Choosers | None, left_out: int) -> str:
    if choosers is None:
        return (
            "Which speakers found and ranked the cohorts is not known here, so it was not checked "
            "that they are not reported too."
        )
    checked = (
        f"Checked by name: none of the {len(choosers):,} speakers who found and ranked the "
        "cohorts is reported"
    )
    return f"{checked}; {left_out:,} of them were in the scores and are left out."


def covariate(population: Population, column: str) -> list[str]:
    """A category for each utterance [U], of texts or numbers; `(missing)` where there is none.

    A column of more than eight numbers is cut into quarters.

    Raises:
      InputError: there is no such column.
    """
    values = population.column(column)
    numbers = [float(v) for v in values if isinstance(v, int | float)]
    known = [v for v in values if v is not None]
    if len(numbers) == len(known) and len(set(numbers)) > 8:
        edges = np.quantile(numbers, [0.25, 0.5, 0.75])
        return [
            "(missing)" if v is None else f"quarter {1 + int(np.searchsorted(edges, float(v)))}"
            for v in values
        ]
    return ["(missing)" if v is None else str(v) for v in values]


def missing_metadata(population: Population) -> dict[str, int]:
    """How many utterances lack each column that others have."""
    return {
        name: sum(value is None for value in values)
        for name, values in sorted(population.columns.items())
    }
