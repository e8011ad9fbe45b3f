"""The models that ship: small enough, read without surprise, as good as their cards say."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from parley import zoo
from parley.data.audio import SAMPLE_RATE
from parley.data.corpus import Corpus, open_corpus
from parley.data.views import SelectedCorpus
from parley.zoo.attribution import attribute
from parley.zoo.enrolment import two_voices
from parley.zoo.evaluation import evaluate
from parley.zoo.registry import MODELS
from parley.zoo.speakers import load_speaker_model
from parley.zoo.transcript import HeardTurn
from parley.zoo.verification import verify_corpus
from parley.zoo.voice_embedding import SpeakerVoice

SHIPPED = sorted(path.name for path in MODELS.glob("*") if path.is_dir())


def test_something_ships():
    assert "rnnt-tiny" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_small_and_its_card_is_whole(name: str):
    folder = MODELS / name
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 4 << 20
    card = ModelCard.load(folder / "README.md")
    metadata = card.data.to_dict()
    assert metadata["license"]
    assert metadata["model-index"][0]["results"], "a trained model has results"
    results = (*zoo.card(name).results, *zoo.card(name).verification)
    assert results
    assert all(r.command.startswith("parley evaluate") and r.date and r.device for r in results)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory) -> Corpus:
    """Two sentences of each of the 35 unseen speakers."""
    root = tmp_path_factory.mktemp("data")
    corpus = open_corpus("assistant", "test", root=root, progress=False)
    return SelectedCorpus(corpus, range(0, len(corpus), 15), corpus.name)


@pytest.fixture(scope="module")
def model():
    return zoo.load("rnnt-tiny")


def test_rnnt_tiny_recognises_people_it_never_heard(model, sentences: Corpus):
    """The card's rate on the whole test set, with room for a sample of 70 sentences."""
    stated = next(r for r in zoo.card("rnnt-tiny").results if r.data == "assistant")
    assert 100 * evaluate(model, sentences).score.wer < stated.wer + 6


def test_a_stream_gives_the_text_of_the_file(model, sentences: Corpus):
    audio = [sentences.samples(i) for i in range(0, 60, 6)]
    whole = [result.text for result in model.transcribe(audio)]
    assert any(whole)
    for size in (1_280, 5_000, 64_000):
        texts = []
        for samples in audio:
            stream = model.stream()
            for start in range(0, len(samples), size):
                stream.feed(samples[start : start + size])
            texts.append(stream.finish().text)
        assert texts == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speaker-tiny", "speaker-tiny-pw"])
def test_speaker_models_tell_people_apart_that_they_never_heard(name: str, sentences: Corpus):
    """The card's rate, with room for so few trials."""
    stated = zoo.card(name).verification[0]
    found = verify_corpus(load_speaker_model(name), sentences, draws=0)
    assert found.overall.targets > 50
    assert 100 * found.overall.eer < stated.eer + 6
    assert found.floor > 0.25, "recording conditions alone give nobody away"


@pytest.mark.slow
def test_two_voices_in_a_recording_are_noticed_and_one_is_not(sentences: Corpus):
    assert isinstance(sentences, SelectedCorpus)
    corpus, voices = sentences.base, load_speaker_model("speaker-tiny")
    of: dict[str, list[np.ndarray]] = {}
    for i in range(len(corpus)):
        said = of.setdefault(corpus.utterance(i).speaker, [])
        if len(said) < 6:
            said.append(corpus.samples(i))
    people = sorted(of)[::4]
    alone = [two_voices(voices, np.concatenate(of[who])) for who in people]
    together = [
        two_voices(voices, np.concatenate(of[a][:3] + of[b][:3])) for a, b in pairwise(people)
    ]
    assert sum(x is not None and x < voices.threshold for x in alone) <= 1
    assert sum(x is not None and x < voices.threshold for x in together) >= len(together) - 1


@pytest.mark.slow
def test_turns_are_given_to_the_voices_that_speak_them(sentences: Corpus):
    assert isinstance(sentences, SelectedCorpus)
    corpus = sentences.base
    of: dict[str, list[int]] = {}
    for i in range(len(corpus)):
        of.setdefault(corpus.utterance(i).speaker, []).append(i)
    voice, right = SpeakerVoice(), 0
    assert np.isfinite(voice.embed(np.ones(1, np.int16))).all()
    people = sorted(of)[::4]
    for ann, bob in pairwise(people):
        said = [corpus.samples(i) for i in (of[ann][0], of[bob][0], of[ann][1], of[bob][1])]
        ends = np.cumsum([len(x) for x in said]) / SAMPLE_RATE
        turns = [
            HeardTurn("", float(end) - len(x) / SAMPLE_RATE, float(end), 0, ())
            for x, end in zip(said, ends, strict=True)
        ]
        names = attribute(np.concatenate(said), turns, voice)
        right += names == ["speaker 1", "speaker 2"] * 2
    assert right >= len(people) - 2


def test_a_copied_folder_is_a_model(model, sentences: Corpus, tmp_path: Path):
    shutil.copytree(MODELS / "rnnt-tiny", tmp_path / "mine")
    samples = sentences.samples(0)
    assert zoo.load(tmp_path / "mine").transcribe(samples).text == model.transcribe(samples).text
