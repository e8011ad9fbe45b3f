"""The whole path from real recordings (8 kHz digits) to batches."""

import os
from pathlib import Path

import numpy as np
import pytest

from parley.data.augment import AugmentConfig
from parley.data.corpus import open_corpus, quarantined
from parley.data.loader import DataConfig, make_loader
from parley.data.tokenizer import Tokenizer
from parley.data.turns import turns_of

SPEECH = Path(os.environ.get("PARLEY_SPEECH", Path(__file__).parents[3] / "shared" / "speech"))
pytestmark = pytest.mark.skipif(
    not (SPEECH / "digits" / "manifest.jsonl").is_file(),
    reason="no real recordings: set PARLEY_SPEECH to their folder",
)


def test_digit_strings_for_training():
    train = open_corpus(f"{SPEECH}/digits/manifest.jsonl?take=10-49&speaker=!theo&join=1-7")
    test = open_corpus(f"{SPEECH}/digits/manifest.jsonl?take=5-9&speaker=theo")
    assert (len(train), len(test)) == (1200, 50)
    assert not quarantined(train)
    assert {train.utterance(i).speaker for i in range(300)} == {"jackson", "nicolas", "yweweler"}
    tokenizer = Tokenizer.train((train.utterance(i).text for i in range(300)), kind="char")
    config = DataConfig(batch_seconds=60.0)
    loader = make_loader(train, tokenizer, config, AugmentConfig(), seed=0, multiple=2)
    assert loader.plan.padding() <= 0.15
    for _ in range(3):
        batch = next(loader)
        lengths = batch["sample_lengths"]
        assert (lengths >= 0.1 * 16_000).all()
        assert np.abs(batch["samples"]).max() > 500  # there is speech
        for row, index in enumerate(batch["index"].tolist()):
            text = train.utterance(index).text
            labels = batch["labels"][row, : batch["label_lengths"][row]].tolist()
            assert tokenizer.decode(labels) == text
    loader.close()
    assert not loader.quarantine


def test_conversations_of_digit_strings(tmp_path):
    spec = f"{SPEECH}/digits/manifest.jsonl?take=5-9&join=3-6&turns=2-4&overlap=20&draws=20"
    corpus = open_corpus(spec, root=tmp_path)
    for i in range(20):
        utterance, samples = corpus.utterance(i), corpus.samples(i)
        assert len(samples) == round(utterance.duration * 16_000)
        assert abs(utterance.metadata["overlap"] - 0.2) <= 0.02
        for turn in turns_of(utterance):
            assert 3 <= len(turn.text.split()) <= 6
            heard = samples[round(turn.start * 16_000) : round(turn.end * 16_000)].astype(float)
            assert np.sqrt(np.mean(heard**2)) > 300  # -41 dB of full scale
