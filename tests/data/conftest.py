"""Miniature recordings for the data tests: tones, whose pitch tells which recording one hears."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


def tone(seconds: float, hertz: float = 440.0, rate: int = 16_000) -> np.ndarray:
    """A tone as int16 `[seconds * rate]`."""
    time = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


@pytest.fixture(scope="session")
def make_tone() -> Callable[..., np.ndarray]:
    return tone


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 FLAC recordings of 0.3 to 2 s by three speakers, each of whose texts is one digit."""
    folder = tmp_path_factory.mktemp("recordings")
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    rng = np.random.default_rng(0)
    with open(folder / "manifest.jsonl", "w") as out:
        for i in range(60):
            seconds = float(rng.uniform(0.3, 2.0))
            samples = tone(seconds, 100.0 + 10 * i)
            soundfile.write(folder / f"{i}.flac", samples, 16_000)
            row = {
                "audio_filepath": f"{i}.flac",
                "text": words[i % 10],
                "duration": len(samples) / 16_000,
                "speaker": ("ann", "bob", "cy")[i % 3],
                "take": i // 10,
                "accent": ("us", "rp")[i % 2],
            }
            out.write(json.dumps(row) + "\n")
    return folder / "manifest.jsonl"
