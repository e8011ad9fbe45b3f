"""Where somebody talks in a recording of one talker, told by its energy.

File boundaries say nothing about when a talker begins and ends: recordings have silence around the
speech, and half a second of it would be half a second of latency. `speech_bounds` finds the first
and the last sound; it is meant for clean recordings of one utterance, with steady noise at most.
"""

import contextlib
import hashlib
import threading
from pathlib import Path

import numpy as np

from .audio import SAMPLE_RATE
from .corpus import Corpus

GRAIN_SECONDS = 0.01
GRAIN = round(GRAIN_SECONDS * SAMPLE_RATE)
# Speech fades: what lies this far below the loudest frames is no more heard beside noise.
_DEPTH_DB = 35.0
# Steady noise swings by this much from frame to frame.
_ABOVE_NOISE_DB = 6.0
# A talker is at least so far above his own weakest frames, where a recording has no pause at all.
_LEAST_DB = 7.0
_RUN = 3  # frames in a row; shorter is a click
_VERSION = 2  # of the rule, for what is kept on disk


def speech_bounds(samples: np.ndarray) -> tuple[int, int]:
    """The first and the last sound of int16 `[N]`: multiples of `GRAIN` samples, or 0 and N.

    Frames of 20 ms every 10 ms, after a pre-emphasis of 0.7 (hum and rumble count little, the
    fricatives at a word's edges much), are loud where they lie above both 35 dB below the loudest
    (95th percentile) and 6 dB above the noise (5th percentile), but the threshold is never closer
    than 7 dB to the loudest. Three loud frames in a row are speech. Silence is taken whole.
    """
    count = len(samples) // GRAIN
    if count < 2:
        return 0, len(samples)
    x = samples.astype(np.float32)
    x[1:] -= np.float32(0.7) * samples[:-1]
    x = x[: count * GRAIN].reshape(count, GRAIN)
    grains = np.einsum("ng,ng->n", x, x)
    level = 10.0 * np.log10(grains[:-1] + grains[1:] + 1.0)
    noise, peak = np.percentile(level, (5, 95))
    threshold = min(max(peak - _DEPTH_DB, noise + _ABOVE_NOISE_DB), peak - _LEAST_DB)
    loud = np.concatenate([[0], np.cumsum(level > threshold)])
    if len(loud) <= _RUN:
        return 0, len(samples)
    runs = np.flatnonzero(loud[_RUN:] - loud[:-_RUN] == _RUN)
    if not runs.size:
        return 0, len(samples)
    # Frame i covers grains i and i + 1. Where speech sets in, it fills about half of the frame.
    first, last = int(runs[0]), int(runs[-1]) + _RUN
    return (first + 1) * GRAIN if first else 0, last * GRAIN if last < count - 1 else len(samples)


class SpeechBounds:
    """`speech_bounds` of a corpus's recordings, found once and kept, also in a file.

    Args:
      corpus: recordings of one talker each.
      file: where they are kept from one run to the next: a line `id, duration, first, last` for
        each recording, appended as it is found, so that several processes may share it. None, or
        a place where nothing can be written, keeps them in memory alone.
    """

    def __init__(self, corpus: Corpus, file: Path | None = None):
        self.corpus, self.file = corpus, file
        self._found: dict[int, tuple[int, int]] = {}
        self._known = _read(file) if file is not None else {}
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[Corpus, Path | None]:
        return self.corpus, self.file

    def __setstate__(self, state: tuple[Corpus, Path | None]) -> None:
        self.__init__(*state)

    def __getitem__(self, i: int) -> tuple[int, int]:
        """First and last sound of recording i in samples; reads it if it was never looked at.

        Raises:
          InputError: for a recording that cannot be read.
        """
        found = self._found.get(i)
        if found is None:
            utterance = self.corpus.utterance(i)
            key = f"{utterance.id}\t{utterance.duration:.4f}"
            found = self._known.get(key)
            if found is None:
                found = speech_bounds(self.corpus.samples(i))
                self._keep(key, found)
            self._found[i] = found
        return found

    def _keep(self, key: str, bounds: tuple[int, int]) -> None:
        if self.file is None or "\n" in key or key.count("\t") != 1:
            return
        with self._lock, contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a", encoding="utf-8") as out:
                out.write(f"{key}\t{bounds[0]}\t{bounds[1]}\n")


def bounds_file(root: Path, corpus: Corpus) -> Path:
    """Where under the data root the bounds of a corpus of this name are kept."""
    mark = hashlib.sha256(f"{_VERSION}\n{corpus.name}".encode()).hexdigest()[:16]
    return root / "speech_bounds" / f"{mark}.tsv"


def _read(file: Path) -> dict[str, tuple[int, int]]:
    """What a file holds; a torn line is passed over."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError:
        return {}
    known = {}
    for line in lines:
        fields = line.rstrip("\n").split("\t")
        if (
            line.endswith("\n")
            and len(fields) == 4
            and fields[2].isdecimal() * fields[3].isdecimal()
        ):
            known["\t".join(fields[:2])] = int(fields[2]), int(fields[3])
    return known
