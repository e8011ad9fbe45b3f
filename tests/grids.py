"""Grids of tiny runs, and launches that make their records up."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile

from parley.train.experiment import Condition, Experiment, Part, Row
from parley.train.recipe import recipe_to_dict
from parley.zoo.experiment_row import Task, failure
from parley.zoo.experiments import Options
from tones import RATE, ToneCorpus, recipe

Launch = Callable[[Task, Path], dict[str, Any]]
SPEAKERS = [f"speaker-{i}" for i in range(8)]


def grid(**changes: Any) -> Experiment:
    """Two systems with two seeds each, and an ablation of the second."""
    rows = tuple(
        Row(f"{group}-s{seed}", group, recipe(name=group, seed=seed))
        for seed in (0, 1)
        for group in ("plain", "better")
    )
    parts = (
        Part("Systems", rows, (Condition("clean", "tones.jsonl"),), baseline="plain", plot="model"),
        Part(
            "Ablation",
            (Row("cut", "better, cut", recipe(name="cut")),),
            (Condition("clean", "tones.jsonl"),),
            baseline="better",
        ),
    )
    values = {"name": "grid", "title": "A grid", "question": "Which one?", "parts": parts}
    return Experiment(**(values | changes))


def record(task: Task, errors: list[int]) -> dict[str, Any]:
    """The record of a row that made so many errors in 100 words of each speaker."""
    counts = {"substitutions": sum(errors), "deletions": 0, "insertions": 0}
    found = {
        "wer": sum(errors) / len(errors),
        **counts,
        "words": 100 * len(errors),
        "utterances": 80,
        "left_out": 0,
        "seconds": 6.0,
        "speakers": {name: [e, 100] for name, e in zip(SPEAKERS, errors, strict=True)},
    }
    return {
        "status": "done",
        "seed": task.recipe.seed,
        "command": task.command,
        "date": "2026-11-23",
        "device": "an abacus",
        "steps": task.recipe.steps,
        "train_seconds": 60.0,
        "audio_hours": 1.5,
        "dev_wer": 12.0,
        "parameters": 1_234_567,
        "encoder_parameters": 1_000_000,
        "cost": {"total": 40_000_000 + 1_000_000 * errors[0], "encoder": 30_000_000},
        "state_bytes": 10_240,
        "receptive_field_s": None,
        "stream_speed": 250.0,
        "evaluations": {
            c.name: {"data": c.data, "split": c.split, **found} for c in task.conditions
        },
        "recipe": recipe_to_dict(task.recipe),
    }


ERRORS = {"plain": 20, "better": 16, "cut": 19}


def launcher(stop_at: str = "", fail_at: str = "") -> tuple[Launch, list[str]]:
    """A launch that makes records up, and the list of the rows that it has been asked for."""
    asked: list[str] = []

    def launch(task: Task, folder: Path) -> dict[str, Any]:
        name = folder.name.rpartition("-")[0]
        asked.append(name)
        if name == stop_at:
            raise KeyboardInterrupt
        if name == fail_at:
            return failure(task.recipe, "the loss was not finite.")
        base = ERRORS[task.recipe.name] + task.recipe.seed
        return record(task, [base + i for i in range(len(SPEAKERS))])

    return launch, asked


def page(options: Options) -> str:
    return (options.results / "grid.md").read_text()


def cells(text: str, system: str) -> list[str]:
    """The first line of a table that is about `system`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {system} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def chained(**base: Any) -> Experiment:
    """A row that goes on from another's model."""
    first = Row("base", "base", recipe(name="plain", **base))
    then = Row("then", "then", recipe(name="better", init_from="row:base"))
    return grid(parts=(Part("Chain", (first, then), (Condition("clean", "tones.jsonl"),)),))


def with_model(launch: Launch, starts: list[str]) -> Launch:
    """Leaves a model behind, as a row does, and notes where rows begin."""

    def run(task: Task, folder: Path) -> dict[str, Any]:
        starts.append(task.start)
        (folder / "model").mkdir(parents=True, exist_ok=True)
        (folder / "model" / "README.md").touch()
        return launch(task, folder)

    return run


def write_tones(folder: Path) -> Path:
    """A manifest of tones that are spoken by eight speakers."""
    corpus = ToneCorpus(64)
    lines = []
    for i, item in enumerate(corpus.items):
        soundfile.write(folder / f"{i}.wav", corpus.samples(i), RATE)
        facts = {"text": item.text, "speaker": item.speaker, "duration": item.duration}
        lines.append(json.dumps({"audio_filepath": f"{i}.wav", **facts}))
    (folder / "tones.jsonl").write_text("\n".join(lines))
    return folder / "tones.jsonl"


def tone_grid(manifest: Path) -> Experiment:
    """A row that learns, and one whose gradients are not finite."""
    data = replace(recipe().data, buckets=1, train=str(manifest), dev=f"{manifest}?limit=16")
    good = recipe(data=data, checkpoint_every=1)
    steep = dataclasses.replace(good.optimizer, peak_lr=1e30)
    rows = (
        Row("steep", "steep", replace(good, optimizer=steep, steps=40)),
        Row("good", "good", replace(good, steps=40)),
    )
    return grid(parts=(Part("Tones", rows, (Condition("clean", f"{manifest}?limit=32"),)),))
