"""What `parley evaluate` does with conversations."""

import datetime
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..data.corpus import Corpus
from ..data.errors import InputError
from ..data.files import replace_file
from ..data.turns import most_at_once
from .cards import CARD, Measurement, percent, update_card
from .console import audio_progress, remark, stdout, table
from .conversations import (
    ConversationEvaluation,
    ScoredConversation,
    evaluate_conversations,
    record,
    score,
    total,
)
from .runtime import device_name, speed_line

if TYPE_CHECKING:
    from .commands_evaluate import EvaluateArguments
    from .transcriber import Transcriber


def report_conversations(
    given: "EvaluateArguments", command: str, split: str, model: "Transcriber", corpus: Corpus
) -> int:
    """Evaluates a model on a corpus of conversations and says it as the arguments ask.

    Args:
      given: of `parley evaluate`.
      command: what gives these numbers again.
      split: '' where the corpus has none.
    """
    if given.calibrate or given.plot:
        raise InputError(
            "confidences are measured on single utterances: leave --calibrate and --plot out for "
            "conversations; parley inspect draws one."
        )
    seconds = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    with audio_progress("evaluating", seconds) as advance:
        evaluation = evaluate_conversations(model, corpus, on_audio=advance)
    if given.out:
        lines = [json.dumps(c.as_dict(), ensure_ascii=False) for c in evaluation.conversations]
        replace_file(given.out, "\n".join(lines) + "\n")
    groups = {column: evaluation.by(column) for column in given.by}
    if given.json:
        print(json.dumps(_record(given, split, corpus, evaluation, groups), indent=1))
    else:
        _print(given, corpus, evaluation, groups)
    if given.update_card:
        result = measurement(given, command, split, corpus, evaluation, groups)
        update_card(model.folder / CARD, result)
        remark(f"the result is in {model.folder / CARD}")
    channels = model.recognizer.channels
    crowded = sum(most_at_once(c.reference) > max(channels, 2) for c in evaluation.conversations)
    if crowded:
        remark(
            f"in {crowded:,} of {len(evaluation.conversations):,} recordings more people speak at "
            f"once than the {channels} channels can hold: their words are counted as they come"
        )
    for rejected in evaluation.quarantine:
        remark(f"left out {rejected}")
    return 2 if evaluation.quarantine else 0


def measurement(
    given: "EvaluateArguments",
    command: str,
    split: str,
    corpus: Corpus,
    evaluation: ConversationEvaluation,
    groups: dict[str, dict[str, list[ScoredConversation]]],
) -> Measurement:
    """The card's entry."""
    found = record(evaluation.conversations)
    kept = ("wer", "low", "high", "words", "speakers")
    return Measurement(
        data=given.data,
        split=split,
        name=corpus.name,
        command=command,
        date=datetime.date.today().isoformat(),
        device=device_name(),
        groups={
            column: {
                value: {
                    k: v for k, v in score(some).as_dict().items() if k in kept and v is not None
                }
                for value, some in values.items()
            }
            for column, values in groups.items()
        },
        turns={
            "exact": found["turn_count"]["exact"],
            "bias": found["turn_count"]["bias"],
            **{f"end_{k}": v for k, v in found["end_latency"].items() if v is not None},
        },
        **evaluation.score.as_dict(),
    )


def _record(
    given: "EvaluateArguments",
    split: str,
    corpus: Corpus,
    evaluation: ConversationEvaluation,
    groups: dict[str, dict[str, list[ScoredConversation]]],
) -> dict[str, Any]:
    return {
        "model": given.model,
        "data": given.data,
        "split": split,
        "name": corpus.name,
        **record(evaluation.conversations),
        "audio_seconds": round(evaluation.audio_seconds, 2),
        "seconds": round(evaluation.seconds, 2),
        "groups": {c: {v: record(some) for v, some in g.items()} for c, g in groups.items()},
        "examples": [c.as_dict() for c in evaluation.examples(given.examples)],
        "rejected": [{"where": r.where, "reason": r.reason} for r in evaluation.quarantine],
    }


def _print(
    given: "EvaluateArguments",
    corpus: Corpus,
    evaluation: ConversationEvaluation,
    groups: dict[str, dict[str, list[ScoredConversation]]],
) -> None:
    console = stdout()
    numbers = ("sub", "del", "ins", "words", "recordings", "turns right", "turns, bias")
    rows = table("", "ORC-WER (95 % interval)", *numbers, right=numbers)

    def add(label: str, some: Sequence[ScoredConversation]) -> None:
        values, turns = score(some).as_dict(), total(some).turns
        counts = (*list(values.values())[3:7], len(some))
        wer = percent(values["wer"], values["low"], values["high"])
        shares = f"{100 * turns.exact_share:.1f} %", f"{100 * turns.bias:+.1f} %"
        rows.add_row(label, wer, *(f"{n:,}" for n in counts), *shares)

    add("all", evaluation.conversations)
    for column, values in groups.items():
        rows.add_section()
        for value, some in values.items():
            add(f"{column} {value}", some)
    console.print(f"{given.model} on {corpus.name}\n")
    console.print(rows)
    found = record(evaluation.conversations)
    if evaluation.total.starts.latencies or evaluation.total.ends.latencies:
        figures = ("P50", "P90", "P95", "P99", "missed", "early", "false alarms")
        latencies = table("latency", *figures, right=figures)
        for name, key in (("start of turn", "start_latency"), ("end of turn", "end_latency")):
            values = list(found[key].values())
            seconds = ("-" if v is None else f"{v:.2f} s" for v in values[:4])
            latencies.add_row(name, *seconds, *(f"{v:.1f} %" for v in values[4:]))
        console.print("")
        console.print(latencies)
        console.print(
            f"\nORC-WER without the words between an end of turn and the next start: "
            f"{found['endpointed_wer']:.2f} %"
        )
    console.print(
        f"\nerror of speech activity (missed and false time over speech): "
        f"{found['activity_error']:.2f} %"
    )
    console.print(speed_line(evaluation.audio_seconds, evaluation.seconds))
    for example in evaluation.examples(given.examples):
        console.print(
            f"\n{example.id}  ({example.score.words.total} of {example.score.words.words})"
        )
        for turn in example.reference:
            console.print(f"  {turn.start:6.2f} {turn.end:6.2f}  reference  {turn.text}")
        for turn in example.heard:
            console.print(
                f"  {turn.start:6.2f} {turn.end:6.2f}  channel {turn.channel + 1}  {turn.text}"
            )
