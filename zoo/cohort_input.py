"""Models that are told the speaker's cohort, scored as they are told the truth, a lie, nothing."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..data.cohort_rows import CohortRows, CohortTold
from ..data.corpus import Corpus, quarantined
from ..data.errors import InputError
from ..data.views import SelectedCorpus
from .evaluation import Evaluation, evaluate
from .recognizer import Recognizer
from .transcriber import Transcriber


def of_cohort(model: Transcriber, cohort: str | Sequence[float]) -> Transcriber:
    """The model as it hears speakers of one cohort, in files and in streams.

    `cohort`: one of the names that it was trained with, or a probability for each of them.

    Raises InputError for a model that is not told cohorts, and for a cohort that it does not know.
    """
    recognizer = _recognizer(model)
    known = recognizer.cohort.values
    if isinstance(cohort, str):
        if cohort not in known:
            raise InputError(f"{model.name} knows no cohort {cohort!r}: {', '.join(known)}.")
        cohort = [float(cohort == name) for name in known]
    if len(cohort) != len(known):
        raise InputError(f"{model.name} takes {len(known)} probabilities: {', '.join(known)}.")
    row = np.asarray(cohort, np.float32)
    return Transcriber(model.name, model.folder, recognizer.for_cohort(row))


def evaluate_told(
    model: Transcriber,
    corpus: Corpus,
    told: CohortTold,
    *,
    seed: int = 0,
    on_audio: Callable[[float], None] | None = None,
) -> Evaluation:
    """`evaluate`, the cohorts of the corpus's metadata being told as `told` says.

    Speakers of each cohort are transcribed together. Raises InputError as `evaluate`, and where the
    model is not told cohorts or the corpus knows none.
    """
    config = _recognizer(model).cohort
    if told == "unknown":
        return evaluate(model, corpus, on_audio=on_audio)
    rows = CohortRows(config.column, config.values).of(corpus)
    if told == "shuffled":
        rows = shuffled(rows, [corpus.utterance(i).speaker for i in range(len(corpus))], seed)
    groups: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows.tolist()):
        groups[tuple(row)].append(index)
    parts = [
        evaluate(
            of_cohort(model, row), SelectedCorpus(corpus, indices, corpus.name), on_audio=on_audio
        )
        for row, indices in groups.items()
    ]
    order = {corpus.utterance(i).id: i for i in range(len(corpus))}
    before = quarantined(corpus)
    return Evaluation(
        sorted((u for part in parts for u in part.utterances), key=lambda u: order[u.id]),
        before + [r for part in parts for r in part.quarantine if r not in before],
        sum(part.audio_seconds for part in parts),
        sum(part.seconds for part in parts),
        calibrated=parts[0].calibrated,
    )


def shuffled(rows: np.ndarray, speakers: Sequence[str], seed: int) -> np.ndarray:
    """Rows [N, K] of utterances after speakers have exchanged theirs at random."""
    names, first, own = np.unique(speakers, return_index=True, return_inverse=True)
    partner = np.random.default_rng(seed).permutation(len(names))
    return rows[first[partner]][own]


def is_told_cohorts(model: Transcriber) -> bool:
    return _told(model) is not None


def _told(model: Transcriber) -> Recognizer | None:
    """The model's recogniser, if it is told cohorts."""
    recognizer = model.recognizer
    if isinstance(recognizer, Recognizer) and recognizer.cohort.kind != "off":
        return recognizer
    return None


def _recognizer(model: Transcriber) -> Recognizer:
    recognizer = _told(model)
    if recognizer is None:
        raise InputError(
            f"{model.name} is not told cohorts: train one by parley fairness mitigate "
            "cohort-input, and do not export it."
        )
    return recognizer
