"""Batches of N speakers with M recordings each, for losses that compare speakers.

    samples [N M, S] int16, sample_lengths [N M], speakers [N M], index [N M]

The M rows of a speaker stand together, and no speaker is in a batch twice. A batch is a function of
(seed, step): in a round every speaker has one turn, in a drawn order, and a speaker's turns go
through all of his recordings before one comes again. Crops and augmentation follow from (seed,
step, recording), so that a resumed run sees what an unbroken one would have seen.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .ahead import Quarantine, loaded_ahead
from .audio import SAMPLE_RATE
from .augment import AugmentConfig, Augmenter
from .corpus import Corpus, is_endless
from .errors import InputError, Rejected
from .loader import Batch
from .reading import Reader
from .views import CachedCorpus


@dataclass(frozen=True)
class SpeakerDataConfig:
    """Corpora and the shape of batches."""

    train: str = "assistant"  # corpus specs, see `open_corpus`
    train_split: str = "train"
    dev: str = "assistant"  # '': a tenth of train's speakers is held out
    dev_split: str = "dev"
    speakers: int = 32  # N, of a batch over all processes
    utterances: int = 2  # M
    crop_s: float = 2.0  # the longest piece of a recording that is heard at once
    min_seconds: float = 0.5  # shorter recordings are left out
    workers: int = 2  # threads that load batches
    prefetch: int = 4  # batches ready ahead
    cache_gb: float = 2.0  # decoded recordings kept in memory; an hour takes 0.115

    @property
    def batch_seconds(self) -> float:
        """Audio in a batch, padding included."""
        return self.speakers * self.utterances * self.crop_s


class SpeakerPlan:
    """Which recordings each step takes.

    Attributes:
      names: the speakers, in the order of their numbers.
      members: for each speaker, the indices of his recordings [n].
      rejected: recordings that are left out, and why.
      round_steps: steps in which every speaker has a turn (but a rest smaller than a batch).
      epoch_steps: steps after which about as many recordings were heard as there are.
    """

    def __init__(self, corpus: Corpus, config: SpeakerDataConfig, *, seed: int):
        if is_endless(corpus):
            raise InputError(
                f"{corpus.name} is drawn anew in every epoch: speakers are learned from recordings "
                "that stay; leave join out."
            )
        if config.utterances < 2 or config.speakers < 2:
            raise InputError(
                f"--data.speakers {config.speakers} and --data.utterances {config.utterances}: "
                "both are at least 2, for a speaker is told by another one and by himself."
            )
        self.seed, self.config = seed, config
        self.rejected: list[Rejected] = []
        found: dict[str, list[int]] = defaultdict(list)
        for i in range(len(corpus)):
            utterance = corpus.utterance(i)
            if not utterance.speaker:
                self.rejected.append(Rejected(utterance.id, "has no speaker."))
            elif utterance.duration < config.min_seconds:
                short = f"lasts {utterance.duration:.2f} s, less than --data.min-seconds."
                self.rejected.append(Rejected(utterance.id, short))
            else:
                found[utterance.speaker].append(i)
        few = {name for name, items in found.items() if len(items) < config.utterances}
        for name in sorted(few):
            count = len(found[name])
            self.rejected.append(
                Rejected(
                    f"speaker {name}",
                    f"has {count} usable recording{'s' if count > 1 else ''} and "
                    f"{config.utterances} are compared.",
                )
            )
        self.names = sorted(found.keys() - few)
        self.members = [np.array(found[name]) for name in self.names]
        if len(self.names) < config.speakers:
            raise InputError(
                f"{corpus.name} has {len(self.names)} speakers with {config.utterances} usable "
                f"recordings, and a batch takes {config.speakers}: lower --data.speakers."
            )
        self.round_steps = len(self.names) // config.speakers
        usable = sum(len(items) for items in self.members)
        self.epoch_steps = max(1, round(usable / (config.speakers * config.utterances)))
        # Batches of one round come one after the other, and the threads are a few steps apart.
        self._order = lru_cache(4)(self._round_order)

    def _round_order(self, number: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 0, number)).permutation(len(self.names))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(speakers' numbers [N], their recordings' indices [N, M])."""
        number, part = divmod(step, self.round_steps)
        count = self.config.speakers
        chosen = self._order(number)[part * count : (part + 1) * count]
        return chosen, np.stack([self._turn(int(s), number) for s in chosen])

    def _turn(self, speaker: int, number: int) -> np.ndarray:
        """A speaker's recordings [M] in a round."""
        items, each = self.members[speaker], self.config.utterances
        turns = len(items) // each
        time, turn = divmod(number, turns)
        order = np.random.default_rng((self.seed, 1, speaker, time)).permutation(len(items))
        return items[order[turn * each : (turn + 1) * each]]

    def describe(self) -> str:
        config = self.config
        return (
            f"{len(self.names):,} speakers; batches of {config.speakers} speakers with "
            f"{config.utterances} recordings of up to {config.crop_s:g} s"
        )


