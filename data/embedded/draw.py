"""Which utterances a draw of the embedded corpus holds, and what they say.

Texts go to splits by their hash, so no text of one split is ever said in another: a tenth is for
dev, two tenths are for test. Speakers of different splits are different people (`speakers`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..text import normalize
from .assistant import assistant
from .speakers import SPLITS
from .words import draw_words

CONFIGS = ("words", "assistant")

# (speakers, utterances of each): the size of a draw where none is asked for. Dev and test hold
# every accent equally; `words` test has about 3,500 words.
SIZES = {
    ("words", "train"): (120, 100),
    ("words", "dev"): (35, 12),
    ("words", "test"): (35, 40),
    ("assistant", "train"): (200, 100),
    ("assistant", "dev"): (35, 12),
    ("assistant", "test"): (35, 30),
}

# So many utterances a speaker says in one go, from a fresh synthesiser: the same ones however
# large the draw is.
SESSION = 20

_SPLIT_OF_TENTH = ("dev", "test", "test") + ("train",) * 7


@dataclass(frozen=True)
class Draw:
    """One dataset: a configuration, a split, a size and a seed.

    Raises:
      InputError: an unknown configuration or split, or a size or seed that makes no sense.
    """

    config: str
    split: str
    speakers: int
    utterances: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.config not in CONFIGS:
            raise InputError(
                f"The embedded corpus has no configuration {self.config!r}: take one of "
                f"{', '.join(CONFIGS)}."
            )
        if self.split not in SPLITS:
            raise InputError(
                f"The embedded corpus {self.config} has no split {self.split!r}: take one of "
                f"{', '.join(SPLITS)}."
            )
        for name, least in (("speakers", 1), ("utterances", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    f"The embedded corpus {self.config} needs {name} of at least {least}, "
                    f"not {getattr(self, name)}."
                )

    @property
    def name(self) -> str:
        """Names the dataset on disk: `words-train-120x100-seed0`."""
        return f"{self.config}-{self.split}-{self.speakers}x{self.utterances}-seed{self.seed}"

    @property
    def noisy(self) -> bool:
        """Background noise is for training; dev and test are clean, noise tests add their own."""
        return self.split == "train"

    def sessions(self) -> list[tuple[int, range]]:
        """Speaker and utterances of each session: everyone's first, then everyone's second, ..."""
        return [
            (speaker, range(start, min(start + SESSION, self.utterances)))
            for start in range(0, self.utterances, SESSION)
            for speaker in range(self.speakers)
        ]

    def rng(self, speaker: int, utterance: int) -> np.random.Generator:
        """The random numbers of one utterance; a larger draw begins with the same ones."""
        key = [self.seed, CONFIGS.index(self.config), SPLITS.index(self.split), speaker, utterance]
        return np.random.default_rng(key)

    def spoken(self, rng: np.random.Generator) -> str:
        """Draw a text of the split, with the punctuation that its melody follows."""
        while True:
            text = draw_words(rng) if self.config == "words" else assistant().draw(rng)
            if split_of(text) == self.split:
                return text


def split_of(text: str) -> str:
    """The split that a text belongs to, whoever says it."""
    digest = hashlib.blake2b(normalize(text).encode(), digest_size=8).digest()
    return _SPLIT_OF_TENTH[int.from_bytes(digest, "big") % 10]
