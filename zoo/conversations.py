"""How well a model hears conversations: words, turns, when it says that they begin and end.

    corpus = open_corpus("assistant?turns=1-4&draws=200", "test")
    evaluation = evaluate_conversations(zoo.load("sts-tiny"), corpus)
    print(evaluation.score.wer, evaluation.total.turns.exact_share)

The number of words wrong is that of ORC-WER, see `metrics.conversation`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from ..data.corpus import Corpus, quarantined
from ..data.errors import InputError, Rejected
from ..data.text import normalize
from ..data.tokenizer import END_OF_TURN, START_OF_TURN
from ..data.turns import Turn, to_json, turns_of
from ..metrics.bootstrap import speaker_bootstrap
from ..metrics.diarization import DiarizationErrors, activity_errors
from ..metrics.turn_events import ConversationScore, Emissions, score_conversation
from .evaluation import Score, transcribe_corpus
from .transcriber import Transcriber
from .transcript import HeardTurn, Transcript

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class ScoredConversation:
    """One recording; the texts are normalised."""

    id: str
    duration: float
    reference: tuple[Turn, ...]
    heard: tuple[HeardTurn, ...]
    score: ConversationScore
    activity: DiarizationErrors
    """Of when somebody speaks, whoever it is: the heard turns' times against the reference's."""
    metadata: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON line."""
        known = {k: v for k, v in self.metadata.items() if k != "turns"}
        return {
            "id": self.id,
            "duration": round(self.duration, 3),
            "turns": to_json(self.reference),
            "heard": [turn.as_dict() for turn in self.heard],
            **asdict(self.score.words),
            "errors": self.score.words.total,
            "metadata": known,
        }


@dataclass(frozen=True)
class ConversationEvaluation:
    conversations: list[ScoredConversation]
    quarantine: list[Rejected]
    """Recordings and manifest rows that could not be used, and why."""
    audio_seconds: float
    seconds: float
    """What it took, compilation included."""

    @property
    def total(self) -> ConversationScore:
        return total(self.conversations)

    @property
    def score(self) -> Score:
        """ORC-WER with an interval over recordings: turns of one go wrong together."""
        return score(self.conversations)

    def by(self, column: str) -> dict[str, list[ScoredConversation]]:
        """Conversations by the value of a metadata column; shares as percents, to the nearest ten.

        Raises InputError where no conversation has the column.
        """
        groups: dict[str, list[ScoredConversation]] = defaultdict(list)
        for conversation in self.conversations:
            value = conversation.metadata.get(column)
            if value in (None, ""):
                continue
            if isinstance(value, float):
                value = f"{10 * round(10 * value):g} %"
            groups[str(value)].append(conversation)
        if not groups:
            known = {k for c in self.conversations for k in c.metadata if k != "turns"}
            raise InputError(
                f"the corpus has no column {column!r}: it has {', '.join(sorted(known))}."
            )
        return {value: groups[value] for value in sorted(groups, key=_numbers_first)}

    def examples(self, count: int) -> list[ScoredConversation]:
        """Spread evenly over the corpus: chosen by nobody."""
        if not self.conversations or count < 1:
            return []
        at = np.linspace(0, len(self.conversations) - 1, min(count, len(self.conversations)))
        return [self.conversations[i] for i in at.astype(int)]


def _numbers_first(value: str) -> tuple[float, str]:
    try:
        return float(value.removesuffix(" %")), value
    except ValueError:
        return math.inf, value


def has_turns(corpus: Corpus) -> bool:
    """Whether the corpus is one of conversations."""
    return len(corpus) > 0 and bool(turns_of(corpus.utterance(0)))


def total(conversations: Sequence[ScoredConversation]) -> ConversationScore:
    return sum((c.score for c in conversations), start=ConversationScore())


def score(conversations: Sequence[ScoredConversation]) -> Score:
    """ORC-WER of some conversations, with an interval over recordings."""
    errors = [c.score.words for c in conversations]
    names = [c.id for c in conversations]
    low, high = speaker_bootstrap([e.total for e in errors], [e.words for e in errors], names)
    return Score(total(conversations).words, low, high, len(conversations), len(conversations))