class SpeakerLoader:
    """An endless iterator over the batches of a plan, from `start_step` on.

    Attributes:
      plan: the `SpeakerPlan`.
      quarantine: recordings that could not be used, and why.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: SpeakerDataConfig,
        augment: AugmentConfig | None,
        *,
        seed: int,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        self.config, self.seed = config, seed
        self.plan = SpeakerPlan(corpus, config, seed=seed)
        if config.speakers % process_count:
            raise InputError(
                f"--data.speakers {config.speakers} cannot be shared out among {process_count} "
                "processes: take a multiple."
            )
        if augment is not None and augment.speed != (1.0,):
            raise InputError(
                "another speed is another voice: train speakers with --augment.speed 1."
            )
        self._rows = slice(
            process_index * config.speakers // process_count,
            (process_index + 1) * config.speakers // process_count,
        )
        self._unusable = Quarantine(corpus)
        self._reader = Reader(corpus)
        self.quarantine: list[Rejected] = self._unusable.rejected
        self.quarantine += self.plan.rejected
        self._augmenter = Augmenter.create(augment, corpus, seed) if augment else None
        self.corpus = (
            CachedCorpus(corpus, int(config.cache_gb * 1e9)) if config.cache_gb > 0 else corpus
        )
        self.step = start_step
        self._batches: Any = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = loaded_ahead(
                self.load, self.step, workers=self.config.workers, prefetch=self.config.prefetch
            )
        batch: Batch = next(self._batches)
        self.step += 1
        return batch

    def close(self) -> None:
        """Stops the threads; `next` starts them again."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def load(self, step: int) -> Batch:
        """This process's rows of the batch of any step.

        A recording that cannot be read is put into quarantine, and another one of its speaker takes
        its row.

        Raises:
          InputError: where a speaker has none left that can be read.
        """
        speakers, chosen = self.plan.batch(step)
        speakers, chosen = speakers[self._rows], chosen[self._rows]
        rows, crop = chosen.size, round(self.config.crop_s * SAMPLE_RATE)
        batch = {
            "samples": np.zeros((rows, crop), np.int16),
            "sample_lengths": np.zeros(rows, np.int32),
            "speakers": np.repeat(speakers, chosen.shape[1]).astype(np.int32),
            "index": np.zeros(rows, np.int32),
        }
        for row, wanted in enumerate(chosen.reshape(-1)):
            index, samples = self._readable(int(batch["speakers"][row]), int(wanted))
            samples = self._heard(samples, np.random.default_rng((self.seed, 2, step, index)))
            batch["samples"][row, : len(samples)] = samples
            batch["sample_lengths"][row] = len(samples)
            batch["index"][row] = index
        return batch

    def _readable(self, speaker: int, wanted: int) -> tuple[int, np.ndarray]:
        """(index, samples) of a recording, or of the speaker's next one that can be read."""
        items = self.plan.members[speaker].tolist()
        at = items.index(wanted)
        for index in (*items[at:], *items[:at]):
            if index in self._unusable:
                continue
            try:
                return index, self._reader.samples(index)
            except InputError as error:
                self._unusable.put(index, str(error))
        raise InputError(
            f"no recording of speaker {self.plan.names[speaker]} can be read: leave him out."
        )

    def _heard(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        crop = round(self.config.crop_s * SAMPLE_RATE)
        start = int(rng.integers(max(len(samples) - crop, 0) + 1))
        samples = samples[start : start + crop]
        return self._augmenter(samples, 1.0, rng) if self._augmenter else samples
