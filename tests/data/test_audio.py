"""Audio: every format becomes the same int16; what cannot be trusted is refused in a sentence."""

import io
import os
import tracemalloc

import numpy as np
import pytest
import soundfile

from parley.data.audio import as_samples, audio_info, read_audio, stream_audio
from parley.data.errors import InputError


def _write(path, samples, rate=16_000, **kwargs):
    soundfile.write(path, samples, rate, **kwargs)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "w64", "au", "caf"])
def test_lossless_formats_are_exact(tmp_path, make_tone, suffix):
    samples = make_tone(0.5)
    path = _write(tmp_path / f"a.{suffix}", samples, subtype="PCM_16")
    assert np.array_equal(read_audio(path), samples)
    assert audio_info(path).duration == 0.5


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "FLOAT"), ("wav", "PCM_24"), ("wav", "DOUBLE")]
)
def test_other_depths_keep_the_scale(tmp_path, make_tone, suffix, subtype):
    samples = make_tone(0.2)
    path = _write(tmp_path / f"a.{suffix}", samples / 32768.0, subtype=subtype)
    assert np.abs(read_audio(path).astype(int) - samples).max() <= 1


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_formats_are_near(tmp_path, make_tone, suffix):
    samples = make_tone(1.0)
    read = read_audio(_write(tmp_path / f"a.{suffix}", samples))
    assert abs(len(read) - len(samples)) < 2000
    assert np.abs(read).max() == pytest.approx(8000, rel=0.1)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channels_give_the_same_tone(tmp_path, make_tone, rate, channels):
    mono = make_tone(1.0, 440.0, rate)
    path = _write(tmp_path / "a.wav", np.tile(mono[:, None], (1, channels)), rate)
    read = read_audio(path)
    assert read.dtype == np.int16
    assert len(read) == 16_000
    # The edges ring; inside, the tone is the one made at 16 kHz.
    assert np.abs(read[800:-800].astype(int) - make_tone(1.0)[800:-800]).max() < 25


def test_resampling_is_deterministic(tmp_path):
    """soxr's own int16 path dithers, and now and then differently for the same input."""
    rng = np.random.default_rng(0)
    for i in range(20):
        noise = rng.integers(-9000, 9000, 20_000 + 501 * i).astype(np.int16)
        path = _write(tmp_path / "a.wav", noise, 14_400)
        first = read_audio(path)
        assert all(np.array_equal(first, read_audio(path)) for _ in range(3))


def test_segment(tmp_path, make_tone):
    samples = make_tone(1.0)
    path = _write(tmp_path / "a.flac", samples)
    assert np.array_equal(read_audio(path, offset=0.25, duration=0.5), samples[4000:12_000])
    assert np.array_equal(read_audio(path, offset=0.75, duration=9.0), samples[12_000:])
    with pytest.raises(InputError, match="segment"):
        read_audio(path, offset=2.0)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_stream_is_the_file(tmp_path, rate):
    noise = np.random.default_rng(0).integers(-9000, 9000, 3 * rate).astype(np.int16)
    path = _write(tmp_path / "a.flac", noise, rate)
    blocks = list(stream_audio(path, 0.4))
    assert max(map(len, blocks)) < 0.5 * 16_000
    whole, streamed = read_audio(path), np.concatenate(blocks)
    assert len(whole) == len(streamed)
    assert np.abs(whole.astype(int) - streamed).max() <= 1


@pytest.mark.parametrize("suffix", ["mp3", "ogg"])
def test_blocks_of_a_lossy_file_are_not_damaged_where_they_meet(tmp_path, suffix):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 3000, 2 * 16_000) * np.linspace(0, 1, 2 * 16_000)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise.astype(np.int16), 16_000)
    blocks = list(stream_audio(path, 0.1))
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path))


def test_100_ms_are_enough(tmp_path, make_tone):
    assert len(read_audio(_write(tmp_path / "a.wav", make_tone(0.1)))) == 1600


def test_three_hours_in_constant_memory(tmp_path):
    """Streaming holds a few blocks of 30 s, 1 MB each; the file's samples would be 345 MB."""
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        minute = np.zeros(60 * 16_000, np.int16)
        for _ in range(180):
            file.write(minute)
    tracemalloc.start()
    assert sum(len(block) for block in stream_audio(path, 30.0)) == 3 * 3600 * 16_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1e6 < peak < 10e6


