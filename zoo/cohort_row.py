"""Cohorts in an experiment: found among a row's errors, and given to the speech of another row."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.files import replace_file
from ..fairness.scores import DISCOVERY, RANKING, REPORT, Scores, read_scores
from ..train.experiment import SPLITS
from .commands_assign import assign_command, units_command
from .commands_discover import KINDS, DiscoverArguments, discover

if TYPE_CHECKING:
    from .experiment_row import Task

CLUSTERS = 20
"""Of a thousand speakers each, so that few have less than 20."""
_UNITS = ("accent", "gender")
_BY = {kind: by for by, kind in KINDS.items()}


def scored(folder: Path, condition: str) -> Path:
    """Where a row keeps every utterance of a condition."""
    return folder / f"{condition}.jsonl"


def find_cohorts(task: "Task", folder: Path) -> dict[str, dict[str, Any]]:
    """Finds the task's kinds of cohorts (or columns of the metadata) among the errors of its row.

    Returns what tables need, by kind: names, bottom and top, gaps, and the cohort of every report
    speaker.
    """
    together = scored(folder, "all")
    lines = (scored(folder, name).read_text(encoding="utf-8") for name in SPLITS)
    replace_file(together, "".join(lines))
    scores = read_scores(together)
    part_of = {
        speaker: part
        for name, part in zip(SPLITS, (DISCOVERY, RANKING, REPORT), strict=True)
        for speaker in read_scores(scored(folder, name)).speakers
    }
    splits = np.array([part_of[speaker] for speaker in scores.speakers])
    return {kind: _found(kind, scores, splits, task, folder) for kind in task.finds}


def _found(
    kind: str, scores: Scores, splits: np.ndarray, task: "Task", folder: Path
) -> dict[str, Any]:
    from .experiment_row import FOUND

    out = folder / FOUND / kind
    out.mkdir(parents=True, exist_ok=True)
    conditions = [c for c in task.conditions if c.name in SPLITS]
    data, where = " + ".join(c.data for c in conditions), conditions[0].split
    units = None
    if kind == "units":
        units = out / "units.csv"
        units_command(["--data", data, "--split", where, "--of", *_UNITS, "--out", str(units)])
    given = DiscoverArguments(
        by=(_BY.get(kind, kind),), out=out, data=data, split=where, units=units, clusters=CLUSTERS
    )
    made = discover(given, kind if kind in _BY else "columns", scores, splits, task.command)
    index = made.cohorts.assign(made.scores.population)
    names = made.cohorts.names
    record = made.found.as_dict()
    return {
        "names": list(names),
        "speakers": {
            speaker: names[k]
            for speaker, k, part in zip(scores.speakers, index.tolist(), splits, strict=True)
            if part == REPORT and k >= 0
        },
        **{k: record[k] for k in ("bottom", "top", "gap", "bottom_share", "extremes", "report")},
        "ranked": len(made.found.ranking.groups),
        **{k: made.notes[k] for k in ("stability",) if k in made.notes},
    }


def assign_speech(task: "Task", path: Path) -> None:
    """Writes to which of the task's cohorts each speaker of its speech belongs."""
    if not path.exists():
        assign_command([task.cohorts, "--data", task.speech, "--out", str(path)])
