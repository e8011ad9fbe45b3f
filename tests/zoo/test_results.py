"""Results files: what is written stays, what is torn goes, what does not belong is refused."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.data.errors import InputError
from parley.zoo.commands_merge import merge
from parley.zoo.formats import Record
from parley.zoo.results import (
    JsonLines,
    Run,
    Syncing,
    destination,
    hash_ids,
    hash_model,
    read_lines,
    read_run,
    rejected_path,
    run_path,
)

RUN = Run("m", "aa" * 8, {"words": True, "beam": 1}, input="i", items=3)


def result(id: str) -> Record:
    word = {"text": id, "start": 0.5, "end": 1.0, "confidence": 1.0}
    return {"id": id, "text": id, "duration": 2.0, "words": [word]}


def write(path: Path, ids: str, *, rejected: str = "", run: Run = RUN, resume: bool = False):
    sink = JsonLines(path, run, resume=resume)
    for id in ids:
        sink.add(result(id))
    for id in rejected:
        sink.rejects.add(id, "is bad")
    sink.close()


def ids(path: Path) -> list[str]:
    return [record["id"] for record, _ in read_lines(path)]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 400))
def test_wherever_a_file_is_cut_it_goes_on_with_what_is_whole(tmp_path: Path, cut: int):
    path = tmp_path / "r.jsonl"
    for file in tmp_path.iterdir():
        file.unlink()
    write(path, "abc")
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    whole = [id for id, end in zip("abc", _ends(data), strict=True) if end <= cut]
    sink = JsonLines(path, RUN, resume=True)
    assert sink.done == set(whole)
    for id in "abc":
        if id not in sink.done:
            sink.add(result(id))
    sink.close()
    assert path.read_bytes() == data


def _ends(data: bytes) -> list[int]:
    return [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]


def test_rejects_are_remembered_until_their_list_is_removed(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    write(path, "ab", rejected="cd")
    sink = JsonLines(path, RUN, resume=True)
    assert sink.rejects.ids == {"c", "d"}
    sink.close()
    rejected_path(path).unlink()
    sink = JsonLines(path, RUN, resume=True)
    assert (sink.done, sink.rejects.ids) == ({"a", "b"}, set())
    sink.close()


def test_what_does_not_belong_is_refused_and_nothing_is_changed(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    write(path, "ab")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for run, resume, sentence in [
        (RUN, False, "holds results already: go on with --resume"),
        (replace(RUN, weights="bb" * 8, model="n"), True, "holds results of m \\(weights aaaa"),
        (replace(RUN, options={"words": True, "beam": 4}), True, "was made with beam = 1, not 4"),
        (replace(RUN, options={"words": True}), True, "was made with beam = 1, not null"),
    ]:
        with pytest.raises(InputError, match=sentence):
            JsonLines(path, run, resume=resume)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before

    run_path(path).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"r.jsonl has no r.run.json beside it"):
        JsonLines(path, RUN, resume=True)
    run_path(path).write_text("{}")
    with pytest.raises(InputError, match=r"r.run.json is damaged"):
        JsonLines(path, RUN, resume=True)
    (tmp_path / "elsewhere").replace(run_path(path))
    path.write_bytes(b"{broken\n" + before[path])
    with pytest.raises(InputError, match=r"r.jsonl:1 is no result"):
        JsonLines(path, RUN, resume=True)


def test_one_process_writes_a_file(tmp_path: Path):
    first = JsonLines(tmp_path / "r.jsonl", RUN, resume=True)
    with pytest.raises(InputError, match="is being written by another process"):
        JsonLines(tmp_path / "r.jsonl", RUN, resume=True)
    first.close()
    JsonLines(tmp_path / "r.jsonl", RUN, resume=True).close()


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int):
    """`room`: bytes of the second line that are still taken."""
    path = tmp_path / "r.jsonl"
    sink = JsonLines(path, RUN, resume=False)
    sink.add(result("a"))
    write_bytes, left = os.write, [room]

    def full(fd: int, data: memoryview) -> int:
        part = data[: left[0]]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= len(part)
        return write_bytes(fd, part)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(InputError, match=r"r.jsonl: no space left .* free some space"):
            sink.add(result("b"))
    assert ids(path) == ["a"]
    assert path.read_bytes().endswith(b"\n")
    sink.add(result("c"))
    sink.close()
    assert ids(path) == ["a", "c"]


def test_it_is_synced_before_it_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []  # of the file, at each fsync
    path = tmp_path / "r.jsonl"
    sink = JsonLines(path, RUN, resume=False)
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    now = [100.0]
    monkeypatch.setattr("parley.zoo.results.monotonic", lambda: now[0])
    sync = Syncing(sink)
    for id, passed, synced in [("a", 0.0, True), ("b", 0.5, False), ("c", 0.6, True)]:
        now[0] += passed
        sink.add(result(id))
        assert sync() is synced
        assert not synced or sizes[-1] == path.stat().st_size
    assert len(sizes) == 2
    sink.add(result("d"))
    sink.close()
    assert sizes[-1] == path.stat().st_size


def shards(tmp_path: Path, *shares: str, rejected: str = "") -> list[Path]:
    files = []
    everything = hash_ids("".join(shares) + rejected)
    for index, share in enumerate(shares):
        bad = rejected if index == 0 else ""
        run = replace(RUN, input=everything, items=len(share + bad), process=(index, len(shares)))
        files.append(tmp_path / f"r.{index:02d}-of-{len(shares):02d}.jsonl")
        write(files[-1], share, rejected=bad, run=run)
    return files


def test_a_merge_has_everything_once_and_can_be_merged_again(tmp_path: Path):
    files = shards(tmp_path, "ab", "c", "", rejected="x")
    out = tmp_path / "all.jsonl"
    assert merge(files, str(out)) == (3, 1)
    assert ids(out) == ["a", "b", "c"]
    assert ids(rejected_path(out)) == ["x"]
    assert read_run(out).process == (0, 1)
    assert read_run(out).items == 4
    assert merge([out], str(tmp_path / "all.ctm")) == (3, 1)
    assert ids(rejected_path(out)) == ids(tmp_path / "all.ctm.rejected.jsonl") == ["x"]
    assert (tmp_path / "all.ctm").read_text() == "".join(
        f"{id} 1 0.500 0.500 {id} 1.000\n" for id in "abc"
    )
    assert merge([out], f"{tmp_path}/captions/", "vtt") == (3, 1)
    assert "b" in (tmp_path / "captions" / "b.vtt").read_text()
    write(tmp_path / "other.jsonl", "d", run=replace(RUN, input="j", items=1))
    assert merge([out, tmp_path / "other.jsonl"], str(tmp_path / "more.jsonl")) == (4, 1)


def test_what_a_merge_lacks_or_has_twice_is_said(tmp_path: Path):
    files = shards(tmp_path, "ab", "cd", "e")
    out = tmp_path / "all.jsonl"

    def refused(files: list[Path], sentence: str) -> None:
        with pytest.raises(InputError, match=sentence):
            merge(files, str(out))
        assert not list(tmp_path.glob("all.*"))

    refused(files[1:], "no results of process 0:")
    torn = files[1].read_bytes()
    files[1].write_bytes(torn[:-5])
    refused(files, "r.01-of-03.jsonl has 1 of its 2 recordings: run that process again")
    files[1].write_bytes(torn + torn)
    refused(files, "c is more than once in .*r.01-of-03.jsonl")
    files[1].write_bytes(torn)
    write(tmp_path / "twice.jsonl", "b", run=replace(RUN, items=1))
    refused([*files, tmp_path / "twice.jsonl"], "b is more than once in .*00-of-03.jsonl and in")
    write(tmp_path / "beam.jsonl", "z", run=replace(RUN, options={"words": True, "beam": 4}))
    refused([*files, tmp_path / "beam.jsonl"], "was made with beam = 4, not 1")
    write(out, "q")
    with pytest.raises(InputError, match=r"all.jsonl exists already"):
        merge(files, str(out))
    assert ids(out) == ["q"]


def test_a_merge_into_captions_without_words_leaves_nothing(tmp_path: Path):
    run = replace(RUN, options={"words": False}, items=1)
    write(tmp_path / "r.jsonl", "a", run=run)
    with pytest.raises(InputError, match="a holds no times of words"):
        merge([tmp_path / "r.jsonl"], str(tmp_path / "r.ctm"))
    assert not (tmp_path / "r.ctm").exists()
    assert ids(tmp_path / "r.jsonl") == ["a"]
    assert read_run(tmp_path / "r.jsonl") == run


@pytest.mark.parametrize(
    ("out", "run", "several", "sentence"),
    [
        ("r.docx", RUN, True, "written as .txt, .jsonl"),
        ("r.srt", RUN, True, "give a folder"),
        ("r.ctm", replace(RUN, process=(0, 2)), True, "several processes do not write one .ctm"),
        ("there.txt", RUN, False, "there.txt exists already"),
    ],
)
def test_places_that_do_not_fit(tmp_path: Path, out: str, run: Run, several: bool, sentence: str):
    (tmp_path / "there.txt").write_text("kept\n")
    with pytest.raises(InputError, match=sentence):
        destination(str(tmp_path / out), "text", run, "ab", resume=False, several=several)
    with pytest.raises(InputError, match="--resume goes on with JSON lines"):
        destination(f"{tmp_path}/r.ctm", "text", RUN, "ab", resume=True, several=True)
    assert [file.name for file in tmp_path.iterdir()] == ["there.txt"]
    assert (tmp_path / "there.txt").read_text() == "kept\n"


def test_another_weight_is_another_model(tiny_folder: Path, tmp_path: Path):
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert hash_model(tmp_path) == hash_model(tiny_folder)
    (tmp_path / "README.md").write_text("another card")
    assert hash_model(tmp_path) == hash_model(tiny_folder)
    data = bytearray((tmp_path / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(bytes(data))
    assert hash_model(tmp_path) != hash_model(tiny_folder)


def test_a_run_is_read_as_it_was_written(tmp_path: Path):
    write(tmp_path / "r.jsonl", "a")
    assert read_run(tmp_path / "r.jsonl") == RUN
    assert json.loads(run_path(tmp_path / "r.jsonl").read_text())["weights"] == RUN.weights
