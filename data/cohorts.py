"""Which cohort each speaker belongs to, and corpora whose utterances say so.

An assignment is a JSON file that `parley fairness assign` wrote:

    {"cohorts": ["region-3", "region-1", ...],      worst first
     "groups": {"region-3": "bottom", ...},         of the cohorts that are ranked
     "speakers": {"train0000-seed11": "region-1", ...}}

With the key `cohorts=FILE` of a corpus's spec, the metadata of every utterance whose speaker is
named there have `cohort`; where the cohort is ranked, also `cohort_rank`, 1 for the worst, and
`cohort_group`: bottom, middle or top.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .corpus import Corpus, Utterance, is_endless, late_epoch, quarantined
from .errors import InputError, Rejected

GROUPS = ("bottom", "middle", "top")


@dataclass(frozen=True)
class Assignment:
    """Speakers and their cohorts.

    Attributes:
      cohorts: names, worst first.
      groups: `bottom`, `middle` or `top` of the cohorts that are ranked; cohorts of too few
        speakers are not, and come last in `cohorts`.
      speakers: each one's cohort; who belongs to none is not in it.
    """

    cohorts: Sequence[str]
    groups: Mapping[str, str]
    speakers: Mapping[str, str]

    def metadata(self, cohort: str) -> dict[str, Any]:
        """What is said of utterances by a speaker of this cohort."""
        if cohort not in self.groups:
            return {"cohort": cohort}
        rank = self.cohorts.index(cohort) + 1
        return {"cohort": cohort, "cohort_rank": rank, "cohort_group": self.groups[cohort]}


def read_assignment(path: Path) -> Assignment:
    """Raises InputError where the file cannot be read or is no assignment."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from None
    except (ValueError, RecursionError):
        record = None
    if not (isinstance(record, dict) and _is_assignment(record)):
        raise InputError(
            f"{path} is no assignment of speakers to cohorts: write it with parley fairness assign."
        )
    return Assignment(record["cohorts"], record["groups"], record["speakers"])


def _is_assignment(record: dict[str, Any]) -> bool:
    cohorts, groups, speakers = (record.get(key) for key in ("cohorts", "groups", "speakers"))
    if not (isinstance(cohorts, list) and isinstance(groups, dict) and isinstance(speakers, dict)):
        return False
    if not all(isinstance(name, str) for name in (*cohorts, *speakers.values())):
        return False
    known = set(cohorts)
    return (
        len(known) == len(cohorts)
        and known.issuperset(speakers.values())
        and known.issuperset(groups)
        and all(group in GROUPS for group in groups.values())
    )


class CohortCorpus:
    """`base` with the cohort of each utterance's speaker in its metadata.

    Raises:
      InputError: none of its speakers is in the assignment.
    """

    def __init__(self, base: Corpus, assignment: Assignment, source: str):
        self.base = base
        self.name = base.name
        self.endless = is_endless(base)
        self.late_epoch = late_epoch(base)
        labels = {cohort: assignment.metadata(cohort) for cohort in assignment.cohorts}
        self._known = {name: labels[cohort] for name, cohort in assignment.speakers.items()}
        if not any(base.utterance(i).speaker in self._known for i in range(len(base))):
            raise InputError(
                f"{source} names none of the speakers of {base.name}: write it for this corpus, "
                "with parley fairness assign."
            )

    @property
    def quarantine(self) -> list[Rejected]:
        """What the corpus beneath left out."""
        return quarantined(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        utterance = self.base.utterance(i)
        cohort = self._known.get(utterance.speaker)
        if cohort is None:
            return utterance
        return replace(utterance, metadata={**utterance.metadata, **cohort})

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        return self.base.samples(i)
