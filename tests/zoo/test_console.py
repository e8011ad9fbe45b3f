"""Progress: a bar on a terminal, a line now and then in a log, and never in the results."""

import pytest

from parley.zoo import console
from parley.zoo.console import amount, audio_progress


def test_a_log_gets_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    with audio_progress("transcribing", 36_000.0) as advance:
        for _ in range(70):  # a second each, in which 100 s of audio are done
            now[0] += 1.0
            advance(100.0)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "parley: transcribing: 50.0 min of 10.0 h of audio, 100 times real time, 0:05:30 left",
        "parley: transcribing: 1.7 h of 10.0 h of audio, 100 times real time, 0:05:00 left",
    ]


def test_a_bar_leaves_stdout_alone(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # stderr counts as a terminal
    with audio_progress("transcribing", 7_200.0) as advance:
        advance(3_600.0)
        print("text")
        advance(9_999.0)
    captured = capsys.readouterr()
    assert captured.out == "text\n"
    assert "of 2.0 h of audio" in captured.err


def test_amounts_of_audio():
    assert [amount(s) for s in (0.4, 59, 60, 5_400)] == ["0 s", "59 s", "1.0 min", "1.5 h"]
