"""Many processes, kills and resumption: nothing is lost, nothing is there twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from parley.zoo import cli

pytestmark = pytest.mark.slow


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.fixture
def many(tmp_path: Path, sound) -> Path:
    folder = tmp_path / "audio"
    folder.mkdir()
    for i in range(12):
        soundfile.write(folder / f"{i:02d}.wav", sound(0.5 + 0.1 * (i % 4), i), 16_000)
    (folder / "bad.wav").write_text("no audio")
    return folder


def run(*arguments: object) -> int:
    return cli.main([str(a) for a in arguments])


def test_processes_share_the_work_and_merge(tiny_folder: Path, many: Path, tmp_path: Path, capsys):
    out = tmp_path / "results.jsonl"
    whole = ["transcribe", tiny_folder, many, "--out"]
    for index in range(3):
        status = run(*whole, out, "--process-index", index, "--process-count", 3)
        assert status in (0, 2)
    shards = sorted(tmp_path.glob("results.*-of-*.jsonl"))
    shards = [s for s in shards if "rejected" not in s.name]
    assert len(shards) == 3
    found = [id for shard in shards for id in ids(shard)]
    assert len(found) == len(set(found)) == 12
    assert max(len(ids(shard)) for shard in shards) < 12

    merged = tmp_path / "merged.jsonl"
    pattern = tmp_path / "results.*-of-*.jsonl"
    assert run("merge", pattern, "--out", merged) == 0
    assert sorted(ids(merged)) == sorted(found)
    assert len(ids(tmp_path / "merged.rejected.jsonl")) == 1
    single = tmp_path / "single.jsonl"
    assert run(*whole, single) == 2
    by_id = [
        {r["id"]: r["text"] for r in map(json.loads, path.read_text().splitlines())}
        for path in (merged, single)
    ]
    assert by_id[0] == by_id[1]

    # One process's file missing, or there twice, is said, and nothing is written.
    capsys.readouterr()
    assert run("merge", *shards[:2], "--out", tmp_path / "two.jsonl") == 2
    assert "there are no results of process" in capsys.readouterr().err
    assert run("merge", *shards, single, "--out", tmp_path / "two.jsonl") == 2
    assert "more than once" in capsys.readouterr().err
    assert not (tmp_path / "two.jsonl").exists()


def test_a_killed_run_goes_on(tiny_folder: Path, many: Path, tmp_path: Path):
    out = tmp_path / "results.jsonl"
    command = ["transcribe", str(tiny_folder), str(many), "--out", str(out), "--resume"]
    # Recordings one by one, so that the kill falls among them.
    slow = (
        "import sys, time\n"
        "from parley.zoo import cli, transcriber\n"
        "transcriber._WINDOW = 1\n"
        "finish = transcriber.Transcriber._finish\n"
        "def wait(self, *a):\n"
        "    yield from finish(self, *a)\n"
        "    time.sleep(0.2)\n"
        "transcriber.Transcriber._finish = wait\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "XLA_FLAGS": ""}
    for _ in range(2):
        before = len(ids(out)) if out.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-c", slow, *command], env=environment, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            if out.exists() and out.read_bytes().count(b"\n") >= before + 2:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert before + 2 <= out.read_bytes().count(b"\n") < 12
    with open(out, "ab") as file:  # what a machine that lost its power may leave
        file.write(b'{"id": "torn')
    assert run(*command) == 2
    found = ids(out)
    assert len(found) == len(set(found)) == 12


def test_a_reader_that_has_seen_enough_does_not_end_the_work(
    tiny_folder: Path, many: Path, tmp_path: Path
):
    out = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "parley.zoo.cli", "transcribe", str(tiny_folder), str(many)]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        env={**os.environ, "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.close()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert b"Traceback" not in errors
    assert len(ids(out)) == 12


def test_results_of_others_are_not_resumed(tiny_folder: Path, many: Path, tmp_path: Path, capsys):
    out = tmp_path / "results.jsonl"
    one = str(many / "00.wav")
    assert run("transcribe", tiny_folder, one, "--out", out) == 0
    capsys.readouterr()
    assert run("transcribe", "rnnt-tiny", one, "--out", out, "--resume") == 2
    assert "holds results of tiny" in capsys.readouterr().err
    assert run("transcribe", tiny_folder, one, "--out", out, "--resume", "--beam", "2") == 2
    assert "was made with beam = 1, not 2" in capsys.readouterr().err
    assert run("transcribe", tiny_folder, one, "--out", out, "--resume") == 0
    assert len(ids(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--process-index", "3", "--process-count", "3"], "go together"),
        (["--process-index", "0"], "go together"),
        (["--process-index", "0", "--process-count", "2"], "give --out"),
        (["--format", "srt"], "give a folder"),
        (["--lm", "none.arpa", "--beam", "4"], "none.arpa: no such language model"),
        (["--phrases", "none.txt", "--beam", "4"], "none.txt cannot be read"),
        (["--lm", "none.arpa"], "need a beam"),
    ],
)
def test_what_does_not_go_together(
    tiny_folder: Path, many: Path, arguments: list[str], sentence: str, capsys
):
    assert run("transcribe", tiny_folder, many, *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
