"""What the README and the guides tell people to type: it parses, and what is quick is run here."""

import ast
import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
import yaml

import documented
from documented import LANGUAGES, PAGES, ROOT, blocks, commands, looks_up, of_parley, outside
from parley import zoo
from parley.data import corpus as corpora
from parley.zoo import arguments, cli

# Words that stand for something in a guide.
WHOLE = ("adding-a-model.md", "first-steps.md", "your-recordings.md")
_MEANS: dict[str, str] = dict.fromkeys(("PRESET", "MODEL", "NAME", "parakeet"), "rnnt-tiny")


class Parsed(Exception):
    """The arguments were understood."""


def lines() -> list[tuple[str, list[str]]]:
    return [
        (f"{block}: {shlex.join(words)}"[:150], words)
        for page in PAGES
        for block in blocks(page, "sh")
        for words in of_parley(block.code)
    ]


def test_the_reader_of_shell_lines():
    code = "A=1 parley list | head  # all\nparley show x > y && parley \\\n  stream -\nmake a"
    assert of_parley(code) == [["list"], ["show", "x"], ["stream", "-"]]
    assert commands(code)[-1] == ["make", "a"]
    assert of_parley("for o in 1 2; do parley mix a; done") == [["mix", "a"]]
    assert of_parley('parley plan --on v5e:8x8 --to $A/b,c:4 ""') == [
        ["plan", "--on", "v5e:8x8", "--to", "$A/b,c:4", ""]
    ]
    assert looks_up(["list", "--json"])
    assert not looks_up(["card", "speed", "x"])
    assert not looks_up(["experiment", "encoders"])
    assert len(lines()) > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_fenced_and_says_its_language(page: Path):
    assert not re.search(
        r"\n\n {4}\S", re.sub(r"^\s*[*-] .*(?:\n .*)*", "", outside(page), flags=re.M)
    )
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: of which language?"
        if block.language == "json":
            for line in block.code.splitlines():
                json.loads(line)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.code))
        elif block.language == "python":
            ast.parse(block.code)
        elif block.language == "sh":
            for words in commands(block.code):
                _is_there(block, words)


