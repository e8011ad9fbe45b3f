"""A run learns, ends the same however often it is killed, and says what stops it."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from parley.configs import presets
from parley.data.errors import InputError
from parley.data.loader import make_loader
from parley.train import loop, run_folder
from parley.train.loop import train
from parley.train.recipe import LossConfig, recipe_from_dict
from parley.train.start import Start
from tones import ToneCorpus, recipe

DEV = ToneCorpus(16, seed=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    return folder, train(recipe(), folder, corpus=ToneCorpus(), dev=DEV)


@pytest.mark.slow
def test_a_run_leaves_its_recipe_metrics_and_pictures(finished):
    folder, result = finished
    facts = json.loads((folder / "recipe.json").read_text())
    assert recipe_from_dict(facts["recipe"]) == recipe()
    assert facts["packages"]["jax"] == jax.__version__
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {r["step"]: r["loss"] for r in records if "loss" in r}
    assert sorted(losses) == list(range(1, 13))
    assert losses[12] < losses[1]
    assert any((folder / "tensorboard").iterdir())
    assert result.wer == next(r["dev/wer"] for r in reversed(records) if "dev/wer" in r)


@pytest.mark.slow
def test_a_folder_with_a_run_is_not_overwritten(finished):
    with pytest.raises(InputError, match="--resume"):
        train(recipe(), finished[0], corpus=ToneCorpus(), dev=DEV)


@pytest.mark.slow
def test_another_recipe_does_not_resume_a_run(finished):
    with pytest.raises(InputError, match="differs in: seed"):
        train(recipe(seed=1), finished[0], resume=True, corpus=ToneCorpus(), dev=DEV)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import conftest
from tones import ToneCorpus, recipe
from parley.train.loop import train
train(recipe(), Path({folder!r}), corpus=ToneCorpus(), dev=ToneCorpus(16, seed=1), resume=True)
"""


def kill_in_mid_run(folder: Path, number: int) -> int:
    tests = Path(__file__).parents[1]
    code = KILLED.format(tests=str(tests), folder=str(folder))
    env = os.environ | {"PYTHONPATH": str(tests)}
    run = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while run.poll() is None and time.monotonic() < deadline:
        if (folder / "checkpoints" / "4").exists():
            run.send_signal(number)
            break
        time.sleep(0.005)
    _, said = run.communicate(timeout=240)
    assert run.returncode != 0, said.decode()
    return run.returncode


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed_gives_the_same_parameters(finished, tmp_path, number):
    _, unbroken = finished
    kill_in_mid_run(tmp_path / "b", number)
    resumed = train(recipe(), tmp_path / "b", resume=True, corpus=ToneCorpus(), dev=DEV)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, unbroken.params)
    jax.tree.map(np.testing.assert_array_equal, resumed.frozen, unbroken.frozen)
    assert resumed.wer == unbroken.wer
    records = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()
    steps = [r["step"] for r in map(json.loads, records) if "loss" in r]
    assert steps == list(range(1, 13)), "a step that was done again is recorded once"


@pytest.mark.slow
def test_a_run_that_is_complete_resumes_to_its_end(finished):
    folder, unbroken = finished
    again = train(recipe(), folder, resume=True, corpus=ToneCorpus(), dev=DEV)
    jax.tree.map(np.testing.assert_array_equal, again.params, unbroken.params)


@pytest.mark.slow
def test_an_epoch_compiles_the_step_once_a_bucket(tmp_path, caplog):
    """Counted in the compiler's own log, over more than one epoch."""
    made = recipe(steps=20, eval_every=100, checkpoint_every=100)
    loader = make_loader(ToneCorpus(), _tokenizer(), made.data, made.augment, seed=0, multiple=8)
    shapes = {b["samples"].shape for b, _ in zip(loader, range(20), strict=False)}
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        train(made, tmp_path / "c", corpus=ToneCorpus(), dev=DEV)
    compiled = [r for r in caplog.messages if "Compiling" in r and "train_step" in r]
    assert 1 < len(shapes) <= made.data.buckets
    assert len(compiled) == len(shapes)


