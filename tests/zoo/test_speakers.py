"""Speaker models from a folder: embeddings, commands, cards; and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley import zoo
from parley.data.errors import InputError
from parley.data.speech import speech_mask, speech_only, speech_seconds
from parley.train.speakers.training import WeighedRecording
from parley.zoo import cli
from parley.zoo.cards import read_card
from parley.zoo.enrolment import SpeakerBook, check_speech
from parley.zoo.speaker_package import (
    THRESHOLD,
    read_speaker_model,
)
from parley.zoo.speakers import SpeakerModel, load_speaker_model
from parley.zoo.weights_plot import write_weights_plot
from tones import VoiceCorpus

RATE = 16_000


def voice(speaker: int, seed: int = 0, seconds: float = 1.6) -> np.ndarray:
    corpus = VoiceCorpus(speaker + 1, each=1, seed=seed, seconds=seconds)
    return corpus.audio[-1]


@pytest.fixture(scope="session")
def folder(speaker_folder: Path) -> Path:
    return speaker_folder


@pytest.fixture(scope="session")
def model(folder: Path) -> SpeakerModel:
    return load_speaker_model(folder)


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    """Two speakers with two recordings each, a silent one, a short one, and no audio."""
    for speaker in (1, 4):
        for take in range(2):
            soundfile.write(tmp_path / f"s{speaker}_{take}.wav", voice(speaker, take), RATE)
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE, np.int16), RATE)
    brief = np.concatenate([voice(1, seconds=0.5), np.zeros(2 * RATE, np.int16)])
    soundfile.write(tmp_path / "brief.wav", brief, RATE)
    (tmp_path / "text.wav").write_text("not audio" * 99)
    return tmp_path


def test_load_knows_a_speaker_model(folder: Path):
    found = zoo.load(folder)
    assert isinstance(found, SpeakerModel)
    assert found.threshold == 0.9
    assert found.width == 8


def test_an_embedding_does_not_depend_on_its_company(model: SpeakerModel, wavs: Path):
    paths = [wavs / f"s{s}_{t}.wav" for s in (1, 4) for t in (0, 1)]
    together = model.embed(paths)
    assert together.shape == (4, 8)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(model.embed(paths[1]), together[1], atol=1e-4)
    samples, _ = soundfile.read(paths[1], dtype="int16")
    np.testing.assert_allclose(model.embed(samples), together[1], atol=1e-4)
    np.testing.assert_allclose(model.embed(samples / 32768.0), together[1], atol=1e-4)
    assert model.score(paths[0], paths[1]) == pytest.approx(together[0] @ together[1], abs=1e-4)


@pytest.mark.slow
def test_a_long_recording_is_the_mean_of_its_pieces(model: SpeakerModel):
    piece = np.tile(voice(2), 20)[: 24 * RATE]
    long = np.concatenate([piece, piece])
    np.testing.assert_allclose(model.embed(long), model.embed(piece), atol=1e-3)


@pytest.mark.slow
def test_a_corpus_is_embedded_as_its_recordings_are(model: SpeakerModel):
    corpus = VoiceCorpus(3, each=2)
    found = model.embed_corpus(corpus)
    np.testing.assert_allclose(found.embeddings, model.embed(corpus.audio), atol=1e-4)
    assert found.floor.shape == (6, 16)
    assert not found.quarantine


def test_verify_answers_by_its_status(folder: Path, wavs: Path, capsys):
    same = ["verify", str(wavs / "s1_0.wav"), str(wavs / "s1_0.wav"), "--model", str(folder)]
    assert cli.main(same) == 0
    assert capsys.readouterr().out.startswith("one speaker: cosine 1.000, threshold 0.900")
    other = ["verify", str(wavs / "s1_0.wav"), str(wavs / "s4_0.wav"), "--model", str(folder)]
    assert cli.main([*other, "--threshold", "1.01", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["same"] is False
    assert record["threshold"] == 1.01
    assert all(s > 1 for s in record["speech_s"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("silence.wav", "is silent: record it again"),
        ("brief.wav", "s of speech, and 1 s are the least"),
        ("text.wav", "is not audio"),
        ("nowhere.wav", "no such recording"),
    ],
)
def test_recordings_that_say_nothing_are_refused(folder: Path, wavs: Path, name, message, capsys):
    good = str(wavs / "s1_0.wav")
    for command in (
        ["verify", good, str(wavs / name)],
        ["enrol", "ann", good, str(wavs / name), "--to", str(wavs / "book.json")],
    ):
        assert cli.main([*command, "--model", str(folder)]) == 2
        said = capsys.readouterr().err
        assert name in said
        assert message in said
        assert "Traceback" not in said
    assert not (wavs / "book.json").exists()


def test_enrolled_speakers_are_identified(folder: Path, wavs: Path, capsys):
    book, common = wavs / "book.json", ["--model", str(folder)]
    for name, speaker in (("ann", 1), ("bob", 4)):
        files = [str(wavs / f"s{speaker}_0.wav")]
        assert cli.main(["enrol", name, *files, "--to", str(book), *common]) == 0
    assert "knows 2 speakers" in capsys.readouterr().out
    files = [str(wavs / "s4_0.wav"), str(wavs / "silence.wav"), str(wavs / "s1_0.wav")]
    command = ["identify", *files, "--speakers", str(book), *common]
    assert cli.main([*command, "--json"]) == 2, "one was left out"
    said = capsys.readouterr()
    assert "silence.wav is silent" in said.err
    found = json.loads(said.out)
    assert [r.get("speaker") for r in found] == ["bob", None, "ann"]
    assert found[0]["matches"][0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert cli.main([*command, "--threshold", "1.5"]) == 2
    assert "nobody known (nearest bob)" in capsys.readouterr().out


def test_a_list_of_another_model_is_refused(model: SpeakerModel, tmp_path: Path):
    book = SpeakerBook.open(tmp_path / "book.json", model)
    book.enrol("ann", [voice(1)])
    book.save()
    text = (tmp_path / "book.json").read_text()
    assert SpeakerBook.open(tmp_path / "book.json", model).speakers["ann"].speech_s > 1
    other = text.replace(model.package.fingerprint, "0123456789abcdef")
    (tmp_path / "book.json").write_text(other)
    with pytest.raises(InputError, match="embeddings of two models have nothing in common"):
        SpeakerBook.open(tmp_path / "book.json", model)
    (tmp_path / "book.json").write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="is no list of enrolled speakers"):
        SpeakerBook.open(tmp_path / "book.json", model)
    with pytest.raises(InputError, match="is missing: enrol speakers"):
        SpeakerBook.open(tmp_path / "none.json", model, must_exist=True)
    with pytest.raises(InputError, match="knows nobody"):
        SpeakerBook.open(tmp_path / "none.json", model).identify(voice(1))


def test_speech_is_what_is_loud_and_a_little_after():
    quiet = np.random.default_rng(0).normal(0, 3, RATE)
    samples = np.concatenate([quiet, voice(1, seconds=1.0), quiet]).astype(np.int16)
    mask = speech_mask(samples)
    assert not mask[:98].any()
    said = len(samples) / RATE - 2.0
    assert speech_seconds(samples) == pytest.approx(said, abs=0.15)
    assert len(speech_only(samples)) == round(100 * speech_seconds(samples)) * 160
    assert speech_seconds(np.full(RATE, 500, np.int16)) == 0.0, "an offset is no sound"
    assert len(speech_mask(np.zeros(50, np.int16))) == 0
    with pytest.raises(InputError, match="is silent"):
        check_speech(np.zeros(RATE, np.int16))


def test_evaluate_measures_trials_and_enters_them_into_the_card(folder: Path, tmp_path, capsys):
    mine = Path(shutil.copytree(folder, tmp_path / "mine"))
    corpus = VoiceCorpus(4, each=4)
    rows = []
    for utterance, audio in zip(corpus.items, corpus.audio, strict=True):
        soundfile.write(tmp_path / f"{utterance.id}.wav", audio, RATE)
        rows.append(
            {
                "audio_filepath": f"{utterance.id}.wav",
                "speaker": utterance.speaker,
                "duration": utterance.duration,
                **utterance.metadata,
            }
        )
    manifest = tmp_path / "voices.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    command = ["evaluate", str(mine), "--data", str(manifest), "--by", "gender"]
    extra = ["--write-trials", str(tmp_path / "t.txt"), "--out", str(tmp_path / "scores.txt")]
    plot = ["--plot", str(tmp_path / "det.svg"), "--cohort", str(manifest)]
    assert cli.main([*command, *extra, *plot, "--update-card", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    lines = (tmp_path / "t.txt").read_text().splitlines()
    assert record["targets"] + record["others"] == len(lines)
    assert record["targets"] == 4 * 6
    assert set(record["groups"]["gender"]) == {"female", "male"}
    assert record["disparity"] == {}, "two speakers a group are too few"
    assert (tmp_path / "det.svg").read_text().lstrip().startswith("<?xml")
    scores = [line.split() for line in (tmp_path / "scores.txt").read_text().splitlines()]
    assert [s[:3] for s in scores] == [line.split() for line in lines]
    # The same trials from the file give the same rate, and the card both.
    listed = [*command, "--trials", str(tmp_path / "t.txt"), "--update-card"]
    assert cli.main(listed) == 0
    assert "(few)" in capsys.readouterr().out
    first, second = read_card(mine / "README.md").verification
    assert (first.eer, first.threshold) == (second.eer, second.threshold)
    assert (first.trials, second.trials) == ("", "t.txt")
    text = (mine / "README.md").read_text()
    assert "too few to rank" in text
    assert "pipeline_tag: feature-extraction" in text
    (tmp_path / "t.txt").write_text("1 voice-0-0.wav gone.wav\n0 voice-0-0.wav voice-1-0.wav\n")
    assert cli.main(listed) == 2
    assert "names gone.wav" in capsys.readouterr().err


def test_a_card_without_results_reads_back(folder: Path):
    card = read_card(folder / "README.md")
    assert card.facts.task == "speaker-verification"
    assert card.facts.embedding == 8
    assert card.verification == ()
    assert "parley verify" in card.text


def test_models_of_the_other_kind_are_refused(folder: Path, tiny_folder: Path, wavs: Path, capsys):
    good = str(wavs / "s1_0.wav")
    assert cli.main(["transcribe", str(folder), good]) == 2
    assert "tells speakers apart and writes no text" in capsys.readouterr().err
    assert cli.main(["verify", good, good, "--model", str(tiny_folder)]) == 2
    assert "writes text and knows no speakers" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", '{"cosine": "x"}', '{"cosine": NaN, "eer": 0}'])
def test_a_damaged_threshold_is_named(folder: Path, tmp_path: Path, content: str):
    mine = Path(shutil.copytree(folder, tmp_path / "mine"))
    (mine / THRESHOLD).write_text(content)
    with pytest.raises(InputError, match=r"threshold\.json"):
        read_speaker_model(mine)


def test_weights_are_drawn(tmp_path: Path):
    records = [
        {
            "step": i,
            "adversary/mean_weight": 2.0,
            "adversary/max_weight": 2.5,
            "adversary/effective_share": 0.9,
            "adversary/effective_share_given": 0.8,
        }
        for i in range(5)
    ]
    weights = [
        WeighedRecording(f"r{i}", "a", 2.0 + i / 9, 3, {"gender": "fm"[i % 2]}) for i in range(9)
    ]
    write_weights_plot(records, weights, tmp_path / "weights.svg")
    text = (tmp_path / "weights.svg").read_text()
    assert "effective_share_given" in text or "<path" in text
    with pytest.raises(InputError, match="no picture's name"):
        write_weights_plot(records, weights, tmp_path / "weights.txt")
