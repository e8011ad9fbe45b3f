"""Recordings of one speaker joined into longer ones, drawn on the fly.

Single digits become digit strings: the model sees more contexts than were recorded, and other ones
in every epoch. An item is a function of (seed, index) alone, so that any process can make it.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from .audio import SAMPLE_RATE
from .corpus import Corpus, Utterance
from .errors import Rejected
from .views import CachedCorpus

PAUSE_SECONDS = (0.05, 0.4)
_CACHE_BYTES = 500_000_000


class JoinedCorpus:
    """`low` to `high` recordings of one speaker, with pauses of 0.05 to 0.4 s between them.

    Endless: `utterance(i)` is another draw for every `i`; an epoch takes the next `draws` of them.
    The first recording is drawn from all, the others from those of its speaker, so a speaker comes
    as often as he has recordings. Metadata that all the parts share is kept.
    """

    endless = True

    def __init__(
        self, base: Corpus, low: int, high: int, *, draws: int | None = None, seed: int = 0
    ):
        self.base = CachedCorpus(base, _CACHE_BYTES)
        self.low, self.high, self.seed = low, high, seed
        self.draws = draws or len(base)
        self.name = f"{base.name} (strings of {low} to {high})"
        groups: dict[str, list[int]] = defaultdict(list)
        for i in range(len(base)):
            groups[base.utterance(i).speaker].append(i)
        self._takes = {speaker: np.asarray(takes) for speaker, takes in groups.items()}

    @property
    def quarantine(self) -> list[Rejected]:
        """What the corpus beneath left out."""
        return self.base.quarantine

    def __len__(self) -> int:
        return self.draws

    def _draw(self, i: int) -> tuple[list[int], np.ndarray]:
        """The recordings of item i, and the pauses between them in samples."""
        rng = np.random.default_rng((self.seed, i))
        count = int(rng.integers(self.low, self.high + 1))
        first = int(rng.integers(len(self.base)))
        takes = self._takes[self.base.utterance(first).speaker]
        rest = takes[rng.integers(len(takes), size=count - 1)]
        pauses = (rng.uniform(*PAUSE_SECONDS, count - 1) * SAMPLE_RATE).astype(int)
        return [first, *rest.tolist()], pauses

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        indices, pauses = self._draw(i)
        parts = [self.base.utterance(index) for index in indices]
        shared: dict[str, Any] = {
            key: value
            for key, value in parts[0].metadata.items()
            if all(part.metadata.get(key) == value for part in parts)
        }
        return Utterance(
            id="+".join(part.id for part in parts),
            text=" ".join(part.text for part in parts),
            duration=sum(part.duration for part in parts) + float(pauses.sum()) / SAMPLE_RATE,
            speaker=parts[0].speaker,
            metadata=shared,
        )

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        indices, pauses = self._draw(i)
        pieces = [self.base.samples(indices[0])]
        for index, pause in zip(indices[1:], pauses, strict=True):
            pieces += [np.zeros(pause, np.int16), self.base.samples(index)]
        return np.concatenate(pieces)
