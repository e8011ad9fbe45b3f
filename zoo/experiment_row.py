"""One row of an experiment, in a process of its own: trained, scored, measured.

    python -m parley.zoo.experiment_row FOLDER

FOLDER/task.json says what to do and FOLDER/outcome.json what came of it; between them lie the
run's checkpoints and its model, from which an interrupted row goes on. When standard input ends,
the process that wanted the row is gone: training saves its state and stops.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.corpus import Corpus, open_corpus
from ..data.errors import InputError
from ..data.files import replace_file
from ..metrics.wer import WordErrors
from ..models.encoders.amortized import AmortizedConfig
from ..train.experiment import COHORTS, DIGITS, Condition, with_files
from ..train.recipe import Recipe, recipe_to_dict
from ..train.speakers.recipe import AnyRecipe, any_recipe_from_dict
from .cards import CARD, Training, read_card
from .cohort_input import evaluate_told, is_told_cohorts
from .console import audio_progress
from .conversations import evaluate_conversations, has_turns, turn_record
from .evaluation import Evaluation, evaluate
from .package import ModelPackage, read_model, read_recipe
from .transcriber import Transcriber
from .usage import has_gates, measure_usage

if TYPE_CHECKING:
    from ..train.loop import TrainResult
    from ..train.speakers.training import SpeakerResult

TASK, OUTCOME, FOUND = "task.json", "outcome.json", "cohorts"
_PARTS = ("total", "frontend", "encoder", "prediction", "joint")
_STREAM_SECONDS = 20.0
THETAS = (0.3, 0.7)
"""Beside the one that an amortized model was trained with."""


@dataclass(frozen=True)
class Task:
    """What a row has to do; its recipe and conditions name the digits as the experiment does."""

    recipe: AnyRecipe
    conditions: tuple[Condition, ...]
    command: str
    """What a user types to have this row made."""
    digits: str = DIGITS
    """Where the recorded digits are listed."""
    start: str = ""
    """The folder of the model that a row of `init_from="row:..."` begins as."""
    finds: tuple[str, ...] = ()
    """Kinds of cohorts to look for."""
    cohorts: str = ""
    """The folder of the cohorts that `speech` is given to."""
    speech: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Task":
        values = json.loads(text)
        values["recipe"] = any_recipe_from_dict(values["recipe"])
        values["conditions"] = tuple(Condition(**c) for c in values["conditions"])
        values["finds"] = tuple(values["finds"])
        return cls(**values)


def run_task(task: Task, folder: Path) -> dict[str, Any]:
    """Does what is left of the task in `folder`, and returns the record of the row.

    Raises InputError as training, `open_corpus` and `evaluate` do.
    """
    if not isinstance(task.recipe, Recipe):
        from .verification_row import run_speaker_task

        return run_speaker_task(task, folder)
    training = trained(task, folder)
    from . import load

    model = load(folder / "model")
    evaluations = {c.name: scored_under(c, model, task, folder) for c in task.conditions}
    cohorts = {}
    if task.finds:
        from .cohort_row import find_cohorts

        cohorts = {"cohorts": find_cohorts(task, folder)}
    gated = has_gates(read_recipe(folder / "model"))
    amortized = {"compute": _compute(read_model(folder / "model"), task, folder)} if gated else {}
    return {
        **head_of_record(task, training),
        "dev_wer": _dev_wer(folder),
        **_size(folder),
        "stream_speed": _stream_speed(model, task, folder),
        "evaluations": evaluations,
        **amortized,
        **cohorts,
        "recipe": recipe_to_dict(task.recipe),
    }


def head_of_record(task: Task, training: Training) -> dict[str, Any]:
    """What the record of every finished row begins with."""
    return {
        "status": "done",
        "seed": task.recipe.seed,
        "command": task.command,
        "date": training.date,
        "device": training.device,
        "steps": training.steps,
        "train_seconds": training.seconds,
        "audio_hours": training.audio_hours,
    }


def trained(task: Task, folder: Path) -> Training:
    """Trains the model of the row, or finds it trained; it lies in `folder/model`."""
    if not (folder / "model" / CARD).exists():
        from ..train.loop import train
        from .commands_train import export, start_from
        from .runtime import set_up

        set_up()
        assert isinstance(task.recipe, Recipe)
        recipe = with_files(task.recipe, _files(task, folder))
        source = task.start or recipe.init_from
        start = start_from(source) if source else None
        done = steps_done(folder)
        result = train(recipe, folder, resume=done is not None, start=start)
        result = replace(
            result,
            recipe=replace(result.recipe, data=task.recipe.data),
            **of_the_whole_run(result, done),
        )
        export(folder / "model", result, task.command, source)
    return training_of(folder)


def _files(task: Task, folder: Path) -> dict[str, str]:
    """What stands for files in the recipe, and where they lie."""
    files = {DIGITS: task.digits}
    if task.cohorts:
        from .cohort_row import assign_speech

        files[COHORTS] = str(folder / COHORTS)
        assign_speech(task, folder / COHORTS)
    return files


def steps_done(folder: Path) -> int | None:
    """Steps of the newest checkpoint of a run that was begun; None of one that was not."""
    checkpoints = folder / "checkpoints"
    if not checkpoints.exists():
        return None
    return max((int(p.name) for p in checkpoints.glob("*") if p.name.isdecimal()), default=0)


def of_the_whole_run(result: "TrainResult | SpeakerResult", done: int | None) -> dict[str, float]:
    """`seconds` and `audio_seconds` of a run of which `done` steps were there when it was resumed.

    It has timed its last steps alone: the others are taken to have been as fast, and a time of zero
    is one that is not known.
    """
    share = result.steps / (result.steps - (done or 0)) if done != result.steps else 0.0
    return {"seconds": result.seconds * share, "audio_seconds": result.audio_seconds * share}


def training_of(folder: Path) -> Training:
    """How the row's model was trained, by its card."""
    training = read_card(folder / "model" / CARD).facts.training
    if training is None:
        raise InputError(f"{folder / 'model' / CARD} does not say how the model was trained.")
    return training


