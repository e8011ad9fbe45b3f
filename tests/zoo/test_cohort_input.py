"""A model that is told the cohort: files and streams, the truth, a lie and nothing."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from parley import zoo
from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.data.views import SelectedCorpus
from parley.models.cohorts import CohortConfig
from parley.train.experiment import COHORTS, Condition
from parley.zoo import cli
from parley.zoo.cohort_input import evaluate_told, of_cohort, shuffled
from parley.zoo.evaluation import evaluate
from parley.zoo.experiment_row import Task, errors_of_speakers, scored_under
from parley.zoo.package import abstract_model, read_model, read_recipe, write_model

GROUPS = ("bottom", "top")


@pytest.fixture(scope="module")
def told_folder(tiny_folder: Path, tmp_path_factory) -> Path:
    """The smallest model, which two cohorts make hear something else."""
    package = read_model(tiny_folder)
    config = CohortConfig("onehot", values=GROUPS)
    recipe = dataclasses.replace(
        package.recipe, model=dataclasses.replace(package.recipe.model, cohort=config)
    )
    shape = abstract_model(recipe)[1]["cohort"]["projection"].shape
    projection = 4.0 * np.random.default_rng(0).normal(size=shape)
    params = {**package.params, "cohort": {"projection": projection.astype(np.float32)}}
    frozen = {**package.frozen, "cohort": {"default": np.zeros(2, np.float32)}}
    folder = tmp_path_factory.mktemp("told") / "told"
    from parley.zoo.cards import new_card
    from parley.zoo.presets import facts_of

    card = new_card(facts_of(recipe, status="trained"))
    write_model(folder, recipe, params, frozen, package.tokenizer, card)
    return folder


@pytest.fixture(scope="module")
def told(told_folder: Path):
    return zoo.load(told_folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, sound):
    folder = tmp_path_factory.mktemp("speech")
    rows = []
    for i in range(9):
        soundfile.write(folder / f"{i}.wav", sound(1.5, i), 16_000)
        group = ["bottom", "top", "middle"][i % 3]
        text = "turn the light on"
        rows.append(
            {
                "audio_filepath": f"{i}.wav",
                "text": text,
                "id": f"u{i}",
                "speaker": f"s{i}",
                "cohort_group": group,
            }
        )
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_corpus(str(folder / "m.jsonl"))


def texts(model, corpus):
    return [model.transcribe(corpus.samples(i)).text for i in range(len(corpus))]


def test_nobody_told_is_the_model_without_the_input(told, model, corpus):
    assert texts(told, corpus) == texts(model, corpus)
    assert texts(of_cohort(told, [0.0, 0.0]), corpus) == texts(model, corpus)


def test_a_stream_hears_the_cohort_too(told, corpus):
    bottom = of_cohort(told, "bottom")
    assert texts(bottom, corpus) != texts(told, corpus)
    for i in range(3):
        stream = bottom.stream()
        for piece in np.array_split(corpus.samples(i), 5):
            stream.feed(piece)
        assert stream.finish().text == bottom.transcribe(corpus.samples(i)).text


def test_the_truth_is_told_by_cohort(told, corpus):
    found = evaluate_told(told, corpus, "true")
    assert [u.id for u in found.utterances] == [f"u{i}" for i in range(9)]
    for k, group in enumerate((*GROUPS, "middle")):
        one = of_cohort(told, group) if group in GROUPS else told
        expected = evaluate(one, SelectedCorpus(corpus, range(k, 9, 3), "part"))
        heard = {u.id: u.hypothesis for u in found.utterances}
        assert all(heard[u.id] == u.hypothesis for u in expected.utterances)
    nothing = evaluate_told(told, corpus, "unknown")
    assert nothing.utterances == evaluate(told, corpus).utterances


def test_speakers_exchange_their_cohorts():
    rows = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    speakers = ["a", "a", "b", "b", "c", "c"]
    seen = {tuple(shuffled(rows, speakers, seed).argmax(axis=1)) for seed in range(20)}
    assert len(seen) == 6
    assert all(row[0] == row[1] and row[2] == row[3] and set(row) == {0, 1, 2} for row in seen)


def test_the_command_asks_for_it(told_folder, corpus, tmp_path, capsys):
    spec = corpus.name if Path(corpus.name).exists() else None
    assert spec, "the corpus's name is its manifest"
    words = ["evaluate", str(told_folder), "--data", spec, "--json"]
    rates = {}
    for told in ("unknown", "true"):
        assert cli.main([*words, "--cohort-input", told]) == 0
        rates[told] = json.loads(capsys.readouterr().out)
    assert rates["true"]["words"] == rates["unknown"]["words"] == 36
    hits = [rates[k]["substitutions"] + rates[k]["insertions"] for k in rates]
    assert hits[0] != hits[1]


def test_rows_of_experiments_are_told_as_their_conditions_say(told, model, corpus, tmp_path):
    groups = {f"s{i}": corpus.utterance(i).metadata["cohort_group"] for i in range(9)}
    assigned = {"cohorts": list(groups), "groups": groups, "speakers": {s: s for s in groups}}
    (tmp_path / COHORTS).write_text(json.dumps(assigned))
    # The manifest's own column comes second to the assignment's, which the row was given.
    spec = f"{corpus.name}?cohorts={COHORTS}"
    conditions = [Condition(t, spec, told=t) for t in ("true", "shuffled", "unknown")]
    task = Task(read_recipe(told.folder), tuple(conditions), "parley experiment grid", cohorts="of")
    found = {c.told: scored_under(c, told, task, tmp_path)["speakers"] for c in conditions}
    for told_them, speakers in found.items():
        expected = evaluate_told(told, corpus, told_them)
        assert speakers == errors_of_speakers(expected)
    assert found["true"] != found["unknown"]
    plain = [scored_under(c, model, task, tmp_path)["speakers"] for c in conditions]
    assert plain[0] == plain[1] == plain[2]


def test_models_without_the_input_say_so(told, model, corpus):
    with pytest.raises(InputError, match="is not told cohorts"):
        evaluate_told(model, corpus, "true")
    with pytest.raises(InputError, match="knows no cohort 'left': bottom, top"):
        of_cohort(told, "left")
    with pytest.raises(InputError, match="takes 2 probabilities"):
        of_cohort(told, [1.0])


def test_the_packages_arrays_are_left_alone(told):
    before = jax.device_get(told.recognizer._variables)
    of_cohort(told, "top")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(told.recognizer._variables), before)
