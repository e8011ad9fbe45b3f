"""A grid whose processes are killed goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grids import tone_grid, write_tones
from parley.data.errors import InputError
from parley.train.checkpoint import lock_run
from parley.zoo.experiment_results import Results

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from grids import tone_grid
from parley.zoo.experiments import Options, run_experiment
if __name__ == "__main__":
    folder = Path({folder!r})
    options = Options(results=folder / "results", runs=folder / "runs")
    run_experiment(tone_grid(Path({manifest!r})), options)
"""


@pytest.mark.timeout(1200)
def test_processes_killed_and_resumed(tones: Path, tmp_path: Path):
    tests = str(Path(__file__).parents[1])
    script = RUNNER.format(tests=tests, folder=str(tmp_path), manifest=str(tones))
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
