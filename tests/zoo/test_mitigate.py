"""`parley fairness mitigate` and `pseudo-label`, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from parley.data.corpus import open_corpus
from parley.zoo import cli, commands_train
from parley.zoo.cards import read_card
from parley.zoo.package import read_recipe

Output = pytest.CaptureFixture[str]


@pytest.fixture
def manifest(tmp_path: Path, sound) -> Path:
    """Sixteen recordings of four speakers, two of an accent each."""
    rows = []
    for i in range(16):
        soundfile.write(tmp_path / f"{i}.wav", sound(0.8, i), 16_000)
        rows.append(
            {
                "audio_filepath": f"{i}.wav",
                "text": "turn the light on" if i % 2 else "set a timer",
                "id": f"u{i}",
                "speaker": f"s{i % 4}",
                "accent": ["rp", "us"][i % 4 // 2],
            }
        )
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mitigate(method: str, folder: Path, run: Path, manifest: Path, *more: str) -> int:
    words = ["fairness", "mitigate", method, str(folder), "--run-dir", str(run)]
    words += ["--data.train", f"{manifest}?accent=us", "--data.dev", str(manifest)]
    # The smallest model has no head for a CTC loss.
    words += ["--loss.ctc-weight", "0", "--steps", "3", "--data.batch-seconds", "8"]
    return cli.main([*words, *more])


def test_help_lists_the_methods(capsys: Output):
    assert cli.main(["fairness", "mitigate", "--help"]) == 0
    text = capsys.readouterr().out
    assert "fine-tuned with elastic weight consolidation" in text
    assert cli.main(["fairness", "mitigate"]) == 2
    assert cli.main(["fairness", "mitigate", "ewc"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pray", "rnnt-tiny"], "pray"),
        (["ewc", "rnnt-tinny", "--data.train", "words"], "rnnt-tinny"),
        (["ewc", "rnnt-tiny"], "--data.train"),
        (["ewc", "speaker-tiny", "--data.train", "words"], "tells speakers apart"),
    ],
)
def test_mistakes_are_one_sentence(words, message, capsys: Output):
    assert cli.main(["fairness", "mitigate", *words]) == 2
    assert message in capsys.readouterr().err


def test_what_names_training_speakers_is_validated_on_some_of_them():
    """Another split has none of the speakers that an assignment, or a query, names."""
    for query in ("cohorts=a.json&cohort_group=bottom", "speaker=train00*", "transcripts=h.jsonl"):
        assert commands_train._dev_of(f"assistant?{query}") == ""
    assert commands_train._dev_of("assistant?accent=us") == "assistant?accent=us"


@pytest.mark.slow
def test_ewc_writes_a_model_and_goes_on(tiny_folder, tmp_path, manifest, capsys: Output):
    run = tmp_path / "run"
    fisher = ("--adapt.fisher.data", str(manifest), "--adapt.fisher.utterances", "8")
    assert mitigate("ewc", tiny_folder, run, manifest, *fisher) == 0
    assert capsys.readouterr().out.strip() == str(run / "model")
    assert json.loads((run / "fisher.json").read_text())["utterances"] == 8
    recipe = read_recipe(run / "model")
    assert (recipe.name, recipe.init_from, recipe.steps) == ("tiny-ewc", str(tiny_folder), 3)
    assert (recipe.adapt.anchor, recipe.adapt.weight) == ("ewc", 0.3)
    training = read_card(run / "model" / "README.md").facts.training
    assert training is not None
    assert training.command.startswith("parley fairness mitigate ewc")
    assert training.init_from == str(tiny_folder)
    before = load_file(run / "model" / "weights.safetensors")
    start = load_file(tiny_folder / "weights.safetensors")
    assert any(not np.array_equal(before[k], start[k]) for k in start)
    assert mitigate("ewc", tiny_folder, run, manifest, *fisher) == 2
    assert "--resume" in capsys.readouterr().err
    assert mitigate("ewc", tiny_folder, run, manifest, *fisher, "--resume") == 0
    again = load_file(run / "model" / "weights.safetensors")
    for name, leaf in before.items():
        np.testing.assert_array_equal(again[name], leaf)


@pytest.mark.slow
def test_what_is_frozen_is_shipped_as_it_was(tiny_folder, tmp_path, manifest):
    run = tmp_path / "run"
    faster = ("--optimizer.peak-lr", "1e-2", "--optimizer.warmup-steps", "1")
    assert mitigate("freeze-encoder", tiny_folder, run, manifest, *faster) == 0
    before = load_file(tiny_folder / "weights.safetensors")
    after = load_file(run / "model" / "weights.safetensors")
    for name, leaf in before.items():
        same = np.array_equal(after[name], leaf)
        assert same == name.startswith(("encoder.", "frontend.")), name


def test_confident_transcripts_are_a_corpus(tiny_folder, tmp_path, manifest, capsys: Output):
    out = tmp_path / "heard.jsonl"
    words = ["fairness", "pseudo-label", str(tiny_folder), "--data", str(manifest)]
    words += ["--out", str(out), "--json"]
    assert cli.main([*words, "--confidence", "0"]) == 0
    every = json.loads(capsys.readouterr().out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert 0 < every["utterances"] == len(rows) <= 16
    assert every["of_hours"] == pytest.approx(16 * 0.8 / 3600, abs=1e-3)
    assert every["wer"] > 0.0
    corpus = open_corpus(f"{manifest}?transcripts={out}")
    assert [corpus.utterance(i).text for i in range(len(corpus))] == [row["text"] for row in rows]
    middle = sorted(row["confidence"] for row in rows)[len(rows) // 2]
    assert cli.main([*words, "--confidence", str(middle)]) == 0
    some = json.loads(capsys.readouterr().out)
    assert 0 < some["utterances"] < every["utterances"]
    assert some["hours"] < every["hours"]
    assert cli.main([*words, "--confidence", "1"]) == 2
    assert "sure of nothing" in capsys.readouterr().err
    assert cli.main([*words, "--confidence", "2"]) == 2
