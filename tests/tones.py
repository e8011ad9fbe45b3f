"""A corpus that needs no synthesiser: every word is a chord, every speaker a loudness."""

import dataclasses

import jax
import numpy as np

from parley.data.augment import AugmentConfig
from parley.data.corpus import Utterance
from parley.data.loader import DataConfig
from parley.data.speaker_batches import SpeakerDataConfig
from parley.data.tokenizer import Tokenizer, TokenizerConfig
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.frontend import FrontendConfig
from parley.models.speakers.ecapa import EcapaConfig
from parley.models.speakers.network import SpeakerConfig
from parley.models.transducer import PredictionConfig, TransducerConfig
from parley.train.recipe import OptimizerConfig, Recipe
from parley.train.speakers.recipe import SpeakerRecipe
from parley.train.start import Start
from parley.train.step import build_model, split_model

WORDS = {"red": (300, 900), "green": (500, 1500), "blue": (800, 2500), "white": (1200, 3500)}
RATE = 16_000


class ToneCorpus:
    """`count` utterances of one or two words; the same seed gives the same audio."""

    name = "tones"

    def __init__(self, count: int = 96, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.items: list[Utterance] = []
        self.audio: list[np.ndarray] = []
        for i in range(count):
            words = rng.choice(list(WORDS), rng.integers(1, 3)).tolist()
            pieces = []
            for word in words:
                t = np.arange(int(RATE * 0.2)) / RATE
                tone = sum(np.sin(2 * np.pi * f * t) for f in WORDS[word])
                pieces += [3000 * tone * np.hanning(len(t)), np.zeros(RATE // 20)]
            audio = np.concatenate(pieces) + rng.normal(0, 20, sum(map(len, pieces)))
            self.audio.append(audio.astype(np.int16))
            self.items.append(
                Utterance(f"tone-{i}", " ".join(words), len(audio) / RATE, f"speaker-{i % 8}")
            )

    def __len__(self) -> int:
        return len(self.items)

    def utterance(self, i: int) -> Utterance:
        return self.items[i]

    def samples(self, i: int) -> np.ndarray:
        return self.audio[i]


def recipe(**changes) -> Recipe:
    """A recipe that trains on tones in seconds."""
    values = {
        "name": "tones",
        "model": TransducerConfig(
            vocab_size=1,
            frontend=FrontendConfig(bins=16, stack=4),
            encoder=LSTMEncoderConfig(width=16, layers=2, output=16, reduce_after=1),
            prediction=PredictionConfig(embedding=8, width=16, layers=1, output=16),
            ctc=True,
        ),
        "tokenizer": TokenizerConfig(kind="char"),
        "data": DataConfig(batch_seconds=8.0, buckets=2, max_seconds=4.0),
        "augment": AugmentConfig(speed=(1.0,), noise_probability=0.5),
        "optimizer": OptimizerConfig(peak_lr=1e-2, warmup_steps=5, ema=0.9),
        "steps": 12,
        "checkpoint_every": 4,
        "eval_every": 6,
        "eval_utterances": 16,
        "log_every": 1,
    }
    return Recipe(**(values | changes))


def untrained(made: Recipe, seed: int = 7) -> Start:
    """Random weights to go on from, the same in every process."""
    tokenizer = Tokenizer.train([u.text for u in ToneCorpus().items], kind="char")
    model = dataclasses.replace(made.model, vocab_size=tokenizer.vocab_size)
    _, params, frozen = split_model(build_model(dataclasses.replace(made, model=model, seed=seed)))
    return Start(jax.device_get(params), jax.device_get(frozen), tokenizer)


class VoiceCorpus:
    """Speakers who hum: each has a pitch and a resonance; `each` recordings of everyone."""

    name = "voices"

    def __init__(self, speakers: int = 8, each: int = 6, seed: int = 0, seconds: float = 0.6):
        rng = np.random.default_rng(seed)
        self.items: list[Utterance] = []
        self.audio: list[np.ndarray] = []
        for who in range(speakers):
            pitch, resonance = 90 + 25 * who, 500 + 330 * ((5 * who + seed) % speakers)
            gender = "female" if who % 2 else "male"
            for i in range(each):
                t = np.arange(int(RATE * seconds * rng.uniform(0.8, 1.2))) / RATE
                own = pitch * rng.uniform(0.97, 1.03)
                audio = sum(
                    np.exp(-(((k * own - resonance) / 400) ** 2)) * np.sin(2 * np.pi * k * own * t)
                    for k in range(1, 30)
                )
                audio = 2000 * audio + rng.normal(0, 60, len(t))
                self.audio.append(audio.astype(np.int16))
                self.items.append(
                    Utterance(
                        f"voice-{who}-{i}", "hum", len(t) / RATE, f"voice-{who}", {"gender": gender}
                    )
                )

    def __len__(self) -> int:
        return len(self.items)

    def utterance(self, i: int) -> Utterance:
        return self.items[i]

    def samples(self, i: int) -> np.ndarray:
        return self.audio[i]


def speaker_recipe(**changes) -> SpeakerRecipe:
    """A speaker model that trains on `VoiceCorpus` in seconds."""
    values = {
        "name": "voices",
        "model": SpeakerConfig(
            EcapaConfig(
                width=16, scale=2, dilations=(2,), squeeze=4, aggregated=16, attention=4, output=8
            ),
            FrontendConfig(bins=16, stack=4, mean_tau_s=0.0, tail_s=0.0),
        ),
        "data": SpeakerDataConfig(speakers=4, utterances=2, crop_s=0.5, min_seconds=0.1),
        "augment": AugmentConfig(
            speed=(1.0,), noise_probability=0.0, freq_masks=1, freq_width=2, time_masks=0
        ),
        "optimizer": OptimizerConfig(peak_lr=1e-2, warmup_steps=5, ema=0.9),
        "steps": 12,
        "checkpoint_every": 4,
        "eval_every": 6,
        "eval_utterances": 32,
        "log_every": 1,
    }
    return SpeakerRecipe(**(values | changes))
