"""A grid goes on from wherever it was stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from grids import cells, chained, grid, launcher, page, tone_grid, with_model, write_tones
from parley.data.errors import InputError
from parley.train.checkpoint import lock_run
from parley.train.experiment import DIGITS, Condition, Experiment, Part, Row
from parley.train.recipe import recipe_to_dict
from parley.zoo import cli
from parley.zoo.experiment_results import Results
from parley.zoo.experiment_row import Task, run_task
from parley.zoo.experiments import Options, run_experiment
from tones import recipe

ORDER = ["plain-s0", "better-s0", "plain-s1", "better-s1", "cut"]


def states(experiment: Experiment, options: Options) -> dict[str, str]:
    """As another process would find them."""
    results = Results(experiment, options.results / "grid.json")
    return {row.name: results.state(row) for row in experiment.rows}


def test_a_stopped_grid_goes_on_with_the_row_that_was_stopped(options: Options):
    launch, asked = launcher(stop_at="better-s0")
    with pytest.raises(KeyboardInterrupt):
        run_experiment(grid(), options, launch=launch)
    assert asked == ORDER[:2]
    assert states(grid(), options) == {
        name: "done" if name == "plain-s0" else "not run" for name in ORDER
    }
    launch, asked = launcher()
    run_experiment(grid(), options, launch=launch)
    assert asked == ORDER[1:]
    launch, asked = launcher()
    run_experiment(grid(), options, launch=launch)
    assert asked == []


def test_a_row_that_fails_is_recorded_and_tried_again_only_when_asked(options: Options):
    launch, asked = launcher(fail_at="better-s0")
    run_experiment(grid(), options, launch=launch)
    assert asked == ORDER
    assert states(grid(), options)["better-s0"] == "failed"
    assert "better-s0: the loss was not finite." in page(options)
    assert cells(page(options), "better")[2] == "failed / 20.50"
    launch, asked = launcher()
    run_experiment(grid(), options, launch=launch)
    assert asked == []
    run_experiment(grid(), replace(options, retry=True), launch=launch)
    assert asked == ["better-s0"]
    assert "failed" not in page(options)


def test_a_changed_recipe_is_not_run(options: Options):
    run_experiment(grid(), options, launch=launcher()[0])
    rows = list(grid().parts[0].rows)
    rows[1] = replace(rows[1], recipe=replace(rows[1].recipe, steps=13))
    changed = grid(parts=(replace(grid().parts[0], rows=tuple(rows)), grid().parts[1]))
    assert [n for n, s in states(changed, options).items() if s == "not run"] == ["better-s0"]
    launch, asked = launcher()
    run_experiment(changed, options, launch=launch)
    assert asked == ["better-s0"]


def test_a_field_that_recipes_gain_leaves_results_as_they_are(options: Options):
    run_experiment(grid(), options, launch=launcher()[0])
    path = options.results / "grid.json"
    saved = json.loads(path.read_text())
    del saved["rows"]["cut"]["recipe"]["optimizer"]["ema"]  # as if written before there was one
    path.write_text(json.dumps(saved))
    # 0.999 is the default; the row was run with 0.9.
    assert states(grid(), options)["cut"] == "not run"
    del saved["rows"]["plain-s0"]["recipe"]["optimizer"]["beta2"]
    path.write_text(json.dumps(saved))
    assert states(grid(), options)["plain-s0"] == "done"


def test_a_condition_that_is_new_or_changed_is_not_run(options: Options):
    run_experiment(grid(), options, launch=launcher()[0])
    systems, ablation = grid().parts
    for condition in (Condition("noise", "tones.jsonl"), Condition("clean", "tones.jsonl?noise=5")):
        changed = grid(parts=(replace(systems, conditions=(condition,)), ablation))
        assert states(changed, options)["plain-s0"] == "not run"
        assert states(changed, options)["cut"] == "done"


def test_rows_by_pattern_and_rows_anew(options: Options):
    launch, asked = launcher()
    run_experiment(grid(), replace(options, only=("*-s1", "cut")), launch=launch)
    assert asked == ORDER[2:]
    with pytest.raises(InputError, match="no row of grid fits 'worse-\\*': there are plain-s0"):
        run_experiment(grid(), replace(options, only=("worse-*",)), launch=launch)
    run_experiment(grid(), replace(options, only=("cut",), again=True), launch=launch)
    assert asked == [*ORDER[2:], "cut"]


def test_no_row_begins_that_cannot_end_in_time(options: Options):
    run_experiment(grid(), replace(options, only=("plain-s0",)), launch=launcher()[0])
    launch, asked = launcher()
    # A minute of training and six seconds of evaluation, as the first one took.
    run_experiment(grid(), replace(options, max_minutes=1.0), launch=launch)
    assert asked == []
    run_experiment(grid(), replace(options, max_minutes=1.2), launch=launch)
    assert asked == ORDER[1:]  # they take no time here


def test_two_runners_of_one_grid(options: Options):
    launch, asked = launcher()
    with lock_run(options.runs / "grid"), pytest.raises(InputError, match="in use"):
        run_experiment(grid(), options, launch=launch)
    assert asked == []


def test_the_file_has_a_line_for_every_row(options: Options):
    run_experiment(grid(), options, launch=launcher()[0])
    lines = (options.results / "grid.json").read_text().splitlines()
    assert [line.split('"')[1] for line in lines[1:-1]] == ORDER


def test_a_damaged_results_file_is_not_overwritten(options: Options):
    options.results.mkdir()
    path = options.results / "grid.json"
    path.write_text('{"rows": ')
    with pytest.raises(InputError, match=r"grid\.json is no results file"):
        run_experiment(grid(), options, launch=launcher()[0])
    assert path.read_text() == '{"rows": '


def with_digits() -> Experiment:
    row = Row("only", "plain", recipe(name="plain", data=replace(recipe().data, train=DIGITS)))
    return grid(parts=(Part("Digits", (row,), (Condition("clean", f"{DIGITS}?take=5-9"),)),))


def test_where_the_digits_lie_is_said_and_not_kept(options: Options, tmp_path: Path):
    launch, asked = launcher()
    with pytest.raises(InputError, match="with --digits PATH"):
        run_experiment(with_digits(), options, launch=launch)
    path = tmp_path / "elsewhere" / "manifest.jsonl"
    path.parent.mkdir()
    path.touch()
    run_experiment(with_digits(), replace(options, digits=str(path)), launch=launch)
    assert asked == ["only"]
    kept = (options.results / "grid.json").read_text()
    assert f"parley experiment grid --only only --digits {DIGITS}" in kept
    assert "elsewhere" not in kept + page(options)


def test_a_row_begins_as_the_model_of_another(options: Options):
    (launch, asked), starts = launcher(), []
    run_experiment(chained(), replace(options, only=("then",)), launch=with_model(launch, starts))
    assert asked == ["base", "then"]
    assert starts[0] == ""
    assert Path(starts[1]).name == "model"
    assert Path(starts[1]).parent.name.startswith("base-")
    assert states(chained(), options) == {"base": "done", "then": "done"}


def test_what_a_row_began_as_is_trained_again_where_it_is_not_there(options: Options):
    (launch, asked), starts = launcher(), []
    run_experiment(chained(), replace(options, only=("base",)), launch=launch)  # leaves no model
    run_experiment(chained(), options, launch=with_model(launch, starts))
    assert asked == ["base", "base", "then"]


def test_a_row_is_not_done_when_what_it_began_as_has_changed(options: Options):
    launch = with_model(launcher()[0], [])
    run_experiment(chained(), options, launch=launch)
    assert states(chained(steps=13), options) == {"base": "not run", "then": "not run"}


def test_a_row_fails_with_what_it_needs(options: Options):
    launch, asked = launcher(fail_at="base")
    run_experiment(chained(), replace(options, only=("then",)), launch=launch)
    assert asked == ["base"]
    assert "base, which it needs, failed" in page(options)


def test_a_row_begins_as_one_that_stands_before_it():
    first, then = chained().rows
    with pytest.raises(ValueError, match="then starts from 'base'"):
        grid(parts=(Part("Chain", (then, first), (Condition("clean", "tones.jsonl"),)),))


def test_names_are_unique_and_a_baseline_is_a_group():
    systems, ablation = grid().parts
    with pytest.raises(ValueError, match="two rows are called 'plain-s0'"):
        grid(parts=(systems, systems))
    with pytest.raises(ValueError, match="no group is called 'worse'"):
        grid(parts=(replace(systems, baseline="worse"), ablation))


def test_the_command(options: Options, capsys: pytest.CaptureFixture[str]):
    places = ["--results", str(options.results), "--runs", str(options.runs)]
    assert cli.main(["experiment", *places]) == 0
    assert "encoders-digits" in capsys.readouterr().out
    assert cli.main(["experiment", "encoders", "--dry-run", "--only", "tt-*", *places]) == 0
    out = capsys.readouterr().out
    assert "3 rows would be run." in out
    assert "conformer" not in out
    assert cli.main(["experiment", "encodesr", *places]) == 2
    assert "did you mean encoders" in capsys.readouterr().err
    assert cli.main(["experiment", "encoders", "--again", *places]) == 2
    assert "--only" in capsys.readouterr().err
    assert not options.results.exists()


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.mark.slow
def test_a_task_goes_on_and_agrees_with_evaluate(tones: Path, tmp_path: Path):
    [part] = tone_grid(tones).parts
    row = part.rows[1]
    task = Task(replace(row.recipe, steps=4), part.conditions, "parley experiment grid --only good")
    assert Task.from_json(task.as_json()) == task
    found = run_task(task, tmp_path)
    again = run_task(task, tmp_path)  # trained already: the same training, evaluated anew
    assert again["train_seconds"] == found["train_seconds"] > 0
    clean, second = found["evaluations"]["clean"], again["evaluations"]["clean"]
    assert clean["speakers"] == second["speakers"]
    errors, words = (sum(v[i] for v in clean["speakers"].values()) for i in (0, 1))
    assert len(clean["speakers"]) == 8
    assert words == clean["words"]
    assert errors == clean["substitutions"] + clean["deletions"] + clean["insertions"]
    assert found["cost"]["total"] > found["cost"]["encoder"] > 0
    assert found["stream_speed"] > 0
    assert found["recipe"] == recipe_to_dict(task.recipe)
