"""How long after it was spoken a word is emitted.

Only words that were recognised have a latency; the share of the others is told beside it, since a
model could be quick by saying nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

_WINDOW_S = 0.01


@dataclass(frozen=True)
class Latencies:
    """Of many words; percentiles in seconds, nan without any."""

    p50: float
    p90: float
    p99: float
    words: int
    missing: int
    """Words that were not recognised, or not in their place."""


def word_latencies(
    reference: Sequence[tuple[str, float]], emitted: Sequence[tuple[str, float]]
) -> list[float | None]:
    """Latency of each reference word in seconds; None where it was not recognised.

    Args:
      reference: words and the times at which they end.
      emitted: words and the times at which their last token was emitted.

    Words are paired by a cheapest alignment, as word errors are.
    """
    found: list[float | None] = [None] * len(reference)
    blocks = Levenshtein.opcodes([w for w, _ in reference], [w for w, _ in emitted])
    for block in blocks:
        if block.tag == "equal":
            for i, j in zip(
                range(block.src_start, block.src_end),
                range(block.dest_start, block.dest_end),
                strict=True,
            ):
                found[i] = emitted[j][1] - reference[i][1]
    return found


def summarize(latencies: Sequence[float | None]) -> Latencies:
    """Percentiles of those that are there."""
    known = [x for x in latencies if x is not None]
    p50, p90, p99 = np.percentile(known, [50, 90, 99]) if known else (math.nan,) * 3
    return Latencies(
        float(p50), float(p90), float(p99), len(latencies), len(latencies) - len(known)
    )


def end_of_speech(samples: np.ndarray, rate: int, *, below_db: float = 35.0) -> float:
    """Seconds until the last 10 ms that are less than `below_db` below the loudest.

    For clean recordings: noise of the speech's level has no end that energy would show.

    Args:
      samples: [N].
      rate: in Hz.
    """
    window = max(1, round(_WINDOW_S * rate))
    count = len(samples) // window
    if not count:
        return len(samples) / rate
    frames = samples[: count * window].astype(np.float64).reshape(count, window)
    power = (frames - frames.mean(axis=1, keepdims=True)).var(axis=1)
    loud = np.flatnonzero(power > power.max() * 10.0 ** (-below_db / 10.0))
    return float((loud[-1] + 1) * window / rate) if len(loud) else 0.0
