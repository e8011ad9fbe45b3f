"""What counts as an input, and that every recording is taken once."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from parley.data.errors import InputError, Rejected
from parley.data.tfds_split import open_tfds
from parley.zoo.inputs import (
    each_channel,
    find_items,
    load,
    of_process,
    total_seconds,
    transcribe_items,
)


@pytest.fixture
def here(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(recordings)
    return recordings


def ids(*inputs: str) -> list[str]:
    items, rejected = find_items(inputs, "test")
    assert not rejected
    return [item.id for item in items]


def test_files_folders_and_patterns(here: Path):
    (here / "sub").mkdir()
    (here / "sub" / "good[1].wav").write_bytes((here / "good0.wav").read_bytes())
    assert ids("good1.wav", "good0.wav") == ["good1.wav", "good0.wav"]
    assert ids("good?.wav") == ["good0.wav", "good1.wav", "good2.wav"]
    assert ids("**/good*") == ["good0.wav", "good1.wav", "good2.wav", "sub/good[1].wav"]
    assert ids("sub/good[1].wav") == ["sub/good[1].wav"]  # a file's name before a pattern
    assert ids("sub") == ["sub/good[1].wav"]
    assert ids("good1.wav", "good*.wav", "./good0.wav") == ["good1.wav", "good0.wav", "good2.wav"]
    assert ids("not-there.wav") == ["not-there.wav"]  # rejected when its turn comes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("none*.wav", "no file matches 'none\\*.wav'"),
        ("empty/", "holds no recordings"),
        ("assistnt?limit=3", "no corpus 'assistnt\\?limit=3'"),
        ("m.jsonl?limit=none", "limit must be a whole number"),
        ("tfds:nothing/here", "no prepared dataset"),
    ],
)
def test_what_is_not_there_is_one_sentence(here: Path, text: str, sentence: str):
    (here / "empty").mkdir()
    (here / "m.jsonl").write_text('{"audio_filepath": "good0.wav"}\n')
    with pytest.raises(InputError, match=sentence):
        find_items([text], "test")
    with pytest.raises(InputError, match="no recordings are given"):
        find_items([], "test")


def test_a_manifest_gives_segments_and_says_which_rows_are_bad(here: Path, model):
    rows = [
        {"audio_filepath": "good1.wav", "id": "whole", "split": "a"},
        {"audio_filepath": "good1.wav", "offset": 0.5, "duration": 1.0, "split": "b"},
        {"audio_filepath": "good1.wav", "offset": 1.5, "split": "b"},
        {"audio_filepath": "gone.wav", "duration": 1.0},
    ]
    (here / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items, rejected = find_items(["m.jsonl"], "test")
    assert [item.id for item in items] == ["whole", "good1.wav@0.5", "good1.wav@1.5"]
    assert [row.where for row in rejected] == ["m.jsonl:4"]
    samples, _ = soundfile.read("good1.wav", dtype="int16")
    assert load(items[0]) == "good1.wav"
    np.testing.assert_array_equal(load(items[1]), samples[8_000:24_000])
    np.testing.assert_array_equal(load(items[2]), samples[24_000:])
    assert total_seconds(items) == pytest.approx(2.4 + 1.0 + 0.9)
    found = {item.id: str(result) for item, result in transcribe_items(model, items)}
    assert found["good1.wav@0.5"] == model.transcribe(samples[8_000:24_000]).text

    chosen, _ = find_items(["m.jsonl?split=b"], "test")
    assert chosen[0].path == "good1.wav"
    assert [item.offset for item in chosen] == [0.5, 1.5]


def test_one_id_for_two_recordings_is_refused(here: Path):
    rows = [{"audio_filepath": f"good{i}.wav", "id": "same"} for i in range(2)]
    (here / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="two recordings are called 'same'"):
        find_items(["m.jsonl"], "test")


def test_long_segments_come_one_at_a_time(here: Path, model, sound):
    soundfile.write("long.wav", sound(68.0, 5), 16_000)
    rows = [{"audio_filepath": "long.wav", "offset": t, "duration": 33.0} for t in (1.0, 34.0)]
    rows.insert(1, {"audio_filepath": "good0.wav", "offset": 0.1, "duration": 0.5})
    (here / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items, _ = find_items(["m.jsonl"], "test")
    found = {item.id: result for item, result in transcribe_items(model, items)}
    assert len(found) == 3
    samples, _ = soundfile.read("long.wav", dtype="int16")
    assert str(found["long.wav@34"]) == model.transcribe(samples[544_000:1_072_000]).text


def test_the_length_of_many_files_is_estimated_from_a_part_of_them(here: Path):
    for i in range(600):
        (here / f"copy{i:03d}.wav").symlink_to(here / "good0.wav")
    items, _ = find_items(["copy*.wav"], "test")
    assert total_seconds(items) == pytest.approx(600 * 0.7, rel=1e-3)
    assert total_seconds([]) == 0.0


def test_processes_share_out_all_ids_evenly():
    names = [f"calls/{i}.wav" for i in range(3_000)] + ["a\udce9.wav"]
    shares = [[n for n in names if of_process(n, index, 7)] for index in range(7)]
    assert sorted(n for share in shares for n in share) == sorted(names)
    assert all(350 < len(share) < 510 for share in shares)


class Prepared(tfds.core.GeneratorBasedBuilder):
    """Encoded files as bytes; `plain` has int16 tensors instead, without ids."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, examples: dict[str, list[dict]], kind: str, *, data_dir: Path):
        self._examples, self._kind = examples, kind
        config = tfds.core.BuilderConfig(name=kind, version="1.0.0")
        super().__init__(config=config, data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        audio = {
            "bytes": tfds.features.Tensor(shape=(), dtype=np.object_),
            "plain": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "none": tfds.features.Tensor(shape=(None,), dtype=np.float32),
        }[self._kind]
        features: dict = {"bytes": {"id": tfds.features.Text(), "speech": audio}}.get(
            self._kind, {"audio": audio, "text": tfds.features.Text()}
        )
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(rows) for name, rows in self._examples.items()}

    def _generate_examples(self, rows):
        yield from enumerate(rows)


