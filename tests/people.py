"""Simulated speakers in cohorts, as scores that discovery reads."""

import numpy as np

from parley.fairness.population import population_of
from parley.fairness.scores import Scores


def simulated(
    errors: np.ndarray, words: np.ndarray, utterances: int = 2, **columns: np.ndarray | list
) -> Scores:
    """Scores of speakers s00000, s00001, ... whose totals are `errors` and `words` [S].

    All is in a speaker's first utterance; the others are empty.
    """
    names = [f"s{i:05d}" for i in range(len(errors))]
    metadata = [{name: values[i] for name, values in columns.items()} for i in range(len(errors))]
    spoken = [(name, row) for name, row in zip(names, metadata, strict=True)] * utterances
    counts = np.zeros((len(spoken), 4), np.int64)
    counts[: len(errors), 0] = errors
    counts[: len(errors), 3] = words
    ids = tuple(f"u{i}" for i in range(len(spoken)))
    return Scores("simulated", population_of(spoken), ids, counts, np.full(len(spoken), 2.0))
