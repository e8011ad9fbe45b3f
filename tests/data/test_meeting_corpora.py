"""LibriCSS and LibriSpeechMix from miniatures of their layouts."""

import json

import numpy as np
import pytest
import soundfile

from parley.data.corpus import open_corpus, quarantined
from parley.data.errors import InputError
from parley.data.turns import Turn, turns_of

SESSION = "overlap_ratio_20.0_sil0.1_1.0_session{}_actual20.5"


@pytest.fixture(scope="module")
def libricss(tmp_path_factory, make_tone):
    """Sessions 0 and 1 of one condition and session 1 of another, two pieces each."""
    root = tmp_path_factory.mktemp("libricss")
    for condition, number in (("OV20", 0), ("OV20", 1), ("0L", 1)):
        session = root / "for_release" / condition / SESSION.format(number)
        for part in ("record/segments", "clean", "transcription/segments"):
            (session / part).mkdir(parents=True)
        tones = [make_tone(3.0, 200.0 + 100 * channel) for channel in range(7)]
        wav = np.stack(tones, axis=1)
        soundfile.write(session / "record" / "raw_recording.wav", np.tile(wav, (2, 1)), 16_000)
        soundfile.write(session / "clean" / "mix.wav", np.tile(tones[0], 2), 16_000)
        for k in range(2):
            soundfile.write(session / "record" / "segments" / f"segment_{k}.wav", wav, 16_000)
            (session / "transcription" / "segments" / f"seg_{k}.scp").write_text(
                "16051\t40000\t7127\tDID NOT THE DANCING\n51\t24000\t121\tAMUSE YOU NO\n"
            )
        (session / "transcription" / "meeting_info.txt").write_text(
            "start_time\tend_time\tspeaker\tutterance_id\ttranscription\n"
            "0.1\t2.5\t121\t121-121726-0001\tAMUSE YOU NO\n"
            "2.6\t5.0\t7127\t7127-75946-0000\tDID NOT THE DANCING\n"
        )
    return root


def test_libricss_segments(libricss):
    corpus = open_corpus(f"libricss:{libricss}", "test")
    rows = [corpus.utterance(i) for i in range(len(corpus))]
    assert [row.id for row in rows] == [
        f"{c}_session1_segment{k}" for c in ("0L", "OV20") for k in (0, 1)
    ]
    assert turns_of(rows[0]) == (
        Turn(0.0031875, 1.5, "amuse you no", "121"),  # 51 samples
        Turn(1.0031875, 2.5, "did not the dancing", "7127"),
    )
    assert rows[0].text == "amuse you no did not the dancing"
    assert rows[0].duration == 3.0
    assert rows[0].speaker == "0L_session1"
    assert rows[3].metadata["condition"] == "OV20"
    assert (rows[3].metadata["segment"], rows[3].metadata["speakers"]) == (1, 2)
    # From 1.0032 to 1.5 of 0.0032 to 2.5 s.
    assert rows[0].metadata["overlap"] == pytest.approx(0.4968 / 2.4968, abs=1e-3)
    assert len(open_corpus(f"libricss:{libricss}/for_release", "dev")) == 2
    assert len(open_corpus(f"libricss:{libricss}?condition=OV20", "all")) == 4


@pytest.mark.parametrize(("query", "channel"), [("", 0), ("?channel=0", 0), ("?channel=3", 3)])
def test_libricss_microphones(libricss, make_tone, query, channel):
    corpus = open_corpus(f"libricss:{libricss}{query}", "test")
    assert np.array_equal(corpus.samples(0), make_tone(3.0, 200.0 + 100 * channel))


def test_libricss_mean_of_the_microphones(libricss, make_tone):
    corpus = open_corpus(f"libricss:{libricss}?channel=mean", "test")
    mean = np.mean([make_tone(3.0, 200.0 + 100 * c).astype(float) for c in range(7)], axis=0)
    assert np.abs(corpus.samples(0) - mean).max() <= 1


