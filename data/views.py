"""Corpora made of other corpora: selected, concatenated, with noise, held in memory."""

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from .corpus import Corpus, Utterance, is_endless, late_epoch, quarantined
from .errors import InputError, Rejected
from .noise import noisy

_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)")


def epoch_durations(corpus: Corpus, epoch: int) -> np.ndarray:
    """Seconds `[len(corpus)]` of the items of an epoch (the same every time unless endless)."""
    first = epoch * len(corpus) if is_endless(corpus) else 0
    seconds = (corpus.utterance(first + i).duration for i in range(len(corpus)))
    return np.fromiter(seconds, np.float64, len(corpus))


def select(
    corpus: Corpus, wanted: dict[str, str], spec: str, *, limit: int | None = None
) -> Corpus:
    """The utterances that every `key=value` of `wanted` admits, the first `limit` of them.

    Values: alternatives separated by commas; `10-49` for a range of numbers, both ends in; `a*` for
    what begins with a; a leading `!` for all but these. `id`, `speaker` and `duration` can be asked
    for like metadata.

    Raises:
      InputError: when no utterance has a key, or none is left.
    """
    if not wanted and (limit is None or limit >= len(corpus)):
        return corpus
    tests = {key: FieldTest(value) for key, value in wanted.items()}
    seen: set[str] = set()
    kept: list[int] = []
    for i in range(len(corpus)):
        values = fields_of(corpus.utterance(i))
        seen |= values.keys()
        if all(test(values.get(key)) for key, test in tests.items()):
            kept.append(i)
            if limit is not None and len(kept) == limit:
                break
    unknown = sorted(tests.keys() - seen)
    if unknown:
        raise InputError(
            f"corpus {spec!r}: no recording has a field {unknown[0]!r}; "
            f"there are {', '.join(sorted(seen))}."
        )
    if not kept:
        raise InputError(f"corpus {spec!r}: no recording is left by this selection; widen it.")
    return SelectedCorpus(corpus, kept, spec)


def fields_of(utterance: Utterance) -> dict[str, Any]:
    own = {"id": utterance.id, "speaker": utterance.speaker, "duration": utterance.duration}
    return {**utterance.metadata, **own}


class FieldTest:
    """One `key=value` of a query, as a predicate on the field's value."""

    def __init__(self, value: str):
        self.negated = value.startswith("!")
        self.words: set[str] = set()
        self.ranges: list[tuple[float, float]] = []
        self.patterns: list[str] = []
        for word in value.removeprefix("!").split(","):
            self.words.add(word.strip())
            if "*" in word:
                self.patterns.append(word.strip())
            match = _RANGE.fullmatch(word.strip())
            if match:
                self.ranges.append((float(match[1]), float(match[2])))

    def __call__(self, value: Any) -> bool:
        return self._admits(value) != self.negated

    def _admits(self, value: Any) -> bool:
        if value is None:
            return False
        if str(value) in self.words or any(fnmatchcase(str(value), p) for p in self.patterns):
            return True
        try:
            number = float(value)
        except (TypeError, ValueError):
            return False
        return any(low <= number <= high for low, high in self.ranges) or any(
            _same_number(word, number) for word in self.words
        )


def _same_number(word: str, number: float) -> bool:
    try:
        return float(word) == number
    except ValueError:
        return False


class SelectedCorpus:
    """The utterances of `base` at `indices`, in that order."""

    def __init__(self, base: Corpus, indices: Sequence[int], name: str):
        self.base = base
        self.indices = np.asarray(indices, np.int64)
        self.name = name

    @property
    def quarantine(self) -> list[Rejected]:
        """What the corpus beneath left out."""
        return quarantined(self.base)

    def __len__(self) -> int:
        return len(self.indices)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        return self.base.utterance(int(self.indices[i]))

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        return self.base.samples(int(self.indices[i]))


class ConcatCorpus:
    """Several corpora one after the other."""

    def __init__(self, corpora: Sequence[Corpus]):
        self.corpora = tuple(corpora)
        self.name = " + ".join(corpus.name for corpus in corpora)
        self.endless = any(is_endless(corpus) for corpus in corpora)
        self.late_epoch = max(late_epoch(corpus) for corpus in corpora)
        self._starts = np.cumsum([0, *(len(corpus) for corpus in corpora)])

    @property
    def quarantine(self) -> list[Rejected]:
        """What the corpora beneath left out."""
        return [row for corpus in self.corpora for row in quarantined(corpus)]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _find(self, i: int) -> tuple[Corpus, int]:
        epoch, inner = divmod(i, len(self))
        if epoch and not self.endless:
            raise IndexError(f"utterance {i} of {len(self)}")
        part = int(np.searchsorted(self._starts, inner, side="right")) - 1
        corpus, inner = self.corpora[part], inner - int(self._starts[part])
        return corpus, inner + epoch * len(corpus) if is_endless(corpus) else inner

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        corpus, inner = self._find(i)
        return corpus.utterance(inner)

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        corpus, inner = self._find(i)
        return corpus.samples(inner)


class NoisyCorpus:
    """`base` with noise at one signal-to-noise ratio: the same noise whenever an item is read."""

    def __init__(self, base: Corpus, snr_db: float, *, seed: int = 0):
        self.base = base
        self.snr_db = snr_db
        self.seed = seed
        self.name = f"{base.name} with noise at {snr_db:g} dB"
        self.endless = is_endless(base)
        self.late_epoch = late_epoch(base)

    @property
    def quarantine(self) -> list[Rejected]:
        """What the corpus beneath left out."""
        return quarantined(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        utterance = self.base.utterance(i)
        return replace(utterance, metadata={**utterance.metadata, "snr_db": self.snr_db})

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        return noisy(self.base.samples(i), self.snr_db, np.random.default_rng((self.seed, i)))


class CachedCorpus:
    """`base` with decoded samples kept in memory, up to `max_bytes`, in the order first read.

    16 kHz int16 is 115 MB an hour, and decoding FLAC costs more than all augmentation. What does
    not fit is read again each time; nothing is evicted, since an epoch reads everything once.
    """

    def __init__(self, base: Corpus, max_bytes: int):
        self.base = base
        self.max_bytes = max_bytes
        self.name = base.name
        self.cached_bytes = 0
        self._samples: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # A copy for another process starts empty and makes its own lock.
        return {"base": self.base, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["base"], state["max_bytes"])

    @property
    def quarantine(self) -> list[Rejected]:
        """What the corpus beneath left out."""
        return quarantined(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`."""
        return self.base.utterance(i)

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`; not to be written to."""
        found = self._samples.get(i)
        if found is not None:
            return found
        samples = self.base.samples(i)
        with self._lock:
            if i not in self._samples and self.cached_bytes + samples.nbytes <= self.max_bytes:
                samples.setflags(write=False)
                self._samples[i] = samples
                self.cached_bytes += samples.nbytes
        return samples
