"""What the README and the guides tell people to type: it parses, and the worked example works."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from parley.zoo import arguments, cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Words that stand for something in a guide.
_MEANS: dict[str, str] = dict.fromkeys(("PRESET", "MODEL", "NAME", "parakeet"), "rnnt-tiny")


class Parsed(Exception):
    """The arguments were understood."""


def blocks(text: str, language: str | None = None) -> list[str]:
    """Code: fenced (of a language) or, where none is asked for, indented as well."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    if language is not None:
        return [code for kind, code in fenced if kind == language]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:^    .*\n)+", rest, re.MULTILINE)
    return [code for kind, code in fenced if kind in ("", "sh")] + indented


def commands(code: str) -> list[list[str]]:
    """The `parley` commands of a shell's lines, without what is around them."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:&&|\||;)\s", line.strip()):
            part = re.sub(r"^(?:\w+=\S+\s+)*", "", part.strip())
            if part.startswith("parley "):
                words = shlex.split(part, comments=True)
                cut = next((i for i, w in enumerate(words) if re.match(r"\d?[<>]", w)), None)
                found.append(words[1:cut])
    return found


def lines() -> list[tuple[str, list[str]]]:
    return [
        (f"{page.name}: {shlex.join(words)}"[:150], words)
        for page in PAGES
        for code in blocks(page.read_text())
        for words in commands(code)
    ]


def test_there_is_something_to_read():
    assert len(lines()) > 50
    code = "A=1 parley list | head  # all\nparley show x > y && parley \\\n  stream -"
    assert commands(code) == [["list"], ["show", "x"], ["stream", "-"]]


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


@pytest.mark.slow
def test_the_worked_example_of_adding_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARLEY_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    codes = blocks((ROOT / "docs" / "adding-a-model.md").read_text(), "sh")
    done = [words for code in codes for words in commands(code)]
    for words in done:
        assert cli.main(words) == 0, words
    assert [words[0] for words in done].count("card") == 4
    card = (tmp_path / "to-publish" / "README.md").read_text()
    assert "times real time" in card
    assert (tmp_path / "to-publish" / "example-1.mp3").is_file()
    assert "rnnt-tiny-words" in (tmp_path / "gallery" / "index.html").read_text()