def test_libricss_sessions(libricss, make_tone):
    whole = open_corpus(f"libricss:{libricss}?part=sessions&channel=2", "dev")
    assert turns_of(whole.utterance(0)) == (
        Turn(0.1, 2.5, "amuse you no", "121"),
        Turn(2.6, 5.0, "did not the dancing", "7127"),
    )
    assert whole.utterance(0).duration == 6.0
    assert np.array_equal(whole.samples(0), np.tile(make_tone(3.0, 400.0), 2))
    clean = open_corpus(f"libricss:{libricss}?part=clean", "dev")
    assert turns_of(clean.utterance(0)) == turns_of(whole.utterance(0))
    assert np.array_equal(clean.samples(0), np.tile(make_tone(3.0, 200.0), 2))


def test_libricss_quarantine(libricss, tmp_path):
    import shutil

    copy = shutil.copytree(libricss, tmp_path / "copy")
    session = copy / "for_release" / "OV20" / SESSION.format(0)
    (session / "transcription" / "segments" / "seg_0.scp").write_text("51\tend\t121\tNO\n")
    corpus = open_corpus(f"libricss:{copy}", "dev")
    assert [corpus.utterance(i).metadata["segment"] for i in range(len(corpus))] == [1]
    assert "seg_0.scp:1: '51' to 'end' are no times" in str(quarantined(corpus)[0])
    (session / "transcription" / "segments" / "seg_1.scp").write_text("51\t100\t121\n")
    with pytest.raises(InputError, match="no segments of the split dev can be used"):
        open_corpus(f"libricss:{copy}", "dev")


@pytest.mark.parametrize(
    ("spec", "split", "message"),
    [
        ("libricss:{}", "train", "LibriCSS has no split 'train'"),
        ("libricss:{}?part=utterances", "dev", "LibriCSS has no part 'utterances'"),
        ("libricss:{}?channel=9", "dev", "has no channel 9: it has 7"),
        ("libricss:{}?channel=all", "dev", "channel must be a whole number"),
        ("libricss:{}?conditio=0L", "dev", "no recording has a field 'conditio'"),
        ("libricss:{}/nowhere", "dev", "holds no sessions"),
        ("librispeechmix:{}", "test-clean", "LibriSpeechMix has no list 'test-clean'"),
        ("librispeechmix:{}", "test-clean-2mix", "holds neither list/test-clean-2mix.jsonl nor"),
    ],
)
def test_what_is_wrong_is_said(libricss, spec, split, message):
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(spec.format(libricss), split)
    assert "\n" not in str(caught.value)


def sound(before: float, seconds: float, after: float, hertz: float) -> np.ndarray:
    time = np.arange(round(seconds * 16_000)) / 16_000
    tone = 5000 * np.sin(2 * np.pi * hertz * time)
    return np.pad(tone, (round(before * 16_000), round(after * 16_000))).astype(np.int16)


@pytest.fixture
def librispeechmix(tmp_path):
    """Two mixtures of two, as the repository's own script makes them."""
    rows = []
    (tmp_path / "list").mkdir()
    for k in range(2):
        parts = [sound(0.3, 1.0, 0.5, 300 + 100 * k), sound(0.2, 1.5, 0.3, 900.0)]
        names = [f"test-clean/{84 + k}/1/{84 + k}-1-0000", f"test-clean/174/2/174-2-000{k}"]
        for name, part in zip(names, parts, strict=True):
            path = tmp_path / "data" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, part, 16_000)
        start = round(0.9 * 16_000)
        mixed = np.zeros(start + len(parts[1]), np.int16)
        mixed[: len(parts[0])] += parts[0]
        mixed[start:] += parts[1]
        name = f"test-clean-2mix/test-clean-2mix-{k:04d}"
        (tmp_path / "data" / "test-clean-2mix").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "data" / f"{name}.wav", mixed, 16_000)
        rows.append(
            {
                "id": name,
                "mixed_wav": f"{name}.wav",
                "texts": ["GO DO YOU HEAR", "BUT IN LESS"],
                "speaker_profile": [["x.wav"]],
                "speaker_profile_index": [0, 1],
                "wavs": [f"{part}.wav" for part in names],
                "delays": [0.0, 0.9],
                "speakers": [str(84 + k), "174"],
                "durations": [1.8, 2.0],
                "genders": ["f", "m"],
            }
        )
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "list" / "test-clean-2mix.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def opened(folder):
    return open_corpus(f"librispeechmix:{folder}", "test-clean-2mix", root=folder / "root")


