"""A model folder of the smallest size, and recordings that it says something about."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

TEXTS = [
    "turn the light on in the kitchen",
    "set a timer for ten minutes",
    "what is the time in london",
    "play the song again please",
]
RATE = 16_000


def write_tiny(
    folder: Path,
    encoder: Any,
    name: str = "tiny",
    *,
    spread: float = 0.0,
    markers: tuple[str, ...] = (),
) -> Path:
    """Random weights, scaled so that the text depends on the sound and ties are far away.

    `spread`: of the gates' logits about zero, where the encoder has gates. `markers`: of the
    tokenizer; they are a little likelier than its other tokens.
    """
    import jax
    from flax import nnx

    from parley.data.tokenizer import Tokenizer
    from parley.models.frontend import FrontendConfig
    from parley.models.transducer import PredictionConfig, Transducer, TransducerConfig
    from parley.train.recipe import Recipe
    from parley.zoo.cards import new_card
    from parley.zoo.package import write_model
    from parley.zoo.presets import facts_of

    tokenizer = Tokenizer.train(TEXTS, vocab_size=40).with_markers(markers)
    config = TransducerConfig(
        vocab_size=tokenizer.vocab_size,
        frontend=FrontendConfig(bins=16, stack=2),
        encoder=encoder,
        prediction=PredictionConfig(embedding=8, width=16, layers=1, output=16),
    )
    recipe = Recipe(name=name, model=config, description="Random weights.")
    _, params, frozen = nnx.split(Transducer(config, rngs=nnx.Rngs(3)), nnx.Param, ...)
    params = jax.tree.map(lambda x: 3.0 * x, nnx.to_pure_dict(params))
    bias = np.array(params["joiner"]["output"]["bias"])
    bias[0] = 3.0  # blank, else every frame would speak
    bias[list(tokenizer.markers.values())] = 1.0
    params["joiner"]["output"]["bias"] = bias
    if spread:
        output = params["encoder"]["arbitrator"]["output"]
        output["bias"] = np.zeros_like(output["bias"])
        output["kernel"] = spread * np.sign(output["kernel"])
    frozen = nnx.to_pure_dict(frozen)
    frozen["frontend"]["mean"] = np.full(16, 12.0, np.float32)
    frozen["frontend"]["std"] = np.full(16, 3.0, np.float32)
    card = new_card(facts_of(recipe, status="trained"))
    write_model(folder, recipe, params, frozen, tokenizer, card)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from parley.models.encoders.lstm import LSTMEncoderConfig

    encoder = LSTMEncoderConfig(width=16, layers=2, output=16, reduce_after=1)
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny", encoder)


@pytest.fixture(scope="session")
def gated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an amortized encoder, whose gates open and close."""
    from parley.models.encoders.amortized import AmortizedConfig
    from parley.models.gates import ArbitratorConfig

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
