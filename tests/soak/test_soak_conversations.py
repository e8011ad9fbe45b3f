"""Recordings without a talker, through the command: an hour of silence, minutes of music."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.soak

RATE = 16_000


def transcribed(tmp_path: Path, samples: np.ndarray) -> dict:
    """The line that `parley transcribe` writes of `samples` (int16)."""
    audio, out = tmp_path / "audio.wav", tmp_path / "out.jsonl"
    soundfile.write(audio, samples, RATE)
    command = [sys.executable, "-m", "parley.zoo.cli", "transcribe", "sts-tiny"]
    subprocess.run([*command, str(audio), "--out", str(out)], check=True)
    (line,) = out.read_text().splitlines()
    return json.loads(line)


def chords(seconds: int) -> np.ndarray:
    """Four voices with six partials each that die away, another chord each half second."""
    random = np.random.default_rng(0)
    t = np.arange(RATE // 2) / RATE
    partials = np.arange(1, 7)[:, None]
    decay = np.exp(-3 * t * partials**0.5) / partials
    bars = []
    for _ in range(2 * seconds):
        root = 110 * 2 ** (random.integers(12) / 12)
        voices = [root * r * partials * t for r in (1, 1.26, 1.5, 2)]
        bars.append(sum((np.sin(2 * np.pi * v) * decay).sum(axis=0) for v in voices))
    music = np.concatenate(bars)
    return (0.3 * 32767 * music / np.abs(music).max()).astype(np.int16)


def test_an_hour_of_silence_has_no_turns(tmp_path):
    line = transcribed(tmp_path, np.zeros(3600 * RATE, np.int16))
    assert line["text"] == ""
    assert not line.get("turns")
    assert line["duration"] == 3600
    # The largest of this process's children, in KiB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1.5e6


def test_music_is_transcribed_to_its_end(tmp_path):
    """It takes chords for speech, having heard nothing but speech (docs/sts.md says so); every
    turn lies within the recording."""
    line = transcribed(tmp_path, chords(120))
    assert line["duration"] == 120
    for turn in line.get("turns", ()):
        assert 0 <= turn["start"] <= turn["end"] <= 120
