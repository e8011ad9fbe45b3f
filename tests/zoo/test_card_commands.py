"""`parley card`: what is wrong with a card is found, and what is right is measured again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from parley.data.errors import InputError
from parley.zoo import cli
from parley.zoo.architecture import parts
from parley.zoo.card_lint import lint_folder, lint_model
from parley.zoo.card_measure import arguments_of
from parley.zoo.cards import Card, Measurement, Training, read_card, write_card
from parley.zoo.registry import MODELS, find, list_models

Output = pytest.CaptureFixture[str]
TRAINING = Training("parley train tiny", "words", "2026-01-02", "a machine", 10, 61.5, 1.25)
RESULT = Measurement(
    data="words", split="test", name="words-test", wer=10.0, low=5.0, high=15.0,
    substitutions=5, deletions=3, insertions=2, words=100, utterances=10, speakers=5,
    command="parley evaluate tiny --data words --split test", date="2026-01-03",
    device="a machine",
    groups={"accent": {"rp": {"wer": 10.0, "low": 5.0, "high": 15.0, "words": 100}}},
)  # fmt: skip


@pytest.fixture(scope="module")
def sound_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose card is without fault."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("cards") / "tiny"))
    card = read_card(folder / "README.md")
    card = replace(card, facts=replace(card.facts, training=TRAINING), results=(RESULT,))
    write_card(folder / "README.md", card)
    assert lint_folder(folder) == []
    return folder


def result(**changes) -> Callable[[Card], Card]:
    return lambda card: replace(card, results=(replace(RESULT, **changes),))


def facts(**changes) -> Callable[[Card], Card]:
    return lambda card: replace(card, facts=replace(card.facts, **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (result(wer=9.0), "10 errors in 100 words are not 9 %"),
        (result(insertions=1), "9 errors in 100 words are not 10 %"),
        (result(low=11.0), "10 % lies outside its interval, 11 to 15"),
        (result(high=None), "an interval has two ends"),
        (result(words=0), "no words, so no error rate"),
        (result(device=""), "words-test: no device"),
        (result(date="yesterday"), "'yesterday' is no date"),
        (result(date="2999-01-01"), "has not come yet"),
        (result(command="I ran it"), "is no command that could be run again"),
        (result(command="parley evaluate tiny --data assistant"), "measures other data than words"),
        (result(groups={"accent": {"rp": {"wer": 5.0, "words": 100}}}), "groups' mean is 5.00 %"),
        (result(groups={"accent": {"rp": {"wer": 5.0, "words": 101}}}), "have 101 words of 100"),
        (facts(training=None), "nothing says how"),
        (lambda card: replace(card, results=()), "nothing has been measured"),
        (facts(status="untrained"), "a preset without weights has no numbers"),
        (facts(parameters=5), "parameters is 5, and the recipe's is"),
        (facts(architecture={"encoder": "magic"}), "architecture is"),
        (facts(gflop_per_s=1.0), "gflop_per_s is 1.0"),
    ],
)
def test_lint_finds(sound_folder: Path, tmp_path: Path, change, message: str):
    folder = Path(shutil.copytree(sound_folder, tmp_path / "tiny"))
    path = folder / "README.md"
    write_card(path, change(read_card(path)))
    found = lint_folder(folder)
    assert any(message in problem for problem in found), found
    assert all(str(folder) in problem for problem in found)


def test_lint_finds_a_table_that_was_edited(sound_folder: Path, tmp_path: Path, capsys: Output):
    folder = Path(shutil.copytree(sound_folder, tmp_path / "tiny"))
    path = folder / "README.md"
    path.write_text(path.read_text().replace("10.00 % (5.00", "1.00 % (0.50"))
    assert cli.main(["card", "lint", str(folder)]) == 2
    assert "run parley card render" in capsys.readouterr().out
    assert cli.main(["card", "render", str(folder), "--check"]) == 2
    assert "would change" in capsys.readouterr().out
    assert cli.main(["card", "render", str(folder)]) == 0
    assert cli.main(["card", "lint", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2]) == {str(folder): []}


def test_lint_holds_a_card_against_its_experiment(tmp_path: Path):
    folder = Path(shutil.copytree(MODELS / "contextnet-tiny", tmp_path / "contextnet-tiny"))
    assert not any("encoders.json has" in problem for problem in lint_folder(folder))
    (tmp_path / "encoders.json").write_text(
        '{"rows": {"contextnet-s0": {"evaluations": {"clean": {"data": "words", "split": "test", '
        '"wer": 3.2}}}}}'
    )
    found = lint_folder(folder, experiments=tmp_path)
    assert any("4.66 %, and encoders.json has 3.2 %" in problem for problem in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in list_models() if entry.trained])
def test_the_cards_that_ship(name: str):
    assert lint_model(find(name)) == []


@pytest.mark.parametrize("name", [entry.name for entry in list_models() if not entry.trained])
def test_presets_say_that_they_have_no_weights(name: str):
    from parley import zoo
    from parley.zoo.cards import body

    assert lint_model(find(name)) == []
    text = body(zoo.card(name))
    assert "This preset has no weights." in text
    assert f"parley train {name}" in text
    assert "```mermaid" in text


def test_every_kind_of_model_is_described():
    for entry in list_models():
        described = entry.facts.architecture
        assert list(described)[:2] == ["front end", "encoder"]
        assert list(described)[-1] == ("embedding" if entry.facts.task else "joint")
    old = {"model": {"frontend": {"bins": 8, "hop_s": 0.01, "stack": 2}, "encoder": {"output": 4}}}
    assert parts(old)["encoder"] == "LSTM: output 4"


def test_measured_again(tiny_folder: Path, recordings: Path, tmp_path: Path, capsys: Output):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    manifest = recordings / "m.jsonl"
    rows = [{"audio_filepath": f"good{i}.wav", "text": "turn on", "speaker": i} for i in range(3)]
    manifest.write_text(
        "".join(json.dumps({**r, "speaker": f"s{r['speaker']}"}) + "\n" for r in rows)
    )
    evaluate = ["evaluate", str(folder), "--data", str(manifest), "--by", "speaker"]
    assert cli.main([*evaluate, "--update-card"]) == 0
    stated = read_card(folder / "README.md")
    capsys.readouterr()

    wrong = replace(stated.results[0], wer=1.0, low=0.5, high=2.0)
    write_card(folder / "README.md", replace(stated, results=(wrong,)))
    before = (folder / "README.md").read_bytes()
    assert cli.main(["card", "refresh", str(folder)]) == 0
    assert f"{stated.results[0].wer - 1:+.2f}" in (text := capsys.readouterr().out)
    assert "outside the interval" in text
    assert (folder / "README.md").read_bytes() == before
    assert cli.main(["card", "refresh", str(folder), "--write", "--json"]) == 0
    assert read_card(folder / "README.md").results == stated.results

    arguments = ["card", "speed", str(folder), "--data", str(manifest), "--utterances", "2"]
    assert cli.main([*arguments, "--write"]) == 0
    [speed] = read_card(folder / "README.md").speed
    assert speed.batch > 0
    assert speed.stream is not None
    assert speed.command == f"parley {' '.join(arguments)}"
    assert "times real time" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /", "parley train x", "parley evaluate", "parley evaluate --data words",
        "parley evaluate x --data words --out /etc/passwd", "parley evaluate x --out=y",
        "parley evaluate x --data words --update_card", "parley evaluate x -o y",
        "parley 'evaluate",
        "parley evaluate x --data words --calibrate", "parley evaluate x --write-trials t",
    ],
)  # fmt: skip
def test_a_cards_command_may_measure_and_nothing_else(command: str):
    with pytest.raises(InputError, match="by hand"):
        arguments_of(command)


def test_what_may_be_measured():
    command = "parley evaluate x --data 'assistant?noise=10' --split test --by accent --beam 4"
    assert arguments_of(command) == [
        *("--data", "assistant?noise=10", "--split", "test", "--by", "accent", "--beam", "4")
    ]
