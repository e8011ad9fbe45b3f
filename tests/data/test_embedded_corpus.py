"""The embedded corpus on disk: made once, the same for any number of workers, never half."""

import errno
import hashlib
import pickle
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from parley.data.embedded import EmbeddedCorpus, corpus, pool
from parley.data.embedded.draw import Draw
from parley.data.embedded.synth import Synthesiser
from parley.data.errors import InputError

pytest.importorskip("espeakng_loader", reason="the extra `synth` is not installed")

SIZE = {"speakers": 7, "utterances": 3, "progress": False}


def digest(c: EmbeddedCorpus) -> str:
    state = hashlib.blake2b()
    for i in range(len(c)):
        state.update(repr(c.utterance(i)).encode() + c.samples(i).tobytes())
    return state.hexdigest()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedCorpus:
    root = tmp_path_factory.mktemp("embedded")
    return EmbeddedCorpus.open("words", "train", root=root, workers=1, **SIZE)


def test_every_utterance_says_who_and_where(words: EmbeddedCorpus):
    assert words.name == "words-train-7x3-seed0"
    assert len(words) == 21
    for i in range(len(words)):
        utterance, samples = words.utterance(i), words.samples(i)
        assert samples.dtype == np.int16
        assert samples.ndim == 1
        assert utterance.duration == samples.size / 16000
        assert 1 <= len(utterance.text.split()) <= 4
        assert utterance.id.startswith(f"words-{utterance.speaker}-")
        about = utterance.metadata
        assert about["voice"].endswith(f"+{utterance.speaker}")
        assert about["gender"] == "female"
        assert {"accent", "place", "zip", "longitude", "latitude", "snr", "rt60"} <= set(about)
        assert about["snr"] is None or 15 <= about["snr"] <= 40
    assert len({words.utterance(i).id for i in range(21)}) == 21
    assert len({words.utterance(i).metadata["accent"] for i in range(21)}) == 7


def test_the_number_of_workers_changes_nothing(words: EmbeddedCorpus, tmp_path: Path):
    two = EmbeddedCorpus.open("words", "train", root=tmp_path, workers=2, **SIZE)
    assert digest(two) == digest(words)
    other = EmbeddedCorpus.open("words", "train", root=tmp_path, seed=1, **SIZE)
    assert all(other.utterance(i).speaker.endswith("-seed1") for i in range(len(other)))
    # Their names differ anyhow: what they say and how it sounds must.
    assert [other.utterance(i).text for i in range(6)] != [
        words.utterance(i).text for i in range(6)
    ]
    assert other.samples(0).tobytes() != words.samples(0).tobytes()


