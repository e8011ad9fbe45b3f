"""The part of a card that speaks of verification: measurements and their tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..data.fields import build
from .markdown import markdown_table

TASK = "speaker-verification"


@dataclass(frozen=True)
class SpeakerMeasurement:
    """Error rates on one list of trials and where they are from; percents and counts."""

    data: str
    split: str
    name: str
    eer: float
    low: float | None
    """Lower end of the 95 % interval over speakers; None where there is no such interval."""
    high: float | None
    threshold: float
    """The cosine at the equal error rate, at which groups' FMR and FNMR are given."""
    min_dcf: Mapping[str, float]
    """Prior of a target trial -> least detection cost."""
    floor: float
    """EER of mean log-mels' cosines."""
    targets: int
    others: int
    utterances: int
    speakers: int
    command: str
    date: str
    device: str
    normalised: float | None = None
    """EER after AS-norm."""
    trials: str = ""
    """The list of trials, by its file's name; '' where they were made of the corpus."""
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """column -> value -> {eer, low, high, fmr, fnmr, speakers, targets, others}."""
    disparity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """column -> {gap, gap_low, gap_high, std, std_low, std_high, worst, best}."""

    @property
    def condition(self) -> tuple[str, str, str]:
        """What a newer measurement must share to take this one's place."""
        return self.data, self.split, self.trials


def eval_result(result: SpeakerMeasurement) -> dict[str, Any]:
    """Fields of an `EvalResult`; see `cards`."""
    arguments = {k: v for k, v in asdict(result).items() if v not in (None, {}, "")}
    for key in ("name", "split", "eer"):
        arguments.pop(key, None)
    source, _, query = result.data.partition("?")
    query = "&".join(filter(None, [query, f"trials={result.trials}" if result.trials else ""]))
    return {
        "task_type": TASK,
        "task_name": "Speaker verification",
        "dataset_type": source,
        "dataset_name": result.name,
        "dataset_config": query or None,
        "dataset_split": result.split or None,
        "metric_type": "eer",
        "metric_name": "EER (%)",
        "metric_value": result.eer,
        "metric_args": arguments,
    }


def measurement(dataset: Mapping[str, Any], metric: Mapping[str, Any]) -> SpeakerMeasurement:
    """Out of a card's metadata."""
    values = {
        "low": None,
        "high": None,
        **metric["args"],
        "name": dataset["name"],
        "split": dataset.get("split", ""),
        "eer": metric["value"],
    }
    result = build(SpeakerMeasurement, values, "a result")
    check_groups(result.groups, ("eer", "fmr", "fnmr", "speakers", "targets", "others"))
    for column, found in result.disparity.items():
        if not all(isinstance(found.get(key), str) for key in ("best", "worst")):
            raise ValueError(f"the disparity by {column} names no groups")
        check_groups({column: {"disparity": _without_names(found)}}, ("gap", "std"))
    return result


def check_groups(
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]], needed: Sequence[str]
) -> None:
    """Raises ValueError where a group lacks a number that is needed, or has something else."""
    for column, values in groups.items():
        for value, found in values.items():
            where = f"{column[:40]} {value[:40]}"
            if missing := next((key for key in needed if found.get(key) is None), None):
                raise ValueError(f"{where} lacks {missing}")
            odd = next((k for k, v in found.items() if v is not None and not _number(v)), None)
            if odd is not None:
                raise ValueError(f"{where}: {odd[:40]} is no number")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_names(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("best", "worst")}


def results_text(results: Sequence[SpeakerMeasurement], min_speakers: int = 20) -> str:
    """The card's tables."""
    head = ("data", "EER (95 % interval over speakers)", "minDCF", "mean log-mels", "trials")
    rows = [
        (
            ", ".join(filter(None, [r.name, r.split, r.trials])),
            interval(r.eer, r.low, r.high),
            ", ".join(f"{cost:.3f} at {prior}" for prior, cost in r.min_dcf.items()),
            f"{r.floor:.2f} %",
            f"{r.targets:,} same, {r.others:,} other, of {r.speakers} speakers",
        )
        for r in results
    ]
    parts = [markdown_table(head, rows)]
    for r in results:
        for column, values in r.groups.items():
            parts.append(f"{r.name}, by {column}, FMR and FNMR at {r.threshold:.3f} for all:")
            parts.append(groups_table(column, values, min_speakers))
            if found := r.disparity.get(column):
                parts.append(disparity_line(found))
    measured = [f"- {r.name}: `{r.command}`, {r.date}, {r.device}" for r in results]
    return "\n\n".join([*parts, "Measured by:\n\n" + "\n".join(measured)])


def groups_table(
    column: str, values: Mapping[str, Mapping[str, Any]], min_speakers: int = 20
) -> str:
    head = (column, "EER (95 % interval)", "FMR", "FNMR", "speakers", "same / other trials")
    rows = [
        (
            value,
            interval(g["eer"], g.get("low"), g.get("high")),
            f"{g['fmr']:.2f} %",
            f"{g['fnmr']:.2f} %",
            f"{g['speakers']}" + (" (too few to rank)" if g["speakers"] < min_speakers else ""),
            f"{g['targets']:,} / {g['others']:,}",
        )
        for value, g in values.items()
    ]
    return markdown_table(head, rows)


def disparity_line(found: Mapping[str, Any]) -> str:
    """`Gap 0.58 points (0.1 to 1.2), from female to male; deviation 0.29 (0.1 to 0.6).`"""
    gap = _span(found["gap"], found.get("gap_low"), found.get("gap_high"))
    std = _span(found["std"], found.get("std_low"), found.get("std_high"))
    return (
        f"Gap {gap} points, from {found['best']} to {found['worst']}; population standard "
        f"deviation {std}. Groups of few speakers are left out of both."
    )


def interval(rate: float, low: float | None, high: float | None) -> str:
    """`2.31 % (1.40 to 3.55)`; the arguments are percents."""
    return f"{rate:.2f} %" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


def _span(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")
