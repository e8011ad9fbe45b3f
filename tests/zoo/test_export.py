"""Exported folders: the same text without the model's code, and no damage unnoticed."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from parley.data.errors import InputError
from parley.models.encoders.conformer import ConformerConfig
from parley.models.encoders.contextnet import ContextNetConfig
from parley.models.encoders.conv_rnnt import ConvRNNTConfig
from parley.models.encoders.fastconformer import FastConformerConfig
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.encoders.transformer import TransformerConfig
from parley.zoo import export
from parley.zoo.cli import main
from parley.zoo.exported import (
    MANIFEST,
    ExportedRecognizer,
    load_exported,
    read_manifest,
)
from parley.zoo.package import read_model
from parley.zoo.recognizer import Recognizer
from parley.zoo.transcriber import Transcriber
from parley.zoo.transcript import Token, Transcript
from tiny import write_tiny

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "tiny.export"
    assert main(["export", str(tiny_folder), "--to", str(target)]) == 0
    return target


@pytest.fixture(scope="module")
def exported(folder: Path) -> Transcriber:
    return load_exported(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def rewrite(folder: Path, **changes: object) -> None:
    """The manifest with other entries, as if it had been exported so."""
    manifest = dataclasses.replace(read_manifest(folder), **changes)  # type: ignore[arg-type]
    (folder / MANIFEST).write_text(manifest.to_json())


def assert_same(found: list[list[Token]], expected: list[list[Token]]) -> None:
    """The same tokens in the same frames, and probabilities up to rounding."""
    flat, other = [[t for row in rows for t in row] for rows in (found, expected)]
    assert [len(row) for row in found] == [len(row) for row in expected]
    assert [t[:2] for t in flat] == [t[:2] for t in other]
    np.testing.assert_allclose([t[2] for t in flat], [t[2] for t in other], atol=1e-4)


def run_python(code: str, *arguments: object, cwd: Path) -> str:
    """Standard output of a fresh interpreter that has one CPU device."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_batch_gives_what_the_model_gives(model: Transcriber, exported: Transcriber, sound):
    audio = [sound(seconds, i) for i, seconds in enumerate([0.4, 1.7, 1.2, 0.9])]
    results = exported.transcribe(audio)
    # One device here and eight there: the last bits of a confidence may differ.
    for got, expected in zip(results, model.transcribe(audio), strict=True):
        assert isinstance(got, Transcript)
        assert isinstance(expected, Transcript)
        assert got.text == expected.text
        for word, other in zip(got.words, expected.words, strict=True):
            assert dataclasses.replace(word, confidence=0) == dataclasses.replace(
                other, confidence=0
            )
            assert word.confidence == pytest.approx(other.confidence, abs=1e-4)
    assert len({str(result) for result in results}) == len(audio)


def test_a_stream_gives_what_the_model_gives(model: Transcriber, exported: Transcriber, sound):
    samples = sound(2.1, 7)
    texts = []
    for one in (model, exported):
        stream = one.stream()
        partial = [stream.feed(piece) for piece in np.split(samples, [5000, 5001, 20_000])]
        texts.append((partial, stream.finish()))
    assert texts[0] == texts[1]
    assert texts[0][1].text != ""


@pytest.mark.parametrize("count", [3, 33])
def test_many_streams_advance_rest_and_begin_anew_alike(
    model: Transcriber, exported: Transcriber, sound, count: int
):
    rng = np.random.default_rng(count)
    size = model.recognizer.samples_per_step
    audio = np.stack([sound(8 * size / 16_000, i) for i in range(count)])
    calls = [
        (audio[:, i * size : (i + 1) * size], rng.random(count) < 0.7, rng.random(count) < 0.2)
        for i in range(8)
    ]
    heard = []
    for recognizer in (model.recognizer, exported.recognizer):
        state = recognizer.start_streams(count)
        tokens = []
        for samples, active, fresh in calls:
            found, state = recognizer.step(samples, state, active=active, fresh=fresh)
            tokens += [row.tokens for row in found]
        heard.append(tokens)
    assert_same(*heard)
    assert any(heard[0])