def _tokenizer():
    from parley.data.tokenizer import Tokenizer

    return Tokenizer.train([u.text for u in ToneCorpus().items], kind="char")


def test_what_cannot_be_used_is_listed(tmp_path):
    corpus = ToneCorpus()
    corpus.items[3] = dataclasses.replace(corpus.items[3], text="ünknown")
    start = Start({}, {}, _tokenizer())
    loader = make_loader(corpus, start.tokenizer, recipe().data, seed=0)
    notes = run_folder.write_quarantine(tmp_path, loader.quarantine)
    assert "1 recordings left out" in notes[0]
    assert "tone-3" in notes[0]
    row = json.loads((tmp_path / "quarantine.jsonl").read_text())
    assert row["where"] == "tone-3"
    assert "ü" in row["reason"]


@pytest.mark.slow
def test_gradients_that_stay_nonfinite_stop_the_run(tmp_path):
    made = recipe(optimizer=dataclasses.replace(recipe().optimizer, peak_lr=1e30, clip_norm=1e30))
    with pytest.raises(InputError, match=r"training stopped at step \d+: 5 gradients in a row"):
        train(made, tmp_path / "d", corpus=ToneCorpus(), dev=DEV)
    assert loop.NONFINITE_LIMIT == 5


@pytest.mark.slow
def test_a_run_starts_from_other_weights(finished, tmp_path):
    _, before = finished
    start = Start(before.params, before.frozen, before.tokenizer)
    made = recipe(steps=2, optimizer=dataclasses.replace(recipe().optimizer, peak_lr=0.0))
    after = train(made, tmp_path / "e", corpus=ToneCorpus(), dev=DEV, start=start)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after.params, before.params
    )
    wide = dataclasses.replace(
        made.model, encoder=dataclasses.replace(made.model.encoder, width=24)
    )
    with pytest.raises(InputError, match="do not fit"):
        train(
            dataclasses.replace(made, model=wide),
            tmp_path / "f",
            corpus=ToneCorpus(),
            dev=DEV,
            start=start,
        )


def test_a_delay_penalty_is_not_for_the_pruned_loss(tmp_path):
    made = recipe(loss=LossConfig(delay_penalty=0.01, pruned_range=5))
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, simple=True))
    with pytest.raises(InputError, match=r"--loss\.delay-penalty"):
        train(made, tmp_path / "run", corpus=ToneCorpus(), dev=DEV)
    assert not (tmp_path / "run").exists()


def test_a_ctc_loss_without_its_head_is_named(tmp_path):
    plain = recipe()
    bare = dataclasses.replace(plain, model=dataclasses.replace(plain.model, ctc=False))
    with_ctc = dataclasses.replace(bare, loss=dataclasses.replace(bare.loss, ctc_weight=0.3))
    with pytest.raises(InputError, match=r"--model.ctc,"):
        train(with_ctc, tmp_path / "run", corpus=ToneCorpus(), dev=DEV)
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_every_preset_has_the_heads_its_losses_need():
    for name, preset in presets().items():
        assert preset.model.ctc or not preset.loss.ctc_weight, name


@pytest.mark.parametrize(
    ("simple", "pruned_range", "message"),
    [(False, 5, r"--model\.simple,"), (True, 1, "at least 2"), (True, -3, "at least 2")],
)
def test_a_recipe_that_cannot_be_pruned_says_what_to_do(tmp_path, simple, pruned_range, message):
    made = recipe(loss=LossConfig(pruned_range=pruned_range))
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, simple=simple))
    with pytest.raises(InputError, match=message):
        train(made, tmp_path / "run", corpus=ToneCorpus(), dev=ToneCorpus(8, seed=1))
    assert not (tmp_path / "run" / "recipe.json").exists()
