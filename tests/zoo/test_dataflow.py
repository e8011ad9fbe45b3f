"""The Beam transform under several worker processes."""

import json
import os
from pathlib import Path

import pytest

beam = pytest.importorskip("apache_beam", reason="needs the extra beam")


def test_several_workers_give_what_the_model_gives(
    tiny_folder: Path, recordings: Path, tmp_path: Path, model, monkeypatch: pytest.MonkeyPatch
):
    from parley.zoo.dataflow import Transcribe

    monkeypatch.setenv("XLA_FLAGS", "")  # workers need no eight devices
    paths = [str(recordings / name) for name in ("good0.wav", "empty.wav", "good1.wav")]
    encoded = {"flac": (recordings / "good2.wav").read_bytes(), "bad": b"no audio at all" * 100}
    options = beam.options.pipeline_options.PipelineOptions(
        runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        direct_num_workers=2,
        direct_running_mode="multi_processing",
    )

    def with_process(pair: tuple[str, dict]) -> str:
        return json.dumps({**pair[1], "pid": os.getpid()})

    with beam.Pipeline(options=options) as pipeline:
        found = (
            pipeline
            | beam.Create([*paths, *encoded.items(), 7])
            | beam.Reshuffle()
            | Transcribe(tiny_folder)
        )
        for name in ("transcribed", "rejected"):
            text = found[name] | f"{name} lines" >> beam.Map(with_process)
            _ = text | f"{name} file" >> beam.io.WriteToText(str(tmp_path / name))

    def lines(name: str) -> list[dict]:
        files = sorted(tmp_path.glob(f"{name}-*"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    transcribed = {fields["id"]: fields for fields in lines("transcribed")}
    assert {id: fields["text"] for id, fields in transcribed.items()} == {
        paths[0]: model.transcribe(paths[0]).text,
        paths[2]: model.transcribe(paths[2]).text,
        "flac": model.transcribe(encoded["flac"]).text,
    }
    assert " ".join(w["text"] for w in transcribed["flac"]["words"]) == transcribed["flac"]["text"]
    rejected = {fields["id"]: fields["reason"] for fields in lines("rejected")}
    assert rejected.keys() == {paths[1], "bad", "7"}
    assert "is empty" in rejected[paths[1]]
    assert "neither a path nor (id, bytes)" in rejected["7"]
    assert os.getpid() not in {fields["pid"] for fields in transcribed.values()}
