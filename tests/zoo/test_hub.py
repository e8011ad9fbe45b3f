"""Published and fetched: the same files, checked, from a stand-in of the hub and from a folder."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub import TOKEN, Hub, standin
from huggingface_hub import constants

from parley import zoo
from parley.data.errors import InputError
from parley.zoo import cli
from parley.zoo import hub as ours
from parley.zoo.cards import Training, read_card, write_card

Output = pytest.CaptureFixture[str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with standin() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


@pytest.fixture
def mine(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model with a card that nothing is wrong with."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "mine"))
    card = read_card(folder / "README.md")
    training = Training("parley train tiny", "words", "2026-01-02", "a machine", 1, 1.0, 1.0)
    write_card(folder / "README.md", replace(card, facts=replace(card.facts, training=training)))
    return folder


def test_there_and_back(hub: Hub, mine: Path, sound, capsys: Output):
    assert cli.main(["push", str(mine), "someone/tiny", "--unchecked"]) == 0
    name = capsys.readouterr().out.strip()
    assert name.startswith("hf://someone/tiny@")
    published = hub.commits["someone/tiny"][name.partition("@")[2]]
    for file in ("README.md", "recipe.json", "weights.safetensors", "tokenizer.model"):
        assert published[file] == (mine / file).read_bytes()
    assert "weights.safetensors" in published["SHA256SUMS"].decode()

    audio = sound(1.2, 5)
    for way in (name, "hf://someone/tiny", "hf://someone/tiny@main"):
        assert zoo.load(way).transcribe(audio).text == zoo.load(mine).transcribe(audio).text
    assert zoo.card(name).facts == read_card(mine / "README.md").facts
    assert cli.main(["show", name]) == 0
    assert "Random weights." in capsys.readouterr().out


def test_what_was_fetched_is_there_without_a_network(
    hub: Hub, mine: Path, monkeypatch: pytest.MonkeyPatch
):
    name = ours.push(mine, "someone/tiny")
    zoo.card(name)
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for way in (name, "hf://someone/tiny@" + name.partition("@")[2]):
        assert zoo.card(way).facts.name == "tiny"
    assert len(hub.requests) == before
    with pytest.raises(InputError, match="was not fetched before"):
        zoo.card("hf://someone/else")


def test_revisions(hub: Hub, mine: Path):
    first = ours.push(mine, "someone/tiny")
    card = read_card(mine / "README.md")
    write_card(mine / "README.md", replace(card, facts=replace(card.facts, description="Two.")))
    second = ours.push(mine, "someone/tiny", revision="v2")
    assert first != second
    assert zoo.card(first).facts.description == "Random weights."
    assert zoo.card("hf://someone/tiny").facts.description == "Random weights."
    assert zoo.card("hf://someone/tiny@v2").facts.description == "Two."
    with pytest.raises(InputError, match="has the model, but not this revision"):
        zoo.card("hf://someone/tiny@v3")
    with pytest.raises(InputError, match="is not on the hub, or not for you"):
        zoo.card("hf://someone/absent")


def test_files_of_an_older_model_go(hub: Hub, mine: Path):
    (mine / "calibration.json").write_text("{}")
    ours.push(mine, "someone/tiny")
    hub.commit("someone/tiny", "main", {
        **hub.commits["someone/tiny"][hub.refs["someone/tiny"]["main"]], "NOTES.txt": b"theirs",
    })  # fmt: skip
    (mine / "calibration.json").unlink()
    name = ours.push(mine, "someone/tiny")
    files = hub.commits["someone/tiny"][name.partition("@")[2]]
    assert "calibration.json" not in files
    assert files["NOTES.txt"] == b"theirs"
    zoo.card(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {**f, "recipe.json": b"{}"}, r"recipe\.json is not the file that was published"),
        (lambda f: {**f, "weights.safetensors": b""}, "is not the file that was published"),
        (lambda f: {k: v for k, v in f.items() if k != "tokenizer.model"}, "is missing: fetch"),
        (lambda f: {**f, "calibration.json": b"{}"}, "is not in SHA256SUMS"),
        (lambda f: {k: v for k, v in f.items() if k != "SHA256SUMS"}, "not published by parley"),
        (lambda f: {**f, "SHA256SUMS": b"rm -rf /\n"}, "no list of hashes"),
        (lambda f: {**f, "SHA256SUMS": b"0" * 64 + b"  ../../x\n"}, "no list of hashes"),
        (lambda f: {**f, "SHA256SUMS": b"0" * 100_000}, "no list of hashes"),
        (lambda f: {**f, "SHA256SUMS": b"\xff\xfe"}, "no list of hashes"),
    ],
)
def test_other_files_than_were_published(hub: Hub, mine: Path, change, message: str):
    ours.push(mine, "someone/tiny")
    files = hub.commits["someone/tiny"][hub.refs["someone/tiny"]["main"]]
    hub.commit("someone/tiny", "main", change(files))
    with pytest.raises(InputError, match=message):
        zoo.load("hf://someone/tiny")


def test_only_a_models_files_are_fetched(hub: Hub, mine: Path):
    ours.push(mine, "someone/tiny")
    files = hub.commits["someone/tiny"][hub.refs["someone/tiny"]["main"]]
    hub.commit("someone/tiny", "main", {**files, "run.py": b"boom", "model.pkl": b"boom"})
    folder = ours.fetch(ours.read_reference("hf://someone/tiny"))
    assert {p.name for p in folder.iterdir()} == {p.name for p in mine.iterdir()} | {"SHA256SUMS"}
    assert not any("run.py" in line or "model.pkl" in line for line in hub.requests)


def test_who_may_not_write(hub: Hub, mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert cli.main(["push", str(mine), "someone/tiny", "--unchecked"]) == 2
    assert "log in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "hf://", "hf://name", "hf://a/b/c", "hf://a/..", "hf://../b", "hf://a/b@", "hf://a/b@../c",
        "hf://a/b@v1/../..", "hf://a/b c", "hf://a/b\n", "hf:///etc/passwd", "hf://a/b@-rf",
        "hf://a" + "b" * 200 + "/c",
    ],
)  # fmt: skip
def test_names_that_are_none(name: str):
    with pytest.raises(InputError, match="names no model: write"):
        zoo.load(name)


def test_by_folder(mine: Path, tmp_path: Path, sound, capsys: Output):
    (mine / "secret.txt").write_text("of mine")
    to = tmp_path / "published"
    assert cli.main(["push", str(mine), "--to-folder", str(to)]) == 2
    assert "nothing has been measured: put it right" in capsys.readouterr().err
    assert cli.main(["push", str(mine), "--to-folder", str(to), "--unchecked"]) == 0
    ours.check(to)
    assert not (to / "secret.txt").exists()
    audio = sound(1.0, 1)
    assert zoo.load(to).transcribe(audio).text == zoo.load(mine).transcribe(audio).text
    (tmp_path / "notes").mkdir()
    arguments = ["push", str(mine), "--unchecked", "--to-folder"]
    assert cli.main([*arguments, str(tmp_path / "notes")]) == 2
    assert "is no model: give another folder" in capsys.readouterr().err
    assert cli.main(["push", str(mine)]) == 2
    assert cli.main(["push", "rnnt-30m", "someone/x"]) == 2


def test_a_link_is_not_published(mine: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("of mine")
    (mine / "calibration.json").symlink_to(secret)
    with pytest.raises(InputError, match="is a link: put the file itself there"):
        ours.pack(mine, tmp_path / "published")
