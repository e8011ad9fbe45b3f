"""Recordings one by one, in batches, long, and bad."""

import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from parley.data.errors import InputError, Rejected
from parley.zoo.transcriber import Transcriber
from parley.zoo.transcript import Transcript


def test_a_batch_is_its_recordings(model: Transcriber, sound):
    audio = [sound(seconds, i) for i, seconds in enumerate([0.5, 2.6, 0.9, 1.4, 2.2])]
    together = model.transcribe(audio)
    alone = [model.transcribe(samples) for samples in audio]
    assert [str(r) for r in together] == [r.text for r in alone]
    assert len({r.text for r in alone}) == len(audio)


def test_a_result_has_text_words_and_times(model: Transcriber, recordings: Path):
    path = recordings / "good1.wav"
    result = model.transcribe(path)
    assert str(result) == result.text != ""
    assert result.source == str(path)
    assert result.duration == pytest.approx(2.4)
    assert result.text == " ".join(w.text for w in result.words)
    for word in result.words:
        assert 0 <= word.start <= word.end <= result.duration
        assert 0 < word.confidence <= 1


def test_bad_recordings_are_named_and_the_rest_is_done(model: Transcriber, recordings: Path):
    paths = [*sorted(recordings.glob("*.wav")), recordings / "absent.wav"]
    soundfile.write(recordings / "nan.wav", np.full(9000, np.nan), 16_000, "FLOAT")
    cut = (recordings / "good1.wav").read_bytes()
    (recordings / "cut.wav").write_bytes(cut[: len(cut) // 2])
    paths += [recordings / "nan.wav", recordings / "cut.wav"]
    results = model.transcribe(paths)
    kinds = {path.name: type(r) for path, r in zip(paths, results, strict=True)}
    assert kinds == {
        "absent.wav": Rejected,
        "cut.wav": Rejected,
        "nan.wav": Rejected,
        "empty.wav": Rejected,
        "text.wav": Rejected,
        "good0.wav": Transcript,
        "good1.wav": Transcript,
        "good2.wav": Transcript,
    }
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, Rejected):
            assert result.where == str(path)
            assert path.name in result.reason


def test_one_bad_recording_raises(model: Transcriber, recordings: Path):
    with pytest.raises(InputError, match=r"empty\.wav is empty"):
        model.transcribe(recordings / "empty.wav")
    with pytest.raises(InputError, match="100 samples"):
        model.transcribe(np.zeros(100, np.int16))


def test_a_tenth_of_a_second_is_a_recording(model: Transcriber, sound, tmp_path: Path):
    soundfile.write(tmp_path / "short.wav", sound(0.1, 0), 16_000)
    result = model.transcribe(tmp_path / "short.wav")
    assert result.duration == pytest.approx(0.1)
    assert all(w.end <= result.duration for w in result.words)


def test_other_rates(model: Transcriber, sound, tmp_path: Path):
    audio = sound(1.2, 5)
    soundfile.write(tmp_path / "a.wav", np.stack([audio, audio], axis=1), 48_000)
    assert model.transcribe(audio, rate=48_000).text == model.transcribe(tmp_path / "a.wav").text


def test_a_long_recording_streams_in_constant_memory(model: Transcriber, sound, tmp_path: Path):
    minute = sound(60.0, 0)
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        for _ in range(8):
            file.write(minute)
    progress: list[float] = []
    model.transcribe(minute)  # compiles
    tracemalloc.start()
    [(_, result)] = model.transcribe_each([path], on_audio=progress.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(result, Transcript)
    assert result.duration == pytest.approx(480.0)
    assert sum(progress) == pytest.approx(480.0)
    assert len(progress) > 10
    assert max(w.end for w in result.words) > 450  # the last minute is heard
    # The samples alone are 15 MB.
    assert peak < 8e6


def test_long_and_short_paths_agree(model: Transcriber, sound):
    audio = sound(32.0, 3)  # fills the largest batch to its last sample
    stream = model.stream()
    stream.feed(audio)
    assert stream.finish().text == model.transcribe(audio).text
    longer = np.concatenate([audio, sound(4.0, 4)])
    stream = model.stream()
    stream.feed(longer)
    assert stream.finish().text == model.transcribe(longer).text


def test_a_truncated_long_recording_is_rejected(model: Transcriber, sound, tmp_path: Path):
    path = tmp_path / "long.flac"
    soundfile.write(path, sound(40.0, 0), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    [result] = model.transcribe([path])
    assert isinstance(result, Rejected)
    assert "long.flac" in result.reason


def test_recordings_are_read_as_they_are_needed(model: Transcriber, sound):
    short = sound(0.3, 0)
    endless = (short for _ in itertools.count())
    results = model.transcribe_each(endless)
    first = [index for index, _ in itertools.islice(results, 40)]
    del results
    assert sorted(first) == list(range(40))


def test_few_shapes_are_compiled(model: Transcriber, sound):
    from parley.zoo import recognizer

    program: Any = recognizer._recognize
    before = program._cache_size()
    model.transcribe([sound(s, 0) for s in np.linspace(0.1, 2.6, 25)])
    # Buckets of 1, 2 and 3 s, each with up to 8 rows or all 32.
    assert program._cache_size() - before <= 4
