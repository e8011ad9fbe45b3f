"""What strangers may send: cards, recipes, archives. Refused in one sentence, or shown inert."""

import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pages import Page

from parley import zoo
from parley.data.errors import InputError
from parley.data.librispeech import open_librispeech
from parley.zoo import cli
from parley.zoo.card_examples import read_examples
from parley.zoo.cards import read_card
from parley.zoo.hub import pack
from parley.zoo.registry import Entry
from parley.zoo.site.build import write_site

Output = pytest.CaptureFixture[str]
CARD = """---
language: en
license: mit
status: trained
parley:
  name: tiny
  family: rnnt
  description: A model.
  parameters: 10
  vocab_size: 5
  streaming: true
  step_ms: 80.0
model-index:
- name: tiny
  results:
  - task: {type: automatic-speech-recognition}
    dataset: {name: words-test, type: words, split: test}
    metrics:
    - type: wer
      value: 10.0
      args:
        {data: words, substitutions: 1, deletions: 0, insertions: 0, words: 10, utterances: 1,
         speakers: 1, command: parley evaluate tiny --data words, date: '2026-01-01', device: x,
         groups: {accent: {rp: {wer: 10.0, words: 10}}}}
---

# tiny

A model.
"""
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def one_sentence(error: object) -> None:
    text = str(error).strip()
    assert 20 < len(text) < 700
    assert "\n" not in text
    assert "Traceback" not in text
    assert not any(ord(c) < 32 for c in text)


def put(old: str, new: str) -> str:
    assert old in CARD
    return CARD.replace(old, new, 1)