def _is_there(block: documented.Block, words: list[str]) -> None:
    """A target that is made, and a module or a test that is run, are there."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), block
    elif words[:3] == ["python", "-m", "pytest"]:
        assert (ROOT / words[-1]).exists(), block
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), block


@pytest.mark.parametrize("words", [pytest.param(w, id=name) for name, w in lines()])
def test_a_line_that_people_are_told_to_type(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    parse = tyro.cli

    def only_parse(*given, **named):
        parse(*given, **named)
        raise Parsed

    monkeypatch.setattr(arguments.tyro, "cli", only_parse)
    words = [_MEANS.get(word, word) for word in words if word != "..."]
    try:
        status = cli.main(words)
    except Parsed:
        return
    assert status == 0, capsys.readouterr().err


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recordings: Path) -> Path:
    """A folder in which guides are tried: recordings, a list of them, a model of one's own."""
    for name in ("a", "b", "meeting", "recording"):
        shutil.copyfile(recordings / "good1.wav", tmp_path / f"{name}.wav")
    rows = [
        {"audio_filepath": f"good{i}.wav", "text": "turn the light on", "speaker": f"s{i}"}
        for i in range(3)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(ROOT / "zoo" / "models" / "rnnt-tiny", tmp_path / "runs" / "mine" / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_look_ups_of_a_page_are_run(page: Path, desk: Path, capsys: pytest.CaptureFixture[str]):
    if page.name in WHOLE:
        return  # another test runs all of it in its order
    for block in blocks(page, "sh"):
        for words in of_parley(block.code):
            made_here = all((desk / w).exists() for w in words if w.endswith((".jsonl", ".wav")))
            if looks_up(words) and not block.why and made_here:
                assert cli.main(words) == 0, (words, capsys.readouterr().err)


@pytest.fixture
def given(
    desk: Path, tiny_folder: Path, speaker_folder: Path, sts_folder: Path,
    sound, monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:  # fmt: skip
    """What a page takes for granted: small models behind their names, and values of its names."""
    from parley.zoo.speakers import load_speaker_model

    folders = {"speaker-tiny": speaker_folder, "sts-tiny": sts_folder}
    load, open_corpus = zoo.load, corpora.open_corpus
    monkeypatch.setattr(
        zoo, "load", lambda name, **named: load(folders.get(name, tiny_folder), **named)
    )
    monkeypatch.setattr(
        corpora, "open_corpus",
        lambda spec, *_, **named: open_corpus(spec.replace("assistant", "mine.jsonl"), **named),
    )  # fmt: skip
    monkeypatch.setattr(
        "parley.zoo.speakers.load_speaker_model",
        lambda name: load_speaker_model(folders.get(name, name)),
    )
    _write_scores(desk / "results.jsonl")
    discover = "fairness discover --scores results.jsonl --by accent --out by-accent"
    assert cli.main(discover.split()) == 0
    (desk / "reference.stm").write_text("talk 1 ann 0.00 1.50 turn the light on\n")
    samples = sound(2.4, 1)
    return {
        **_lattice(),
        "chunks": [samples[:16_000], samples[16_000:]],
        "samples": samples,
        "ann": sound(3.0, 2),
        "turns": _turns(),
    }


def _write_scores(path: Path) -> None:
    rng = np.random.default_rng(0)
    with open(path, "w") as file:
        for s in range(60):
            counts = {"substitutions": int(rng.integers(20)), "deletions": 0, "insertions": 0}
            line = {"speaker": f"s{s}", "duration": 3.0, "metadata": {"accent": "abc"[s % 3]}}
            for i in range(2):
                file.write(json.dumps({"id": f"{s}-{i}", "words": 100} | line | counts) + "\n")


def _turns() -> list[Any]:
    from parley.data.turns import Turn

    return [Turn(0.0, 1.1, "turn the light on", "s0"), Turn(1.3, 2.4, "again please", "s1")]


def _lattice() -> dict[str, Any]:
    """Of the smallest model with the simple joiner."""
    import jax.numpy as jnp
    from flax import nnx

    from parley.models.encoders.lstm import LSTMEncoderConfig
    from parley.models.transducer import PredictionConfig, Transducer, TransducerConfig

    config = TransducerConfig(
        vocab_size=6,
        encoder=LSTMEncoderConfig(width=8, layers=1, output=8),
        prediction=PredictionConfig(embedding=4, width=8, layers=1, output=8),
        simple=True,
    )
    rng = np.random.default_rng(0)
    frames, labels = np.array([7, 9]), np.array([3, 2])
    return {
        "model": Transducer(config, rngs=nnx.Rngs(0)),
        "encoded": jnp.array(rng.normal(size=(2, 9, 8)), jnp.float32),
        "predicted": jnp.array(rng.normal(size=(2, 4, 8)), jnp.float32),
        "logits": jnp.array(rng.normal(size=(2, 9, 4, 6)), jnp.float32),
        "labels": jnp.array([[1, 2, 3], [4, 5, 0]]),
        "logit_lengths": frames,
        "encoded_lengths": frames,
        "label_lengths": labels,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not b.why for b in blocks(page, "python"))],
    ids=lambda page: page.name,
)  # fmt: skip
def test_python_of_a_page_is_run(page: Path, given: dict[str, Any]):
    names = given
    for block in blocks(page, "python"):
        if not block.why:
            exec(compile(block.code, str(block), "exec"), names)


@pytest.mark.slow
def test_the_worked_example_of_adding_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARLEY_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    page = blocks(ROOT / "docs" / "adding-a-model.md", "sh")
    done = [words for block in page for words in of_parley(block.code)]
    for words in done:
        assert cli.main(words) == 0, words
    assert [words[0] for words in done].count("card") == 4
    card = (tmp_path / "to-publish" / "README.md").read_text()
    assert "times real time" in card
    assert (tmp_path / "to-publish" / "example-1.mp3").is_file()
    assert "rnnt-tiny-words" in (tmp_path / "gallery" / "index.html").read_text()