def _open(condition: Condition, task: Task, folder: Path) -> Corpus:
    spec = condition.data
    for name, path in _files(task, folder).items():
        spec = spec.replace(name, path)
    return open_corpus(spec, condition.split)


def scored_under(
    condition: Condition, model: Transcriber, task: Task, folder: Path
) -> dict[str, Any]:
    """What a condition's speech makes of the row's model."""
    corpus = _open(condition, task, folder)
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    turns: dict[str, Any] = {}
    with audio_progress(condition.name, total) as advance:
        if has_turns(corpus):
            evaluation = evaluate_conversations(model, corpus, on_audio=advance)
            speakers = {c.id: _counts(c.score.words) for c in evaluation.conversations}
            turns = {"turns": turn_record(evaluation.conversations)}
        else:
            if is_told_cohorts(model):
                evaluation = evaluate_told(model, corpus, condition.told, on_audio=advance)
            else:
                evaluation = evaluate(model, corpus, on_audio=advance)
            speakers = errors_of_speakers(evaluation)
            if task.finds:
                from .cohort_row import scored

                evaluation.write(scored(folder, condition.name))
    score = evaluation.score
    return {
        "data": condition.data,
        "split": condition.split,
        "wer": round(100 * score.wer, 3),
        **asdict(score.errors),
        "utterances": score.utterances,
        "left_out": len(evaluation.quarantine),
        "seconds": round(evaluation.seconds, 1),
        **turns,
        "speakers": speakers,
    }


def _counts(errors: WordErrors) -> list[int]:
    return [errors.total, errors.words]


def _compute(package: ModelPackage, task: Task, folder: Path) -> dict[str, Any]:
    """What the encoder spends under each condition; and, where gates are learned, what another
    theta makes of errors and computation under the first."""
    corpora = {c.name: _open(c, task, folder) for c in task.conditions}
    found: dict[str, Any] = {
        "conditions": {c: measure_usage(package, corpora[c]).as_dict() for c in corpora}
    }
    encoder = package.recipe.model.encoder
    assert isinstance(encoder, AmortizedConfig)
    if encoder.arbitrator.kind == "learned":
        found["thetas"] = [
            _at_theta(package.with_theta(theta), next(iter(corpora.values()))) for theta in THETAS
        ]
    return found


