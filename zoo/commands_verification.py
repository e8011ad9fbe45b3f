"""`parley evaluate` of a speaker model."""

import datetime
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..data.corpus import Corpus, open_corpus
from ..data.files import replace_file
from .arguments import parse
from .cards import CARD, update_card
from .commands_evaluate import has_splits
from .console import audio_progress, remark, stdout, table
from .runtime import device_name, speed_line
from .speaker_cards import SpeakerMeasurement, disparity_line, interval

if TYPE_CHECKING:
    from .verification import GroupRates, Verification


@dataclass(frozen=True)
class VerificationArguments:
    """Equal error rate on pairs of a corpus's recordings, with 95 % intervals over speakers, the
    least detection cost, and what mean log-mels alone would give; by groups of speakers also both
    error rates at the threshold that is common to all.

    * parley evaluate speaker-tiny --data assistant --split test --by gender accent
    * parley evaluate speaker-tiny --data "assistant?noise=10"
    * parley evaluate speaker-tiny --data voxceleb:VoxCeleb1 --trials veri.txt --by nationality
    * parley evaluate runs/mine --data my.jsonl --by gender --plot det.png --update-card
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A speaker model: a name that `parley list` shows, or a model's folder."""
    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")]
    """words, assistant, librispeech:DIR, voxceleb:DIR or a manifest, with ?key=value&... ."""
    split: str = "test"
    """Of an embedded corpus, LibriSpeech or VoxCeleb; a manifest has none."""
    trials: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A list of trials in VoxCeleb's format; without one, pairs are drawn, half of the different
    ones of the same gender where it is known."""
    write_trials: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the trials that were drawn, in that format."""
    cohort: Annotated[str | None, tyro.conf.arg(metavar="CORPUS")] = None
    """Recordings of other speakers, for scores normalised by AS-norm."""
    cohort_split: str = "dev"
    by: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN...")] = ()
    """Columns of the metadata to give the rates by, for example gender; or speaker."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write every trial and its score: 1 or 0, both names, the cosine."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw DET curves, of the groups of the first column too (.png, .svg or .pdf)."""
    update_card: bool = False
    """Enter the result into the model's card."""
    json: bool = False
    """Print JSON instead of tables."""


def evaluate_speakers_command(argv: list[str]) -> int:
    given = parse(VerificationArguments, argv, "parley evaluate")
    if given.plot:
        from .evaluation_plot import check_plot_path

        check_plot_path(given.plot)
    from ..data.trials import make_trials, name_trials, pair_up, read_trials, write_trials
    from .speakers import load_speaker_model
    from .verification import verify_corpus

    model = load_speaker_model(given.model)
    corpus = open_corpus(given.data, given.split, require_text=False)
    if given.trials:
        trials = pair_up(read_trials(given.trials), corpus, str(given.trials))
    else:
        trials = make_trials(corpus)
    if given.write_trials:
        write_trials(given.write_trials, name_trials(trials, corpus))
    cohort = None
    if given.cohort:
        cohort = open_corpus(given.cohort, given.cohort_split, require_text=False)
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    with audio_progress("evaluating", total) as advance:
        evaluation = verify_corpus(model, corpus, trials=trials, cohort=cohort, on_audio=advance)
    if given.out:
        names = name_trials(evaluation.trials, corpus)
        lines = [
            f"{int(t.same)} {t.enrol} {t.test} {score:.6f}\n"
            for t, score in zip(names, evaluation.scores.tolist(), strict=True)
        ]
        replace_file(given.out, "".join(lines))
    result = measurement(given, corpus, evaluation)
    if given.json:
        print(json.dumps(_record(given, result, evaluation), indent=1))
    else:
        _print(given, corpus, evaluation, result)
    if given.plot:
        from .weights_plot import write_det_plot

        column = given.by[0] if given.by else None
        write_det_plot(evaluation, f"{given.model} on {corpus.name}", given.plot, column=column)
    if given.update_card:
        update_card(model.folder / CARD, result)
        remark(f"the result is in {model.folder / CARD}")
    for rejected in evaluation.quarantine:
        remark(f"left out {rejected}")
    return 2 if evaluation.quarantine else 0


