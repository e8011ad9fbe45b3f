"""One run over several processes is the run of one; whoever dies is missed."""

import dataclasses
import itertools
import json
import os
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
from parley.train.recipe import MeshConfig, Recipe, recipe_to_dict
from parley.train.run_folder import row_multiple
from parley.train.sharding import make_mesh
from tones import ToneCorpus, recipe

SHORT = {"steps": 8, "checkpoint_every": 8, "eval_every": 3}


def curve(folder: Path, name: str) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r[name] for r in records if name in r]


def ending(folder: Path, made: Recipe, step: int, number: int) -> list[tuple[int, str]]:
    """(status, what it said) of two processes with two devices each, of which the second sends
    itself a signal when it knows the loss of a step."""
    job = {"recipe": recipe_to_dict(made), "folder": str(folder), "resume": False, "out": ""}
    ends = {"process": 1, "step": step, "signal": number}
    return processes.run({**job, "ends": ends}, 2, 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_are_one_run_which_stops_together_and_goes_on_elsewhere(tmp_path: Path):
    """Four devices of two processes share the parameters. One is told to stop, and both do; then
    one process goes on with eight devices and another mesh. Adam magnifies rounding from step to
    step, so the later losses agree a little less."""
    made, dev = recipe(**SHORT, mesh=MeshConfig(data=4, model=2)), ToneCorpus(16, seed=1)
    alone, folder = tmp_path / "alone", tmp_path / "run"
    whole = train(made, alone, corpus=ToneCorpus(), dev=dev)
    spread = dataclasses.replace(made, mesh=MeshConfig(data=1, fsdp=4))
    for status, said in ending(folder, spread, 1, signal.SIGTERM):
        assert status == 2, said
        assert "step 4 is saved: go on with --resume" in said
    np.testing.assert_allclose(curve(folder, "loss"), curve(alone, "loss")[:4], rtol=1e-5)
    resumed = train(made, folder, resume=True, corpus=ToneCorpus(), dev=dev)
    np.testing.assert_allclose(curve(folder, "loss"), curve(alone, "loss"), rtol=1e-4)
    np.testing.assert_allclose(curve(folder, "dev/wer"), curve(alone, "dev/wer"), atol=0.1)
    for a, b in zip(jax.tree.leaves(resumed.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch):
    """(watch, sentences) of the second of two processes, which has beats of 20 ms."""
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "wait_for_all", lambda what: None)
    monkeypatch.setattr(hosts, "_BEAT_SECONDS", 0.02)
    (tmp_path / "0").write_text("somewhere 5")
    said: list[str] = []
    found = hosts._Watch(tmp_path, said.append, lost_seconds=1.0)
    yield found, said
    found.close()


def test_who_falls_silent_is_named(watch):
    found, said = watch
    assert found.over.wait(20)
    found.thread.join()
    assert said[0].startswith("process 0 of 2 (on somewhere) has not been heard for 1 s")


def test_an_abort_is_blamed_on_the_first_process_only_where_it_is_silent(watch, monkeypatch):
    found, said = watch
    beats = (f"somewhere {n}" for n in itertools.count())
    monkeypatch.setattr(found, "_heard", lambda process: next(beats))
    found.miss_first()
    monkeypatch.setattr(found, "_heard", lambda process: f"somewhere {hosts._ENDED}")
    found.miss_first()
    assert said == []
    monkeypatch.setattr(found, "_heard", lambda process: "somewhere 9")
    found.miss_first()
    assert "process 0 of 2 (on somewhere)" in said[0]


@pytest.mark.filterwarnings("ignore:os.fork")
def test_what_is_to_be_said_before_an_abort_is_said():
    child = os.fork()
    if child == 0:
        with hosts._before_abort(lambda: os._exit(7)):
            os.abort()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


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