def _at_theta(package: ModelPackage, corpus: Corpus) -> dict[str, float]:
    from .recognizer import Recognizer

    encoder = package.recipe.model.encoder
    assert isinstance(encoder, AmortizedConfig)
    model = Transcriber(package.recipe.name, package.folder, Recognizer(package))
    return {
        "theta": encoder.theta,
        "wer": round(100 * evaluate(model, corpus).score.wer, 3),
        "ratio": round(measure_usage(package, corpus).ratio, 4),
    }


def errors_of_speakers(evaluation: Evaluation) -> dict[str, list[int]]:
    """speaker -> [errors, words]; an utterance of an unknown speaker goes by its id."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for utterance in evaluation.utterances:
        counts = found[utterance.speaker or utterance.id]
        counts[0] += utterance.errors.total
        counts[1] += utterance.errors.words
    return dict(found)


def _dev_wer(folder: Path) -> float | None:
    """Percent, of the finished model, as training measured it."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    rates = [record["dev/wer"] for record in records if "dev/wer" in record]
    return round(100 * rates[-1], 3) if rates else None


def _size(folder: Path) -> dict[str, Any]:
    """Parameters, multiply-adds per second of audio, and what a stream keeps and sees."""
    from flax import nnx

    from ..models.cost import model_cost, state_bytes
    from .package import abstract_model, parameter_count, read_recipe

    recipe = read_recipe(folder / "model")  # with the size of its vocabulary
    graphdef, params, frozen = abstract_model(recipe)
    encoder = nnx.merge(graphdef, params, frozen).encoder
    cost = model_cost(recipe.model)
    frame_s = recipe.model.frontend.step / recipe.model.frontend.sample_rate
    return {
        "parameters": parameter_count(params),
        "encoder_parameters": cost.parameters["encoder"],
        "cost": {part: getattr(cost, part) for part in _PARTS},
        "state_bytes": state_bytes(recipe.model),
        "receptive_field_s": (
            None if encoder.receptive_field is None else round(encoder.receptive_field * frame_s, 3)
        ),
    }


def _stream_speed(model: Transcriber, task: Task, folder: Path) -> float | None:
    """Times real time of a stream that is fed one encoder frame at a time; None: cannot stream."""
    corpus = _open(task.conditions[0], task, folder)
    audio, index = np.zeros(0, np.int16), 0
    while len(audio) < _STREAM_SECONDS * 16_000 and index < len(corpus):
        audio = np.concatenate([audio, corpus.samples(index)])
        index += 1
    size = round(model.step_s * 16_000)

    def stream(samples: np.ndarray) -> float:
        began = perf_counter()
        session = model.stream()
        for start in range(0, len(samples), size):
            session.feed(samples[start : start + size])
        session.finish()
        return perf_counter() - began

    try:
        stream(audio[: 2 * 16_000])  # compiles
    except ValueError:
        return None
    return round(len(audio) / 16_000 / stream(audio), 1)


def main(folder: Path) -> int:
    """Runs the task of a folder and writes its outcome; 0 also where the outcome is a failure."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    task = Task.from_json((folder / TASK).read_text())
    outcome: Mapping[str, Any]
    try:
        outcome = run_task(task, folder)
    except KeyboardInterrupt:
        return 130
    except InputError as error:
        outcome = failure(task.recipe, str(error).replace(task.digits, DIGITS))
    except Exception as error:
        # One row's crash is not the grid's: what is known of it goes into the record.
        traceback.print_exc()
        first = str(error).strip().partition("\n")[0]
        outcome = failure(task.recipe, f"{type(error).__name__}: {first}"[:300])
    replace_file(folder / OUTCOME, json.dumps(outcome) + "\n")
    return 0


def failure(recipe: AnyRecipe, reason: str) -> dict[str, Any]:
    """The record of a row that could not be finished."""
    return {"status": "failed", "reason": reason, "recipe": recipe_to_dict(recipe)}


def _stop_with_parent() -> None:
    # Not through sys.stdin, whose lock a daemon thread would hold when the interpreter ends.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
