"""A stream gives the text of the whole file, however the audio is cut."""

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.zoo.transcriber import Transcriber


@pytest.mark.parametrize("samples", [1237, 160, 640, 16_000, 10**6])
def test_any_chunk_size_gives_the_text_of_the_whole(model: Transcriber, sound, samples: int):
    for seed, seconds in enumerate([0.8, 1.7, 2.9]):
        audio = sound(seconds, seed)
        whole = model.transcribe(audio)
        stream = model.stream()
        for at in range(0, len(audio), samples):
            stream.feed(audio[at : at + samples])
        result = stream.finish()
        assert whole.text
        assert result.text == whole.text
        assert [w.start for w in result.words] == [w.start for w in whole.words]
        assert result.duration == whole.duration
        for a, b in zip(result.words, whole.words, strict=True):
            assert a.confidence == pytest.approx(b.confidence, abs=1e-3)


def test_chunks_of_frames(model: Transcriber, sound):
    audio = sound(2.9, 7)
    whole = model.transcribe(audio).text
    for frames in (1, 3, 7, 50):
        stream = model.stream()
        for at in range(0, len(audio), 160 * frames):
            stream.feed(audio[at : at + 160 * frames])
        assert stream.finish().text == whole


def test_partial_text_only_grows(model: Transcriber, sound):
    audio = sound(2.4, 1)
    stream, before = model.stream(), ""
    for at in range(0, len(audio), 3200):
        now = stream.feed(audio[at : at + 3200])
        assert now.startswith(before)
        before = now
    assert before
    assert stream.finish().text.startswith(before)


def test_floats_and_integers_are_the_same_audio(model: Transcriber, sound):
    audio = sound(1.1, 4)
    assert model.transcribe(audio / 32768.0).text == model.transcribe(audio).text


def test_a_buffer_may_be_reused_by_its_owner(model: Transcriber, sound):
    audio = sound(1.3, 2)
    stream = model.stream()
    buffer = np.zeros(500, np.int16)
    for at in range(0, len(audio), 500):
        part = audio[at : at + 500]
        buffer[: len(part)] = part
        stream.feed(buffer[: len(part)])
        buffer[:] = 999
    assert stream.finish().text == model.transcribe(audio).text


def test_an_empty_stream_is_an_empty_text(model: Transcriber):
    stream = model.stream()
    assert stream.feed(np.zeros(0, np.int16)) == ""
    assert stream.finish().duration == 0.0


def test_misuse_is_refused(model: Transcriber):
    stream = model.stream()
    with pytest.raises(InputError, match="one channel"):
        stream.feed(np.zeros((2, 100), np.int16))
    with pytest.raises(InputError, match="NaN"):
        stream.feed(np.full(100, np.nan))
    with pytest.raises(InputError, match="int32"):
        stream.feed(np.zeros(100, np.int32))
    stream.finish()
    with pytest.raises(ValueError, match="finished"):
        stream.feed(np.zeros(100, np.int16))
