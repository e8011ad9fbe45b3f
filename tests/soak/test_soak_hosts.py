"""Four processes are one run, also where parameters and vocabulary are split."""

import json
from pathlib import Path

import numpy as np
import processes
import pytest

from parley.train.loop import train
from parley.train.recipe import MeshConfig, recipe_to_dict
from tones import ToneCorpus, recipe

CHANGES = {"steps": 12, "checkpoint_every": 4, "eval_every": 6}


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r["loss"] for r in records if "loss" in r]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=2, fsdp=2, model=2)])
def test_four_processes_have_the_losses_of_one(tmp_path: Path, mesh: MeshConfig):
    """Adam magnifies rounding from step to step, so the later losses agree a little less."""
    made = recipe(**CHANGES, mesh=mesh)
    train(made, tmp_path / "one", corpus=ToneCorpus(), dev=ToneCorpus(16, seed=1))
    job = {
        "recipe": recipe_to_dict(made),
        "folder": str(tmp_path / "four"),
        "resume": False,
        "out": str(tmp_path / "four.npz"),
    }
    for status, said in processes.run(job, 4, 2):
        assert status == 0, said
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    np.testing.assert_allclose(four[:4], one[:4], rtol=1e-5)
    np.testing.assert_allclose(four, one, rtol=1e-3)