def test_librispeechmix(librispeechmix):
    corpus = opened(librispeechmix)
    assert len(corpus) == 2
    utterance = corpus.utterance(1)
    assert utterance.id == "test-clean-2mix/test-clean-2mix-0001"
    assert utterance.text == "go do you hear but in less"
    assert utterance.speaker == "174+85"
    assert utterance.duration == pytest.approx(2.9)
    assert utterance.metadata["times"] == "energy"
    found = [(t.start, t.end, t.speaker) for t in turns_of(utterance)]
    assert found[0] == (pytest.approx(0.3, abs=0.025), pytest.approx(1.3, abs=0.025), "85")
    assert found[1] == (pytest.approx(1.1, abs=0.025), pytest.approx(2.6, abs=0.025), "174")
    assert utterance.metadata["overlap"] == pytest.approx(0.2 / 2.3, abs=0.02)
    assert len(corpus.samples(1)) == round(2.9 * 16_000)


def test_librispeechmix_mixes_what_is_not_mixed(librispeechmix):
    expected = [opened(librispeechmix).samples(i) for i in range(2)]
    for path in (librispeechmix / "data" / "test-clean-2mix").iterdir():
        path.unlink()
    # As LibriSpeech comes: FLAC.
    wav = librispeechmix / "data" / "test-clean" / "84" / "1" / "84-1-0000.wav"
    soundfile.write(wav.with_suffix(".flac"), soundfile.read(wav, dtype="int16")[0], 16_000)
    wav.unlink()
    corpus = opened(librispeechmix)
    assert all(np.array_equal(corpus.samples(i), expected[i]) for i in range(2))


def test_librispeechmix_without_its_parts_has_the_files_times(librispeechmix):
    import shutil

    shutil.rmtree(librispeechmix / "data" / "test-clean")
    utterance = opened(librispeechmix).utterance(0)
    assert utterance.metadata["times"] == "files"
    assert [(t.start, t.end) for t in turns_of(utterance)] == [(0.0, 1.8), (0.9, 2.9)]
    shutil.rmtree(librispeechmix / "data")
    with pytest.raises(InputError, match="none of its mixtures can be used"):
        opened(librispeechmix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": ["ONE"]}, "has no delays, or not one for each text"),
        ({"texts": "ONE"}, "has no texts, or not one for each text"),
        ({"delays": [0.0, -1.0]}, "has delays or durations that are no seconds"),
        ({"durations": [0.0, 1.0]}, "a duration of nothing"),
        ({"speakers": None}, "has no speakers"),
        ({"id": None}, "has no id"),
        ({"wavs": [1, 2]}, "has wavs that are no names"),
        (None, "is not a JSON object"),
    ],
)
def test_librispeechmix_quarantine(librispeechmix, change, message):
    path = librispeechmix / "list" / "test-clean-2mix.jsonl"
    first, second, _ = path.read_text().split("\n")
    bad = "[]" if change is None else json.dumps({**json.loads(second), **change})
    path.write_text(first + "\n" + bad + "\n{\n")
    corpus = opened(librispeechmix)
    assert len(corpus) == 1
    reasons = [row.reason for row in quarantined(corpus)]
    assert len(reasons) == 2
    assert message in reasons[0]
    assert "broken JSON" in reasons[1]