def test_a_large_draw_is_written_in_parts(
    words: EmbeddedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("parley.data.embedded.builder.PART_UTTERANCES", 6)
    parts = EmbeddedCorpus.open("words", "train", root=tmp_path, **SIZE)
    assert len(list(parts.folder.glob("*train_00?.array_record*"))) == 4
    whole = {words.utterance(i).id: i for i in range(len(words))}
    assert len(parts) == len(words)
    for i in range(len(parts)):
        same = whole.pop(parts.utterance(i).id)
        assert parts.utterance(i) == words.utterance(same)
        np.testing.assert_array_equal(parts.samples(i), words.samples(same))


def test_a_speaker_goes_on_where_the_last_session_ended():
    sessions = Draw("words", "train", 2, 45).sessions()
    assert [who for who, _ in sessions] == [0, 1] * 3
    for who in (0, 1):
        assert [n for w, numbers in sessions if w == who for n in numbers] == list(range(45))
    # A smaller draw has the same first sessions.
    assert Draw("words", "train", 2, 40).sessions() == sessions[:4]


def test_it_is_made_once_and_opened_without_the_synthesiser(
    words: EmbeddedCorpus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(corpus, "library", lambda: pytest.fail("would be made again"))
    root = words.folder.parents[2]
    again = EmbeddedCorpus.open("words", "train", root=root, **SIZE)
    assert digest(again) == digest(words)


def test_it_can_be_pickled_and_read_by_threads(words: EmbeddedCorpus):
    data = pickle.dumps(words)
    assert len(data) < 1000
    copy = pickle.loads(data)
    with ThreadPoolExecutor(4) as pool:
        lengths = list(pool.map(lambda i: copy.samples(i % 21).size, range(210)))
    assert lengths == 10 * [words.samples(i).size for i in range(21)]


def test_a_lost_or_damaged_index_is_made_again(words: EmbeddedCorpus):
    index = words.folder / "utterances.jsonl"
    before = index.read_text()
    for damaged in ("", before[:-40], before.replace('"text"', '"txt"')):
        index.write_text(damaged)
        again = EmbeddedCorpus(words.folder)
        assert [again.utterance(i) for i in range(21)] == [words.utterance(i) for i in range(21)]
        assert index.read_text() == before


def test_an_interrupted_making_leaves_nothing_to_mistake(
    words: EmbeddedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = pool.speak_all

    def interrupted(draw, workers=None):
        for number, examples in enumerate(real(draw, workers)):
            if number == 3:
                raise KeyboardInterrupt
            yield examples

    with monkeypatch.context() as patch:
        patch.setattr("parley.data.embedded.corpus.speak_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            EmbeddedCorpus.open("words", "train", root=tmp_path, **SIZE)
    folder = tmp_path / "embedded_speech" / words.name
    assert not (folder / "1.0.0").exists()
    # A process that is killed cannot even tidy up.
    left = folder / "incomplete.ABCDEF_1.0.0"
    left.mkdir()
    (left / "half.array_record").write_bytes(b"half")
    whole = EmbeddedCorpus.open("words", "train", root=tmp_path, **SIZE)
    assert digest(whole) == digest(words)
    assert not left.exists()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(corpus.shutil, "disk_usage", lambda _: usage(10, 9, 1))
        with pytest.raises(InputError, match=r"is full.*words-train-7x3-seed0.*MB.*PARLEY_DATA"):
            EmbeddedCorpus.open("words", "train", root=tmp_path, **SIZE)

    # In the midst of it: array_record raises no OSError, only these words.
    for failure in (
        RuntimeError("write() failed: No space left on device"),
        OSError(errno.ENOSPC, "No space left"),
    ):

        def fails(*_, failure=failure):
            yield from ()
            raise failure

        with monkeypatch.context() as patch:
            patch.setattr("parley.data.embedded.corpus.speak_all", fails)
            with pytest.raises(InputError, match="is full"):
                EmbeddedCorpus.open("words", "train", root=tmp_path, **SIZE)
    assert not list(tmp_path.rglob("1.0.0"))


def test_a_worker_that_dies_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"ended.*speaker 0 of words-train-7x3-seed0"):
        EmbeddedCorpus.open("words", "train", root=tmp_path, **SIZE)
    assert not list(tmp_path.rglob("1.0.0"))


def test_a_missing_extra_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def missing():
        raise InputError("run `pip install 'parley-asr[synth]'`")

    monkeypatch.setattr(corpus, "library", missing)
    with pytest.raises(InputError, match="synth"):
        EmbeddedCorpus.open("words", "train", root=tmp_path, **SIZE)
    assert not list(tmp_path.iterdir())


def test_dev_is_clean_and_always_the_same_size(tmp_path: Path):
    dev = EmbeddedCorpus.open("words", "dev", root=tmp_path, **SIZE)
    assert len(dev) == 35 * 12
    assert {dev.utterance(i).metadata["snr"] for i in range(len(dev))} == {None}
    speakers = {dev.utterance(i).speaker for i in range(len(dev))}
    assert len(speakers) == 35
    assert all(name.startswith("dev") for name in speakers)
    quietest = min(np.abs(dev.samples(i).astype(int)).max() for i in range(len(dev)))
    assert quietest > 300


def test_the_synthesiser_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Synthesiser({}) as instance:
        instance.voice("en-us")
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
