"""A page says what is known and no more."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grids import cells, grid, launcher, page
from parley.zoo.experiment_report import difference, pooled
from parley.zoo.experiment_row import Task
from parley.zoo.experiments import Options, run_experiment


def test_the_page_of_a_grid_that_is_not_finished(options: Options):
    run_experiment(grid(), replace(options, only=("*-s0", "plain-s1")), launch=launcher()[0])
    text = page(options)
    assert text.startswith("# A grid\n\nWhich one?\n")
    assert "- rows: 3 done, 2 not run" in text
    assert "- device: an abacus" in text
    assert "- budget of a row: 12 steps of 8 s of audio" in text
    # Speakers make 20 to 27 errors with seed 0 and one more with seed 1: 23.5 and 24.5 %.
    plain = cells(text, "plain")
    assert plain[1].startswith("24.00 % (")
    assert plain[2:] == ["23.50 / 24.50", "", ""]
    better = cells(text, "better")
    assert better[1].startswith("19.50 % (")
    assert better[2] == "19.50 / not run"
    # Every speaker is better by 4 words in 100: nothing is left to chance.
    assert better[3:] == ["-4.00 (-4.00 to -4.00)", "-4.00"]
    assert cells(text, "better, cut")[1] == "not run"
    assert (options.results / "grid.svg").exists()
    assert "](grid.svg)" in text


def test_the_picture_is_the_same_for_the_same_results(options: Options):
    run_experiment(grid(), options, launch=launcher()[0])
    path = options.results / "grid.svg"
    first = path.read_bytes()
    run_experiment(grid(), options, launch=launcher()[0])
    assert path.read_bytes() == first
    assert b">better<" in first


def test_what_a_person_wrote_stays(options: Options):
    run_experiment(grid(), replace(options, only=("plain-s0",)), launch=launcher()[0])
    path = options.results / "grid.md"
    below = "\n## What shows\n\nNothing yet.\n"
    path.write_text(page(options).replace("Which one?", "My own words.") + below)
    run_experiment(grid(), options, launch=launcher()[0])
    text = page(options)
    assert "My own words." in text
    assert text.endswith(below)
    assert "not run" not in text
    assert text.count("## Systems\n") == 1


def test_differences_need_the_same_speech_and_a_common_seed(options: Options):
    results = run_experiment(grid(), options, launch=launcher()[0])
    groups = grid().parts[0].groups
    plain, better = (pooled(results, groups[g], "clean") for g in ("plain", "better"))
    assert plain is not None
    assert better is not None
    found, turned = difference(better, plain), difference(plain, better)
    assert found is not None
    assert turned is not None
    assert found.seeds == [-4.0, -4.0]
    assert turned.mean == 4.0
    first = pooled(results, groups["plain"][:1], "clean")
    second = pooled(results, groups["better"][1:], "clean")
    assert first is not None
    assert second is not None
    assert difference(second, first) is None
    first.words[0, "speaker-0"] = 99
    assert difference(better, first) is None


def test_what_amortized_encoders_compute_is_in_the_tables(options: Options):
    launch, _ = launcher()

    def amortized(task: Task, folder: Path) -> dict[str, Any]:
        made = launch(task, folder)
        if task.recipe.name == "better":
            spent = {"ratio": 0.4 + task.recipe.seed / 10, "speech_ratio": 0.5}
            spent |= {"dense": 30_000_000, "theta": 0.5}
            made["cost"] = {"total": 40_500_000, "encoder": 30_500_000}
            thetas = [{"theta": 0.7, "wer": 22.5, "ratio": 0.3}]
            made["compute"] = {"conditions": {"clean": spent}, "thetas": thetas}
        return made

    results = run_experiment(grid(), options, launch=amortized)
    better, plain = cells(page(options), "better"), cells(page(options), "plain")
    # 19.5 - 4 of 24 %: a sixth less; 0.4 and 0.5 of the dense encoder.
    assert better[5].startswith("-16.7 % (")
    assert better[6:] == ["0.450", "0.500"]
    assert plain[5:] == ["", "1.000", ""]
    assert "| better-s0 | 19.50 % at 0.400 (0.5), 22.50 % at 0.300 (0.7) |" in page(options)
    from parley.zoo.experiment_plot import points

    part = replace(grid().parts[0], plot="encoder")
    assert [p.cost for p in points(results, part)] == pytest.approx([0.06, 0.027])
    whole = [p.cost for p in points(results, replace(part, plot="model"))]
    assert whole[1] == pytest.approx(2e-9 * (10_000_000 + 0.45 * 30_000_000))
