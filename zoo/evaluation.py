"""Word error rates on a corpus, with what is needed to believe them.

evaluation = evaluate(zoo.load("rnnt-tiny"), open_corpus("assistant", "test"))
print(evaluation.score, evaluation.confidence)
evaluation.by("accent")
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..data.corpus import Corpus, Utterance, quarantined
from ..data.errors import InputError, Rejected
from ..data.files import replace_file
from ..data.text import normalize
from ..metrics.bootstrap import speaker_bootstrap
from ..metrics.calibration import (
    Bin,
    auc,
    brier_score,
    calibration_error,
    calibration_error_by_chance,
    normalized_cross_entropy,
    reliability,
    right_words,
)
from ..metrics.wer import WordErrors, total_errors, word_errors
from .transcriber import Transcriber
from .transcript import Transcript


class HeardWord(NamedTuple):
    """A word of a hypothesis."""

    text: str
    confidence: float
    right: bool


@dataclass(frozen=True)
class Scored:
    """One utterance; the texts are normalised."""

    id: str
    speaker: str
    reference: str
    hypothesis: str
    errors: WordErrors
    duration: float
    metadata: dict[str, Any] = field(default_factory=dict)
    heard: tuple[HeardWord, ...] = ()
    """The hypothesis, word by word."""

    def as_dict(self) -> dict[str, Any]:
        """For a JSON line."""
        return {
            "id": self.id,
            "speaker": self.speaker,
            "duration": round(self.duration, 3),
            "reference": self.reference,
            "hypothesis": self.hypothesis,
            **asdict(self.errors),
            "errors": self.errors.total,
            "heard": [
                {"text": w.text, "confidence": round(w.confidence, 3), "right": w.right}
                for w in self.heard
            ],
            "metadata": self.metadata,
        }


@dataclass(frozen=True)
class Score:
    """Word errors of a set of utterances; `low` and `high` as fractions, nan without interval."""

    errors: WordErrors
    low: float
    high: float
    utterances: int
    speakers: int

    @property
    def wer(self) -> float:
        return self.errors.wer

    def as_dict(self) -> dict[str, Any]:
        """Percents, rounded to what can be meant; no interval as None."""
        low, high = ((None if math.isnan(x) else round(100 * x, 2)) for x in (self.low, self.high))
        return {
            "wer": round(100 * self.wer, 2),
            "low": low,
            "high": high,
            **asdict(self.errors),
            "utterances": self.utterances,
            "speakers": self.speakers,
        }


@dataclass(frozen=True)
class Confidence:
    """What the confidences of the words that were heard are worth; nan where there is no answer.

    Attributes:
      words, right: how many were heard, and how many of them are right.
      error: expected calibration error, a fraction, in bins of equal mass.
      error_by_chance: what it would be if the confidences were true probabilities.
      nce: normalised cross entropy.
      auc: area under the ROC curve.
      brier: Brier score.
    """

    words: int
    right: int
    error: float
    error_by_chance: float
    nce: float
    auc: float
    brier: float

    def as_dict(self) -> dict[str, Any]:
        """Rounded, errors in percent; nan as None."""
        percents = {"error": self.error, "error_by_chance": self.error_by_chance}
        others = {"nce": self.nce, "auc": self.auc, "brier": self.brier}
        numbers = {k: round(100 * v, 2) for k, v in percents.items()}
        numbers |= {k: round(v, 4) for k, v in others.items()}
        kept = {k: None if math.isnan(v) else v for k, v in numbers.items()}
        return {"words": self.words, "right": self.right, **kept}


@dataclass(frozen=True)
class Evaluation:
    utterances: list[Scored]
    quarantine: list[Rejected]
    """Recordings and manifest rows that could not be used, and why."""
    audio_seconds: float
    seconds: float
    """What it took, compilation included."""
    calibrated: bool = False
    """Whether the model's confidences went through a calibrator."""

    @property
    def score(self) -> Score:
        return score(self.utterances)

    @property
    def confidence(self) -> Confidence:
        """Of all words that were heard."""
        return judge(*self.judged())

    def judged(self) -> tuple[list[float], list[bool]]:
        """(confidence, whether it is right) of every word that was heard."""
        words = [word for u in self.utterances for word in u.heard]
        return [w.confidence for w in words], [w.right for w in words]

    def reliability(self) -> list[Bin]:
        """The points of the reliability diagram, with intervals over speakers."""
        # Words of an utterance go wrong together: without a speaker, it takes a speaker's place.
        speakers = [u.speaker or f"utterance {u.id}" for u in self.utterances for _ in u.heard]
        return reliability(*self.judged(), speakers)

    def by(self, column: str) -> dict[str, Score]:
        """Scores of each value of a metadata column (or of `speaker`).

        Raises InputError where no utterance has the column.
        """
        groups: dict[str, list[Scored]] = defaultdict(list)
        for utterance in self.utterances:
            value = utterance.speaker if column == "speaker" else utterance.metadata.get(column)
            if value not in (None, ""):
                groups[str(value)].append(utterance)
        if not groups:
            known = {"speaker"}.union(*(u.metadata for u in self.utterances))
            raise InputError(
                f"the corpus has no column {column!r}: it has {', '.join(sorted(known))}."
            )
        return {value: score(groups[value]) for value in sorted(groups)}

    def write(self, path: Path) -> None:
        """Every utterance as a JSON line."""
        lines = [json.dumps(u.as_dict(), ensure_ascii=False) for u in self.utterances]
        replace_file(path, "\n".join(lines) + "\n")

    def examples(self, count: int) -> list[Scored]:
        """Utterances spread evenly over the corpus: chosen by nobody."""
        if not self.utterances or count < 1:
            return []
        at = np.linspace(0, len(self.utterances) - 1, min(count, len(self.utterances)))
        return [self.utterances[i] for i in at.astype(int)]


