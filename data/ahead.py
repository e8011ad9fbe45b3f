"""What loaders share: batches loaded ahead by threads, and what turned out to be unusable."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

from .corpus import Corpus
from .errors import Rejected

_ENDLESS_STEPS = 1 << 40


def loaded_ahead(load: Callable[[int], Any], step: int, *, workers: int, prefetch: int) -> Any:
    """grain's iterator over `load(step)`, `load(step + 1)`, ...; `close()` stops its threads."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's threads ask absl, which nobody has started
    steps = grain.MapDataset.range(step, _ENDLESS_STEPS).map(load)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=max(prefetch, workers))
    return iter(steps.to_iter_dataset(options))


class Quarantine:
    """Recordings that could not be used, each with one warning; safe from several threads.

    Attributes:
      rejected: the list, in the order of finding; may be read at any time.
    """

    def __init__(self, corpus: Corpus):
        self.corpus = corpus
        self.rejected: list[Rejected] = []
        self._bad: set[int] = set()
        self._lock = threading.Lock()

    def __contains__(self, index: int) -> bool:
        return index in self._bad

    def put(self, index: int, reason: str) -> None:
        with self._lock:
            if index in self._bad:
                return
            self._bad.add(index)
            rejected = Rejected(self.corpus.utterance(index).id, reason)
            self.rejected.append(rejected)
        warnings.warn(f"left out of training: {rejected}", stacklevel=2)
