"""Texts that a teacher heard, in the place of a corpus's own."""

import json
from pathlib import Path

import numpy as np
import pytest

from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.data.transcripts import Heard, TranscribedCorpus, read_transcripts
from tones import ToneCorpus


def write(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_utterances_have_what_was_heard_and_the_others_are_left_out():
    base = ToneCorpus(6)
    corpus = TranscribedCorpus(base, {"tone-4": Heard("red", 0.95), "tone-1": Heard("blue", 1)}, "")
    assert [corpus.utterance(i).id for i in range(len(corpus))] == ["tone-1", "tone-4"]
    assert corpus.utterance(1).text == "red"
    assert corpus.utterance(1).metadata["confidence"] == 0.95
    assert corpus.utterance(1).speaker == base.utterance(4).speaker
    np.testing.assert_array_equal(corpus.samples(1), base.samples(4))


def test_a_spec_names_them_and_selects_by_confidence(tmp_path, recordings_of_two):
    heard = write(
        tmp_path / "heard.jsonl",
        {"id": "a", "text": "one", "confidence": 0.97, "words": []},
        {"id": "b", "text": "two", "confidence": 0.8},
    )
    corpus = open_corpus(f"{recordings_of_two}?transcripts={heard}")
    assert [corpus.utterance(i).text for i in range(2)] == ["one", "two"]
    sure = open_corpus(f"{recordings_of_two}?transcripts={heard}&confidence=0.9-1")
    assert [sure.utterance(i).id for i in range(len(sure))] == ["a"]


@pytest.fixture
def recordings_of_two(tmp_path: Path) -> Path:
    """A manifest without texts."""
    import soundfile

    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8000, np.int16), 16_000)
    rows = [{"audio_filepath": f"{name}.wav", "id": name} for name in ("a", "b")]
    return write(tmp_path / "manifest.jsonl", *rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a"}\n', "line 1, is no transcript"),
        ('{"id": "a", "text": "x"}\nnonsense\n', "line 2, is no transcript"),
        ('{"id": "a", "text": "x", "confidence": "high"}\n', "line 1"),
        ("[1]\n", "line 1"),
        ("\n", "holds no transcripts"),
    ],
)
def test_a_file_of_other_things_is_named(tmp_path, content, message):
    path = tmp_path / "heard.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_transcripts(path)


def test_what_does_not_belong_together_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_transcripts(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="has no utterance of tones"):
        TranscribedCorpus(ToneCorpus(3), {"x": Heard("red", 1.0)}, "heard.jsonl")
    endless = ToneCorpus(3)
    endless.endless = True  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="drawn anew"):
        TranscribedCorpus(endless, {"tone-0": Heard("red", 1.0)}, "heard.jsonl")
