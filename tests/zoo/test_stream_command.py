"""`parley stream`: what a pipe and a file give, and what goes wrong."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley.zoo import cli


class Pipe:
    """Standard input from a program."""

    def __init__(self, content: bytes):
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


@pytest.fixture
def speech(sound) -> np.ndarray:
    return sound(2.0, 5)


def run(monkeypatch, capsys, tiny_folder: Path, content: bytes, *options: str):
    monkeypatch.setattr("sys.stdin", Pipe(content))
    status = cli.main(["stream", str(tiny_folder), "-", *options])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_pipe_says_what_a_file_says(
    tiny_folder: Path, speech: np.ndarray, tmp_path: Path, monkeypatch, capsys, model
):
    path = tmp_path / "a.wav"
    soundfile.write(path, speech, 16_000)
    assert cli.main(["stream", str(tiny_folder), str(path), "--whole"]) == 0
    from_file = capsys.readouterr().out
    status, out, err = run(
        monkeypatch, capsys, tiny_folder, speech.astype("<i2").tobytes(), "--whole"
    )
    assert status == 0
    assert out == from_file
    assert model.transcribe(path).text in out
    assert len(err.splitlines()) > 1  # partial texts


def test_json_lines(tiny_folder: Path, speech: np.ndarray, monkeypatch, capsys):
    content = speech.astype("<i2").tobytes()
    _, out, _ = run(monkeypatch, capsys, tiny_folder, content, "--json", "--whole")
    *partial, last = map(json.loads, out.splitlines())
    assert partial
    assert all(set(p) == {"time", "partial"} for p in partial)
    assert last["text"]
    assert len(last["words"]) == len(last["text"].split())


def test_other_rates_are_resampled(tiny_folder: Path, speech: np.ndarray, monkeypatch, capsys):
    twice = np.repeat(speech, 2).astype("<i2").tobytes()
    status, out, _ = run(
        monkeypatch, capsys, tiny_folder, twice, "--rate", "32000", "--json", "--whole"
    )
    assert status == 0
    assert json.loads(out.splitlines()[-1])["end"] == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (b"", [], "standard input holds no samples"),
        (b"\0" * 64_001, [], "ended amid a sample"),
        (b"\0" * 64, ["--rate", "5"], "a rate of 5 Hz is none of speech"),
    ],
)
def test_a_bad_pipe_is_one_sentence(
    tiny_folder: Path, content: bytes, options: list[str], sentence: str, monkeypatch, capsys
):
    status, _, err = run(monkeypatch, capsys, tiny_folder, content, *options)
    assert status == 2
    assert sentence in err
    assert "Traceback" not in err


def test_a_file_that_breaks_off_gives_what_came_before(
    tiny_folder: Path, speech: np.ndarray, tmp_path: Path, capsys
):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.tile(speech, 4), 16_000)
    path.write_bytes(path.read_bytes()[:-40_000])
    assert cli.main(["stream", str(tiny_folder), str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out
    assert "cut short" in captured.err


@pytest.mark.parametrize("rate", [16_000, 32_000])
def test_a_pipe_may_have_the_header_of_a_wav(
    tiny_folder: Path, speech: np.ndarray, rate: int, monkeypatch, capsys
):
    file = io.BytesIO()
    soundfile.write(file, np.repeat(speech, rate // 16_000), rate, "PCM_16", format="WAV")
    raw = np.repeat(speech, rate // 16_000).astype("<i2").tobytes()
    _, expected, _ = run(monkeypatch, capsys, tiny_folder, raw, "--rate", str(rate))
    status, out, _ = run(monkeypatch, capsys, tiny_folder, file.getvalue())
    assert status == 0
    assert out == expected != ""


def test_ctrl_c_amid_a_step_ends_with_what_was_said(
    tiny_folder: Path, speech: np.ndarray, monkeypatch, capsys
):
    import signal

    from parley.zoo.recognizer import Recognizer

    step, calls = Recognizer.step, []

    def interrupted(self, samples, state, **more):
        calls.append(1)
        if len(calls) == 25:
            signal.raise_signal(signal.SIGINT)
        return step(self, samples, state, **more)

    monkeypatch.setattr(Recognizer, "step", interrupted)
    content = speech.astype("<i2").tobytes()
    status, out, err = run(monkeypatch, capsys, tiny_folder, content, "--whole")
    assert status == 0
    assert out
    assert "interrupted" in err
