"""One run over several processes is the run of one; whoever dies is missed."""

import dataclasses
import json
import signal
import time
from pathlib import Path

import jax
import numpy as np
import processes
import pytest

from parley.data.errors import InputError
from parley.train import hosts
from parley.train.hosts import HostsConfig, connect, in_cluster, rows_of_process
from parley.train.loop import train
from parley.train.recipe import AdaptConfig, FisherConfig, MeshConfig, recipe_to_dict
from parley.train.run_folder import row_multiple
from parley.train.sharding import make_mesh
from tones import ToneCorpus, recipe, untrained

SHORT = {"steps": 4, "checkpoint_every": 2, "eval_every": 4}


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r["loss"] for r in records if "loss" in r]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """(folder, result) of a run by this process, on its eight devices."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, train(recipe(**SHORT), folder, corpus=ToneCorpus(), dev=ToneCorpus(16, seed=1))


@pytest.mark.slow
def test_two_processes_are_one_run_and_another_number_goes_on_with_it(alone, tmp_path: Path):
    """Parameters are split over the devices of both; then one process with two devices resumes."""
    _, whole = alone
    made = recipe(**SHORT, mesh=MeshConfig(data=-1, fsdp=4))
    job = {
        "recipe": recipe_to_dict(made),
        "folder": str(tmp_path / "run"),
        "resume": False,
        "out": str(tmp_path / "two.npz"),
    }
    for status, said in processes.run(job, 2, 4):
        assert status == 0, said
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone[0]), rtol=1e-5)
    found = np.load(tmp_path / "two.npz")
    for i, leaf in enumerate(jax.tree.leaves(whole.params)):
        np.testing.assert_allclose(found[f"arr_{i}"], leaf, atol=2e-4)
    # The last checkpoint is lost; three steps are done again, by one process with two devices.
    (tmp_path / "run" / "checkpoints" / "4").rename(tmp_path / "lost")
    job |= {"resume": True, "out": str(tmp_path / "one.npz")}
    facts = json.loads((tmp_path / "run" / "recipe.json").read_text())
    fewer = dataclasses.replace(made, mesh=MeshConfig(data=1, fsdp=2))
    facts["recipe"] = recipe_to_dict(fewer)
    job["recipe"] = facts["recipe"]
    ((status, said),) = processes.run(job, 1, 2)
    assert status == 0, said
    assert "resumed at 2" in said
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone[0]), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_hold_to_a_start_as_one_does(tmp_path: Path):
    """Each measures Fisher information on its own rows; it is split over the devices of both."""
    adapt = AdaptConfig(anchor="ewc", weight=1.0, fisher=FisherConfig(utterances=20))
    optimizer = dataclasses.replace(recipe().optimizer, weight_decay=0.0, ema=0.0)
    made = recipe(**SHORT, init_from="tones", adapt=adapt, optimizer=optimizer)
    one = tmp_path / "one"
    train(
        made,
        one,
        start=untrained(made),
        corpus=ToneCorpus(),
        dev=ToneCorpus(16, seed=1),
        general=ToneCorpus(24, seed=2),
    )
    spread = dataclasses.replace(made, mesh=MeshConfig(data=-1, fsdp=4))
    two = tmp_path / "two"
    job = {"recipe": recipe_to_dict(spread), "folder": str(two), "resume": False}
    for status, said in processes.run(job | {"out": str(tmp_path / "two.npz")}, 2, 4):
        assert status == 0, said
    facts = [json.loads((folder / "fisher.json").read_text()) for folder in (one, two)]
    assert [f["utterances"] for f in facts] == [20, 20]
    assert facts[1]["mean"] == pytest.approx(facts[0]["mean"], rel=1e-4)
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_ends_the_others_with_a_sentence(tmp_path: Path, number: int):
    made = recipe(steps=10_000, checkpoint_every=10_000, eval_every=10_000)
    folder = tmp_path / "run"
    job = {
        "recipe": recipe_to_dict(made),
        "folder": str(folder),
        "resume": False,
        "out": "",
        "lost_seconds": 6.0,
    }
    port = processes.free_port()
    started = [processes.start(job, 2, 2, i, port) for i in range(2)]
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and all(p.poll() is None for p in started):
        if (folder / "metrics.jsonl").exists() and losses(folder):
            break
        time.sleep(0.1)
    started[1].send_signal(number)
    (status, said), (other, _) = processes.ended(started)
    assert status == 2, said
    if number == signal.SIGTERM:
        assert other == 2
        assert "is saved: go on with --resume" in said
    else:
        assert "process 1 of 2" in said
        assert "has not been heard for 6 s" in said


def test_a_process_alone_connects_to_nobody(monkeypatch):
    for variable in (*hosts._CLUSTERS, "TPU_WORKER_HOSTNAMES", "MEGASCALE_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    connect(HostsConfig())
    connect(HostsConfig("localhost:1", 1, 0))
    assert jax.process_count() == 1
    assert in_cluster() == ""


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("SLURM_NTASKS", "4", "Slurm"),
        ("SLURM_NTASKS", "1", ""),
        ("OMPI_COMM_WORLD_SIZE", "2", "Open MPI"),
        ("TPU_WORKER_HOSTNAMES", "a,b", "Cloud TPU"),
        ("TPU_WORKER_HOSTNAMES", "localhost", ""),
    ],
)
def test_clusters_are_told_by_their_variables(monkeypatch, variable: str, value: str, name: str):
    for other in (*hosts._CLUSTERS, "TPU_WORKER_HOSTNAMES", "MEGASCALE_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, value)
    assert in_cluster() == name


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (HostsConfig(coordinator="a:1"), "go together"),
        (HostsConfig(processes=2, process_id=0), "go together"),
        (HostsConfig("a:1", 2, 2), "counted from 0"),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(config: HostsConfig, said: str):
    with pytest.raises(InputError, match=said):
        connect(config)


def test_one_process_loads_all_rows():
    assert rows_of_process(make_mesh(MeshConfig(data=2, fsdp=2, model=2))) == (0, 1)


def test_batches_stay_multiples_of_what_the_run_began_with(tmp_path: Path):
    assert row_multiple(tmp_path, 8) == 8
    assert row_multiple(tmp_path, 2) == 8
    with pytest.raises(InputError, match="multiples of 8 rows"):
        row_multiple(tmp_path, 16)
