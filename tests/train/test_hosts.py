"""One run over several processes is the run of one; whoever dies is missed."""

import dataclasses
import json
import signal
from pathlib import Path

import jax
import numpy as np
import processes
import pytest

from parley.data.errors import InputError
from parley.train import hosts
from parley.train.hosts import HostsConfig, connect, in_cluster, rows_of_process
from parley.train.loop import train
from parley.train.recipe import AdaptConfig, FisherConfig, MeshConfig, Recipe, recipe_to_dict
from parley.train.run_folder import row_multiple
from parley.train.sharding import make_mesh
from tones import ToneCorpus, recipe, untrained

SHORT = {"steps": 8, "checkpoint_every": 8, "eval_every": 2}


def curve(folder: Path, name: str) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r[name] for r in records if name in r]


def ending(folder: Path, made: Recipe, **how) -> list[tuple[int, str]]:
    """(status, what it said) of two processes with two devices each, of which the second ends."""
    job = {"recipe": recipe_to_dict(made), "folder": str(folder), "resume": False, "out": ""}
    return processes.run({**job, "ends": {"process": 1, **how}, "lost_seconds": 6.0}, 2, 2)


@pytest.mark.slow
def test_two_processes_are_one_run_which_stops_together_and_goes_on_elsewhere(tmp_path: Path):
    """Four devices of two processes share the parameters. One is told to stop, and both do; then
    one process goes on with eight devices and another mesh."""
    made, dev = recipe(**SHORT, mesh=MeshConfig(data=4, model=2)), ToneCorpus(16, seed=1)
    alone, folder = tmp_path / "alone", tmp_path / "run"
    whole = train(made, alone, corpus=ToneCorpus(), dev=dev)
    spread = dataclasses.replace(made, mesh=MeshConfig(data=1, fsdp=4))
    for status, said in ending(folder, spread, step=1, signal=signal.SIGTERM):
        assert status == 2, said
        assert "step 4 is saved: go on with --resume" in said
    assert len(curve(folder, "loss")) == 4
    resumed = train(made, folder, resume=True, corpus=ToneCorpus(), dev=dev)
    np.testing.assert_allclose(curve(folder, "loss"), curve(alone, "loss"), rtol=1e-5)
    np.testing.assert_allclose(curve(folder, "dev/wer"), curve(alone, "dev/wer"), atol=1e-6)
    for a, b in zip(jax.tree.leaves(resumed.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.slow
def test_two_processes_hold_to_a_start_and_miss_the_one_that_dies(tmp_path: Path):
    """Each measures Fisher information on its own rows; it is split over the devices of both."""
    adapt = AdaptConfig(anchor="ewc", weight=1.0, fisher=FisherConfig(utterances=20))
    optimizer = dataclasses.replace(recipe().optimizer, weight_decay=0.0, ema=0.0)
    mesh = MeshConfig(data=4, model=2)
    made = recipe(**SHORT, mesh=mesh, init_from="tones", adapt=adapt, optimizer=optimizer)
    one, two = tmp_path / "one", tmp_path / "two"
    data = {
        "corpus": ToneCorpus(),
        "dev": ToneCorpus(16, seed=1),
        "general": ToneCorpus(24, seed=2),
    }
    train(made, one, start=untrained(made), **data)
    spread = dataclasses.replace(made, mesh=MeshConfig(data=1, fsdp=4))
    (status, said), _ = ending(two, spread, step=4, signal=signal.SIGKILL)
    assert status == 2, said
    assert "process 1 of 2" in said
    assert "has not been heard for 6 s" in said
    facts = [json.loads((folder / "fisher.json").read_text()) for folder in (one, two)]
    assert [f["utterances"] for f in facts] == [20, 20]
    assert facts[1]["mean"] == pytest.approx(facts[0]["mean"], rel=1e-4)
    known = curve(two, "loss")
    assert len(known) >= 4
    np.testing.assert_allclose(known, curve(one, "loss")[: len(known)], rtol=1e-4)


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
