"""The vocabulary of the `words` configuration: sixty words, among them hard ones.

Ten digits, sixteen minimal pairs (two words that differ in one sound, so that nothing but
listening tells them apart) and eighteen words of a voice assistant. No word is a homophone of
another in any of the seven accents; a test asks the synthesiser for the phonemes.
"""

from __future__ import annotations

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

MINIMAL_PAIRS = (
    ("bat", "pat"),
    ("coat", "goat"),
    ("pin", "bin"),
    ("light", "right"),
    ("lock", "rock"),
    ("wall", "ball"),
    ("game", "name"),
    ("lake", "rake"),
    ("sand", "hand"),
    ("map", "cap"),
    ("ship", "sheep"),
    ("bed", "bad"),
    ("pen", "pan"),
    ("leg", "log"),
    ("cut", "cat"),
    ("face", "race"),
)

OTHERS = (
    "kitchen",
    "window",
    "music",
    "garden",
    "morning",
    "yellow",
    "purple",
    "coffee",
    "monday",
    "weather",
    "timer",
    "volume",
    "orange",
    "camera",
    "quiet",
    "button",
    "evening",
    "stop",
)

WORDS = (*DIGITS, *(word for pair in MINIMAL_PAIRS for word in pair), *OTHERS)

MAX_WORDS = 4


def count_strings() -> int:
    """How many distinct texts `draw_words` can return."""
    return sum(len(WORDS) ** n for n in range(1, MAX_WORDS + 1))


def draw_words(rng: np.random.Generator) -> str:
    """Draw 1 to 4 words, independently and uniformly; some strings have pauses (commas)."""
    words = [WORDS[i] for i in rng.integers(len(WORDS), size=rng.integers(1, MAX_WORDS + 1))]
    return (", " if rng.random() < 0.3 else " ").join(words)
