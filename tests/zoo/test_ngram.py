"""`parley ngram`: a language model over a model's tokens."""

import gzip
import json
from pathlib import Path

import pytest

from parley.data.arpa import read_arpa
from parley.data.tokenizer import Tokenizer
from parley.zoo.cli import main
from parley.zoo.registry import folder_of

SENTENCES = "turn on the lamp\nturn off the lamp\nplay some jazz\n"


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCES, encoding="utf-8")
    return path


def test_what_is_written_is_read_again_and_told(sentences: Path, capsys: pytest.CaptureFixture):
    out = sentences.with_name("lm.arpa")
    command = ["ngram", "rnnt-tiny", str(sentences), "--out", str(out), "--order", "2", "--json"]
    assert main([*command, "--dev", str(sentences)]) == 0
    told = json.loads(capsys.readouterr().out)
    pieces = Tokenizer.load(folder_of("rnnt-tiny") / "tokenizer.model").pieces
    assert read_arpa(out, pieces).counts == told["ngrams"]
    assert len(told["ngrams"]) == 2
    assert (told["sentences"], told["left_out"], told["dev_sentences"]) == (3, 0, 3)
    # Its own text is foreseen far better than by chance among its tokens.
    assert 1.0 < told["perplexity"] < len(pieces) / 10


def test_texts_that_cannot_be_spelt_are_counted(sentences: Path, capsys: pytest.CaptureFixture):
    with open(sentences, "a", encoding="utf-8") as file:
        file.write("日本語\n")
    out = sentences.with_name("lm.arpa.gz")
    assert main(["ngram", "rnnt-tiny", str(sentences), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "1 texts hold what the tokenizer cannot spell" in said.err
    assert "3 sentences" in said.out
    with gzip.open(out, "rt", encoding="utf-8") as file:
        assert "\\4-grams:" in file.read()


@pytest.mark.parametrize(
    ("text", "options", "because"),
    [
        (SENTENCES, ["--order", "9"], "an order of 9 is no use"),
        ("", [], "there is no text to make a language model of"),
        (SENTENCES, ["--dev", "nothing.txt"], "nothing.txt"),
    ],
)
def test_what_cannot_be_counted_is_one_sentence(
    sentences: Path, capsys: pytest.CaptureFixture, text: str, options: list[str], because: str
):
    sentences.write_text(text, encoding="utf-8")
    out = sentences.with_name("lm.arpa")
    assert main(["ngram", "rnnt-tiny", str(sentences), "--out", str(out), *options]) == 2
    assert because in capsys.readouterr().err
    assert not out.exists()
