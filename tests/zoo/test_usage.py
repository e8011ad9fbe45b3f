"""What an amortized model spends: counted as its gates say, the same text however it runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from parley import zoo
from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.models.cost import gated_cost
from parley.zoo import cli
from parley.zoo.cards import read_card
from parley.zoo.decoding import Decoding
from parley.zoo.package import read_model
from parley.zoo.transcript import Transcript
from parley.zoo.usage import Gates, Usage, gates_of, measure_usage

RATE = 16_000


@pytest.fixture(scope="module")
def audio(sound) -> list[np.ndarray]:
    return [sound(seconds, seed) for seed, seconds in enumerate([0.6, 1.9, 1.3])]


@pytest.fixture
def manifest(tmp_path: Path, audio: list[np.ndarray]) -> Path:
    import soundfile

    rows = []
    for i, samples in enumerate(audio):
        soundfile.write(tmp_path / f"{i}.wav", samples, RATE)
        rows.append(
            json.dumps({"audio_filepath": f"{i}.wav", "text": "set a timer", "speaker": f"s{i}"})
        )
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_gates_of_the_fixture_open_and_close(gated_folder: Path, audio: list[np.ndarray]):
    gates = gates_of(read_model(gated_folder), audio[1])
    tail = round(0.24 * RATE)
    assert gates.open.shape == ((len(audio[1]) + tail) // 640, 2, 2)
    assert gates.frame_s == pytest.approx(0.04)
    assert 0.05 < gates.open.mean() < 0.95
    np.testing.assert_array_equal(gates.open, gates.probability > 0.5)


def test_usage_of_a_corpus_is_that_of_its_frames(
    gated_folder: Path, audio: list[np.ndarray], manifest: Path
):
    package = read_model(gated_folder)
    usage = measure_usage(package, open_corpus(str(manifest)))
    each = [gates_of(package, samples) for samples in audio]
    frames = np.concatenate([gates.open for gates in each])
    speech = np.concatenate([gates.speech for gates in each])
    assert (usage.frames, usage.speech_frames) == (len(frames), speech.sum())
    np.testing.assert_allclose(usage.rates, frames.mean(axis=0))
    np.testing.assert_allclose(usage.speech_rates, frames[speech].mean(axis=0))
    np.testing.assert_allclose(usage.between_rates, frames[~speech].mean(axis=0))
    cost = gated_cost(package.recipe.model)
    assert usage.ratio == pytest.approx(cost.ratio(frames.mean(axis=0)))
    assert sorted(usage.of_utterances) == pytest.approx(
        sorted(cost.ratio(gates.open.mean(axis=0)) for gates in each)
    )


def test_speech_is_what_is_louder_than_the_rest():
    level = np.concatenate([np.full(20, 3.0), np.full(60, 9.0), np.full(20, 4.0)])
    gates = Gates(np.zeros((100, 1, 2), bool), np.zeros((100, 1, 2)), level, 0.06)
    assert np.flatnonzero(gates.speech).tolist() == list(range(20, 80))


@pytest.mark.slow
def test_the_text_is_the_same_whole_streamed_and_pooled(
    gated_folder: Path, audio: list[np.ndarray]
):
    model = zoo.load(gated_folder)
    whole = [r.text for r in model.transcribe(audio) if isinstance(r, Transcript)]
    assert len(whole) == len(audio)
    assert len(set(whole)) == len(whole), "the fixture says the same of everything"
    pool = model.pool(3)
    for samples, text in zip(audio, whole, strict=True):
        stream = model.stream()
        for start in range(0, len(samples), 1000):
            stream.feed(samples[start : start + 1000])
        assert stream.finish().text == text
    sessions = [pool.open() for _ in audio]
    for session, samples in zip(sessions, audio, strict=True):
        session.feed(samples)
    while pool.run():
        pass
    assert [session.finish().text for session in sessions] == whole


@pytest.mark.slow
def test_an_exported_model_skips_too_and_says_the_same(
    gated_folder: Path, audio: list[np.ndarray], tmp_path: Path
):
    folder = tmp_path / "exported"
    assert cli.main(["export", str(gated_folder), "--to", str(folder)]) == 0
    texts = [
        [r.text for r in zoo.load(f).transcribe(audio) if isinstance(r, Transcript)]
        for f in (gated_folder, folder)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == len(audio)


@pytest.mark.slow
def test_another_theta_computes_more_or_less(gated_folder: Path, manifest: Path):
    package, corpus = read_model(gated_folder), open_corpus(str(manifest))
    ratios = [measure_usage(package.with_theta(t), corpus).ratio for t in (0.2, 0.5, 0.8)]
    assert ratios[0] > ratios[1] > ratios[2]
    for theta in (0.0, 1.0, -3.0, float("nan")):
        with pytest.raises(InputError, match="probability between 0 and 1"):
            package.with_theta(theta)
    assert Decoding(theta=0.7).arguments() == ["--theta", "0.7"]


@pytest.mark.slow
def test_the_card_keeps_a_result_for_each_theta(
    gated_folder: Path, manifest: Path, tmp_path: Path, capsys
):
    folder = tmp_path / "model"
    shutil.copytree(gated_folder, folder)
    command = ["evaluate", str(folder), "--data", str(manifest), "--update-card"]
    assert cli.main([*command, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)["compute"]
    assert cli.main([*command, "--theta", "0.8"]) == 0
    assert "encoder: 0." in capsys.readouterr().out
    results = read_card(folder / "README.md").results
    assert [r.compute["theta"] for r in results] == [0.5, 0.8]
    assert results[0].compute["ratio"] == plain["ratio"] > results[1].compute["ratio"]
    assert results[1].command.endswith("--theta 0.8")
    assert cli.main([*command, "--theta", "0.8"]) == 0
    assert len(read_card(folder / "README.md").results) == 2
    assert "| encoder computes |" in (folder / "README.md").read_text()


def test_models_without_gates_say_so(tiny_folder: Path, audio: list[np.ndarray], manifest: Path):
    package = read_model(tiny_folder)
    with pytest.raises(InputError, match="tiny has no gates: name an amortized model"):
        gates_of(package, audio[0])
    with pytest.raises(InputError, match="tiny has no gates"):
        measure_usage(package, open_corpus(str(manifest)))
    with pytest.raises(InputError, match="leave --theta out"):
        zoo.load(tiny_folder, decoding=Decoding(theta=0.4))


def test_usage_as_json():
    from parley.models.cost import GatedCost

    cost = GatedCost(gated=(30, 60), fixed=20, arbitrator=2, dense=198, rest=102)
    rates = np.array([[1.0, 0.5], [0.0, 0.25]])
    usage = Usage(100, 40, rates, rates / 2, np.array([0.3, 0.5]), cost)
    values = json.loads(json.dumps(usage.as_dict()))
    assert values["ratio"] == pytest.approx(95 / 198, abs=1e-4)
    assert values["speech"] == 0.4
    assert values["dense"] == 198
    assert values["rates"] == rates.tolist()


@pytest.mark.slow
def test_pictures_of_a_recording_and_of_a_corpus(
    gated_folder: Path, tiny_folder: Path, manifest: Path, tmp_path: Path, capsys
):
    file = str(manifest.parent / "1.wav")
    gates, plain, usage = (tmp_path / n for n in ("gates.png", "plain.svg", "usage.pdf"))
    assert cli.main(["inspect", str(gated_folder), file, "--out", str(gates), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert np.array(shown["gates"]).shape[1:] == (2, 2)
    assert 0 < shown["ratio"] < 1.1
    assert cli.main(["inspect", str(tiny_folder), file, "--out", str(plain)]) == 0
    corpus = ["inspect", str(gated_folder), "--data", str(manifest)]
    assert cli.main([*corpus, "--out", str(usage)]) == 0
    assert "Computed of what the dense encoder does" in capsys.readouterr().out
    assert gates.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in plain.read_bytes()
    assert usage.read_bytes().startswith(b"%PDF")
    again = tmp_path / "again.png"
    assert cli.main(["inspect", str(gated_folder), file, "--out", str(again)]) == 0
    assert again.read_bytes() == gates.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name a recording, or a corpus"),
        (["a.wav", "--data", "words"], "name a recording, or a corpus"),
        (["a.wav"], "say where to draw"),
        (["a.wav", "--out", "a.txt"], "no picture's name"),
        (["missing.wav", "--out", "a.png"], "missing.wav"),
    ],
)
def test_refusals_are_one_sentence(gated_folder: Path, arguments: list[str], sentence: str, capsys):
    assert cli.main(["inspect", str(gated_folder), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error
    assert error.count("\n") == 0