def test_long_files_are_read_in_blocks_alike(tmp_path, monkeypatch):
    noise = np.random.default_rng(1).integers(-9000, 9000, 120_000).astype(np.int16)
    path = _write(tmp_path / "a.wav", np.stack([noise, noise], 1), 48_000)
    whole = read_audio(path)
    monkeypatch.setattr("parley.data.audio._WHOLE_SECONDS", 0.1)
    assert np.abs(whole.astype(int) - read_audio(path)).max() <= 1


def test_one_channel_of_several(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    noise = rng.integers(-9000, 9000, (40_000, 3)).astype(np.int16)
    path = _write(tmp_path / "a.wav", noise, 16_000)
    floats = tmp_path / "b.wav"
    soundfile.write(floats, noise / 32768.0, 16_000, subtype="FLOAT")
    for seconds in (600.0, 0.1):  # whole, and in blocks
        monkeypatch.setattr("parley.data.audio._WHOLE_SECONDS", seconds)
        for channel in range(3):
            assert np.array_equal(read_audio(path, channel=channel), noise[:, channel])
            assert np.array_equal(read_audio(floats, channel=channel), noise[:, channel])
    with pytest.raises(InputError, match=r"a\.wav has no channel 3: it has 3, counted from 0"):
        read_audio(path, channel=3)


def _bad_files(folder, tone):
    (folder / "empty.wav").write_bytes(b"")
    yield "empty.wav", "is empty"
    (folder / "text.wav").write_text("this is no audio at all")
    yield "text.wav", "not audio"
    (folder / "headerless.raw").write_bytes(bytes(4000))
    yield "headerless.raw", "not audio"
    yield "missing.wav", "no such recording"
    yield "null\0byte.wav", "no such recording"
    (folder / "folder.wav").mkdir()
    yield "folder.wav", "not a regular file"
    os.mkfifo(folder / "pipe.wav")  # opening it would wait forever
    yield "pipe.wav", "not a regular file"
    _write(folder / "short.wav", tone[:300])
    yield "short.wav", "lasts 19 ms"
    _write(folder / "none.wav", tone[:0])
    yield "none.wav", "lasts 0 ms"
    for value in (np.nan, np.inf):
        samples = tone / 32768.0
        samples[5000] = value
        _write(folder / f"{value}.wav", samples, subtype="FLOAT")
        yield f"{value}.wav", "NaN or infinite"
    _write(folder / "scale.wav", tone.astype(np.float32), subtype="FLOAT")
    yield "scale.wav", "rescale"
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff"):
        whole = io.BytesIO()
        soundfile.write(whole, np.tile(tone, 10), 16_000, format=suffix.upper())
        for part in (0.5, 0.9):
            name = f"cut{part}.{suffix}"
            (folder / name).write_bytes(whole.getvalue()[: int(part * len(whole.getvalue()))])
            yield name, "cut short"
    (folder / "header.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    yield "header.wav", "not audio"


def test_bad_files_are_refused_in_one_sentence(tmp_path, make_tone):
    for name, reason in _bad_files(tmp_path, make_tone(1.0)):
        for read in (read_audio, lambda path: list(stream_audio(path))):
            with pytest.raises(InputError, match=reason) as caught:
                read(tmp_path / name)
            message = str(caught.value)
            assert str(tmp_path / name) in message
            assert "\n" not in message
            assert message.endswith(".")


def test_bytes_are_a_file_too(make_tone):
    file = io.BytesIO()
    soundfile.write(file, make_tone(0.3), 16_000, format="FLAC")
    assert np.array_equal(read_audio(file.getvalue()), make_tone(0.3))
    with pytest.raises(InputError, match=r"tar:7 is cut short"):
        read_audio(file.getvalue()[:-800], name="tar:7")


def test_unknown_length_of_a_pipe_is_no_truncation(tmp_path, make_tone):
    """ffmpeg writing WAV to a pipe leaves 0xFFFFFFFF where the length belongs."""
    file = io.BytesIO()
    soundfile.write(file, make_tone(0.5), 16_000, format="WAV", subtype="PCM_16")
    raw = bytearray(file.getvalue())
    at = raw.index(b"data") + 4
    raw[4:8] = raw[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(raw)
    assert np.array_equal(read_audio(tmp_path / "a.wav"), make_tone(0.5))


def test_uneven_rows_are_no_samples():
    with pytest.raises(InputError, match="uneven rows are not one channel"):
        as_samples([[0.0, 0.1], [0.2]])  # pyright: ignore[reportArgumentType]
