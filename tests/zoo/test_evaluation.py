"""Scores of a model on a corpus: sums are right, groups add up, bad recordings are named."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley.data.corpus import Corpus, open_corpus
from parley.data.errors import InputError
from parley.metrics.wer import WordErrors
from parley.zoo.evaluation import evaluate
from parley.zoo.transcriber import Transcriber

ACCENTS = ["rp", "us", "us"]


@pytest.fixture
def corpus(model: Transcriber, sound, tmp_path: Path) -> Corpus:
    """Nine recordings of three speakers whose texts are what the model hears, one word changed in
    every third; and one row more, whose file is no audio."""
    rows = []
    for i in range(9):
        audio = sound(0.8 + 0.1 * i, 50 + i)
        soundfile.write(tmp_path / f"{i}.wav", audio, 16_000)
        heard = model.transcribe(tmp_path / f"{i}.wav").text.split()
        assert heard, "the sound must say something for this test to mean anything"
        text = [*heard, "surplus"] if i % 3 == 0 else heard
        rows.append(
            {
                "audio_filepath": f"{i}.wav",
                "text": " ".join(text).upper() + "!",
                "duration": len(audio) / 16_000,
                "speaker": f"s{i % 3}",
                "accent": ACCENTS[i % 3],
            }
        )
    (tmp_path / "bad.wav").write_bytes(b"RIFF" + bytes(100))
    rows.append({"audio_filepath": "bad.wav", "text": "a", "duration": 1.0, "speaker": "s9"})
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return open_corpus(str(path))


def test_scores(model: Transcriber, corpus: Corpus):
    heard: list[float] = []
    result = evaluate(model, corpus, on_audio=heard.append)
    words = sum(u.errors.words for u in result.utterances)
    assert len(result.utterances) == 9
    # Three references hold a word that was never said, all of speaker s0.
    assert result.score.errors == WordErrors(deletions=3, words=words)
    assert result.score.wer == pytest.approx(3 / words)
    assert (result.score.utterances, result.score.speakers) == (9, 3)
    assert result.score.low <= result.score.wer <= result.score.high
    assert sum(heard) == pytest.approx(result.audio_seconds) == pytest.approx(10.8)

    [rejected] = result.quarantine
    assert "bad.wav" in rejected.reason

    groups = result.by("accent")
    assert list(groups) == ["rp", "us"]
    assert groups["rp"].errors.deletions == 3
    assert groups["us"].errors.total == 0
    total = groups["rp"].errors + groups["us"].errors
    assert total == result.score.errors
    assert np.isnan(groups["rp"].low)  # one speaker: no interval over speakers
    assert list(result.by("speaker")) == ["s0", "s1", "s2"]
    with pytest.raises(InputError, match=r"no column 'colour': it has accent"):
        result.by("colour")

    assert [u.id for u in result.examples(3)] == [result.utterances[i].id for i in (0, 4, 8)]
    record = result.utterances[0].as_dict()
    assert record["errors"] == record["deletions"] == 1
    assert record["reference"].endswith(" surplus")
    assert record["metadata"]["accent"] == "rp"
    assert " ".join(w["text"] for w in record["heard"]) == record["hypothesis"]


def test_confidences_are_judged_word_by_word(model: Transcriber, corpus: Corpus):
    """Every word that the model hears is in its reference, so all are right."""
    result = evaluate(model, corpus)
    sure, right = result.judged()
    assert len(right) == sum(len(u.hypothesis.split()) for u in result.utterances)
    assert all(right)
    spoken = [w for i in range(9) for w in model.transcribe(corpus.samples(i)).words]
    assert sure == pytest.approx([w.confidence for w in spoken], abs=1e-4)
    found = result.confidence
    assert (found.words, found.right) == (len(right), len(right))
    assert found.error == pytest.approx(1 - np.mean(sure))
    assert found.brier == pytest.approx(np.mean((1 - np.array(sure)) ** 2))
    # Where all are right, there is nothing to tell apart.
    assert found.as_dict()["auc"] is None
    assert found.as_dict()["nce"] is None
    assert sum(b.words for b in result.reliability()) == len(right)
    assert not result.calibrated


def test_recordings_without_text_cannot_be_scored(model: Transcriber, sound, tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", sound(0.5, 0), 16_000)
    with pytest.raises(InputError, match="no words to compare with"):
        evaluate(model, open_corpus(str(tmp_path)))
