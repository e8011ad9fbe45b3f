"""Four processes are one run, also where parameters and vocabulary are split; whoever is killed is
missed, and fewer go on."""

import dataclasses
import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest

from parley.train.loop import train
from parley.train.recipe import AdaptConfig, FisherConfig, MeshConfig, Recipe, recipe_to_dict
from tones import ToneCorpus, recipe, untrained

CHANGES = {"steps": 12, "checkpoint_every": 4, "eval_every": 6}
LONG = {"steps": 10_000, "checkpoint_every": 20, "eval_every": 10_000}


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r["loss"] for r in records if "loss" in r]


def job(made: Recipe, folder: Path) -> dict:
    out = str(folder.with_suffix(".npz"))
    return {"recipe": recipe_to_dict(made), "folder": str(folder), "resume": False, "out": out}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=2, fsdp=2, model=2)])
def test_four_processes_have_the_losses_of_one(tmp_path: Path, mesh: MeshConfig):
    """Adam magnifies rounding from step to step, so the later losses agree a little less."""
    made = recipe(**CHANGES, mesh=mesh)
    train(made, tmp_path / "one", corpus=ToneCorpus(), dev=ToneCorpus(16, seed=1))
    for status, said in processes.run(job(made, tmp_path / "four"), 4, 2):
        assert status == 0, said
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    np.testing.assert_allclose(four[:4], one[:4], rtol=1e-5)
    np.testing.assert_allclose(four, one, rtol=1e-3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_processes_hold_to_a_start(tmp_path: Path):
    """Each measures Fisher information on its own rows; it is split over the devices of both."""
    adapt = AdaptConfig(anchor="ewc", weight=1.0, fisher=FisherConfig(utterances=20))
    optimizer = dataclasses.replace(recipe().optimizer, weight_decay=0.0, ema=0.0)
    mesh = MeshConfig(data=4, model=2)
    changes: dict[str, Any] = {**CHANGES, "init_from": "tones", "adapt": adapt}
    made = recipe(**changes, mesh=mesh, optimizer=optimizer)
    one, two = tmp_path / "one", tmp_path / "two"
    train(
        made, one, corpus=ToneCorpus(), dev=ToneCorpus(16, seed=1),
        general=ToneCorpus(24, seed=2), start=untrained(made),
    )  # fmt: skip
    spread = dataclasses.replace(made, mesh=MeshConfig(data=1, fsdp=4))
    for status, said in processes.run(job(spread, two), 2, 2):
        assert status == 0, said
    facts = [json.loads((folder / "fisher.json").read_text()) for folder in (one, two)]
    assert [f["utterances"] for f in facts] == [20, 20]
    assert facts[1]["mean"] == pytest.approx(facts[0]["mean"], rel=1e-4)
    np.testing.assert_allclose(losses(two)[:4], losses(one)[:4], rtol=1e-4)
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-3)


def send(folder: Path, asked: dict, count: int, victim: int, number: int) -> tuple[list, float]:
    """((status, what it said) of each of `count` processes of which `victim` gets a signal in the
    midst of its work, seconds from then to the end of all)."""
    port = processes.free_port()
    started = [processes.start(asked, count, 2, i, port) for i in range(count)]
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline and all(p.poll() is None for p in started):
        if (folder / "metrics.jsonl").exists() and len(losses(folder)) > 30:
            break
        time.sleep(0.1)
    sent = time.monotonic()
    started[victim].send_signal(number)
    return processes.ended(started), time.monotonic() - sent


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_missed_within_a_minute(tmp_path: Path, victim: int):
    """With the first one JAX's coordination service is gone, and JAX aborts the others at once."""
    folder = tmp_path / "run"
    ends, seconds = send(folder, job(recipe(**LONG), folder), 2, victim, signal.SIGKILL)
    assert ends[victim][0] == -signal.SIGKILL
    status, said = ends[1 - victim]
    assert status == 2, said
    assert f"process {victim} of 2" in said
    assert "start all processes again with --resume" in said
    assert seconds < 60


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_four_processes_told_to_stop_go_on_as_two(tmp_path: Path):
    """Any one of them is told, as when one host is pre-empted. The two have half the devices."""
    made, folder = recipe(**LONG | {"steps": 120}), tmp_path / "run"
    ends, seconds = send(folder, job(made, folder), 4, 2, signal.SIGTERM)
    for status, said in ends:
        assert status == 2, said
        assert "is saved: go on with --resume" in said
    print(f"saved and ended {seconds:.1f} s after the signal")
    before = losses(folder)
    assert len(before) < 120
    for status, said in processes.run(job(made, folder) | {"resume": True}, 2, 2):
        assert status == 0, said
    after = losses(folder)
    assert after[: len(before)] == before
    assert len(after) == 120
    assert after[-1] < before[-1]
