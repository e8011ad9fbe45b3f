"""Imported models in use: streamed, exported, published, evaluated and trained further."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from hub import TOKEN, standin
from huggingface_hub import constants

from parley import zoo
from parley.models.encoders.fastconformer import FastConformerConfig
from parley.train.recipe import recipe_to_dict
from parley.train.step import build_model, losses, merge_model, split_model
from parley.train.weights import flatten
from parley.zoo import export
from parley.zoo.cards import read_card
from parley.zoo.cli import main
from parley.zoo.package import abstract_model, read_model
from parley.zoo.transcriber import Transcriber
from parley.zoo.transcript import Transcript

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def models(imported_folders: dict[str, Path]) -> dict[str, Transcriber]:
    """Loaded once, so that what one test compiles another need not."""
    return {kind: zoo.load(folder) for kind, folder in imported_folders.items()}


@pytest.fixture(scope="module")
def recording(golden, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    soundfile.write(path, golden["samples"], 16_000)
    return path


def said(found: Transcript) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in found.words]


def test_transcripts_have_words_with_times(models, recording):
    for model in models.values():
        found = model.transcribe(recording)
        assert found.text
        starts = [word.start for word in found.words]
        assert starts == sorted(starts)
        assert all(0 <= w.start <= w.end <= found.duration for w in found.words)


def test_a_stream_is_the_whole(models, golden):
    model = models["streaming"]
    samples = np.tile(golden["samples"], 3)
    whole = model.transcribe(samples)
    for size in (700, 9_000):
        stream = model.stream()
        for at in range(0, len(samples), size):
            stream.feed(samples[at : at + size])
        parts = stream.finish()
        assert (parts.text, said(parts)) == (whole.text, said(whole))
    assert whole.text


def test_a_model_of_whole_recordings_refuses_streams_and_cuts_long_ones(
    imported_folders, models, golden, recording, capsys: Output
):
    assert main(["stream", str(imported_folders["tdt"]), str(recording)]) == 2
    assert "cannot stream" in capsys.readouterr().err
    model = models["tdt"]
    one = model.transcribe(golden["samples"])
    quiet = np.zeros(16_000 * 30, np.int16)
    long = model.transcribe(np.concatenate([golden["samples"], quiet, golden["samples"]]))
    assert long.duration == pytest.approx(2 * one.duration + 30.0)
    assert long.words
    assert long.words[-1].end > 31.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rnnt", "tdt", "streaming"])
def test_an_export_gives_what_the_model_gives(
    kind: str, imported_folders, models, golden, recording, tmp_path, monkeypatch, capsys: Output
):
    monkeypatch.setattr(export, "BUCKET_SECONDS", (2,))
    monkeypatch.setattr(export, "STREAM_BLOCKS", (1,))
    folder = tmp_path / f"{kind}.export"
    assert main(["export", str(imported_folders[kind]), "--to", str(folder)]) == 0
    exported, model, samples = zoo.load(folder), models[kind], golden["samples"]
    whole = model.transcribe(samples)
    found = exported.transcribe(samples)
    assert (found.text, said(found)) == (whole.text, said(whole))
    assert found.text
    if kind == "streaming":
        stream = exported.stream()
        for at in range(0, len(samples), 5_000):
            stream.feed(samples[at : at + 5_000])
        parts = stream.finish()
        assert (parts.text, said(parts)) == (whole.text, said(whole))
    else:
        capsys.readouterr()
        assert main(["stream", str(folder), str(recording)]) == 2
        assert "cannot stream" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "chunk"), [("tdt", None), ("streaming", 14)])
def test_programs_of_published_widths_take_any_number_of_rows(
    kind: str, chunk: int | None, imported_folders, monkeypatch
):
    """Which of two ways attention takes depends on widths and rows; nothing is compiled."""
    monkeypatch.setattr(export, "BUCKET_SECONDS", (1, 32))
    small = read_model(imported_folders[kind])
    model = small.recipe.model
    encoder = FastConformerConfig(width=1024, heads=8, blocks=1, output=16, chunk=chunk)
    recipe = replace(small.recipe, model=replace(model, encoder=encoder))
    graphdef, params, frozen = abstract_model(recipe)
    package = replace(small, recipe=recipe, graphdef=graphdef, params=params, frozen=frozen)
    programs = list(export._programs(package, 160 * 8 * (chunk or 1)))
    assert len(programs) == (2 if chunk is None else 9)
    for program, function, arguments in programs:
        found = jax.tree.leaves(jax.eval_shape(function, *arguments))
        assert program.rows[1] is not None or str(found[0].shape[0]) == "b"


def test_it_is_published_and_fetched(
    imported_folders, models, golden, tmp_path: Path, monkeypatch, capsys: Output
):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    mine = Path(shutil.copytree(imported_folders["tdt"], tmp_path / "mine"))
    with standin() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        assert main(["push", str(mine), "someone/parakeet"]) == 0
        name = capsys.readouterr().out.strip()
        card = zoo.card(name)
        assert (card.facts.status, card.facts.license) == ("imported", "cc-by-4.0")
        assert [result.wer for result in card.published] == [1.69]
        fetched = zoo.load("hf://someone/parakeet")
    samples = golden["samples"]
    assert fetched.transcribe(samples).text == models["tdt"].transcribe(samples).text


@pytest.mark.slow
def test_phrases_and_beams(imported_folders, recording):
    from parley.zoo.decoding import Decoding

    folder = imported_folders["tdt"]
    plain = zoo.load(folder, decoding=Decoding(beam=4, nbest=2)).transcribe(recording)
    wanted = Decoding(beam=4, phrases=("quiz", "he"), phrase_weight=30.0)
    biased = zoo.load(folder, decoding=wanted).transcribe(recording)
    assert plain.text
    assert biased.text != plain.text


@pytest.fixture
def manifest(recording: Path, tmp_path: Path) -> Path:
    path = tmp_path / "m.jsonl"
    row = {"audio_filepath": str(recording), "text": "the letters on it"}
    path.write_text(
        "".join(
            json.dumps({**row, "id": str(i), "speaker": f"s{i}", "accent": "ab"[i % 2]}) + "\n"
            for i in range(8)
        )
    )
    return path


def test_evaluation_and_the_fairness_report(
    imported_folders, manifest, tmp_path: Path, capsys: Output
):
    scores, page = tmp_path / "scores.jsonl", tmp_path / "report.html"
    arguments = ["evaluate", str(imported_folders["tdt"]), "--data", str(manifest)]
    assert main([*arguments, "--json", "--out", str(scores)]) == 0
    assert json.loads(capsys.readouterr().out)["words"] == 32
    arguments = ["fairness", "report", str(scores), "--by", "accent", "--out", str(page)]
    assert main([*arguments, "--min-speakers", "2"]) == 0
    assert "accent" in page.read_text()


def trained(source: Path, manifest: Path, run: Path, *arguments: str) -> tuple[dict, dict]:
    """Weights before and after two steps of `parley train`, by their names."""
    command = ["train", str(source), "--run-dir", str(run), "--steps", "2", "--eval-every", "100"]
    command += ["--data.train", str(manifest), "--data.batch-seconds", "8"]
    assert main([*command, *arguments]) == 0
    before, after = (flatten(read_model(folder).params) for folder in (source, run / "model"))
    assert before.keys() == after.keys()
    return before, after


@pytest.mark.slow
def test_adapters_are_trained_and_merged(imported_folders, manifest, tmp_path, capsys: Output):
    run = tmp_path / "run"
    adapters = ["--adapt.lora.rank", "2", "--adapt.lora.alpha", "400"]
    before, after = trained(imported_folders["tdt"], manifest, run, *adapters)
    changed = {name for name in before if np.any(before[name] != after[name])}
    assert changed
    assert all(name.startswith("encoder.blocks.") and name.endswith("kernel") for name in changed)
    training = read_card(run / "model" / "README.md").facts.training
    assert training is not None
    assert "--adapt.lora.rank 2" in training.command
    assert recipe_to_dict(read_model(run / "model").recipe)["adapt"]["lora"]["rank"] == 2


@pytest.mark.slow
def test_all_weights_are_trained(imported_folders, manifest, recording, tmp_path, capsys: Output):
    run = tmp_path / "run"
    rate = ["--optimizer.peak-lr", "0.01", "--optimizer.warmup-steps", "1"]
    before, after = trained(imported_folders["rnnt"], manifest, run, *rate)
    assert {name for name in before if np.all(before[name] == after[name])} == set()
    card = read_card(run / "model" / "README.md")
    assert card.facts.license == "cc-by-4.0"
    assert zoo.load(run / "model").transcribe(recording).duration > 0


def test_every_weight_of_a_streaming_model_can_be_trained(imported_folders, golden):
    package = read_model(imported_folders["streaming"])
    graphdef, *_ = split_model(build_model(package.recipe))
    batch = {
        "samples": golden["samples"][None],
        "sample_lengths": np.array([len(golden["samples"])]),
        "labels": np.array([package.tokenizer.encode("the letters")]),
    }
    batch["label_lengths"] = np.array([batch["labels"].shape[1]])

    @jax.jit
    @jax.grad
    def gradient(params):
        model = merge_model(graphdef, params, package.frozen)
        return losses(model, batch, jax.random.key(0), package.recipe)[0]

    for name, leaf in flatten(jax.device_get(gradient(package.params))).items():
        assert np.isfinite(leaf).all(), name
        assert np.any(leaf), name
