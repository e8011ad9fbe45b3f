"""Tables of speaker models: what is paired, what is shown, and what is not run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parley.train.experiment import Condition, Experiment, Part, Row
from parley.train.recipe import recipe_to_dict
from parley.train.speakers.recipe import AdversaryConfig
from parley.zoo.experiment_report import write_report
from parley.zoo.experiment_results import Results
from parley.zoo.verification_report import change, paired, rates, spread
from tones import speaker_recipe

SPEAKERS = {"all": 50, "gender=female": 25, "gender=male": 25, "accent=rp": 6}


def recipe(group: str, seed: int):
    kind = "off" if group == "plain" else "pairs"
    return replace(speaker_recipe(), name=group, seed=seed, adversary=AdversaryConfig(kind=kind))


EXPERIMENT = Experiment(
    name="voices",
    title="Voices",
    question="Who?",
    parts=(
        Part(
            title="Systems",
            rows=tuple(
                Row(f"{group}-s{seed}", group, recipe(group, seed))
                for seed in (0, 1)
                for group in ("plain", "pairs")
            ),
            conditions=(Condition("clean", "voices"),),
            baseline="plain",
        ),
    ),
)


def record(row: Row, female: float, male: float) -> dict:
    """A record whose draws are the rates times what every draw has in common."""
    common = np.random.default_rng(0).normal(1.0, 0.2, 400)
    eers = {
        "all": (female + male) / 2,
        "gender=female": female,
        "gender=male": male,
        "accent=rp": 9.0,
    }
    groups = {
        name: {"eer": eer, "speakers": SPEAKERS[name], "fmr": 1.0, "fnmr": 1.0}
        for name, eer in eers.items()
    }
    draws = {name: [round(1000 * eer * x) for x in common] for name, eer in eers.items()}
    evaluation = {
        "data": "voices",
        "split": "test",
        "eer": eers["all"],
        "floor": 40.0,
        "groups": groups,
        "draws": draws,
        "seconds": 1.0,
    }
    return {
        "status": "done",
        "date": "2026-01-02",
        "device": "a machine",
        "train_seconds": 60.0,
        "audio_hours": 1.0,
        "steps": 12,
        "dev_eer": 5.0,
        "parameters": 1_000,
        "weights": {},
        "evaluations": {"clean": evaluation},
        "recipe": recipe_to_dict(row.recipe),
    }


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = Results(EXPERIMENT, tmp_path / "voices.json")
    for name, female, male in (("plain-s0", 8.0, 4.0), ("pairs-s0", 6.0, 4.0)):
        row = EXPERIMENT.row(name)
        found.put(row, record(row, female, male))
    return found


def test_differences_are_paired_by_the_drawn_speakers(results: Results):
    part = EXPERIMENT.parts[0]
    mine, theirs = paired(results, part.groups["pairs"], part.groups["plain"], "clean")
    found = change(mine["gender=female"], theirs["gender=female"])
    # Each rate is known to 20 %, and their quotient exactly: all draws have it in common.
    assert theirs["gender=female"].interval.high - theirs["gender=female"].interval.low > 4
    assert found.mean == pytest.approx(-25.0)
    assert found.interval == pytest.approx((-25.0, -25.0), abs=0.1)
    assert found.bound == pytest.approx(-25.0, abs=0.1)


def test_only_seeds_that_both_have_are_compared(results: Results):
    part = EXPERIMENT.parts[0]
    row = EXPERIMENT.row("plain-s1")
    results.put(row, record(row, 20.0, 4.0))
    assert rates(results, part.groups["plain"], "clean")["gender=female"].mean == 14.0
    mine, theirs = paired(results, part.groups["pairs"], part.groups["plain"], "clean")
    assert set(mine["all"].seeds) == set(theirs["all"].seeds) == {0}
    assert theirs["gender=female"].mean == 8.0


def test_small_groups_enter_no_gap(results: Results):
    found = rates(results, EXPERIMENT.parts[0].groups["plain"], "clean")
    between = spread(found, "gender")
    assert between is not None
    assert (between.gap, between.std, between.worst) == (4.0, 2.0, "gender=female")
    assert spread(found, "accent") is None


def test_the_page_says_what_is_shown_and_what_is_not_run(results: Results, tmp_path: Path):
    write_report(results)
    text = (tmp_path / "voices.md").read_text()
    assert "drawn alike for all rows" in text
    assert "WER" not in text
    claim = next(line for line in text.splitlines() if line.endswith("| shown |"))
    assert claim.startswith("| pairs | female | -25.0 %")
    assert "| 5.00 / not run |" in text, "the seeds of all speakers' rate"
    results.forget([EXPERIMENT.row("pairs-s0")])
    write_report(results)
    text = (tmp_path / "voices.md").read_text()
    assert "| pairs | not run |" in text
    assert not any(line.endswith("| shown |") for line in text.splitlines())


def test_a_group_that_is_served_worse_is_not_shown_as_better(results: Results, tmp_path: Path):
    row = EXPERIMENT.row("pairs-s0")
    results.put(row, record(row, 7.8, 4.0))  # by less than a twentieth
    write_report(results)
    assert "| not shown |" in (tmp_path / "voices.md").read_text()