def measurement(
    given: VerificationArguments, corpus: Corpus, evaluation: "Verification"
) -> SpeakerMeasurement:
    """The card's entry."""
    from .verification import P_TARGETS

    overall = evaluation.overall.as_dict()
    counts = {k: overall[k] for k in ("eer", "low", "high", "targets", "others")}
    speakers = {u.speaker for u in evaluation.utterances if u.speaker}
    disparities = {column: evaluation.disparity(column) for column in given.by}
    normalised = evaluation.normalised
    return SpeakerMeasurement(
        data=given.data,
        split=given.split if has_splits(given.data) else "",
        name=corpus.name,
        **counts,
        threshold=round(evaluation.threshold, 4),
        min_dcf={f"{p:g}": round(evaluation.min_dcf(p), 4) for p in P_TARGETS},
        floor=round(100 * evaluation.floor, 2),
        normalised=None if normalised is None else round(100 * normalised, 2),
        utterances=len(evaluation.utterances),
        speakers=len(speakers),
        command=_command(given),
        date=datetime.date.today().isoformat(),
        device=device_name(),
        trials=given.trials.name if given.trials else "",
        groups={
            column: {value: rates.as_dict() for value, rates in evaluation.by(column).items()}
            for column in given.by
        },
        disparity={c: found.as_dict() for c, found in disparities.items() if found},
    )


def _command(given: VerificationArguments) -> str:
    """What gives these numbers again."""
    command = ["parley", "evaluate", given.model, "--data", given.data]
    command += ["--split", given.split] if has_splits(given.data) else []
    command += ["--trials", given.trials.name] if given.trials else []
    if given.cohort:
        command += ["--cohort", given.cohort, "--cohort-split", given.cohort_split]
    command += ["--by", *given.by] if given.by else []
    return shlex.join(command)


def _record(
    given: VerificationArguments, result: SpeakerMeasurement, evaluation: "Verification"
) -> dict[str, Any]:
    return {
        "model": given.model,
        **vars(result),
        "fmr": evaluation.overall.as_dict()["fmr"],
        "fnmr": evaluation.overall.as_dict()["fnmr"],
        "audio_seconds": round(evaluation.audio_seconds, 2),
        "seconds": round(evaluation.seconds, 2),
        "rejected": [{"where": r.where, "reason": r.reason} for r in evaluation.quarantine],
    }


def _print(
    given: VerificationArguments,
    corpus: Corpus,
    evaluation: "Verification",
    result: SpeakerMeasurement,
) -> None:
    from .verification import MIN_SPEAKERS

    console = stdout()
    numbers = ("FMR", "FNMR", "speakers", "same", "other")
    rows = table("", "EER (95 % interval)", *numbers, right=numbers)

    def add(label: str, rates: "GroupRates | dict[str, Any]") -> None:
        g = rates if isinstance(rates, dict) else rates.as_dict()
        few = g["speakers"] < MIN_SPEAKERS
        rows.add_row(
            label,
            interval(g["eer"], g["low"], g["high"]),
            f"{g['fmr']:.2f} %",
            f"{g['fnmr']:.2f} %",
            f"{g['speakers']}{' (few)' if few else ''}",
            f"{g['targets']:,}",
            f"{g['others']:,}",
            style="dim" if few else None,
        )

    add("all", evaluation.overall)
    for column, values in result.groups.items():
        rows.add_section()
        for value, found in values.items():
            add(f"{column} {value}", dict(found))
    console.print(f"{given.model} on {corpus.name}\n")
    console.print(rows)
    console.print(f"\nFMR and FNMR at the threshold of {result.threshold:.3f}, common to all")
    for column, found in result.disparity.items():
        console.print(f"{column}: {disparity_line(found)}")
    costs = ", ".join(f"{cost:.3f} at a prior of {p}" for p, cost in result.min_dcf.items())
    console.print(f"least detection cost {costs}; mean log-mels alone: EER {result.floor:.2f} %")
    if result.normalised is not None:
        console.print(f"after AS-norm with {given.cohort}: EER {result.normalised:.2f} %")
    console.print(f"\n{speed_line(evaluation.audio_seconds, evaluation.seconds)}")
