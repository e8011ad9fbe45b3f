"""One run, killed twenty times at random moments, ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from parley.train.loop import train
from tones import ToneCorpus, recipe

KILLS = 20
RECIPE = recipe(steps=900, checkpoint_every=10, eval_every=75)
TESTS = Path(__file__).parents[1]
RUN = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(TESTS)!r})
import conftest
from parley.data.errors import InputError
from parley.train.loop import train
from tones import ToneCorpus, recipe

made = recipe(steps={RECIPE.steps}, checkpoint_every={RECIPE.checkpoint_every},
              eval_every={RECIPE.eval_every})
try:
    train(made, Path(sys.argv[1]), corpus=ToneCorpus(), dev=ToneCorpus(16, seed=1), resume=True)
except InputError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def last_step(folder: Path) -> int:
    """The last step that the run has recorded."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return 0
    steps = [0]
    for line in lines[-2:]:
        try:
            steps.append(json.loads(line)["step"])
        except ValueError:  # a line that is being written
            continue
    return max(steps)


def kill_once(folder: Path, cache: Path, rng: random.Random) -> tuple[int, int, str]:
    """(signal sent, exit status, what was said) of a run that is ended at a random moment."""
    env = os.environ | {"PYTHONPATH": str(TESTS), "JAX_COMPILATION_CACHE_DIR": str(cache)}
    number = rng.choice([signal.SIGKILL, signal.SIGTERM])
    at_work = rng.random() < 0.8  # else while it still imports, restores or compiles
    began, before = time.monotonic(), last_step(folder)
    wanted, delay = before + rng.randint(1, 25), rng.uniform(0.0, 12.0)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)], env=env, stderr=subprocess.PIPE, text=True
    )
    try:
        while process.poll() is None and time.monotonic() - began < 600:
            seen = last_step(folder)
            if seen < before:  # a resumed run first forgets the steps that it will do again
                before, wanted = seen, seen + wanted - before
            if seen >= wanted if at_work else time.monotonic() - began > delay:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.1))  # anywhere in a step, a checkpoint, a validation
        process.send_signal(number)
        said = process.communicate(timeout=600)[1]
    finally:
        process.kill()
    return number, process.returncode, said


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_killed_twenty_times_ends_as_an_unbroken_one(tmp_path: Path):
    dev = ToneCorpus(16, seed=1)
    unbroken = train(RECIPE, tmp_path / "unbroken", corpus=ToneCorpus(), dev=dev)
    folder, rng = tmp_path / "killed", random.Random(20)
    for _ in range(KILLS):
        number, status, said = kill_once(folder, tmp_path / "cache", rng)
        # A SIGTERM before the loop has begun ends the process as any other.
        expected = {-number} if number == signal.SIGKILL else {-number, 2}
        assert status in expected, said
        if status == 2:
            assert "is saved: go on with --resume" in said
    assert 0 < last_step(folder) < RECIPE.steps, "the kills should fall in the midst of the run"
    resumed = train(RECIPE, folder, resume=True, corpus=ToneCorpus(), dev=dev)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, unbroken.params)
    jax.tree.map(np.testing.assert_array_equal, resumed.frozen, unbroken.frozen)
    assert resumed.wer == unbroken.wer
    records = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "loss" in r] == list(range(1, RECIPE.steps + 1))
    assert not list(folder.glob("checkpoints/damaged-*"))
