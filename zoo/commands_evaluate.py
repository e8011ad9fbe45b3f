"""`parley evaluate`."""

import datetime
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..data.corpus import EMBEDDED, Corpus, open_corpus
from ..data.files import replace_file
from .arguments import parse
from .cards import CARD, Measurement, percent, update_card
from .console import audio_progress, remark, stdout, table
from .decoding import GREEDY, Decoding
from .runtime import device_name

if TYPE_CHECKING:
    from .evaluation import Evaluation, Score


@dataclass(frozen=True)
class EvaluateArguments:
    """Word error rate on a corpus, with substitutions, deletions and insertions and a 95 %
    interval over speakers. References and hypotheses are normalised alike before they are compared.

    * parley evaluate rnnt-tiny --data assistant --split test --by accent
    * parley evaluate rnnt-tiny --data assistant --beam 4
    * parley evaluate runs/mine --data "my.jsonl?split=test" --out results.jsonl --update-card
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")]
    """words, assistant, librispeech:DIR or a manifest, with ?key=value&... to select from it."""
    split: str = "test"
    """Of an embedded corpus or LibriSpeech; a manifest has none."""
    by: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN...")] = ()
    """Columns of the metadata to give the rate by, for example accent; or speaker."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write every utterance as a JSON line: id, speaker, reference, hypothesis, errors."""
    update_card: bool = False
    """Enter the result into the model's card."""
    examples: int = 0
    """Show so many references and hypotheses, spread evenly over the corpus."""
    json: bool = False
    """Print JSON instead of tables."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = GREEDY


def evaluate_command(argv: list[str]) -> int:
    given = parse(EvaluateArguments, argv, "parley evaluate")
    from . import load
    from .evaluation import evaluate

    model = load(given.model, decoding=given.decoding)
    corpus = open_corpus(given.data, given.split)
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    with audio_progress("evaluating", total) as advance:
        evaluation = evaluate(model, corpus, on_audio=advance)
    if given.out:
        lines = [json.dumps(u.as_dict(), ensure_ascii=False) for u in evaluation.utterances]
        replace_file(given.out, "\n".join(lines) + "\n")
    groups = {column: evaluation.by(column) for column in given.by}
    if given.json:
        print(json.dumps(_record(given, corpus, evaluation, groups), indent=1))
    else:
        _print(given, corpus, evaluation, groups)
    if given.update_card:
        update_card(model.folder / CARD, measurement(given, corpus, evaluation, groups))
        remark(f"the result is in {model.folder / CARD}")
    for rejected in evaluation.quarantine:
        remark(f"left out {rejected}")
    return 2 if evaluation.quarantine else 0


def measurement(
    given: EvaluateArguments,
    corpus: Corpus,
    evaluation: "Evaluation",
    groups: "dict[str, dict[str, Score]]",
) -> Measurement:
    """The card's entry."""
    command = ["parley", "evaluate", given.model, "--data", given.data]
    split = given.split if _has_splits(given.data) else ""
    command += ["--split", split] if split else []
    command += ["--by", *given.by] if given.by else []
    command += given.decoding.arguments()
    kept = ("wer", "low", "high", "words", "speakers")
    return Measurement(
        data=given.data,
        split=split,
        name=corpus.name,
        command=shlex.join(command),
        date=datetime.date.today().isoformat(),
        device=device_name(),
        groups={
            column: {
                value: {k: v for k, v in score.as_dict().items() if k in kept and v is not None}
                for value, score in scores.items()
            }
            for column, scores in groups.items()
        },
        **evaluation.score.as_dict(),
    )


def _has_splits(spec: str) -> bool:
    sources = [part.strip().partition("?")[0] for part in spec.split(" + ")]
    return any(s in EMBEDDED or s.startswith("librispeech:") for s in sources)


def _record(
    given: EvaluateArguments,
    corpus: Corpus,
    evaluation: "Evaluation",
    groups: "dict[str, dict[str, Score]]",
) -> dict:
    return {
        "model": given.model,
        "data": given.data,
        "split": given.split if _has_splits(given.data) else "",
        "name": corpus.name,
        **evaluation.score.as_dict(),
        "audio_seconds": round(evaluation.audio_seconds, 2),
        "seconds": round(evaluation.seconds, 2),
        "groups": {c: {v: s.as_dict() for v, s in g.items()} for c, g in groups.items()},
        "examples": [u.as_dict() for u in evaluation.examples(given.examples)],
        "rejected": [{"where": r.where, "reason": r.reason} for r in evaluation.quarantine],
    }


def _print(
    given: EvaluateArguments,
    corpus: Corpus,
    evaluation: "Evaluation",
    groups: "dict[str, dict[str, Score]]",
) -> None:
    console = stdout()
    numbers = ("sub", "del", "ins", "words", "utterances", "speakers")
    rows = table("", "WER (95 % interval)", *numbers, right=numbers)

    def add(label: str, score: "Score") -> None:
        values = score.as_dict()
        counts = (*list(values.values())[3:7], score.utterances, score.speakers)
        wer = percent(values["wer"], values["low"], values["high"])
        rows.add_row(label, wer, *(f"{n:,}" for n in counts))

    add("all", evaluation.score)
    for column, scores in groups.items():
        rows.add_section()
        for value, score in scores.items():
            add(f"{column} {value}", score)
    console.print(f"{given.model} on {corpus.name}\n")
    console.print(rows)
    speed = evaluation.audio_seconds / max(evaluation.seconds, 1e-9)
    console.print(
        f"\n{evaluation.audio_seconds / 60:,.1f} min of audio in {evaluation.seconds:,.1f} s, "
        f"compilation included: {speed:,.0f} times real time on {device_name()}"
    )
    for example in evaluation.examples(given.examples):
        console.print(f"\n{example.id}  ({example.errors.total} of {example.errors.words})")
        console.print(f"  reference   {example.reference}")
        console.print(f"  hypothesis  {example.hypothesis}")
