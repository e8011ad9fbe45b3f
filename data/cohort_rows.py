"""The cohort of an utterance as numbers, for models that take it as an input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from .corpus import Corpus, Utterance
from .errors import InputError
from .views import fields_of

CohortTold: TypeAlias = Literal["unknown", "true", "shuffled"]
"""What a model is told of speakers' cohorts. shuffled: speakers exchange theirs, so that each
cohort is told as often as it is true."""


@dataclass(frozen=True)
class CohortRows:
    """`rows(utterance) -> [K]`: a unit vector, the posterior that the metadata hold, or zeros.

    Attributes:
      column: of the metadata: a name, or K probabilities.
      values: the K names. What is none of them is unknown: zeros.
    """

    column: str
    values: Sequence[str]

    def __call__(self, utterance: Utterance) -> np.ndarray:
        """float32 [K]. Raises InputError for a list of another length, or of no numbers."""
        value = fields_of(utterance).get(self.column)
        if isinstance(value, Mapping):
            value = [value.get(name, 0.0) for name in self.values]
        if isinstance(value, list | tuple):
            if len(value) != len(self.values) or not all(isinstance(p, int | float) for p in value):
                raise InputError(
                    f"{utterance.id}: {self.column} should be {len(self.values)} probabilities, "
                    f"of {', '.join(self.values)}."
                )
            return np.asarray(value, np.float32)
        return np.asarray([str(value) == name for name in self.values], np.float32)

    def of(self, corpus: Corpus) -> np.ndarray:
        """float32 [len(corpus), K]. Raises InputError where no cohort of it is known."""
        rows = np.stack([self(corpus.utterance(i)) for i in range(len(corpus))])
        if not rows.any():
            raise InputError(
                f"{corpus.name}: no utterance has a {self.column} that is one of "
                f"{', '.join(self.values)}, which the model is told: name the column and its "
                "values by --model.cohort.column and --model.cohort.values, or give the corpus's "
                "spec cohorts=FILE."
            )
        return rows
