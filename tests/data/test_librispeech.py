"""A miniature of LibriSpeech in each of its layouts gives the same corpus."""

import pickle
import shutil
import struct
import tarfile

import numpy as np
import pytest
import soundfile

from parley.data.corpus import open_corpus, quarantined
from parley.data.errors import InputError

SPEAKERS = """; comment
;ID  |SEX| SUBSET           |MINUTES| NAME
84   | F | dev-clean        |  8.02 | Christie Nowak
174  | M | dev-clean        |  8.04 | Peter Eastman
"""
WORDS = {"84": ["GO DO YOU HEAR", "BUT IN LESS"], "174": ["HE WAS IN A FEVERED STATE"]}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory, make_tone):
    folder = tmp_path_factory.mktemp("libri") / "LibriSpeech"
    hertz = 200.0
    for speaker, texts in WORDS.items():
        chapter = folder / "dev-clean" / speaker / "77"
        chapter.mkdir(parents=True)
        with open(chapter / f"{speaker}-77.trans.txt", "w") as out:
            for i, text in enumerate(texts):
                key = f"{speaker}-77-{i:04d}"
                out.write(f"{key} {text}\n")
                soundfile.write(chapter / f"{key}.flac", make_tone(0.4 + i / 10, hertz), 16_000)
                hertz += 100
    (folder / "SPEAKERS.TXT").write_text(SPEAKERS)
    return folder.parent


def _rows(corpus):
    order = sorted(range(len(corpus)), key=lambda i: corpus.utterance(i).id)
    return [
        (u.id, u.text, u.speaker, u.duration, corpus.samples(i).tobytes())
        for i in order
        for u in [corpus.utterance(i)]
    ]


def _pack(extracted, path, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        tar.add(extracted / "LibriSpeech", "LibriSpeech")
    return path


def test_extracted(extracted, tmp_path):
    corpus = open_corpus(f"librispeech:{extracted}", "dev-clean", root=tmp_path)
    assert [row[0] for row in _rows(corpus)] == ["174-77-0000", "84-77-0000", "84-77-0001"]
    texts = {corpus.utterance(i).text for i in range(3)}
    assert texts == {"go do you hear", "but in less", "he was in a fevered state"}
    by_id = {corpus.utterance(i).id: corpus.utterance(i) for i in range(3)}
    assert by_id["84-77-0001"].duration == pytest.approx(0.5)
    assert by_id["84-77-0001"].metadata == {"gender": "female", "name": "Christie Nowak"}
    inner = open_corpus(f"librispeech:{extracted}/LibriSpeech", "dev-clean", root=tmp_path)
    assert _rows(inner) == _rows(corpus)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("dev-clean.tar.gz", "w:gz"),
        ("dev-clean.tar", "w:"),
        ("openslr.org_reso_12_dev-cleanX9.tar.gz", "w:gz"),
    ],
)
def test_archives(extracted, tmp_path, name, mode):
    archive = _pack(extracted, tmp_path / "in" / name, mode)
    spec, root = f"librispeech:{archive.parent}", tmp_path / "root"
    corpus = open_corpus(spec, "dev-clean", root=root, progress=False)
    expected = open_corpus(f"librispeech:{extracted}", "dev-clean", root=root)
    assert _rows(corpus) == _rows(expected)
    assert _rows(pickle.loads(pickle.dumps(corpus))) == _rows(expected)
    assert corpus.utterance(0).metadata["gender"] in ("male", "female")
    assert [path.name for path in archive.parent.iterdir()] == [name]  # nothing written there
    # A second opening finds the work done: it changes nothing under the root.
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert _rows(open_corpus(spec, "dev-clean", root=root)) == _rows(expected)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_archive_that_changes_is_read_anew(extracted, tmp_path):
    archive = _pack(extracted, tmp_path / "in" / "dev-clean.tar.gz", "w:gz")
    spec, root = f"librispeech:{archive.parent}", tmp_path / "root"
    assert len(open_corpus(spec, "dev-clean", root=root, progress=False)) == 3
    copy = tmp_path / "copy"
    shutil.copytree(extracted, copy)
    shutil.rmtree(copy / "LibriSpeech" / "dev-clean" / "174")
    archive.unlink()
    _pack(copy, archive, "w:gz")
    assert len(open_corpus(spec, "dev-clean", root=root, progress=False)) == 2


def test_a_damaged_index_is_made_again(extracted, tmp_path):
    archive = _pack(extracted, tmp_path / "in" / "dev-clean.tar", "w:")
    spec, root = f"librispeech:{archive.parent}", tmp_path / "root"
    expected = _rows(open_corpus(spec, "dev-clean", root=root))
    (index,) = root.rglob("*.index.jsonl")
    for damaged in (index.read_text()[:-30], "", index.read_text().replace("offset", "onset")):
        index.write_text(damaged)
        assert _rows(open_corpus(spec, "dev-clean", root=root)) == expected


