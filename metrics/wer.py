"""Word errors: substitutions, deletions and insertions of a cheapest alignment.

The total of errors is unique (Levenshtein distance over words); its split into kinds is not always,
so where several alignments cost the same the kinds are those that rapidfuzz chooses, as jiwer does.
Texts are compared as they are: normalise both sides first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class WordErrors:
    """Counts of one utterance or, added up, of many; `words` counts the reference."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Errors per reference word, a fraction; without words 0 if there is no error, else inf."""
        if self.words:
            return self.total / self.words
        return math.inf if self.total else 0.0

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Errors of one hypothesis; words are separated by white space."""
    expected, heard = reference.split(), hypothesis.split()
    kinds = {"replace": 0, "delete": 0, "insert": 0}
    for edit in Levenshtein.editops(expected, heard):
        kinds[edit.tag] += 1
    return WordErrors(kinds["replace"], kinds["delete"], kinds["insert"], len(expected))


def total_errors(errors: Iterable[WordErrors]) -> WordErrors:
    """The sum, whose `wer` is that of the whole: long utterances count for more."""
    return sum(errors, start=WordErrors())
