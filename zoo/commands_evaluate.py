"""`parley evaluate`."""

import datetime
import json
import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..data.corpus import EMBEDDED, Corpus, open_corpus, parse_spec
from ..data.errors import InputError
from .arguments import parse
from .cards import CARD, Measurement, percent, update_card
from .console import audio_progress, remark, stdout, table
from .decoding import GREEDY, Decoding
from .runtime import device_name, speed_line

if TYPE_CHECKING:
    from ..metrics.calibration import Calibrator
    from .evaluation import Confidence, Evaluation, Score
    from .usage import Usage


@dataclass(frozen=True)
class EvaluateArguments:
    """Word error rate on a corpus, with substitutions, deletions and insertions and a 95 %
    interval over speakers, and whether the words' confidences are to be believed. References and
    hypotheses are normalised alike before they are compared. Of conversations: ORC-WER with an
    interval over recordings, how many turns were heard, and when their starts and ends were told.

    * parley evaluate rnnt-tiny --data assistant --split test --by accent
    * parley evaluate rnnt-tiny --data assistant --beam 4
    * parley evaluate sts-tiny --data "assistant?turns=1-4&draws=200" --by overlap turn_count
    * parley evaluate runs/mine --data "my.jsonl?split=test" --out results.jsonl --update-card
    * parley evaluate runs/mine --data assistant --split dev --calibrate --plot reliability.png

    A speaker model, named first, is measured by its equal error rate: see
    parley evaluate speaker-tiny --help.
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
    """Write every utterance as a JSON line: id, speaker, reference, hypothesis, errors, and the
    words that were heard with their confidence and whether they are right."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw confidence against the share of right words (.png, .svg or .pdf)."""
    calibrate: bool = False
    """Fit the model's confidences to this corpus, a development set, and keep what was fitted in
    the model's folder, from where it is applied to every later transcript."""
    update_card: bool = False
    """Enter the result into the model's card."""
    cohort_input: Literal["unknown", "true", "shuffled"] = "unknown"
    """Of a model that is told the speaker's cohort: tell it the one in the metadata, another
    speaker's, or none."""
    examples: int = 0
    """Show so many references and hypotheses, spread evenly over the corpus."""
    json: bool = False
    """Print JSON instead of tables."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = GREEDY


def evaluate_command(argv: list[str]) -> int:
    if argv and _names_speaker_model(argv[0]):
        from .commands_verification import evaluate_speakers_command

        return evaluate_speakers_command(argv)
    given = parse(EvaluateArguments, argv, "parley evaluate")
    if given.plot:
        from .evaluation_plot import check_plot_path

        check_plot_path(given.plot)
    if given.calibrate:
        _refuse_test_data(given)
    from . import load
    from .evaluation import evaluate

    model = load(given.model, decoding=given.decoding)
    if given.calibrate and (model.folder / "export.json").is_file():
        raise InputError(
            f"{model.folder} is an export, which is not changed: calibrate the model that it was "
            "made of, and export that again."
        )
    if given.calibrate:  # to what the model says by itself
        model.recognizer.calibrator = None
    corpus = open_corpus(given.data, given.split)
    from .conversations import has_turns

    if has_turns(corpus):
        from .conversation_report import report_conversations

        split = given.split if has_splits(given.data) else ""
        return report_conversations(given, _command(given), split, model, corpus)
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    with audio_progress("evaluating", total) as advance:
        if given.cohort_input == "unknown":
            evaluation = evaluate(model, corpus, on_audio=advance)
        else:
            from .cohort_input import evaluate_told

            evaluation = evaluate_told(model, corpus, given.cohort_input, on_audio=advance)
    usage = _usage(given, corpus)
    if given.out:
        evaluation.write(given.out)
    groups = {column: evaluation.by(column) for column in given.by}
    calibrator = None
    if given.calibrate:
        from .calibration import calibrator_for, write_calibrator

        calibrator = calibrator_for(evaluation)
        path = write_calibrator(model.folder, calibrator, evaluation, _command(given))
        remark(f"the calibrator is in {path}; other speakers say whether it holds")
    if given.json:
        record = _record(given, corpus, evaluation, groups, calibrator)
        computes = {"compute": usage.as_dict()} if usage else {}
        print(json.dumps({**record, **computes}, indent=1))
    else:
        _print(given, corpus, evaluation, groups, calibrator)
        if usage:
            stdout().print(
                f"encoder: {usage.ratio:.3f} of the dense one's multiply-adds, on speech "
                f"{usage.speech_ratio:.3f}; whole model {usage.model_ratio:.3f}"
            )
    if given.plot:
        from .evaluation_plot import write_plot

        write_plot(evaluation, f"{given.model} on {corpus.name}", given.plot)
    if given.update_card:
        result = measurement(given, corpus, evaluation, groups, usage)
        update_card(model.folder / CARD, result)
        remark(f"the result is in {model.folder / CARD}")
    for rejected in evaluation.quarantine:
        remark(f"left out {rejected}")
    return 2 if evaluation.quarantine else 0


def _names_speaker_model(name: str) -> bool:
    """Whether the first argument is a model that tells speakers apart."""
    from .registry import folder_of
    from .speaker_package import is_speaker_folder

    if name.startswith("-"):
        return False
    try:
        return is_speaker_folder(folder_of(name))
    except InputError:
        return False


def _usage(given: EvaluateArguments, corpus: Corpus) -> "Usage | None":
    """What an amortized encoder spends; None of others, and of exported models."""
    from .package import read_model, read_recipe
    from .registry import folder_of
    from .usage import has_gates, measure_usage

    folder = folder_of(given.model)
    if (folder / "export.json").is_file() or not has_gates(read_recipe(folder)):
        return None
    package, theta = read_model(folder), given.decoding.theta
    return measure_usage(package if theta is None else package.with_theta(theta), corpus)


def measurement(
    given: EvaluateArguments,
    corpus: Corpus,
    evaluation: "Evaluation",
    groups: "dict[str, dict[str, Score]]",
    usage: "Usage | None" = None,
) -> Measurement:
    """The card's entry."""
    compute = {}
    if usage is not None:
        counted = usage.as_dict()
        compute = {k: counted[k] for k in ("ratio", "speech_ratio", "model_ratio", "theta")}
    kept = ("wer", "low", "high", "words", "speakers")
    return Measurement(
        data=given.data,
        split=given.split if has_splits(given.data) else "",
        name=corpus.name,
        command=_command(given),
        date=datetime.date.today().isoformat(),
        device=device_name(),
        groups={
            column: {
                value: {k: v for k, v in score.as_dict().items() if k in kept and v is not None}
                for value, score in scores.items()
            }
            for column, scores in groups.items()
        },
        compute=compute,
        **evaluation.score.as_dict(),
    )