@pytest.mark.parametrize("name", ["dev-clean.tar.gz", "dev-clean.tar"])
def test_a_truncated_archive(extracted, tmp_path, name):
    archive = _pack(extracted, tmp_path / "in" / name, "w:gz" if name.endswith("gz") else "w:")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(InputError, match=f"{name} is damaged or cut short"):
        open_corpus(f"librispeech:{archive.parent}", "dev-clean", root=tmp_path, progress=False)
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("librispeech/*.tar"))


def test_a_full_disk(extracted, tmp_path, monkeypatch):
    archive = _pack(extracted, tmp_path / "in" / "dev-clean.tar.gz", "w:gz")
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="more than is free; make room or set PARLEY_DATA"):
        open_corpus(f"librispeech:{archive.parent}", "dev-clean", root=tmp_path, progress=False)


def test_bad_recordings_are_left_out(extracted, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(extracted, copy)
    chapter = copy / "LibriSpeech" / "dev-clean" / "84" / "77"
    (chapter / "84-77-0000.flac").unlink()
    corpus = open_corpus(f"librispeech:{copy}", "dev-clean", root=tmp_path)
    assert len(corpus) == 2
    assert [row.where for row in quarantined(corpus)] == ["84-77-0000"]
    assert "no such recording" in quarantined(corpus)[0].reason


def test_missing_splits_are_explained(extracted, tmp_path):
    with pytest.raises(InputError, match=r"no split 'dev'; its splits: train-clean-100"):
        open_corpus(f"librispeech:{extracted}", "dev", root=tmp_path)
    with pytest.raises(InputError, match=r"of test-other; there are dev-clean\."):
        open_corpus(f"librispeech:{extracted}", "test-other", root=tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        open_corpus(f"librispeech:{tmp_path}/none", "dev-clean", root=tmp_path)


def test_splits_can_be_joined(extracted, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(extracted, copy)
    shutil.copytree(copy / "LibriSpeech" / "dev-clean", copy / "LibriSpeech" / "dev-other")
    corpus = open_corpus(f"librispeech:{copy}", "dev-clean+dev-other", root=tmp_path)
    assert len(corpus) == 6


def _prepared(extracted, folder, lazy, shards=2):
    """What TFDS writes: TFRecord shards of Examples."""
    proto = pytest.importorskip("tensorflow_datasets.proto").tf_example_pb2
    folder.mkdir(parents=True)
    records = []
    for path in sorted((extracted / "LibriSpeech" / "dev-clean").rglob("*.flac")):
        speaker, _, number = path.stem.split("-")
        feature = (example := proto.Example()).features.feature
        feature["id"].bytes_list.value.append(path.stem.encode())
        feature["text"].bytes_list.value.append(WORDS[speaker][int(number)].encode())
        feature["speaker_id"].int64_list.value.append(int(speaker))
        if lazy:
            feature["speech"].bytes_list.value.append(path.read_bytes())
        else:
            feature["speech"].int64_list.value.extend(soundfile.read(path, dtype="int16")[0])
        records.append(example.SerializeToString())
    for k in range(shards):
        with open(folder / f"librispeech-dev_clean.tfrecord-{k:05d}-of-{shards:05d}", "wb") as out:
            for record in records[k::shards]:
                out.write(struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4))
    return folder


@pytest.mark.parametrize("lazy", [False, True])
def test_prepared_by_tfds(extracted, tmp_path, lazy):
    folder = tmp_path / "tfds"
    _prepared(extracted, folder / "librispeech" / "default" / "2.1.1", lazy)
    corpus = open_corpus(f"librispeech:{folder}", "dev-clean", root=tmp_path, progress=False)
    expected = open_corpus(f"librispeech:{extracted}", "dev-clean", root=tmp_path)
    assert _rows(corpus) == _rows(expected)
    assert np.array_equal(pickle.loads(pickle.dumps(corpus)).samples(0), corpus.samples(0))


def test_tfds_with_a_missing_or_truncated_shard(extracted, tmp_path):
    folder = _prepared(extracted, tmp_path / "librispeech" / "default" / "2.1.1", True)
    last = max(folder.iterdir())
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(InputError, match="is cut short"):
        open_corpus(f"librispeech:{tmp_path}", "dev-clean", root=tmp_path, progress=False)
    last.unlink()
    with pytest.raises(InputError, match="has 1 of 2 files of dev-clean"):
        open_corpus(f"librispeech:{tmp_path}", "dev-clean", root=tmp_path, progress=False)
