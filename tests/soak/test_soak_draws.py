"""Thousands of random draws of what is cheap to check."""

import io
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from parley import zoo
from parley.data.audio import audio_info, read_audio, stream_audio
from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.train.losses import lattice_loss
from parley.zoo.transcript import Transcript
from tones import RATE

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def test_however_a_recording_is_cut_the_stream_gives_its_tokens(tmp_path: Path):
    """300 sentences of unseen speakers, each cut anew into chunks of very different sizes."""
    corpus = open_corpus("assistant", "test", root=tmp_path, progress=False)
    model, rng = zoo.load("rnnt-tiny"), np.random.default_rng(0)
    audio = [corpus.samples(int(i)) for i in rng.choice(len(corpus), 300, replace=False)]
    for samples, whole in zip(audio, model.transcribe(audio), strict=True):
        stream, at = model.stream(), 0
        longest = rng.choice([200, 2_000, 20_000, 80_000])
        while at < len(samples):
            size = int(rng.integers(1, longest))
            stream.feed(samples[at : at + size])
            at += size
        result = stream.finish()
        assert isinstance(whole, Transcript)
        assert result.text == whole.text
        assert [w.start for w in result.words] == [w.start for w in whole.words]


# --- damaged files -------------------------------------------------------------------------------


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, or with bits flipped (half the time near the beginning), or bytes put in."""
    kind = rng.integers(4)
    if kind == 0:
        return content[: rng.integers(len(content))]
    out = bytearray(content)
    reach = min(len(out), 128) if rng.random() < 0.5 else len(out)
    if kind == 3:
        at = int(rng.integers(reach))
        out[at:at] = rng.bytes(int(rng.choice([1, 2, 300])))
        return bytes(out)
    for _ in range(int(rng.choice([1, 2, 8]))):
        out[rng.integers(reach)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def encoded(container: str, subtype: str, rate: int, channels: int) -> bytes:
    t = np.arange(int(0.4 * rate))[:, None] / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * t * np.arange(1, channels + 1))
    file = io.BytesIO()
    soundfile.write(file, tone, rate, format=container, subtype=subtype)
    return file.getvalue()


def sounds_or_says(read: Callable[[], np.ndarray]) -> bool:
    """Whether `read` gives samples; nothing but InputError may come instead."""
    try:
        samples = read()
    except InputError:
        return False
    assert samples.dtype == np.int16
    assert samples.ndim == 1
    return True


FORMATS = [
    ("WAV", "PCM_16", 16_000, 1),
    ("WAV", "PCM_24", 44_100, 2),
    ("WAV", "FLOAT", 8_000, 1),
    ("FLAC", "PCM_16", 16_000, 1),
    ("FLAC", "PCM_24", 48_000, 2),
    ("OGG", "VORBIS", 16_000, 1),
    ("OGG", "OPUS", 48_000, 1),
    ("MP3", "MPEG_LAYER_III", 16_000, 1),
    ("AIFF", "PCM_16", 16_000, 1),
]


# soundfile's callbacks cannot raise into C: a seek to before the beginning is only warned of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("container", "subtype", "rate", "channels"), FORMATS)
def test_damaged_audio_is_read_or_refused(
    container: str, subtype: str, rate: int, channels: int, tmp_path: Path
):
    rng = np.random.default_rng([rate, len(subtype)])
    whole = encoded(container, subtype, rate, channels)
    assert sounds_or_says(lambda: read_audio(whole))
    path, refused = tmp_path / "damaged", 0
    for _ in range(400):
        content = damaged(whole, rng)
        refused += not sounds_or_says(partial(read_audio, content))
        path.write_bytes(content)
        sounds_or_says(lambda: np.concatenate([np.zeros(0, np.int16), *stream_audio(path, 0.1)]))
        try:
            assert audio_info(path).duration >= 0
        except InputError:
            continue
    assert refused > 40


ROWS = [
    {"audio_filepath": "a.wav", "text": "one two", "duration": 0.4, "speaker": "ann", "take": 3},
    {"audio_filepath": "a.wav", "text": "three", "offset": 0.1, "duration": 0.2},
    {"audio_filepath": "a.wav", "text": "it's four", "id": "x", "accent": "rp"},
]


def as_csv() -> str:
    header = "audio_filepath,text,duration,speaker\n"
    return header + "".join(f'a.wav,"one, {i}",0.4,s{i}\n' for i in ("two", "three", "four"))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_a_damaged_manifest_is_read_or_refused(suffix: str, tmp_path: Path):
    texts = {
        ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        ".json": json.dumps(ROWS),
        ".csv": as_csv(),
        ".tsv": as_csv().replace(",", "\t"),
    }
    soundfile.write(tmp_path / "a.wav", np.zeros(int(0.4 * RATE), np.int16), RATE)
    path, rng = tmp_path / f"rows{suffix}", np.random.default_rng(len(suffix))
    whole, refused = texts[suffix].encode(), 0
    path.write_bytes(whole)
    assert len(open_corpus(str(path))) == 3
    for _ in range(1500):
        path.write_bytes(damaged(whole, rng))
        try:
            corpus = open_corpus(str(path))
        except InputError:
            refused += 1
            continue
        assert len(corpus) > 0
        for i in range(len(corpus)):
            assert corpus.utterance(i).text.strip()
            assert corpus.utterance(i).duration > 0
            sounds_or_says(partial(corpus.samples, i))
    assert refused > 20


# --- the lattice ---------------------------------------------------------------------------------


def every_alignment(
    log_blank: np.ndarray, log_label: np.ndarray, frames: int, labels: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """(-log P, and its gradients in `log_blank` and `log_label` [T, U+1]) path by path."""
    blanks, emissions = np.zeros_like(log_blank), np.zeros_like(log_label)
    if frames == 0:
        return 0.0, blanks, emissions
    paths: list[tuple[float, list, list]] = []
    for where in itertools.combinations(range(frames - 1 + labels), labels):
        t = u = 0
        used_blanks, used_labels = [], []
        for step in range(frames - 1 + labels):
            if step in where:
                used_labels.append((t, u))
                u += 1
            else:
                used_blanks.append((t, u))
                t += 1
        used_blanks.append((t, u))
        score = sum(float(log_blank[cell]) for cell in used_blanks)
        score += sum(float(log_label[cell]) for cell in used_labels)
        paths.append((score, used_blanks, used_labels))
    total = np.logaddexp.reduce([score for score, _, _ in paths])
    for score, used_blanks, used_labels in paths:
        for cell in used_blanks:
            blanks[cell] -= np.exp(score - total)
        for cell in used_labels:
            emissions[cell] -= np.exp(score - total)
    return -float(total), blanks, emissions


def test_thousands_of_lattices_are_the_sums_of_their_alignments():
    batch, frames, labels = 128, 5, 4
    rng = np.random.default_rng(0)

    @jax.jit
    def ours(log_blank, log_label, frame_lengths, label_lengths):
        def total(a, b):
            loss = lattice_loss(a, b, frame_lengths, label_lengths)
            return loss.sum(), loss

        gradients, loss = jax.grad(total, (0, 1), has_aux=True)(log_blank, log_label)
        return loss, *gradients

    for _ in range(32):
        scale = rng.choice([0.1, 1.0, 10.0])
        log_blank, log_label = (
            -scale * rng.exponential(size=(batch, frames, labels + 1)).astype(np.float32)
            for _ in range(2)
        )
        frame_lengths = rng.integers(0, frames + 1, batch).astype(np.int32)
        label_lengths = rng.integers(0, labels + 1, batch).astype(np.int32)
        loss, blanks, emissions = map(
            np.asarray, ours(log_blank, log_label, frame_lengths, label_lengths)
        )
        for row in range(batch):
            expected = every_alignment(
                log_blank[row].astype(np.float64),
                log_label[row].astype(np.float64),
                int(frame_lengths[row]),
                int(label_lengths[row]),
            )
            np.testing.assert_allclose(loss[row], expected[0], rtol=2e-6, atol=1e-5)
            np.testing.assert_allclose(blanks[row], expected[1], atol=2e-6)
            np.testing.assert_allclose(emissions[row], expected[2], atol=2e-6)
