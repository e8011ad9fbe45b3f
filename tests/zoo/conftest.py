"""Model folders of the smallest size, and recordings that they say something about."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from parley.models.encoders.lstm import LSTMEncoderConfig
    from tiny import write_tiny

    encoder = LSTMEncoderConfig(width=16, layers=2, output=16, reduce_after=1)
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny", encoder)


@pytest.fixture(scope="session")
def gated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an amortized encoder, whose gates open and close."""
    from parley.models.encoders.amortized import AmortizedConfig
    from parley.models.gates import ArbitratorConfig
    from tiny import write_tiny

    encoder = AmortizedConfig(
        width=16,
        heads=2,
        blocks=2,
        output=16,
        left=8,
        expansion=2,
        subsample=2,
        arbitrator=ArbitratorConfig(projection=4, context=2, hidden=6),
    )
    folder = tmp_path_factory.mktemp("models") / "gated"
    return write_tiny(folder, encoder, "gated", spread=0.3)


@pytest.fixture(scope="session")
def sts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with two channels and markers of turns."""
    from parley.data.tokenizer import MARKERS
    from parley.models.encoders.separator import SeparatorConfig
    from tiny import write_tiny

    encoder = SeparatorConfig(width=16, mixture=1, separation=1, recognition=1, output=16)
    folder = tmp_path_factory.mktemp("models") / "sts"
    return write_tiny(folder, encoder, "sts", markers=MARKERS["turns"])


@pytest.fixture(scope="session")
def speaker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speaker model of random weights; from a cosine of 0.9 on two recordings are of one."""
    from flax import nnx

    from parley.models.speakers.network import SpeakerNet
    from parley.zoo.cards import new_card
    from parley.zoo.presets import speaker_facts_of
    from parley.zoo.speaker_package import Threshold, write_speaker_model
    from tones import speaker_recipe

    recipe = replace(speaker_recipe(), name="voices", description="Random weights.")
    _, params, frozen = nnx.split(SpeakerNet(recipe.model, rngs=nnx.Rngs(3)), nnx.Param, ...)
    card = new_card(speaker_facts_of(recipe, status="trained"))
    made = tmp_path_factory.mktemp("models") / "voices"
    write_speaker_model(
        made,
        recipe,
        nnx.to_pure_dict(params),
        nnx.to_pure_dict(frozen),
        Threshold(0.9, 0.1, "voices", "dev"),
        card,
    )
    return made


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Models that transformers made, and what it says with them."""
    from imported import load_golden

    return load_golden()


@pytest.fixture(scope="session")
def imported_folders(
    golden: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Model folders of every kind that is imported: `rnnt`, `tdt` and `streaming`."""
    from imported import CARD, write_source
    from parley.zoo.importing import import_model

    base = tmp_path_factory.mktemp("imported")
    for kind in ("rnnt", "tdt", "streaming"):
        source = write_source(golden, kind, base / f"{kind}-source")
        (source / "README.md").write_text(CARD)
        import_model(str(source), base / kind)
    return {kind: base / kind for kind in ("rnnt", "tdt", "streaming")}


@pytest.fixture(scope="session")
def model(tiny_folder: Path):
    from parley import zoo

    return zoo.load(tiny_folder)


@pytest.fixture(scope="session")
def sound() -> Callable[[float, int], np.ndarray]:
    """`sound(seconds, seed)`: int16 chords that change five times a second."""

    def make(seconds: float, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        t = np.arange(round(seconds * RATE)) / RATE
        out = np.zeros(len(t))
        for i in range(0, len(t), RATE // 5):
            piece = slice(i, i + RATE // 5)
            for hz in rng.uniform(100, 4000, size=4):
                out[piece] += rng.uniform(0, 5000) * np.sin(2 * np.pi * hz * t[piece])
        return (out + rng.normal(0, 30, len(t))).astype(np.int16)

    return make


@pytest.fixture
def recordings(tmp_path: Path, sound: Callable[[float, int], np.ndarray]) -> Path:
    """A folder: three good recordings, an empty one, and a text that calls itself audio."""
    for i, seconds in enumerate([0.7, 2.4, 1.3]):
        soundfile.write(tmp_path / f"good{i}.wav", sound(seconds, i), RATE)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is not audio\n" * 100)
    return tmp_path


@pytest.fixture
def options(tmp_path: Path):
    """Of `run_experiment`: results and runs of a grid lie in `tmp_path`."""
    from parley.zoo.experiments import Options

    return Options(results=tmp_path / "results", runs=tmp_path / "runs")
