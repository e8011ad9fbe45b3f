"""Rows that find cohorts, rows that train on them, and what is said of both."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grids import Launch, cells, grid, page, record, with_model
from parley.train.experiment import SPLITS, CohortsOf, Condition, Experiment, Part, Row
from parley.zoo.cohort_row import find_cohorts, scored
from parley.zoo.experiment_row import FOUND, Task
from parley.zoo.experiments import Options, run_experiment
from tones import recipe

REPORT = Condition("report", "tones.jsonl")
PEOPLE = [f"{accent}-{i}" for accent in ("north", "south") for i in range(24)]


def repair(finds: tuple[str, ...] = ("accent",)) -> Experiment:
    """A base, and what is made of it where it is bad."""
    base = Row("base-s0", "base", recipe(name="base"), finds=finds)
    adapted = recipe(name="adapted", init_from="row:base-s0")
    of = CohortsOf("base-s0", "accent", "tones.jsonl")
    parts = (
        Part("Base", (base,), (REPORT,)),
        Part(
            "Repair",
            (Row("adapted-s0", "adapted", adapted, cohorts=of),),
            (REPORT,),
            baseline="base",
        ),
    )
    return grid(parts=parts)


def heard(task: Task, folder: Path) -> dict[str, Any]:
    """The base makes 30 errors in 100 words of the north and 10 of the south; adapted 15 and 11."""
    north, south = (30, 10) if task.finds else (15, 11)
    made = record(task, [0] * 8)
    speakers = {p: [north if p.startswith("north") else south, 100] for p in PEOPLE}
    made["evaluations"]["report"] |= {"speakers": speakers, "wer": (north + south) / 2}
    if task.finds:
        (folder / FOUND / "accent").mkdir(parents=True, exist_ok=True)
        groups: dict[str, Any] = {
            "names": ["south", "north"],
            "bottom": ["north"],
            "top": ["south"],
        }
        groups["speakers"] = {p: p.partition("-")[0] for p in PEOPLE}
        made["cohorts"] = {"accent": groups}
    return made


def test_cohorts_before_and_after(options: Options):
    tasks: list[Task] = []

    def launch(task: Task, folder: Path) -> dict[str, Any]:
        tasks.append(task)
        return heard(task, folder)

    run_experiment(repair(), options, launch=with_model(launch, []))
    base, adapted = tasks
    assert (base.finds, base.cohorts) == (("accent",), "")
    assert (adapted.finds, adapted.speech) == ((), "tones.jsonl")
    assert Path(adapted.cohorts) == Path(base_folder(options)) / FOUND / "accent"
    text = page(options)
    rates, changes = text.split("### Repair: accent before and after")[1].split("Change in")
    # All, bottom, top, others, worst; the gap; mean, P90, max.
    before = ["20.00 %", "30.00 %", "10.00 %", "10.00 %", "30.00 %", "200.0 %"]
    before += ["20.00 %", "28.00 %", "30.00 %"]
    after = ["13.00 %", "15.00 %", "11.00 %", "11.00 %", "15.00 %", "36.4 %"]
    after += ["13.00 %", "14.60 %", "15.00 %"]
    assert cells(rates, "base")[1:] == ["1", *before, "200.00 (200.00)"]
    assert cells(rates, "adapted")[1:] == ["1", *after, "8.00 (8.00)"]
    moved = cells(changes, "adapted")[1:]
    changes = ["-35.0", "-50.0", "+10.0", "+10.0", "-50.0", "-81.8"]
    assert [cell.split(" ")[0] for cell in moved[:6]] == changes
    assert moved[6:] == ["-35.0 %", "-50.0 %", "-96.0 %"]


def test_rows_are_compared_with_one_that_found_no_cohorts(options: Options):
    base, (adapted,) = (part.rows for part in repair().parts)
    control = replace(adapted, name="control-s0", group="control")
    shown = Part("Onward", (control, adapted), (REPORT,), baseline="control")
    experiment = grid(parts=(Part("Base", base, (REPORT,)), shown))
    run_experiment(experiment, options, launch=with_model(heard, []))
    rates, changes = (
        page(options).split("### Onward: accent before and after")[1].split("Change in")
    )
    assert cells(rates, "control")[2:] == cells(rates, "adapted")[2:]
    assert cells(changes, "adapted")[6].startswith("+0.0 % (+0.0 to +0.0)")


def base_folder(options: Options) -> Path:
    (folder,) = (options.runs / "grid").glob("base-s0-*")
    return folder


def launches(asked: list[str], *, cohorts: bool = True) -> Launch:
    """Notes which systems it was asked for; without `cohorts` the base records none."""

    def launch(task: Task, folder: Path) -> dict[str, Any]:
        asked.append(task.recipe.name)
        made = heard(task, folder)
        return made if cohorts else {k: v for k, v in made.items() if k != "cohorts"}

    return with_model(launch, [])


@pytest.mark.parametrize("missing", ["model", FOUND])
def test_a_row_needs_both_the_model_and_the_cohorts(missing: str, options: Options):
    asked: list[str] = []
    run_experiment(repair(), replace(options, only=("base-s0",)), launch=launches(asked))
    shutil.rmtree(base_folder(options) / missing)
    run_experiment(repair(), options, launch=launches(asked))
    assert asked == ["base", "base", "adapted"]


def test_a_row_without_its_cohorts_is_not_done(options: Options):
    asked: list[str] = []
    alone = replace(options, only=("base-s0",))
    run_experiment(repair(), alone, launch=launches(asked, cohorts=False))
    run_experiment(repair(), options, launch=launches(asked))
    assert asked == ["base", "base", "adapted"]


def test_cohorts_are_taken_from_a_row_that_finds_them():
    with pytest.raises(ValueError, match="adapted-s0 takes cohorts that are not found"):
        repair(finds=("regions",))


def test_cohorts_are_found_among_the_errors_of_a_row(tmp_path: Path):
    for name in SPLITS:
        rows = [
            {
                "id": f"{name}-{person}",
                "speaker": f"{name}-{person}",
                "duration": 2.0,
                "substitutions": 4 if person.startswith("north") else 1,
                "deletions": 0,
                "insertions": 0,
                "words": 20,
                "metadata": {"accent": person.partition("-")[0]},
            }
            for person in PEOPLE
        ]
        scored(tmp_path, name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    conditions = tuple(Condition(name, "tones.jsonl") for name in SPLITS)
    task = Task(recipe(), conditions, "parley experiment grid", finds=("accent",))
    found = find_cohorts(task, tmp_path)["accent"]
    assert (found["bottom"], found["top"], found["ranked"]) == (["north"], ["south"], 2)
    assert found["gap"]["of_top"]["value"] == 300.0
    assert set(found["speakers"]) == {f"report-{person}" for person in PEOPLE}
    assert found["speakers"]["report-north-3"] == "north"
    assert (tmp_path / FOUND / "accent" / "cohorts.json").is_file()