def score(utterances: Sequence[Scored]) -> Score:
    """Adds up errors and draws the interval over speakers."""
    errors = [u.errors for u in utterances]
    speakers = [u.speaker for u in utterances]
    low, high = speaker_bootstrap([e.total for e in errors], [e.words for e in errors], speakers)
    known = len({s for s in speakers if s}) + speakers.count("")
    return Score(total_errors(errors), low, high, len(utterances), known)


def judge(confidences: Sequence[float], right: Sequence[bool]) -> Confidence:
    """Measures confidences against the truth, one entry a word."""
    return Confidence(
        len(right),
        sum(right),
        calibration_error(confidences, right),
        calibration_error_by_chance(confidences),
        normalized_cross_entropy(confidences, right),
        auc(confidences, right),
        brier_score(confidences, right),
    )


def transcribe_corpus(
    model: Transcriber,
    corpus: Corpus,
    quarantine: list[Rejected],
    on_audio: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Utterance, Transcript]]:
    """(number, utterance, what was heard) of all that can be used, as they are done; the others
    are added to `quarantine`."""
    indices: list[int] = []

    def audio() -> Iterator[np.ndarray]:
        for index in range(len(corpus)):
            try:
                samples = corpus.samples(index)
            except InputError as error:
                quarantine.append(Rejected(corpus.utterance(index).id, str(error)))
                continue
            indices.append(index)
            yield samples

    for position, result in model.transcribe_each(audio(), on_audio=on_audio):
        utterance = corpus.utterance(indices[position])
        if isinstance(result, Rejected):
            quarantine.append(Rejected(utterance.id, result.reason))
        else:
            yield indices[position], utterance, result


def score_each(
    model: Transcriber,
    corpus: Corpus,
    quarantine: list[Rejected],
    on_audio: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Scored]]:
    """(number, utterance scored against its text, both sides normalised), as they are done; what
    cannot be used is added to `quarantine`."""
    for index, utterance, result in transcribe_corpus(model, corpus, quarantine, on_audio):
        reference = normalize(utterance.text)
        # Word by word, so that each keeps its confidence; normalising may drop or split a word.
        heard = [(text, w.confidence) for w in result.words for text in normalize(w.text).split()]
        hypothesis = " ".join(text for text, _ in heard)
        right = right_words(reference, hypothesis)
        yield (
            index,
            Scored(
                utterance.id,
                utterance.speaker,
                reference,
                hypothesis,
                word_errors(reference, hypothesis),
                result.duration,
                utterance.metadata,
                tuple(HeardWord(*word, ok) for word, ok in zip(heard, right, strict=True)),
            ),
        )


def evaluate(
    model: Transcriber, corpus: Corpus, *, on_audio: Callable[[float], None] | None = None
) -> Evaluation:
    """Transcribes a corpus and scores it against its texts, both sides normalised.

    `on_audio(seconds)` is told of progress. Raises InputError for a corpus without words.
    """
    began = perf_counter()
    quarantine = quarantined(corpus).copy()
    scored = dict(score_each(model, corpus, quarantine, on_audio))
    utterances = [scored[index] for index in sorted(scored)]
    if not any(u.errors.words for u in utterances):
        raise InputError(
            f"{corpus.name} has no words to compare with: evaluate needs recordings with text."
        )
    return Evaluation(
        utterances,
        quarantine,
        sum(u.duration for u in utterances),
        perf_counter() - began,
        calibrated=model.recognizer.calibrator is not None,
    )
