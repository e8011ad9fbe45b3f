"""Small versions are run once more beside what is known, and differences are told."""

from dataclasses import replace
from pathlib import Path

import pytest

from grids import cells, chained, grid, launcher, with_model
from parley.configs import experiments as shipped
from parley.configs.experiments import experiments
from parley.data.errors import InputError
from parley.train.experiment import Experiment
from parley.zoo import cli
from parley.zoo.experiment_results import Results
from parley.zoo.experiments import Options, open_results, run_experiment
from parley.zoo.reproduction import WholePace, compare, reproduce

SMALL = ("plain-s0", "better-s0")


def small(**changes) -> Experiment:
    return replace(grid(), small=SMALL, **changes)


def kept(options: Options) -> Results:
    return open_results(small(), options)


def page(options: Options) -> str:
    return (options.results / "reproduction.md").read_text()


@pytest.fixture
def known(options: Options) -> Options:
    """Of the small version one row is known, with three errors less."""
    run_experiment(small(), replace(options, only=("plain-s0",)), launch=launcher()[0])
    results = kept(options)
    record = results.records["plain-s0"]
    [found] = record["evaluations"].values()
    found["wer"] -= 3.0
    found["speakers"] = {name: [e - 3, n] for name, (e, n) in found["speakers"].items()}
    results.write()
    return replace(options, runs=options.runs.parent / "again")


def test_known_numbers_stay_and_the_difference_is_told(known: Options):
    before = kept(known).records["plain-s0"]
    launch, asked = launcher()
    plain, better = reproduce([small()], known, launch=launch)
    assert asked == [*SMALL]
    assert kept(known).records["plain-s0"] == before
    assert plain.then is not None
    assert plain.now is not None
    assert (plain.then.value, plain.now.value) == (20.5, 23.5)
    assert plain.cells[-2:] == ["+3.00", "outside the interval"]
    assert "| grid | plain-s0 | clean | WER 20.50 % (" in page(known)
    assert "- rows: 2 of 2 done" in page(known)
    # What was not known is entered, and not compared with itself.
    assert kept(known).state(kept(known).experiment.row("better-s0")) == "done"
    assert better.then is None
    assert (better.cells[3], better.cells[5:]) == ("not run", ["", ""])
    assert better.cells[4].startswith("WER 19.50 % (")
    assert cells((known.results / "grid.md").read_text(), "better")[2] == "19.50 / not run"


def test_the_same_number_is_called_so(options: Options):
    run_experiment(small(), options, launch=launcher()[0])
    results = kept(options)
    for record in results.records.values():
        record["date"] = "2026-01-01"
    results.write()
    found = reproduce([small()], replace(options, runs=options.runs.parent / "again"),
                      launch=launcher()[0])  # fmt: skip
    assert [compared.cells[-2:] for compared in found] == [["+0.00", "the same"]] * 2


def test_stopped_it_goes_on(known: Options, capsys: pytest.CaptureFixture[str]):
    launch, asked = launcher(stop_at="better-s0")
    with pytest.raises(KeyboardInterrupt):
        reproduce([small()], known, launch=launch)
    capsys.readouterr()
    launch, asked = launcher()
    reproduce([small()], known, launch=launch)
    assert asked == ["better-s0"]
    bar = "[##########..........] row 2 of 2: grid, better-s0 (about 1 min; 1 rows left, 1 min)"
    assert bar in capsys.readouterr().err
    launch, asked = launcher()
    reproduce([small()], known, launch=launch)
    assert asked == []


def test_no_row_begins_that_cannot_end_in_time(known: Options):
    launch, asked = launcher()
    reproduce([small()], replace(known, max_minutes=1.0), launch=launch)
    assert asked == []


def test_a_row_is_entered_only_with_what_it_goes_on_from(options: Options):
    chain = replace(chained(), small=("base", "then"))
    starts: list[str] = []
    run_experiment(
        chain, replace(options, only=("base",)), launch=with_model(launcher()[0], starts)
    )
    results = open_results(chain, options)
    results.records["base"]["date"] = "2026-01-01"  # as another machine's
    results.write()
    again = replace(options, runs=options.runs.parent / "again")
    reproduce([chain], again, launch=with_model(launcher()[0], starts))
    assert open_results(chain, options).state(chain.row("then")) == "not run"
    assert [c.now is not None for c in compare([chain], again)] == [True, True]


def test_a_small_version_names_rows_and_all_that_they_need():
    with pytest.raises(ValueError, match="its small version names 'plain-s7'"):
        replace(grid(), small=("plain-s7",))
    with pytest.raises(ValueError, match="its small version lacks 'base'"):
        replace(chained(), small=("then",))


def test_the_shipped_ones_take_less_than_six_hours():
    """By what their rows took when they were run."""
    chosen = [e for e in experiments().values() if e.small]
    assert {e.name for e in chosen} >= {"encoders", "amortized", "sts", "verification", "fairness"}
    pace = WholePace(chosen, Options(results=Path(__file__).parents[2] / "docs" / "results"))
    seconds = [pace.expected(results, row) for results, row in pace.rows()]
    assert all(seconds)
    assert sum(s or 0.0 for s in seconds) < 6 * 3600
    for experiment in chosen:
        assert {experiment.row(name).seed for name in experiment.small} == {0}


def test_the_command(
    known: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(shipped, "experiments", lambda: {"grid": small(), "large": grid()})
    monkeypatch.setattr("parley.zoo.experiments.launch_process", launcher(fail_at="better-s0")[0])
    places = ["--results", str(known.results), "--runs", str(known.runs)]
    assert cli.main(["experiment", "--all", "--small", "--dry-run", *places]) == 0
    assert "0.0 hours are left." in capsys.readouterr().out
    assert not known.runs.exists()
    assert cli.main(["experiment", "--all", "--small", *places]) == 2
    told = capsys.readouterr()
    assert "better-s0 failed" in told.err
    assert "+3.00" in told.out
    for wrong, sentence in (
        (["--small"], "name an experiment"),
        (["large", "--small"], "large has no small version"),
        (["grid", "--small", "--only", "cut"], "leave --only"),
    ):
        assert cli.main(["experiment", *wrong, *places]) == 2
        assert sentence in capsys.readouterr().err


def test_a_refusal_leaves_the_page_alone(known: Options):
    results = kept(known)
    results.path.write_text("{")
    with pytest.raises(InputError, match="no results file"):
        reproduce([small()], known, launch=launcher()[0])
    assert not (known.results / "reproduction.md").exists()