def test_shapes_that_nothing_was_exported_for(exported: Transcriber):
    recognizer = exported.recognizer
    with pytest.raises(ValueError, match="no exported program takes 1 rows of 640000 samples"):
        recognizer.dispatch(np.zeros((1, 640_000), np.int16), np.array([640_000]))
    with pytest.raises(ValueError, match="no exported program"):
        recognizer.step(np.zeros((1, 7), np.int16), recognizer.start_streams(1))


def test_it_runs_without_model_code_and_without_pickle(
    folder: Path, exported: Transcriber, sound, tmp_path: Path
):
    samples = sound(1.6, 5)
    np.save(tmp_path / "samples.npy", samples)
    code = """
import pickle, sys
import numpy as np
from parley import zoo
pickle.load = pickle.loads = pickle.Unpickler = None
model = zoo.load(sys.argv[1])
samples = np.load("samples.npy")
stream = model.stream()
stream.feed(samples)
assert str(stream.finish()) == str(model.transcribe(samples))
print(model.transcribe(samples))
ours = {name for name in sys.modules if name.startswith("parley.")}
code = {n for n in ours if n.split(".")[1] in ("models", "train", "configs")}
assert code <= {"parley.train", "parley.train.weights"}, code  # which reads safetensors
assert "flax" not in sys.modules
"""
    text = run_python(code, folder, cwd=tmp_path).strip()
    assert text == exported.transcribe(samples).text != ""


def test_the_guides_script_needs_no_parley(
    folder: Path, exported: Transcriber, sound, tmp_path: Path
):
    [script] = re.findall(r"```python\n(# transcribe\.py .*?)```", GUIDE.read_text(), re.DOTALL)
    assert "parley" not in script
    (tmp_path / "transcribe.py").write_text(script)
    soundfile.write(tmp_path / "a.wav", sound(2.3, 2), 16_000)
    code = """
import runpy, sys
sys.modules["parley"] = None
runpy.run_path("transcribe.py", run_name="__main__")
"""
    text = run_python(code, folder, "a.wav", cwd=tmp_path).strip()
    assert text == exported.transcribe(tmp_path / "a.wav").text != ""


def test_programs_are_for_one_device_and_every_platform(folder: Path):
    assert jax.device_count() == 8
    manifest = read_manifest(folder)
    for program in manifest.programs:
        found = jax.export.deserialize(bytearray((folder / program.file).read_bytes()))
        assert found.nr_devices == 1
        assert found.platforms == tuple(manifest.platforms) == export.PLATFORMS
        # Weights are arguments: no program holds another's.
        shapes = [aval.shape for aval in found.in_avals[: len(manifest.weights)]]
        assert shapes == [tuple(shape) for shape in manifest.weights.values()]
        assert b".py" not in (folder / program.file).read_bytes()  # nor where it was made


def test_any_changed_byte_is_found(copy: Path):
    rng = np.random.default_rng(0)
    for path in sorted(copy.iterdir()):
        content = path.read_bytes()
        inside = rng.integers(0, len(content), size=40 if path.name == MANIFEST else 1)
        for at in {0, len(content) - 1, *map(int, inside)}:
            changed = bytearray(content)
            changed[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            with pytest.raises(InputError, match=r"export .*again") as error:
                ExportedRecognizer(copy)
            assert path.name in str(error.value)
        path.write_bytes(content)
    ExportedRecognizer(copy)


def test_a_changed_program_is_named(copy: Path):
    with (copy / "start.stablehlo").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match=r"start\.stablehlo does not match its checksum: export"):
        load_exported(copy)
    (copy / "start.stablehlo").unlink()
    with pytest.raises(InputError, match=r"start\.stablehlo is missing"):
        load_exported(copy)


def test_another_format_and_another_folder_are_refused(copy: Path, tiny_folder: Path):
    record = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(record | {"format": 2}))
    with pytest.raises(InputError, match="is of format 2, and this version of parley reads"):
        load_exported(copy)
    with pytest.raises(InputError, match=r"is no exported model: it has no export\.json"):
        load_exported(tiny_folder)
    with pytest.raises(InputError, match="is no exported model"):
        load_exported(copy / "absent")


