"""A speaker model learns voices, with and without an adversary, and ends the same when resumed."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from parley.data.errors import InputError
from parley.train.recipe import recipe_to_dict
from parley.train.speakers.recipe import (
    AdversaryConfig,
    SpeakerLossConfig,
    is_speaker_recipe,
    speaker_recipe_from_dict,
)
from parley.train.speakers.step import build_speaker_model
from parley.train.speakers.training import (
    LEAST_HELD_OUT,
    _task,
    train_speakers,
)
from parley.train.start import StartWeights
from parley.train.step import split_model
from parley.train.validation import hold_out
from tones import VoiceCorpus, speaker_recipe

DEV = VoiceCorpus(4, seed=1)
PW = AdversaryConfig(kind="pairs", regions=3, warmup=0.25, refresh_steps=4, peak_lr=0.02)


def adversarial(**changes):
    return speaker_recipe(adversary=PW, loss=SpeakerLossConfig(kind="both"), **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    # The runs of this file are one program, compiled once.
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    folder = tmp_path_factory.mktemp("run") / "a"
    return folder, train_speakers(adversarial(), folder, corpus=VoiceCorpus(), dev=DEV)


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_learns_weighs_and_says_so(finished):
    folder, result = finished
    steps = [r for r in records(folder) if "loss" in r]
    assert [r["step"] for r in steps] == list(range(1, 13))
    assert steps[-1]["loss"] < steps[0]["loss"]
    for r in steps:
        assert r["adversary/mean_weight"] == pytest.approx(2.0, rel=1e-5)
        assert 0 < r["adversary/effective_share"] <= 1.0001
    # Three steps of warm-up, in which the loss is the plain one.
    assert all(r["weighted_loss"] == pytest.approx(r["loss"], rel=1e-5) for r in steps[:3])
    assert all(r["adversary/max_weight"] > 2.0001 for r in steps[5:])
    assert result.eer == next(r["dev/eer"] for r in reversed(records(folder)) if "dev/eer" in r)
    assert 0 <= result.eer <= 0.5
    assert result.speakers == 8


@pytest.mark.slow
def test_every_weighed_recording_is_listed_heaviest_first(finished):
    _, result = finished
    # Nine steps after the warm-up, eight recordings each.
    assert sum(w.steps for w in result.weights) == 72
    weights = [w.weight for w in result.weights]
    assert weights == sorted(weights, reverse=True)
    assert len({w.id for w in result.weights}) == len(weights)
    assert {w.metadata["gender"] for w in result.weights} == {"male", "female"}
    mean = np.average(weights, weights=[w.steps for w in result.weights])
    assert mean == pytest.approx(2.0, abs=1e-3)


@pytest.mark.slow
def test_stopped_and_resumed_gives_the_same_model(finished, tmp_path, monkeypatch):
    """Regions are found anew at steps 3, 7 and 11: the second after the stop at step 4."""
    _, unbroken = finished
    from parley.train import loop

    real = loop.Checkpoints.save

    def save_and_stop(self, step, state):
        real(self, step, state)
        if step == 4:
            self.wait()
            raise InputError("stopped")

    monkeypatch.setattr(loop.Checkpoints, "save", save_and_stop)
    with pytest.raises(InputError, match="stopped"):
        train_speakers(adversarial(), tmp_path / "b", corpus=VoiceCorpus(), dev=DEV)
    monkeypatch.setattr(loop.Checkpoints, "save", real)
    resumed = train_speakers(
        adversarial(), tmp_path / "b", resume=True, corpus=VoiceCorpus(), dev=DEV
    )
    jax.tree.map(np.testing.assert_array_equal, resumed.params, unbroken.params)
    jax.tree.map(np.testing.assert_array_equal, resumed.frozen, unbroken.frozen)
    assert resumed.weights == unbroken.weights
    assert resumed.eer == unbroken.eer


def test_a_run_begins_as_another_model():
    made = speaker_recipe()
    _, params, frozen = split_model(build_speaker_model(dataclasses.replace(made, seed=7)))
    start = StartWeights(params, frozen)
    state = _task(made, VoiceCorpus(), DEV, start)[0].state
    jax.tree.map(np.testing.assert_array_equal, state.params["model"], params)
    jax.tree.map(np.testing.assert_array_equal, state.frozen, frozen)
    encoder = dataclasses.replace(made.model.encoder, output=6)
    other = dataclasses.replace(made, model=dataclasses.replace(made.model, encoder=encoder))
    with pytest.raises(InputError, match="do not fit"):
        _task(other, VoiceCorpus(), DEV, start)


def test_a_recipe_survives_its_json_and_is_known_for_what_it_is():
    made = adversarial()
    values = json.loads(json.dumps(recipe_to_dict(made)))
    assert is_speaker_recipe(values)
    assert speaker_recipe_from_dict(values) == made
    with pytest.raises(InputError, match="has no field 'tokens'"):
        speaker_recipe_from_dict(values | {"tokens": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversary": PW, "loss": SpeakerLossConfig(kind="aam")}, "compares no pairs"),
        (
            {"optimizer": dataclasses.replace(speaker_recipe().optimizer, accumulate=2)},
            r"--optimizer\.accumulate",
        ),
        (
            {"data": dataclasses.replace(speaker_recipe().data, speakers=7)},
            "cannot be shared out among 8 devices",
        ),
        (
            {"data": dataclasses.replace(speaker_recipe().data, speakers=40)},
            "a batch takes 40",
        ),
    ],
)
def test_a_recipe_that_cannot_be_run_says_what_to_do(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train_speakers(speaker_recipe(**changes), tmp_path / "run", corpus=VoiceCorpus(), dev=DEV)


def test_two_speakers_at_least_are_held_out():
    corpus, dev, said = hold_out(VoiceCorpus(12, each=2), least=LEAST_HELD_OUT)
    assert len({dev.utterance(i).speaker for i in range(len(dev))}) == 2
    assert len({corpus.utterance(i).speaker for i in range(len(corpus))}) == 10
    assert "2 of 12 speakers" in said


def test_a_development_set_without_pairs_is_named(tmp_path):
    alone = VoiceCorpus(4, each=1)
    with pytest.raises(InputError, match="needs two speakers, and two recordings of one"):
        train_speakers(speaker_recipe(), tmp_path / "run", corpus=VoiceCorpus(), dev=alone)
