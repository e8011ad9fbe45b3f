"""A disk that is full: one sentence, nothing lost, and the run goes on when there is space."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from tones import RATE, ToneCorpus

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

# A model of some 300 kB, so that logs still fit where a model does not.
OPTIONS = [
    *("--model.encoder.width", "64", "--model.encoder.layers", "1", "--model.encoder.output", "32"),
    *("--model.prediction.width", "64", "--model.prediction.output", "32"),
    *("--model.frontend.bins", "16", "--tokenizer.kind", "char", "--eval-every", "100000"),
    *("--data.batch-seconds", "8", "--data.max-seconds", "4"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    corpus = ToneCorpus(48)
    rows = []
    for i in range(len(corpus)):
        soundfile.write(tmp_path / f"{i}.wav", corpus.samples(i), RATE)
        rows.append({"audio_filepath": f"{i}.wav", "text": corpus.utterance(i).text})
    path = tmp_path / "tones.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def start(manifest: Path, run_dir: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "parley.zoo.cli", "train", "rnnt-tiny-words", *OPTIONS]
    command += ["--data.train", str(manifest), "--run-dir", str(run_dir), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Writes a file until no byte is left on the disk, then frees `leave` of them."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave))
    return ballast


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=600)
    return process.returncode, said


def assert_one_sentence(said: str, words: str) -> None:
    errors = [line for line in said.splitlines() if "rror" in line]
    assert len(errors) == 1, said
    assert errors[0].startswith("parley: error: the disk that holds ")
    assert words in errors[0]
    assert "--resume" in errors[0]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("log_every", "words"), [("100000", "this checkpoint was not written"), ("1", "stopped")]
)
def test_the_disk_fills_up_in_mid_run(manifest: Path, disk: Path, log_every: str, words: str):
    """Without logs it is the checkpoint that does not fit, else the line of metrics before it."""
    run = disk / "run"
    often = ["--checkpoint-every", "40", "--log-every", log_every]
    process = start(manifest, run, "--steps", "100000", *often)
    wait_for(process, lambda: (run / "checkpoints" / "80").exists())
    ballast = fill(disk)
    status, said = finish(process)
    assert status == 2
    assert_one_sentence(said, words)
    kept = {p.name for p in (run / "checkpoints").iterdir() if p.name.isdecimal()}
    assert kept
    if "checkpoint" in words:
        assert f"last good checkpoint: {max(map(int, kept))}" in said
    ballast.unlink()
    process = start(manifest, run, "--steps", "100000", *often, "--resume")
    newer = str(max(map(int, kept)) + 40)
    wait_for(process, lambda: (run / "checkpoints" / newer).exists())
    process.terminate()
    status, said = finish(process)
    assert status == 2
    assert "go on with --resume" in said
    assert f"resumed at {max(map(int, kept)):,}" in said
    assert "damaged" not in said


def test_the_trained_model_does_not_fit(manifest: Path, disk: Path):
    run = disk / "run"
    steps = ["--steps", "20", "--log-every", "10"]
    status, said = finish(start(manifest, run, *steps))
    assert status == 0, said
    weights = run / "model" / "weights.safetensors"
    before = weights.read_bytes()
    # A run that is complete only writes its last line of metrics, and the model again.
    ballast = fill(disk, leave=len(before) // 2)
    status, said = finish(start(manifest, run, *steps, "--resume"))
    assert status == 2
    assert_one_sentence(said, "the trained model was not written")
    assert weights.read_bytes() == before
    assert sorted(p.name for p in run.iterdir() if "model" in p.name) == [
        "model",
        "tokenizer.model",
    ]
    ballast.unlink()
    status, said = finish(start(manifest, run, *steps, "--resume"))
    assert status == 0, said
    assert weights.read_bytes() == before