def test_a_tfds_split_without_tensorflow(here: Path, sound, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARLEY_DATA", str(here / "data"))
    pieces = [sound(0.4 + 0.1 * i, i) for i in range(5)]
    plain = [{"audio": samples, "text": "hi"} for samples in pieces]
    Prepared({"dev": plain[:2], "test": plain}, "plain", data_dir=here).download_and_prepare()
    items, _ = find_items([f"tfds:{here}/prepared/plain/1.0.0"], "test")
    assert [item.id for item in items] == [f"test/{i:06d}" for i in range(5)]
    stored = [np.asarray(load(item)) for item in items]
    assert {len(s) for s in stored} == {len(s) for s in pieces}
    assert total_seconds(items) == pytest.approx(sum(map(len, pieces)) / 16_000)
    again = open_tfds(f"{here}/prepared/plain/1.0.0", "test")  # by its index
    np.testing.assert_array_equal(again.samples(3), stored[3])
    assert again.utterance(3).text == "hi"
    with pytest.raises(InputError, match="has no split 'train': it has dev, test"):
        find_items([f"tfds:{here}/prepared/plain/1.0.0"], "train")


def test_tfds_encoded_files_and_other_features(here: Path, monkeypatch: pytest.MonkeyPatch, model):
    monkeypatch.setenv("PARLEY_DATA", str(here / "data"))
    files = {"one": (here / "good0.wav").read_bytes(), "two": b"no audio at all" * 20}
    rows = [{"id": id, "speech": encoded} for id, encoded in files.items()]
    builder = Prepared({"test": rows}, "bytes", data_dir=here / "data")
    builder.download_and_prepare()
    items, _ = find_items(["tfds:prepared/bytes"], "test")
    found = {item.id: result for item, result in transcribe_items(model, items)}
    assert str(found["one"]) == model.transcribe("good0.wav").text
    assert isinstance(found["two"], Rejected)
    assert "two is not audio" in found["two"].reason

    floats = [{"audio": np.zeros(9, np.float32), "text": ""}]
    Prepared({"test": floats}, "none", data_dir=here).download_and_prepare()
    items, _ = find_items([f"tfds:{here}/prepared/none/1.0.0"], "test")
    refused = load(items[0])
    assert isinstance(refused, Rejected)
    assert "is float32 [9], not int16" in refused.reason


def test_channels_of_a_file_one_by_one(tmp_path):
    left, right = np.full(16_000, 1000, np.int16), np.full(16_000, -2000, np.int16)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16_000)
    soundfile.write(tmp_path / "one.wav", left, 16_000)
    (tmp_path / "bad.wav").write_text("no audio")
    items, _ = find_items([str(tmp_path / name) for name in ("two.wav", "one.wav", "bad.wav")], "")
    names = [Path(item.id).name for item in each_channel(items)]
    assert names == ["two.wav#1", "two.wav#2", "one.wav", "bad.wav"]
    for item, samples in zip(each_channel(items), (left, right), strict=False):
        np.testing.assert_array_equal(load(item), samples)
        assert item.seconds == 1.0
