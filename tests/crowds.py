"""Simulated speakers, whose true rates are known: log-normal around their group's rate."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Crowd(NamedTuple):
    """Utterances of speakers; every array is [U]."""

    errors: np.ndarray
    words: np.ndarray
    speakers: np.ndarray
    groups: np.ndarray


def crowd(
    rng: np.random.Generator,
    rates: Sequence[float] | np.ndarray,
    sizes: Sequence[int],
    *,
    spread: float = 0.4,
    utterances: int = 40,
    length: int = 10,
) -> Crowd:
    """Args:
    rates, sizes: true rate and number of speakers of each group; the rate is the mean over its
      speakers.
    spread: standard deviation of a speaker's log rate.
    length: words of an utterance.
    """
    groups = np.repeat(np.arange(len(rates)), sizes)
    rate = np.asarray(rates)[groups] * np.exp(rng.normal(-(spread**2) / 2, spread, len(groups)))
    speakers = np.repeat(np.arange(len(groups)), utterances)
    errors = rng.poisson(length * rate[speakers])
    return Crowd(errors, np.full(len(speakers), length), speakers, groups[speakers])


def totals(c: Crowd) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors, words and group of every speaker, each [S]."""
    errors, words = (np.bincount(c.speakers, x).astype(np.float64) for x in (c.errors, c.words))
    return errors, words, c.groups[np.unique(c.speakers, return_index=True)[1]]


def by_group(errors: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Speakers' totals [S] as a matrix [S, count]."""
    return errors[:, None] * (groups[:, None] == np.arange(count))


ACCENTS = {"alto": (0.16, 40), "basso": (0.08, 60), "tenore": (0.1, 30), "raro": (0.1, 5)}
"""Rate and number of speakers."""


def scored_rows(seed: int = 0, *, utterances: int = 5, prefix: str = "s") -> list[dict[str, Any]]:
    """Records as `parley evaluate --out` writes them, of speakers with an accent, a gender (for
    most), a place, and noise in some recordings."""
    rng = np.random.default_rng(seed)
    rows = []
    accents = [a for a, (_, count) in ACCENTS.items() for _ in range(count)]
    for s, accent in enumerate(accents):
        rate = ACCENTS[accent][0] * np.exp(rng.normal(0, 0.3))
        place = {"longitude": float(rng.uniform(-8, 2)), "latitude": float(rng.uniform(50, 58))}
        gender = {"gender": ("female", "male")[s % 2]} if s % 11 else {}
        for u in range(utterances):
            words, noisy = int(rng.integers(6, 20)), bool(rng.random() < 0.3)
            errors = min(words, int(rng.poisson(words * rate * (1.5 if noisy else 1.0))))
            rows.append({
                "id": f"{prefix}{s}-{u}", "speaker": f"{prefix}{s}", "duration": 0.4 * words,
                "reference": "word " * words, "hypothesis": "", "words": words,
                **_split(errors), "errors": errors,
                "metadata": {
                    "accent": accent, "noise": "street" if noisy else "quiet", **gender, **place
                },
            })  # fmt: skip
    return rows


def repaired(rows: list[dict[str, Any]], seed: int = 1) -> list[dict[str, Any]]:
    """The same recordings under a system that makes fewer errors, far fewer for one accent."""
    rng = np.random.default_rng(seed)
    found = []
    for row in rows:
        kept = 0.55 if row["metadata"].get("accent") == "alto" else 0.9
        errors = int(rng.binomial(row["errors"], kept))
        found.append({**row, **_split(errors), "errors": errors})
    return found


def write_scores(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _split(errors: int) -> dict[str, int]:
    deletions = errors // 3
    insertions = errors // 6
    return {
        "substitutions": errors - deletions - insertions,
        "deletions": deletions,
        "insertions": insertions,
    }