@pytest.mark.parametrize("name", ["../start.stablehlo", "/etc/passwd", "..", "a\\b", "C:x", ""])
def test_names_outside_the_folder_are_refused(copy: Path, name: str):
    manifest = read_manifest(copy)
    rewrite(copy, sha256={**manifest.sha256, name: manifest.sha256["start.stablehlo"]})
    with pytest.raises(InputError, match="lies outside its folder"):
        load_exported(copy)
    first = dataclasses.replace(manifest.programs[0], file=name)
    (copy / MANIFEST).write_text(dataclasses.replace(manifest, programs=(first,)).to_json())
    with pytest.raises(InputError, match="lies outside its folder"):
        load_exported(copy)


def test_a_file_without_a_checksum_and_odd_entries_are_refused(copy: Path):
    sha256 = dict(read_manifest(copy).sha256)
    del sha256["weights.safetensors"]
    rewrite(copy, sha256=sha256)
    with pytest.raises(InputError, match=r"no checksum of weights\.safetensors"):
        load_exported(copy)
    (copy / MANIFEST).write_text(_signed({"odd": 1, "programs": []}))
    with pytest.raises(InputError, match="lacks entries or has unknown ones"):
        load_exported(copy)


def test_another_platform_is_refused(copy: Path):
    rewrite(copy, platforms=("cuda", "tpu"))
    with pytest.raises(InputError, match=r"was exported for cuda, tpu, and JAX runs on cpu here"):
        load_exported(copy)


def test_what_is_no_target(tiny_folder: Path, folder: Path, tmp_path: Path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    (tmp_path / "file").touch()
    cases = [
        (["conformer-s", "--to", str(tmp_path / "a")], "is a preset without weights"),
        ([str(tiny_folder), "--to", str(tmp_path / "full")], "not empty and no earlier export"),
        ([str(tiny_folder), "--to", str(tmp_path / "file")], "is a file"),
        ([str(tiny_folder), "--to", str(tiny_folder)], "not empty and no earlier export"),
        ([str(folder), "--to", str(tmp_path / "b")], "is an export already"),
    ]
    for arguments, sentence in cases:
        assert main(["export", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


# The other tests' model is an LSTM's. As small as programs with every part of a family can be.
FAMILIES = {
    "conv-rnnt": ConvRNNTConfig(
        lstm=LSTMEncoderConfig(width=8, layers=1, output=16),
        width=8,
        bins=16,
        channels=(4, 4),
        frequency_strides=(2, 1),
        subsample=2,
        shortcut=True,
        squeeze_reduction=4,
    ),
    "conformer": ConformerConfig(
        width=16, heads=2, blocks=1, output=16, left=8, kernel=3, expansion=2, subsample=2
    ),
    "contextnet": ContextNetConfig(
        widths=(8, 16, 16), output=16, layers=2, kernel=3, strided=(1,), squeeze_window=4
    ),
    "transformer": TransformerConfig(
        width=16, heads=2, blocks=1, output=16, left=8, expansion=2, subsample=2
    ),
    "fastconformer": FastConformerConfig(
        width=16, heads=2, blocks=1, output=16, chunk=2, left=4, kernel=3, channels=4, norm="layer"
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_exports(name: str, sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "BUCKET_SECONDS", (1,))
    monkeypatch.setattr(export, "STREAM_BLOCKS", (2,))
    package = read_model(write_tiny(tmp_path / "model", FAMILIES[name], name))
    export.export_model(package, tmp_path / "export")
    mine, other = Recognizer(package), ExportedRecognizer(tmp_path / "export")
    samples = np.stack([sound(1.0, seed) for seed in range(8)])
    lengths = np.linspace(4_000, 16_000, 8).astype(np.int32)
    whole, again = (
        [row[0].tokens for row in one.fetch(one.dispatch(samples, lengths))]
        for one in (mine, other)
    )
    assert_same(again, whole)
    assert any(whole)
    heard = []
    for one in (mine, other):
        state, size, tokens = one.start_streams(1), 2 * one.samples_per_step, []
        for at in range(0, samples.shape[1] - size, size):
            found, state = one.step(samples[:1, at : at + size], state)
            tokens += [row.tokens for row in found]
        heard.append(tokens)
    assert_same(*heard)
    assert any(heard[0])


def _signed(record: dict[str, object]) -> str:
    """A manifest of these entries whose own checksum is right."""
    text = json.dumps({"format": 1, **record, "checksum": ""})
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace('"checksum": ""', f'"checksum": "{digest}"')
