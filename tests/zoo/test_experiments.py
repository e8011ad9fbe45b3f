"""A grid goes on from wherever it was stopped, and its page says what is known and no more."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from parley.configs.experiments import experiments
from parley.data.errors import InputError
from parley.train.checkpoint import lock_run
from parley.train.experiment import DIGITS, Condition, Experiment, Part, Row
from parley.train.recipe import Recipe, recipe_from_dict, recipe_to_dict
from parley.zoo import cli
from parley.zoo.experiment_report import difference, pooled
from parley.zoo.experiment_results import Results
from parley.zoo.experiment_row import Task, failure, run_task
from parley.zoo.experiments import Options, run_experiment
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


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(results=tmp_path / "results", runs=tmp_path / "runs")


ORDER = ["plain-s0", "better-s0", "plain-s1", "better-s1", "cut"]


def states(experiment: Experiment, options: Options) -> dict[str, str]:
    """As another process would find them."""
    results = Results(experiment, options.results / "grid.json")
    return {row.name: results.state(row) for row in experiment.rows}


def page(options: Options) -> str:
    return (options.results / "grid.md").read_text()


def cells(text: str, system: str) -> list[str]:
    """The first line of a table that is about `system`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {system} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


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


def test_a_row_fails_with_what_it_begins_as(options: Options):
    launch, asked = launcher(fail_at="base")
    run_experiment(chained(), replace(options, only=("then",)), launch=launch)
    assert asked == ["base"]
    assert "base, which it begins as, failed" in page(options)


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


def test_recipes_of_all_rows_are_known_again_when_they_are_read():
    for experiment in experiments().values():
        for row in experiment.rows:
            written = json.loads(json.dumps(recipe_to_dict(row.recipe)))
            assert recipe_from_dict(written) == row.recipe


@pytest.mark.parametrize("name", ["encoders", "encoders-digits"])
def test_families_differ_in_nothing_but_the_encoder_and_its_rates(name: str):
    part = next(p for p in experiments()[name].parts if p.title == "Families")
    assert {tuple(row.seed for row in rows) for rows in part.groups.values()} == {(0, 1, 2)}
    first = part.rows[0].recipe
    for row in part.rows:
        free = {"name": first.name, "seed": 0, "optimizer": first.optimizer}
        model = replace(row.recipe.model, encoder=first.model.encoder)
        assert replace(row.recipe, model=model, **free) == first
        rates = replace(row.recipe.optimizer, peak_lr=first.optimizer.peak_lr)
        assert rates == first.optimizer
    # Half a grid compares the families with one another, not seeds.
    assert len({row.group for row in part.rows[:5]}) == 5


def test_models_of_the_grid_are_of_matched_size():
    from parley.zoo.package import abstract_model, parameter_count

    families, ablations, _ = experiments()["encoders"].parts
    sizes = {}
    for row in (*families.rows[:5], *ablations.rows):
        assert isinstance(row.recipe, Recipe)
        graphdef, params, _ = abstract_model(row.recipe)
        hash(graphdef)  # inference compiles with it as a static argument
        sizes[row.group] = parameter_count(params)
    matched = [sizes[row.group] for row in families.rows[:5]]
    assert max(matched) < 1.2 * min(matched), sizes
    assert all(sizes[row.group] <= sizes["conv-rnnt"] for row in ablations.rows), sizes
    assert sizes["no-convolution"] < sizes["global-only"] < sizes["conv-rnnt"]


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
    """A manifest of tones that are spoken by eight speakers."""
    folder = tmp_path_factory.mktemp("tones")
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


RUNNER = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
from test_experiments import tone_grid
from parley.zoo.experiments import Options, run_experiment
if __name__ == "__main__":
    folder = Path({folder!r})
    options = Options(results=folder / "results", runs=folder / "runs")
    run_experiment(tone_grid(Path({manifest!r})), options)
"""


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_processes_killed_and_resumed(tones: Path, tmp_path: Path):
    tests = Path(__file__).parents[1]
    script = RUNNER.format(
        tests=str(tests), here=str(tests / "zoo"), folder=str(tmp_path), manifest=str(tones)
    )
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"), "XLA_FLAGS": ""}
    with open(tmp_path / "said", "wb") as said:
        runner = subprocess.Popen(
            [sys.executable, "-c", script], env=os.environ | cache, stderr=said
        )
        runs, saved = tmp_path / "runs" / "grid", "good-*/checkpoints/[2-9]"
        deadline = time.monotonic() + 480
        while runner.poll() is None and time.monotonic() < deadline:
            if any(runs.glob(saved)):
                break
            time.sleep(0.01)
        runner.kill()
        runner.wait()
    assert any(runs.glob(saved))
    said = (tmp_path / "said").read_text()
    assert runner.returncode == -signal.SIGKILL, said
    # The grid went on after the row that failed, and the row outlives its runner only to save.
    results = Results(tone_grid(tones), tmp_path / "results" / "grid.json")
    assert [results.state(row) for row in results.experiment.rows] == ["failed", "not run"]
    assert "were not finite" in results.records["steep"]["reason"]
    [folder] = (tmp_path / "runs" / "grid").glob("good-*")
    for _ in range(600):
        try:
            with lock_run(folder):
                break
        except InputError:
            time.sleep(0.1)
    assert not (folder / "model").exists()
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | cache, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "row 2 of 2: good, seed 0" in done.stderr
    assert "resumed at" in done.stderr
    results = Results(tone_grid(tones), tmp_path / "results" / "grid.json")
    assert [results.state(row) for row in results.experiment.rows] == ["failed", "done"]
    assert results.records["good"]["steps"] == 40