REFUSED: dict[str, str | bytes] = {
    "a YAML bomb": put("language: en\n", f"language: en\n{BOMB}"),
    "metadata that hold themselves": put("language: en\n", "language: &l [*l]\n"),
    "a Python object": put("description: A model.", "description: !!python/name:os.system"),
    "a Python call": put("A model.", "!!python/object/apply:os.system ['touch owned']"),
    "an unknown tag": put("language: en", "language: !ruby/object:Gem en"),
    "nesting of lists": put("language: en\n", f"language: {'[' * 5000}{']' * 5000}\n"),
    "nesting of tables": put("language: en\n", "x: " + "{a: " * 900 + "1" + "}" * 900 + "\n"),
    "a file of megabytes": CARD + "x" * (2 << 20),
    "a field of 100,000 letters": put("A model.", "y" * 100_000),
    "bytes that are no UTF-8": CARD.encode() + b"\xff\xfe\x00",
    "UTF-16": CARD.encode("utf-16"),
    "a NUL": CARD + "\0",
    "an escape sequence in the text": CARD + "\x1b]0;owned\x07",
    "an escape sequence in a field": put("A model.", '"\\e[2J"'),
    "text turned round": CARD + "\u202efdp.exe",
    "text turned round in a field": put("A model.", '"\\u202Eevil"'),
    "a name that climbs": put("name: tiny", "name: ../../etc/passwd"),
    "a name with a folder": put("name: tiny", "name: a/b"),
    "a name of tags": put("name: tiny", "name: <b>x</b>"),
    "no name": put("name: tiny", "name: ''"),
    "a name of two lines": put("name: tiny", 'name: "a\\nb"'),
    "a name that is an option": put("name: tiny", "name: --out"),
    "parameters beyond counting": put("parameters: 10", f"parameters: {'9' * 400}"),
    "parameters in hexadecimal": put("parameters: 10", f"parameters: 0x{'f' * 3000}"),
    "parameters in decimal": put("parameters: 10", f"parameters: {'9' * 6000}"),
    "parameters of text": put("parameters: 10", "parameters: <script>"),
    "parameters that are true": put("parameters: 10", "parameters: true"),
    "a rate that is none": put("value: 10.0", "value: .nan"),
    "an endless rate": put("value: 10.0", "value: .inf"),
    "a rate of text": put("value: 10.0", "value: <img src=x>"),
    "words of text": put("words: 10,", "words: many,"),
    "a group's rate of text": put("rp: {wer: 10.0", "rp: {wer: <script>"),
    "a group without rate": put("rp: {wer: 10.0", "rp: {wex: 10.0"),
    "groups of a list": put("groups: {accent: {rp:", "groups: {accent: {1: {}, rp:"),
    "a field of nobody's": put("  family: rnnt\n", "  family: rnnt\n  __class__: x\n"),
    "a status of its own": put("status: trained", "status: blessed"),
    "training of a list": put("  family: rnnt\n", "  family: rnnt\n  training: [1]\n"),
    "parts of a list": put("  family: rnnt\n", "  family: rnnt\n  architecture: [1]\n"),
    "speed of text": put("  family: rnnt\n", "  family: rnnt\n  speed: fast\n"),
    "a table of a list": put("model-index:\n- name: tiny\n", "model-index:\n- [1]\nmodel:\n"),
    "metadata of a list": "---\n- a\n---\n",
    "no metadata": "# hello\n",
    "metadata without end": "---\na: 1\n",
    "nothing": "",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_card_that_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
):
    monkeypatch.chdir(tmp_path)  # where a command that a card got to run would leave its mark
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").touch()
    content = REFUSED[name]
    (folder / "README.md").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as refused:
        read_card(folder / "README.md")
    one_sentence(refused.value)
    assert "README.md" in str(refused.value)
    for command in (["show", str(folder)], ["site", str(tmp_path / "out"), "--add", str(folder)]):
        assert cli.main(command) == 2
        one_sentence(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == [folder], "something ran, or was written"


def test_the_card_that_these_are_made_of_is_sound(tmp_path: Path):
    (tmp_path / "README.md").write_text(CARD)
    assert read_card(tmp_path / "README.md").results[0].wer == 10.0
    assert len(yaml.safe_load("[*a]".replace("*a", "1"))) == 1


@pytest.mark.parametrize("kind", ["folder", "pipe", "absent", "no rights"])
def test_a_card_that_is_no_file(kind: str, tmp_path: Path):
    path = tmp_path / "README.md"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "no rights":
        path.symlink_to(path)  # leads round and round
    with pytest.raises((InputError, OSError)) as refused:
        read_card(path)
    if kind != "no rights":
        one_sentence(refused.value)


SCRIPT = "<script>alert(1)</script>"
INERT = {
    "a script in the description": put("description: A model.", f"description: {SCRIPT}"),
    "a script in the text": f"{CARD}\n{SCRIPT}\n",
    "a script in the licence": put("license: mit", f"license: '\">{SCRIPT}'"),
    "a script in the family": put("family: rnnt", f"family: '{SCRIPT}'"),
    "a script in the data": put("name: words-test", f"name: '</script>{SCRIPT}'"),
    "a script in the command": put("command: parley evaluate", f"command: parley `{SCRIPT}`"),
    "a script in a group": put("rp: {wer", f"'{SCRIPT}': {{wer"),
    "a script in the architecture": put(
        "  family: rnnt\n",
        f"  family: rnnt\n  architecture: {{'front end': '\"]; {SCRIPT}', encoder: '{SCRIPT}'}}\n",
    ),
    "an end of comment": put("description: A model.", "description: '--> <img src=x onerror=y>'"),
    "an image that calls": CARD + "\n<img src=x onerror=alert(1)>\n",
    "an image from elsewhere": CARD + "\n![pixel](https://example.org/pixel.png)\n",
    "an image of a file": CARD + "\n![passwd](file:///etc/passwd)\n![up](../../../secret.png)\n",
    "an image of data": CARD + "\n![x](data:image/svg+xml;base64,PHN2Zz4=)\n",
    "a link that runs": CARD + "\n[click](javascript:alert(1)) [too](JaVaScRiPt:alert(1))\n",
    "a link of data": CARD + "\n[click](data:text/html;base64,PHNjcmlwdD4=)\n",
    "a link with a handler": CARD + '\n[x](https://e.org/"onmouseover="alert(1)) [y](<" a=b>)\n',
    "a link upwards": CARD + "\n[up](../../../../etc/passwd) [root](/etc/passwd)\n",
    "a link to another host": CARD + "\n[x](//example.org/x) <https://example.org/y>\n",
    "frames and forms": CARD + "\n<iframe src=//e.org></iframe><form action=//e.org><input>\n",
    "a style": CARD + "\n<style>@import url(//e.org)</style><p style='background:url(//e.org)'>\n",
    "a base": CARD + "\n<base href=//e.org><meta http-equiv=refresh content=0;url=//e.org>\n",
    "a heading that is an id": CARD + "\n## content\n\n## Use\n\n## content\n\n## content-1\n",
    "a fence that closes": CARD + "\n```html\n</code></pre><script>alert(1)</script>\n```\n",
    "a table of bars": put("name: words-test", "name: 'a | b | <b>c</b>'"),
    "an entity": CARD + "\n&lt;script&gt; &#60;script&#62; &#x3c;img src=x&#x3e;\n",
}


@pytest.fixture(scope="module")
def weights(tiny_folder: Path) -> Path:
    return tiny_folder / "weights.safetensors"


@pytest.mark.parametrize("name", INERT)
def test_a_card_that_is_shown_inert(name: str, tmp_path: Path, weights: Path, capsys: Output):
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copyfile(weights, folder / "weights.safetensors")
    (folder / "README.md").write_text(INERT[name])
    found = read_card(folder / "README.md")
    out = tmp_path / "out"
    write_site(out, [Entry(found.facts, found.results, found.verification, folder)], source=None)
    for path in out.rglob("*.html"):
        page = Page(path)  # asserts that nothing runs and nothing is fetched from elsewhere
        assert page.tags.count("script") <= 2
        assert len(page.ids) == len(set(page.ids))
        assert not any(to.startswith("/") for to in page.links)
        assert all((path.parent / to).resolve().is_relative_to(out) for to in page.links)
    if "script" in name:
        said = [Page(out / name).words for name in ("cards/tiny.html", "index.html")]
        assert "alert(1)" in "".join(said), "what was meant to run is to be read"
    assert cli.main(["show", str(folder)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def changed(**model: object) -> Callable[[dict], object]:
    def change(recipe: dict) -> dict:
        for path, value in model.items():
            at = recipe["model"]
            *parts, last = path.split("__")
            for part in parts:
                at = at[part]
            at[last] = value
        return recipe

    return change


RECIPES: dict[str, Callable[[dict], object]] = {
    "layers without end": changed(encoder__layers=10**9),
    "a width without end": changed(encoder__width=10**12),
    "less than nothing": changed(encoder__width=-4),
    "no layers": changed(encoder__layers=0),
    "no width": changed(encoder__width=0),
    "a second of windows": changed(frontend__window_s=1e9),
    "hops of nothing": changed(frontend__hop_s=0.0),
    "no stacking": changed(frontend__stack=0),
    "filters without end": changed(frontend__bins=10**6),
    "a number that is none": changed(frontend__low_hz=float("nan")),
    "a kind of nobody's": changed(encoder__kind="os.system"),
    "a kind of a list": changed(encoder__kind=["lstm"]),
    "a width of text": changed(encoder__width="__import__('os')"),
    "a field of nobody's": lambda recipe: {**recipe, "model": {**recipe["model"], "__class__": 1}},
    "a list": lambda recipe: [recipe],
    "text": lambda recipe: "recipe",
    "nothing": lambda recipe: None,
    "a vocabulary of another": changed(vocab_size=10**6),
    "tail without end": changed(frontend__tail_s=1e8),
    "a list without end": changed(
        encoder={"kind": "contextnet", "widths": [8] * 9999, "output": 8}
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_is_refused(name: str, tiny_folder: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    recipe = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps(RECIPES[name](recipe)))
    with pytest.raises(InputError) as refused:
        zoo.load(folder)
    one_sentence(refused.value)


FILES: dict[str, tuple[str, bytes]] = {
    "a pickle for weights": ("weights.safetensors", pickle.dumps({"a": 1})),
    "an archive for weights": ("weights.safetensors", b"PK\x03\x04" + b"\0" * 200),
    "a header without end": ("weights.safetensors", (2**63 - 1).to_bytes(8, "little") + b"{}"),
    "weights without end": ("weights.safetensors", b"\0" * (4 << 20)),
    "a recipe without end": ("recipe.json", b"[" * (2 << 20)),
    "a recipe of nesting": ("recipe.json", b"[" * 200_000 + b"]" * 200_000),
    "a recipe in bytes": ("recipe.json", b"\xff\xfe{}"),
    "a tokenizer of noise": ("tokenizer.model", bytes(range(256)) * 4),
    "no tokenizer": ("tokenizer.model", b""),
}


@pytest.mark.parametrize("name", FILES)
def test_a_model_file_that_is_refused(name: str, tiny_folder: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    file, content = FILES[name]
    (folder / file).write_bytes(content)
    with pytest.raises(InputError) as refused:
        zoo.load(folder)
    one_sentence(refused.value)


def test_a_recipe_reaches_nothing_outside_its_folder(tiny_folder: Path, tmp_path: Path):
    """Paths in it are of its training; loading and transcribing opens none, and starts nothing."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    trap = tmp_path / "trap.jsonl"
    trap.write_text("{}")
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["init_from"] = "../trap.jsonl"
    recipe["data"]["train"] = recipe["data"]["dev"] = str(trap)
    recipe["augment"]["noise"] = str(trap)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    code = f"""
import sys
seen = []
def watch(event, arguments):
    if event == "open" and "trap.jsonl" in str(arguments[0]):
        seen.append(arguments[0])
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class"):
        seen.append(event) if loaded else None
loaded = False
sys.addaudithook(watch)
import numpy as np
from parley import zoo
import parley.zoo.package, parley.zoo.recognizer, parley.zoo.transcriber
loaded = True
zoo.load({str(folder)!r}).transcribe(np.zeros(16000, np.int16))
sys.exit(f"opened {{seen}}" if seen else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "audio", ["../../etc/passwd", "/etc/passwd", "example-0.mp3/../../x", "x.html", "", "a\nb.mp3"]
)
def test_examples_that_lie_elsewhere(audio: str, tmp_path: Path):
    heard = {"audio": audio, "seconds": 1.0, "reference": "", "hypothesis": "", "errors": 0}
    record = {"command": "x", "corpus": "y", "date": "z", "heard": [heard]}
    (tmp_path / "examples.json").write_text(json.dumps(record))
    with pytest.raises(InputError) as refused:
        read_examples(tmp_path)
    one_sentence(refused.value)


def test_links_are_not_followed_out_of_a_model(tiny_folder: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    secret = tmp_path / "secret"
    secret.write_bytes(b"of mine")
    heard = {
        "audio": "example-0.mp3", "seconds": 1.0, "reference": "a", "hypothesis": "b", "errors": 1,
    }  # fmt: skip
    record = {"command": "x", "corpus": "y", "date": "z", "heard": [heard]}
    (folder / "examples.json").write_text(json.dumps(record))
    (folder / "example-0.mp3").symlink_to(secret)
    found = read_card(folder / "README.md")
    with pytest.raises(InputError, match="is a link"):
        write_site(tmp_path / "out", [Entry(found.facts, folder=folder)], source=None)
    with pytest.raises(InputError, match="is a link"):
        pack(folder, tmp_path / "packed")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "packed").exists()


def tar_of(*members: tarfile.TarInfo) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for member in members:
            content = b"1-2-3 EVIL\n" if member.isfile() else None
            member.size = len(content or b"")
            tar.addfile(member, io.BytesIO(content) if content else None)
    return made.getvalue()


def member(name: str, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = type, link
    return made


ARCHIVES = {
    "names that climb": tar_of(member("../../test-clean/1/2/evil.trans.txt")),
    "names from the root": tar_of(member("/test-clean/1/2/1-2.trans.txt")),
    "a link outside": tar_of(
        member("L/test-clean/1/2/1-2.trans.txt", tarfile.SYMTYPE, "/etc/passwd"),
        member("L/test-clean/1/2/1-2-3.flac", tarfile.SYMTYPE, "/etc/passwd"),
    ),
    "a hard link": tar_of(member("L/test-clean/1-2-3.flac", tarfile.LNKTYPE, "../../etc/passwd")),
    "a device": tar_of(member("L/test-clean/1-2-3.flac", tarfile.CHRTYPE)),
    "a pipe": tar_of(member("L/SPEAKERS.TXT", tarfile.FIFOTYPE)),
    "a link to itself": tar_of(member("L/SPEAKERS.TXT", tarfile.SYMTYPE, "SPEAKERS.TXT")),
    "no archive": b"hello",
    "half an archive": tar_of(member("L/test-clean/a.flac"))[:60],
    "a bomb": gzip.compress(b"\0" * (64 << 20)),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_refused(name: str, tmp_path: Path):
    given = tmp_path / "given"
    given.mkdir()
    (given / "test-clean.tar.gz").write_bytes(ARCHIVES[name])
    root = tmp_path / "root"
    with pytest.raises(InputError) as refused:
        open_librispeech(given, "test-clean", root=root, progress=False)
    one_sentence(refused.value)
    there = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert all(p.is_relative_to(given) or p.is_relative_to(root) for p in there)
    assert not any("evil" in p.name or "1-2-3" in p.name for p in there)


def test_a_zip_is_no_model(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as packed:
        packed.writestr("../../weights.safetensors", "x")
    with pytest.raises(InputError, match="no model is called") as refused:
        zoo.load(str(tmp_path / "m.zip"))
    one_sentence(refused.value)