def _command(given: EvaluateArguments) -> str:
    """What gives these numbers again."""
    command = ["parley", "evaluate", given.model, "--data", given.data]
    command += ["--split", given.split] if has_splits(given.data) else []
    command += ["--by", *given.by] if given.by else []
    command += ["--calibrate"] if given.calibrate else []
    if given.cohort_input != "unknown":
        command += ["--cohort-input", given.cohort_input]
    command += given.decoding.arguments()
    return shlex.join(command)


def _refuse_test_data(given: EvaluateArguments) -> None:
    """Raises InputError where the corpus is, or selects, a split that is called test."""
    queries = [parse_spec(part.strip())[1] for part in given.data.split(" + ")]
    splits = [split for query in queries for split in query.get("split", "").split(",")]
    splits += [given.split] if has_splits(given.data) else []
    if found := next((s for s in splits if s.startswith("test")), None):
        raise InputError(
            f"{given.data}, {found}: a model that is calibrated on a test set cannot be tested on "
            "it any more; calibrate on the development set, for example with --split dev."
        )


def has_splits(spec: str) -> bool:
    sources = [part.strip().partition("?")[0] for part in spec.split(" + ")]
    return any(s in EMBEDDED or s.startswith(("librispeech:", "voxceleb:")) for s in sources)


def _record(
    given: EvaluateArguments,
    corpus: Corpus,
    evaluation: "Evaluation",
    groups: "dict[str, dict[str, Score]]",
    calibrator: "Calibrator | None",
) -> dict:
    return {
        "model": given.model,
        "data": given.data,
        "split": given.split if has_splits(given.data) else "",
        "name": corpus.name,
        **evaluation.score.as_dict(),
        "audio_seconds": round(evaluation.audio_seconds, 2),
        "seconds": round(evaluation.seconds, 2),
        "confidence": {
            "calibrated": evaluation.calibrated,
            **evaluation.confidence.as_dict(),
            "bins": [_rounded(b._asdict()) for b in evaluation.reliability()],
        },
        **({"calibrator": _rounded(asdict(calibrator))} if calibrator else {}),
        "groups": {c: {v: s.as_dict() for v, s in g.items()} for c, g in groups.items()},
        "examples": [u.as_dict() for u in evaluation.examples(given.examples)],
        "rejected": [{"where": r.where, "reason": r.reason} for r in evaluation.quarantine],
    }


def _rounded(numbers: dict[str, Any]) -> dict[str, Any]:
    return {k: None if math.isnan(v) else round(v, 4) for k, v in numbers.items()}


def _print(
    given: EvaluateArguments,
    corpus: Corpus,
    evaluation: "Evaluation",
    groups: "dict[str, dict[str, Score]]",
    calibrator: "Calibrator | None",
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
    if evaluation.calibrated:
        kind = "calibrated"
    elif calibrator:
        kind = "raw"
    else:
        kind = "raw: the model has no calibrator, see --calibrate"
    console.print(f"\n{_confidence_line(evaluation.confidence)} ({kind})")
    if calibrator:
        from .evaluation import judge

        confidences, right = evaluation.judged()
        after = _confidence_line(judge([calibrator(c) for c in confidences], right))
        console.print(f"{after} (calibrated, on the words that it was fitted to)")
    console.print(f"\n{speed_line(evaluation.audio_seconds, evaluation.seconds)}")
    for example in evaluation.examples(given.examples):
        console.print(f"\n{example.id}  ({example.errors.total} of {example.errors.words})")
        console.print(f"  reference   {example.reference}")
        console.print(f"  hypothesis  {example.hypothesis}")


def _confidence_line(found: "Confidence") -> str:
    """One line of what the confidences are worth."""
    numbers = found.as_dict()
    if not found.words:
        return "confidence: no words were heard"
    line = (
        f"confidence of {found.words:,} words: ECE {numbers['error']:.1f} % "
        f"({numbers['error_by_chance']:.1f} % by chance)"
    )
    if found.right in (0, found.words):
        which = "right" if found.right else "wrong"
        return f"{line}, NCE and AUC undefined where all are {which}"
    return f"{line}, NCE {numbers['nce']:.3f}, AUC {numbers['auc']:.3f}"
