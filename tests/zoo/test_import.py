"""`parley import`: what it writes and what it refuses."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from imported import (
    nemo_config,
    nemo_weights,
    sentencepiece_model,
    write_source,
    write_tar,
)
from parley import zoo
from parley.data.errors import InputError
from parley.data.tokenizer import Tokenizer
from parley.models.encoders.fastconformer import FastConformerConfig
from parley.train.weights import flatten
from parley.zoo import import_nemo
from parley.zoo.cards import read_card
from parley.zoo.cli import main
from parley.zoo.importing import import_model
from parley.zoo.package import read_model

Output = pytest.CaptureFixture[str]


def test_the_command_writes_a_folder(golden, tmp_path: Path, capsys: Output):
    source = write_source(golden, "tdt", tmp_path / "small")
    arguments = ["import", str(source), "--out", str(tmp_path / "ours"), "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["streaming"], told["step_ms"]) == ("small", False, 80.0)
    package = read_model(tmp_path / "ours")
    assert package.recipe.model.joint.durations == (0, 1, 2, 3, 4)
    assert main(arguments) == 0  # in place of an earlier one
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert main(["import", str(source), "--out", str(tmp_path / "mine")]) == 2
    assert "no model folder" in capsys.readouterr().err


def test_the_card_says_where_it_is_from_and_what_was_published(imported_folders):
    card = read_card(imported_folders["rnnt"] / "README.md")
    assert (card.facts.status, card.facts.license, card.facts.language) == (
        "imported",
        "cc-by-4.0",
        "en",
    )
    assert card.facts.source == "ParakeetForRNNT, rnnt-source"
    assert not card.results
    assert [(p.data, p.wer) for p in card.published] == [("LibriSpeech (clean) other test", 1.69)]
    assert "not measured here" in card.text
    streaming = read_card(imported_folders["streaming"] / "README.md").facts
    assert (streaming.streaming, streaming.step_ms) == (True, 240.0)


def test_the_blank_comes_first_and_no_special_token_is_text(imported_folders):
    tokenizer = Tokenizer.load(imported_folders["rnnt"] / "tokenizer.model")
    assert tokenizer.vocab_size == 33
    assert tokenizer.pieces[28:] == ["er", "▁th", "on", "<s>", "<unk>"]
    assert tokenizer.decode([2, 28, 31, 32, 0, 1, 3]) == "eer a"
    assert tokenizer.markers == {}
    ids = tokenizer.encode("the letters on it")
    assert tokenizer.decode(ids) == "the letters on it"
    assert 28 in ids


def test_lookahead_is_one_of_those_that_were_trained(golden, tmp_path: Path):
    source = write_source(golden, "streaming", tmp_path / "source")
    recipe = import_model(str(source), tmp_path / "quick", lookahead=0)
    encoder = recipe.model.encoder
    assert isinstance(encoder, FastConformerConfig)
    assert (encoder.chunk, encoder.left) == (1, 6)
    assert read_card(tmp_path / "quick" / "README.md").facts.step_ms == 80.0
    with pytest.raises(InputError, match="--lookahead 5 is none"):
        import_model(str(source), tmp_path / "no", lookahead=5)
    whole = write_source(golden, "tdt", tmp_path / "whole")
    with pytest.raises(InputError, match="leave --lookahead out"):
        import_model(str(whole), tmp_path / "no", lookahead=1)


def nemo(path: Path, golden, kind: str, **members: bytes) -> Path:
    """An archive whose checkpoint is read by another way in these tests."""
    return write_tar(
        path,
        {
            "./model_config.yaml": yaml.safe_dump(nemo_config(golden, kind)).encode(),
            "./0123_tokenizer.model": sentencepiece_model(),
            "./model_weights.ckpt": b"",
            **members,
        },
    )


@pytest.mark.parametrize("kind", ["rnnt", "tdt", "streaming"])
def test_a_nemo_archive_is_the_same_model(
    golden, kind: str, imported_folders, tmp_path, monkeypatch
):
    monkeypatch.setattr(import_nemo, "_checkpoint", lambda *_: nemo_weights(golden, kind))
    recipe = import_model(str(nemo(tmp_path / f"{kind}.nemo", golden, kind)), tmp_path / "ours")
    theirs = read_model(imported_folders[kind])
    assert recipe.model == theirs.recipe.model
    package = read_model(tmp_path / "ours")
    for name, value in flatten(theirs.params).items():
        np.testing.assert_array_equal(flatten(package.params)[name], value)
    assert package.tokenizer.decode(package.tokenizer.encode("turn that on")) == "turn that on"


def test_a_real_checkpoint_and_one_with_code(golden, tmp_path: Path):
    torch = pytest.importorskip("torch", reason="the checkpoint is PyTorch's")
    weights = {k: torch.from_numpy(v) for k, v in nemo_weights(golden, "tdt").items()}
    out = io.BytesIO()
    torch.save(weights, out)
    good = nemo(tmp_path / "good.nemo", golden, "tdt", **{"./model_weights.ckpt": out.getvalue()})
    import_model(str(good), tmp_path / "ours")
    assert zoo.load(tmp_path / "ours").transcribe(golden["samples"]).text is not None

    trap = tmp_path / "trap"
    out = io.BytesIO()
    torch.save({"encoder": Evil(str(trap))}, out)
    for content in (out.getvalue(), pickle.dumps(Evil(str(trap)))):
        bad = nemo(tmp_path / "bad.nemo", golden, "tdt", **{"./model_weights.ckpt": content})
        with pytest.raises(InputError, match=r"model_weights\.ckpt (holds more|is damaged)"):
            import_model(str(bad), tmp_path / "no")
    assert not trap.exists()
    assert not (tmp_path / "no").exists()


class Evil:
    """Its pickle makes a file when it is read."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_archives_that_are_more_than_a_model_are_refused(golden, tmp_path: Path):
    def refused(path: Path, match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            import_model(str(path), tmp_path / "no")
        assert str(caught.value).count("\n") == 0
        assert not (tmp_path / "no").exists()

    refused(nemo(tmp_path / "up.nemo", golden, "tdt", **{"../evil": b"x"}), "a path out of it")
    refused(nemo(tmp_path / "abs.nemo", golden, "tdt", **{"/etc/evil": b"x"}), "a path out of it")
    link = tmp_path / "link.nemo"
    with tarfile.open(link, "w") as archive:
        member = tarfile.TarInfo("model_config.yaml")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    refused(link, "a link or device")
    code = b"!!python/object/apply:os.system ['true']"
    refused(
        nemo(tmp_path / "yaml.nemo", golden, "tdt", **{"./model_config.yaml": code}),
        "more than plain values",
    )
    (tmp_path / "text.nemo").write_text("this is no archive")
    refused(tmp_path / "text.nemo", r"no \.nemo archive")
    refused(tmp_path / "absent.nemo", "does not exist|could not be had|no name on the hub")
    refused(write_tar(tmp_path / "bare.nemo", {"a": b""}), "has no model_config")
    config = nemo_config(golden, "tdt")
    config["encoder"]["subsampling"] = "striding"
    other = {"./model_config.yaml": yaml.safe_dump(config).encode()}
    refused(nemo(tmp_path / "other.nemo", golden, "tdt", **other), "encoder.subsampling")


def test_damaged_imported_folders_are_refused(golden, tmp_path: Path):
    source = write_source(golden, "rnnt", tmp_path / "source")
    config, weights = source / "config.json", source / "model.safetensors"
    good = config.read_text(), weights.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            import_model(str(source), tmp_path / "no")
        assert str(caught.value).count("\n") == 0
        config.write_text(good[0])
        weights.write_bytes(good[1])

    config.write_text("{")
    refused("broken JSON")
    config.write_text(json.dumps({"model_type": "whisper"}))
    refused("of a model 'whisper'")
    values = json.loads(good[0])
    config.write_text(json.dumps({**values, "vocab_size": 10**9}))
    refused("vocab_size")
    config.write_text(json.dumps({**values, "num_decoder_layers": 3}))
    refused("has no weight decoder.lstm.weight_ih_l2")
    config.write_text(json.dumps({**values, "num_decoder_layers": 1}))
    refused("does not know")
    # A header that says that it is longer than the file, or points behind its end.
    weights.write_bytes((1 << 40).to_bytes(8, "little") + good[1][8:])
    refused("is damaged")
    weights.write_bytes(good[1][:-100])
    refused("is damaged")
    weights.write_bytes(b"\x80\x04" + good[1])
    refused("is damaged")
    tokenizer = source / "tokenizer.json"
    kept = tokenizer.read_text()
    tokenizer.write_text(kept.replace('"BPE"', '"WordPiece"'))
    refused("no tokenizer of byte pairs")
    tokenizer.write_text(kept)
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    refused("points out of its folder")
