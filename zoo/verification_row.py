"""A row of an experiment on speaker models: trained, and scored on trials.

Its record holds the error rates of groups under resampled sets of speakers. The sets are the same
for every row that is scored on the same trials, so that differences between rows are paired, and
tables are made from the file of results alone.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.corpus import open_corpus
from ..train.experiment import DIGITS, Condition, with_files
from ..train.recipe import recipe_to_dict
from ..train.speakers.recipe import SpeakerRecipe
from .cards import CARD, Training
from .console import audio_progress
from .speakers import SpeakerModel, load_speaker_model

if TYPE_CHECKING:
    from .experiment_row import Task

COLUMNS = ("gender", "accent")
"""Groups that are told apart where a corpus knows them."""
DRAWS = 400
_UNIT = 1e-5


def run_speaker_task(task: "Task", folder: Path) -> dict[str, Any]:
    """Does what is left of the task in `folder`, and returns the record of the row."""
    from ..models.speakers.network import speaker_cost
    from .experiment_row import head_of_record

    assert isinstance(task.recipe, SpeakerRecipe)
    training = _trained(task, folder)
    model = load_speaker_model(folder / "model")
    cost = speaker_cost(task.recipe.model)
    return {
        **head_of_record(task, training),
        "dev_eer": round(100 * model.package.threshold.eer, 3),
        "parameters": cost.parameters,
        "weights": _weights(folder),
        "evaluations": {c.name: _evaluate(model, c, task.digits) for c in task.conditions},
        "recipe": recipe_to_dict(task.recipe),
    }


def _trained(task: "Task", folder: Path) -> Training:
    """Trains the model of the row, or finds it trained; it lies in `folder/model`."""
    from .experiment_row import of_the_whole_run, steps_done, training_of

    if not (folder / "model" / CARD).exists():
        from ..train.speakers.training import train_speakers
        from .runtime import set_up
        from .speaker_training import export_speaker_model, speaker_start, write_weights

        assert isinstance(task.recipe, SpeakerRecipe)
        set_up()
        recipe = with_files(task.recipe, {DIGITS: task.digits})
        source = task.start or recipe.init_from
        start = speaker_start(source) if source else None
        done = steps_done(folder)
        result = train_speakers(recipe, folder, resume=done is not None, start=start)
        result = replace(result, recipe=task.recipe, **of_the_whole_run(result, done))
        if result.weights:
            write_weights(folder, result)
        export_speaker_model(folder / "model", result, task.command, source)
    return training_of(folder)


def _evaluate(model: SpeakerModel, condition: Condition, digits: str) -> dict[str, Any]:
    from .verification import verify_corpus

    corpus = open_corpus(
        condition.data.replace(DIGITS, digits), condition.split, require_text=False
    )
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    with audio_progress(condition.name, total) as advance:
        evaluation = verify_corpus(model, corpus, draws=DRAWS, on_audio=advance)
    known = {key for u in evaluation.utterances for key in u.metadata}
    groups = {"all": np.ones(len(evaluation.scores), bool)}
    rates: dict[str, dict[str, Any]] = {"all": evaluation.overall.as_dict()}
    for column in (c for c in COLUMNS if c in known):
        members = evaluation.members(column)
        groups |= {f"{column}={value}": chosen for value, chosen in members.items()}
        found = evaluation.by(column, intervals=False)
        rates |= {f"{column}={value}": r.as_dict() for value, r in found.items()}
    drawn = evaluation.group_draws(groups)
    return {
        "data": condition.data,
        "split": condition.split,
        "eer": rates["all"]["eer"],
        "floor": round(100 * evaluation.floor, 2),
        "min_dcf": round(evaluation.min_dcf(0.01), 4),
        "left_out": len(evaluation.quarantine),
        "seconds": round(evaluation.seconds, 1),
        "trials": len(evaluation.scores),
        "groups": rates,
        # Whole numbers of thousandths of a percent: short, and finer than a trial.
        "draws": {
            name: [None if np.isnan(x) else round(x / _UNIT) for x in values.tolist()]
            for name, values in drawn.items()
        },
    }


def _weights(folder: Path) -> dict[str, Any]:
    """What the adversary did: last effective share, and mean weights by group; {} without one."""
    import json

    from .speaker_training import WEIGHTS_FILE

    path = folder / WEIGHTS_FILE
    if not path.exists():
        return {}
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [r for r in records if "adversary/effective_share" in r][-1]
    weighed = [json.loads(line) for line in path.read_text().splitlines()]
    by_group: dict[str, float] = {}
    for column in COLUMNS:
        for value in sorted(
            {str(w["metadata"][column]) for w in weighed if column in w["metadata"]}
        ):
            chosen = [w for w in weighed if str(w["metadata"].get(column)) == value]
            total = sum(w["steps"] for w in chosen)
            mean = sum(w["weight"] * w["steps"] for w in chosen) / total
            by_group[f"{column}={value}"] = round(mean, 4)
    return {
        "effective_share": round(last["adversary/effective_share"], 4),
        "effective_share_given": round(last["adversary/effective_share_given"], 4),
        "max_weight": round(last["adversary/max_weight"], 3),
        "means": by_group,
        "heaviest": [{k: w[k] for k in ("id", "speaker", "weight")} for w in weighed[:5]],
    }