def evaluate_conversations(
    model: Transcriber, corpus: Corpus, *, on_audio: Callable[[float], None] | None = None
) -> ConversationEvaluation:
    """Transcribes conversations and scores words and turns.

    `on_audio(seconds)` is told of progress. Raises InputError for a corpus without words, and
    where the package that finds the best combination of turns is not installed.
    """
    began = perf_counter()
    quarantine = quarantined(corpus).copy()
    scored: dict[int, ScoredConversation] = {}
    for index, utterance, result in transcribe_corpus(model, corpus, quarantine, on_audio):
        reference = tuple(replace(t, text=normalize(t.text)) for t in turns_of(utterance))
        channels, step_s = model.recognizer.channels, model.step_s
        turns = result.turns or whole_as_turn(result)
        streams = [stream_of(turns, channel, step_s) for channel in range(channels)]
        try:
            judged = score_conversation(reference, streams, len(turns))
        except ModuleNotFoundError as error:
            raise InputError(str(error)) from None
        scored[index] = ScoredConversation(
            utterance.id,
            result.duration,
            reference,
            turns,
            judged,
            activity_errors(reference, turns),
            utterance.metadata,
        )
    conversations = [scored[index] for index in sorted(scored)]
    if not any(c.score.words.words for c in conversations):
        raise InputError(
            f"{corpus.name} has no words to compare with: evaluate needs turns with text."
        )
    return ConversationEvaluation(
        conversations,
        quarantine,
        sum(c.duration for c in conversations),
        perf_counter() - began,
    )


def whole_as_turn(transcript: Transcript) -> tuple[HeardTurn, ...]:
    """What a model without turns says, as one turn; none where it says nothing."""
    words = transcript.words
    if not words:
        return ()
    return (HeardTurn(transcript.text, words[0].start, words[-1].end, 0, words),)


def stream_of(turns: Sequence[HeardTurn], channel: int, step_s: float) -> list[tuple[str, float]]:
    """(normalised word or marker, seconds at which it was known) of one channel, in order."""
    stream: list[tuple[str, float]] = []
    for turn in turns:
        if turn.channel != channel:
            continue
        if turn.marked[0]:
            stream.append((START_OF_TURN, turn.start + step_s))
        for word in turn.words:
            # Normalising may drop or split a word.
            stream += [(text, word.end) for text in normalize(word.text).split()]
        if turn.marked[1]:
            stream.append((END_OF_TURN, turn.end))
    return stream


def latency_record(found: Emissions) -> dict[str, float | None]:
    """Percentiles in seconds and rates in percent; no events as None."""
    numbers = {f"p{q}": round(found.percentile(q), 3) for q in PERCENTILES}
    return {
        **{k: None if math.isnan(v) else v for k, v in numbers.items()},
        "miss": round(100 * found.miss_rate, 2),
        "early": round(100 * found.early_rate, 2),
        "false_alarm": round(100 * found.false_alarm_rate, 2),
    }


def record(conversations: Sequence[ScoredConversation]) -> dict[str, Any]:
    """All figures of some conversations: percents, seconds and counts."""
    return {**score(conversations).as_dict(), **turn_record(conversations)}


def turn_record(conversations: Sequence[ScoredConversation]) -> dict[str, Any]:
    """Of their turns alone: percents, and seconds of latency."""
    found = total(conversations)
    activity = sum((c.activity for c in conversations), start=DiarizationErrors())
    counts = found.turns
    return {
        "endpointed_wer": round(100 * found.endpointed.wer, 2),
        "turn_count": {
            "reference": counts.reference,
            "exact": round(100 * counts.exact_share, 2),
            "soft": round(100 * counts.soft_accuracy, 2),
            "bias": round(100 * counts.bias, 2),
        },
        "start_latency": latency_record(found.starts),
        "end_latency": latency_record(found.ends),
        "activity_error": round(100 * activity.rate, 2),
    }
