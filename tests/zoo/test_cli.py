"""Commands as a user types them."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.zoo import cli, commands_card, commands_fairness, commands_train
from parley.zoo.cards import read_card
from parley.zoo.commands import Commands

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy whose card may be changed."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


@pytest.fixture
def manifest(recordings: Path) -> Path:
    """Three recordings of two speakers."""
    rows = [
        {
            "audio_filepath": f"good{i}.wav",
            "text": "turn the light on",
            "speaker": f"s{i % 2}",
            "accent": ["rp", "us"][i % 2],
        }
        for i in range(3)
    ]
    path = recordings / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


GROUPS = (cli.COMMANDS, commands_card.COMMANDS, commands_fairness.COMMANDS)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.program)
def test_help_names_every_command(group: Commands, capsys: Output):
    words = group.program.split()[1:]
    assert cli.main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in group)
    assert cli.main(words) == 2
    assert capsys.readouterr().err == text
    assert cli.main([*words, "lits"]) == 2
    assert f"{group.program} --help" in capsys.readouterr().err


@pytest.mark.parametrize("typed", [f"{group.program} {name}" for group in GROUPS for name in group])
def test_every_command_explains_itself_with_an_example(typed: str, capsys: Output):
    assert cli.main([*typed.split()[1:], "--help"]) == 0
    assert f"{typed} " in capsys.readouterr().out.split("usage:", 1)[1].split("\n", 1)[1]


def test_list(capsys: Output):
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert "rnnt-tiny" in text
    head, row = (
        next(x for x in text.splitlines() if x.startswith(n)) for n in ("name", "rnnt-30m")
    )
    assert float(row[: head.index("GFLOP/s") + 7].split()[-1]) == 1.65
    assert cli.main(["list", "--json", "--max-params", "2e6"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert all(entry["parameters"] <= 2e6 for entry in entries)
    assert cli.main(["list", "no-such-thing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_show(tiny_folder: Path, capsys: Output):
    assert cli.main(["show", str(tiny_folder)]) == 0
    text = capsys.readouterr().out
    assert "Random weights." in text
    assert "GFLOP per second of audio" in text
    assert cli.main(["show", str(tiny_folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "tiny"
    assert 0 < shown["encoder_gflop_per_s"] < shown["gflop_per_s"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["shw", "x"], "no command is called 'shw': did you mean show"),
        (["show", "rnnt-tinny"], "no model is called 'rnnt-tinny': did you mean rnnt-tiny"),
        (["train", "rnnt-tinny"], "no preset is called 'rnnt-tinny': did you mean rnnt-tiny"),
        (["transcribe", "rnnt-tinny", "a.wav"], "no model is called 'rnnt-tinny'"),
        (["transcribe", "rnnt-tiny"], "no recordings are given"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: Output):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"parley: error: {sentence}")
    assert error.count("\n") == 1


def test_arguments_that_do_not_parse(capsys: Output):
    assert cli.main(["evaluate", "rnnt-tiny"]) == 2
    assert "--data" in capsys.readouterr().err


def test_transcribe_one(tiny_folder: Path, recordings: Path, model, capsys: Output):
    path = str(recordings / "good1.wav")
    text = model.transcribe(path).text
    assert cli.main(["transcribe", str(tiny_folder), path]) == 0
    captured = capsys.readouterr()
    assert captured.out == text + "\n"
    assert captured.err == ""
    assert cli.main(["transcribe", str(tiny_folder), path, "--words"]) == 0
    first, *words = capsys.readouterr().out.splitlines()
    assert first == text
    assert [w.split()[-1] for w in words] == text.split()


def test_transcribe_a_folder(tiny_folder: Path, recordings: Path, model, capsys: Output):
    out = recordings / "results.jsonl"
    status = cli.main(["transcribe", str(tiny_folder), str(recordings), "--out", str(out)])
    assert status == 2  # two of the five cannot be used
    captured = capsys.readouterr()
    good = [str(recordings / f"good{i}.wav") for i in range(3)]
    assert [line.split("\t")[0] for line in captured.out.splitlines()] == good
    assert {r["audio_filepath"]: r["text"] for r in lines(out.read_text())} == {
        path: model.transcribe(path).text for path in good
    }
    rejected = lines((recordings / "results.rejected.jsonl").read_text())
    assert {Path(r["audio_filepath"]).name for r in rejected} == {"empty.wav", "text.wav"}
    assert "2 of 5 recordings could not be used" in captured.err
    assert "Traceback" not in captured.err

    # Another run does not write over it.
    assert cli.main(["transcribe", str(tiny_folder), *good, "--out", str(out)]) == 2
    assert "go on with --resume, or give another --out" in capsys.readouterr().err
    other = recordings / "words.jsonl"
    assert cli.main(["transcribe", str(tiny_folder), *good, "--out", str(other), "--words"]) == 0
    assert not (recordings / "words.rejected.jsonl").exists()
    assert all(r["words"] for r in lines(other.read_text()))


def test_bad_recordings_among_good_ones_are_named(
    tiny_folder: Path, recordings: Path, sound, capsys: Output
):
    floats = sound(0.5, 9) / np.float32(32_768)
    floats[100] = np.nan
    soundfile.write(recordings / "nan.wav", floats, 16_000, subtype="FLOAT")
    soundfile.write(recordings / "half.flac", sound(2.0, 9), 16_000)
    flac = (recordings / "half.flac").read_bytes()
    (recordings / "half.flac").write_bytes(flac[: len(flac) // 2])
    assert cli.main(["transcribe", str(tiny_folder), str(recordings / "*.*")]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    for name, reason in [
        ("empty.wav", "is empty"),
        ("text.wav", "is not audio"),
        ("nan.wav", "holds NaN"),
        ("half.flac", "is cut short"),
    ]:
        assert f"left out {recordings / name} {reason}" in captured.err
    assert "4 of 7 recordings could not be used" in captured.err


def test_captions_of_each_recording_and_a_ctm_of_all(
    tiny_folder: Path, recordings: Path, model, capsys: Output
):
    folder = recordings / "captions"
    given = ["transcribe", str(tiny_folder), str(recordings / "good?.wav")]
    assert cli.main([*given, "--out", f"{folder}/", "--format", "vtt"]) == 0
    assert [p.name for p in sorted(folder.iterdir())] == [f"good{i}.vtt" for i in range(3)]
    assert cli.main([*given, "--out", str(recordings / "all.ctm")]) == 0
    rows = [line.split() for line in (recordings / "all.ctm").read_text().splitlines()]
    expected = [(str(p), model.transcribe(p)) for p in sorted(recordings.glob("good?.wav"))]
    assert [(row[0], row[4]) for row in rows] == [
        (path, word.text) for path, transcript in expected for word in transcript.words
    ]
    # stdout is the text of each time, in order
    plain = "".join(f"{path}\t{transcript}\n" for path, transcript in expected)
    assert capsys.readouterr().out == 2 * plain
    assert cli.main([*given, "--out", f"{folder}/", "--format", "vtt"]) == 2
    assert "good0.vtt exists already" in capsys.readouterr().err


def test_transcribe_json_keeps_the_order(tiny_folder: Path, recordings: Path, capsys: Output):
    paths = [str(recordings / f"good{i}.wav") for i in (1, 0, 2)]
    assert cli.main(["transcribe", str(tiny_folder), *paths, "--format", "json"]) == 0
    records = lines(capsys.readouterr().out)
    assert [r["audio_filepath"] for r in records] == paths
    assert all("words" not in r for r in records)


def test_transcribe_as_a_stream(tiny_folder: Path, recordings: Path, model, capsys: Output):
    path = str(recordings / "good1.wav")
    text = model.transcribe(path).text
    assert cli.main(["transcribe", str(tiny_folder), path, "--stream"]) == 0
    captured = capsys.readouterr()
    assert captured.out == text + "\n"
    partials = [line.split(" s  ")[1] for line in captured.err.splitlines()]
    assert len(partials) > 1
    assert all(text.startswith(partial) for partial in partials)
    arguments = ["transcribe", str(tiny_folder), path, "--stream", "--format", "json"]
    assert cli.main(arguments) == 0
    *records, last = lines(capsys.readouterr().out)
    assert [r["partial"] for r in records] == partials
    assert [r["time"] for r in records] == sorted(r["time"] for r in records)
    assert last["text"] == text


def test_one_bad_recording_is_an_error(tiny_folder: Path, recordings: Path, capsys: Output):
    for extra in ([], ["--stream"]):
        bad = str(recordings / "empty.wav")
        assert cli.main(["transcribe", str(tiny_folder), bad, *extra]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(f"parley: error: {bad} is empty")
        assert captured.out == ""


def test_a_folder_without_recordings(tiny_folder: Path, tmp_path: Path, capsys: Output):
    assert cli.main(["transcribe", str(tiny_folder), str(tmp_path)]) == 2
    assert "holds no recordings" in capsys.readouterr().err


def test_what_was_done_is_kept_when_a_run_breaks_off(
    tiny_folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
):
    from parley.zoo.transcriber import Transcriber

    each = Transcriber.transcribe_each

    def breaks_off(self, audio, **options):
        for count, pair in enumerate(each(self, audio, **options)):
            if count == 2:
                raise KeyboardInterrupt
            yield pair

    monkeypatch.setattr(Transcriber, "transcribe_each", breaks_off)
    paths = [str(recordings / f"good{i}.wav") for i in (1, 2, 0)]
    out = recordings / "results.jsonl"
    assert cli.main(["transcribe", str(tiny_folder), *paths, "--out", str(out)]) == 130
    done = [r["audio_filepath"] for r in lines(out.read_text())]
    assert len(done) == 2
    printed = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert printed == [path for path in paths if path in done]


def test_a_full_disk_is_one_sentence(
    tiny_folder: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
):
    import os

    out = recordings / "r.jsonl"
    write = os.write

    def full(fd: int, data) -> int:
        # The second line finds no room.
        if os.path.realpath(f"/proc/self/fd/{fd}") == str(out.resolve()) and out.stat().st_size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    paths = [str(recordings / f"good{i}.wav") for i in range(3)]
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert cli.main(["transcribe", str(tiny_folder), *paths, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "r.jsonl: no space left on device; what was done is kept: free some space" in error
    assert len(lines(out.read_text())) == 1
    assert cli.main(["transcribe", str(tiny_folder), *paths, "--out", str(out), "--resume"]) == 0
    assert sorted(r["audio_filepath"] for r in lines(out.read_text())) == paths


def test_an_output_that_cannot_be_written(tiny_folder: Path, recordings: Path, capsys: Output):
    arguments = [str(tiny_folder), str(recordings / "good0.wav"), "--out", "/nowhere/r.jsonl"]
    assert cli.main(["transcribe", *arguments]) == 2
    assert "/nowhere/r.jsonl: no such file or directory" in capsys.readouterr().err


def test_evaluate(folder: Path, manifest: Path, capsys: Output):
    out = manifest.parent / "scores.jsonl"
    arguments = ["evaluate", str(folder), "--data", str(manifest), "--by", "accent", "speaker"]
    assert cli.main([*arguments, "--out", str(out), "--examples", "2"]) == 0
    text = capsys.readouterr().out
    assert all(label in text for label in ("all", "accent rp", "accent us", "speaker s1"))
    assert text.count("  reference   turn the light on") == 2
    scores = lines(out.read_text())
    assert [s["reference"] for s in scores] == ["turn the light on"] * 3

    assert cli.main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["words"] == 12
    errors = sum(s["errors"] for s in scores)
    assert record["wer"] == round(100 * errors / 12, 2)
    assert record["substitutions"] + record["deletions"] + record["insertions"] == errors
    assert record["groups"]["accent"]["rp"]["words"] == 8


def test_a_result_enters_the_card(folder: Path, manifest: Path, capsys: Output):
    arguments = ["evaluate", str(folder), "--data", str(manifest), "--by", "accent"]
    for _ in range(2):
        assert cli.main([*arguments, "--update-card"]) == 0
    [result] = read_card(folder / "README.md").results
    assert result.words == 12
    assert result.speakers == 2
    assert set(result.groups["accent"]) == {"rp", "us"}
    assert result.command == f"parley evaluate {folder} --data {manifest} --by accent"
    assert result.device
    capsys.readouterr()
    assert cli.main(["show", str(folder)]) == 0
    assert f"{result.wer:.2f} %" in capsys.readouterr().out


def test_a_bad_corpus_is_one_sentence(folder: Path, manifest: Path, capsys: Output):
    assert cli.main(["evaluate", str(folder), "--data", str(manifest) + "?accent=none"]) == 2
    assert capsys.readouterr().err.startswith("parley: error: ")
    manifest.write_text(manifest.read_text() + "{broken\n")
    assert cli.main(["evaluate", str(folder), "--data", str(manifest)]) == 2
    captured = capsys.readouterr()
    assert "manifest.jsonl:4" in captured.err
    assert "Traceback" not in captured.err


def test_any_field_of_a_recipe_by_its_path():
    from parley.configs import presets

    preset = presets()["rnnt-tiny"]
    recipe, run_dir, resume, *_ = commands_train.override(preset, [])
    assert (recipe, run_dir, resume) == (preset, Path("runs/rnnt-tiny"), False)
    recipe, run_dir, resume, *_ = commands_train.override(
        preset,
        [
            *("--optimizer.peak-lr", "3e-4", "--model.encoder.width", "32", "--run-dir", "here"),
            *("--data.train", "my.jsonl?split=train", "--resume", "--seed", "7"),
        ],
    )
    assert recipe.optimizer.peak_lr == 3e-4
    encoder = recipe.model.encoder
    assert isinstance(encoder, LSTMEncoderConfig)
    assert encoder.width == 32
    assert recipe.data.train == "my.jsonl?split=train"
    assert recipe.seed == 7
    assert recipe.loss == preset.loss
    assert (run_dir, resume) == (Path("here"), True)


@pytest.mark.parametrize(
    ("arguments", "dev"),
    [
        ([], "assistant"),
        (["--data.train", "my.jsonl"], ""),
        (["--data.train=my.jsonl?join=1-7", "--seed", "1"], ""),
        (["--data.train", "my.jsonl", "--data.dev", "words"], "words"),
        (["--data.train", "words + my.jsonl"], ""),
        (["--data.train", "words?speakers=9 + assistant"], "words?speakers=9 + assistant"),
    ],
)
def test_other_data_is_not_validated_on_the_presets(arguments: list[str], dev: str):
    from parley.configs import presets

    recipe, *_ = commands_train.override(presets()["rnnt-tiny"], arguments)
    assert recipe.data.dev == dev


def test_a_finished_run_becomes_a_model(
    tiny_folder: Path, tmp_path: Path, sound, monkeypatch: pytest.MonkeyPatch, capsys: Output
):
    """The loop is another room's; here it is what surrounds it: start, export, card."""
    from parley.configs import presets
    from parley.train import loop
    from parley.zoo.package import read_model

    package = read_model(tiny_folder)
    seen = {}

    def train(recipe, run_dir, *, resume, start, profile):
        seen.update(recipe=recipe, start=start, resume=resume, profile=profile)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "metrics.jsonl").write_text('{"step": 7, "loss": 2.0}\n')
        facts = {"recipe": {"name": "mine", "steps": 7}, "packages": {}}
        (run_dir / "recipe.json").write_text(json.dumps(facts))
        return loop.TrainResult(
            recipe=package.recipe, graphdef=package.graphdef, params=start.params,
            frozen=start.frozen, tokenizer=start.tokenizer, steps=7, wer=0.5, seconds=60.0,
            audio_seconds=7200.0,
        )  # fmt: skip

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.chdir(tmp_path)
    arguments = ["rnnt-tiny", "--init-from", str(tiny_folder), "--resume", "--seed", "3"]
    assert cli.main(["train", *arguments]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == Path("runs/rnnt-tiny/model")
    assert seen["recipe"].seed == 3
    assert seen["recipe"].model == presets()["rnnt-tiny"].model
    assert seen["resume"] is True
    assert seen["profile"] is False
    assert "loss 2" in Path("runs/rnnt-tiny/report.md").read_text()
    card = read_card(folder / "README.md")
    assert card.facts.status == "trained"
    assert card.results == ()  # nothing that `parley evaluate` has not measured
    training = card.facts.training
    assert training is not None
    assert (training.steps, training.audio_hours) == (7, 2.0)
    assert "--resume" not in training.command

    # Trained again into the same folder: a person's words stay, results of other weights do not.
    path = folder / "README.md"
    path.write_text(path.read_text().replace("Not yet written.", "Only for cats."))
    soundfile.write("a.wav", sound(1.0, 0), 16_000)
    Path("m.jsonl").write_text('{"audio_filepath": "a.wav", "text": "one two"}\n')
    assert cli.main(["evaluate", str(folder), "--data", "m.jsonl", "--update-card"]) == 0
    assert read_card(path).results
    assert cli.main(["train", *arguments]) == 0
    assert read_card(path).results == ()
    assert "Only for cats." in path.read_text()
    assert cli.main(["transcribe", "runs/rnnt-tiny", "a.wav"]) == 0


def test_the_installed_command(tmp_path: Path):
    """A process of its own: status, one sentence on stderr, nothing on stdout, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "parley.zoo.cli", "transcribe", "rnnt-tinny", "a.wav"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("parley: error: no model is called 'rnnt-tinny'")
    piped = subprocess.run(
        f"{sys.executable} -m parley.zoo.cli list | head -0",
        shell=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert piped.stderr == ""


@pytest.mark.parametrize(
    ("train", "dev"),
    [
        ("words", "words"),
        ("assistant?turns=1-4&ramp=900&draws=40", "assistant?turns=1-4&draws=40"),
        ("assistant?ramp=900&turns=1-4", "assistant?turns=1-4"),
        ("mine.jsonl?turns=2&ramp=9", ""),
    ],
)
def test_a_development_set_has_no_ramp(train: str, dev: str):
    assert commands_train._dev_of(train) == dev
