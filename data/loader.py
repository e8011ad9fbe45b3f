"""Batches for training and evaluation.

Training reads the plan's batches through grain: threads load ahead, and the whole state of the
loader is the number of the next step. A batch is a dictionary of arrays, this process's rows:

    samples [B, N] int16, sample_lengths [B], labels [B, U] int32, label_lengths [B], index [B]

and for a model that learns turns, with its channels C and at most K turns on one of them:

    labels [B, C, U], label_lengths [B, C], label_times [B, C, U] (seconds at which a marker should
    come, else NaN), turn_spans [B, C, K, 2] (seconds from start to end, NaN where no turn is)

and for one that is told cohorts, cohort [B, K] float32, zeros where it is unknown.

N, U and K depend on the bucket alone, so a bucket is one compilation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .ahead import Quarantine, loaded_ahead
from .audio import SAMPLE_RATE
from .augment import AugmentConfig, Augmenter
from .batching import BatchPlan, PlannedBatch, choose_bounds
from .cohort_rows import CohortRows
from .corpus import Corpus, Utterance, is_endless, late_epoch
from .errors import InputError, Rejected
from .reading import Reader
from .targets import Speller, Target, label_arrays
from .tokenizer import Tokenizer
from .turns import Rule
from .views import CachedCorpus, epoch_durations

Batch = dict[str, np.ndarray]

# Resampled lengths differ from duration x rate by a few samples; more means a wrong duration.
_SLACK_SAMPLES = SAMPLE_RATE // 20


# Of fields that recipes have gained, see `train.recipe.identity`.
_LATER = {"later": True}


@dataclass(frozen=True)
class DataConfig:
    """Corpora and the shapes of batches."""

    train: str = "words"  # corpus specs, see `open_corpus`
    train_split: str = "train"
    dev: str = "words"  # '': a tenth of train's speakers is held out
    dev_split: str = "dev"
    batch_seconds: float = 120.0  # audio in a batch over all processes, padding included
    buckets: int = 4  # static shapes; more where they would pad more than max_padding
    max_padding: float = 0.15  # share of frames
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    workers: int = 2  # threads that load batches
    prefetch: int = 4  # batches ready ahead
    cache_gb: float = 1.0  # decoded recordings kept in memory; an hour takes 0.115
    channel_rule: Rule = "first_free"  # of conversations: the channel of a turn
    # Who comes more often, see `copies_of`: cohort_group=bottom:4, several joined by &
    oversample: str = field(default="", metadata=_LATER)
    # Small cohorts come more often: cohort:0.5 is P(cohort) ~ n^0.5
    balance: str = field(default="", metadata=_LATER)
    replay: str = field(default="", metadata=_LATER)  # a corpus that is mixed into every epoch
    replay_share: float = field(default=0.5, metadata=_LATER)  # of an epoch's utterances


class Loader:
    """An endless iterator over the batches of a plan, from `start_step` on.

    Attributes:
      plan: the `BatchPlan`; `plan.describe()` says shapes and padding.
      step: the step of the next batch, which is all the state there is.
      quarantine: recordings that could not be used, and why; safe to read at any time.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Tokenizer,
        config: DataConfig,
        augment: AugmentConfig | None,
        *,
        seed: int,
        start_step: int,
        process_index: int,
        process_count: int,
        multiple: int,
        channels: int = 1,
        timed_starts: bool = True,
        copies: np.ndarray | None = None,
        cohorts: CohortRows | None = None,
    ):
        if multiple % process_count:
            raise ValueError(f"multiple {multiple} is no multiple of {process_count} processes")
        self.corpus, self.config = corpus, config
        self._speller = Speller(tokenizer, channels, config.channel_rule, timed_starts)
        self.seed, self.process_index, self.process_count = seed, process_index, process_count
        self._cohorts = cohorts
        self._unusable = Quarantine(corpus)
        self.quarantine: list[Rejected] = self._unusable.rejected
        self._batches: Any = None  # grain's iterator; None while it is closed
        self._endless = is_endless(corpus)
        self._targets, counts, usable = self._spell_all()
        durations = epoch_durations(corpus, 0)
        self.plan = BatchPlan(
            lru_cache(4)(partial(epoch_durations, corpus)) if self._endless else durations,
            lru_cache(4)(self._label_counts) if self._endless else counts,
            seed=seed,
            batch_seconds=config.batch_seconds,
            buckets=config.buckets,
            max_padding=config.max_padding,
            min_seconds=config.min_seconds,
            max_seconds=config.max_seconds,
            speeds=augment.speed if augment else (1.0,),
            multiple=multiple,
            usable=usable,
            endless=self._endless,
            bucket_epoch=late_epoch(corpus),
            copies=copies,
        )
        self._augmenter = Augmenter.create(augment, corpus, seed) if augment else None
        if not self._endless and config.cache_gb > 0:
            self.corpus = CachedCorpus(corpus, int(config.cache_gb * 1e9))
        self._reader = Reader(self.corpus)
        self.seek(start_step)

    def _spell_all(self) -> tuple[list[Target | None] | None, np.ndarray, np.ndarray]:
        """Targets of all items, their labels' counts, and which can be used.

        An endless corpus keeps no targets, and what it cannot spell today it meets again tomorrow:
        there, `_row` replaces it.
        """
        targets: list[Target | None] = []
        rejected: list[Rejected] = []
        for i in range(len(self.corpus)):
            utterance = self.corpus.utterance(i)
            try:
                targets.append(self._speller(utterance))
            except InputError as error:
                targets.append(None)
                rejected.append(Rejected(utterance.id, str(error)))
        counts = np.asarray([target.count if target else 0 for target in targets])
        if not counts.any():
            raise InputError(
                f"{self.corpus.name}: no text of it can be used "
                f"(the first: {rejected[0].reason.rstrip('.')})."
            )
        if self._endless:
            return None, counts, np.ones(len(targets), bool)
        self.quarantine += rejected
        return targets, counts, counts > 0

    def _label_counts(self, epoch: int) -> np.ndarray:
        """Tokens of an endless corpus's epoch; 0 where a text cannot be spelled."""
        count = len(self.corpus)
        items = (self.corpus.utterance(epoch * count + i) for i in range(count))
        return np.asarray([self._spelled(utterance) for utterance in items])

    def _spelled(self, utterance: Utterance) -> int:
        try:
            return self._speller(utterance).count
        except InputError:
            return 0

    def seek(self, step: int) -> None:
        """Makes `step` the next one; what was loaded ahead is dropped."""
        self.close()
        self.step = step
        self._batches = loaded_ahead(
            self.load, step, workers=self.config.workers, prefetch=self.config.prefetch
        )

    def close(self) -> None:
        """Stops the threads; `seek` starts them again."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self.seek(self.step)
        batch: Batch = next(self._batches)  # pyright: ignore[reportArgumentType]
        self.step += 1
        return batch

    def load(self, step: int) -> Batch:
        """This process's rows of the batch of any step; what `next` returns when it is due.

        A recording that cannot be read, in several attempts, is put into quarantine, with one
        warning, and another item of the same batch takes its row.

        Raises:
          InputError: when no recording of the batch can be read.
        """
        planned = self.plan.batch(step)
        rows = planned.process_rows(self.process_index, self.process_count)
        batch = {
            "samples": np.zeros((len(rows), planned.bucket_samples), np.int16),
            "sample_lengths": np.zeros(len(rows), np.int32),
            "index": np.zeros(len(rows), np.int32),
        }
        targets: list[Target] = []
        for row, chosen in enumerate(rows):
            index, samples, target = self._row(planned, chosen)
            batch["samples"][row, : len(samples)] = samples
            batch["sample_lengths"][row] = len(samples)
            batch["index"][row] = index
            targets.append(target)
        room = self.plan.label_lengths[planned.bucket]
        if self._cohorts is not None:
            known = [self._cohorts(self.corpus.utterance(i)) for i in batch["index"].tolist()]
            batch["cohort"] = np.stack(known)
        return batch | label_arrays(targets, room, by_turns=self._speller.by_turns)

    def _row(self, planned: PlannedBatch, row: int) -> tuple[int, np.ndarray, Target]:
        """(index, samples, target) of a row, or of the next row of the batch that can be read."""
        reason = ""
        for attempt in range(len(planned.indices)):
            chosen = (row + attempt) % len(planned.indices)
            index, speed = int(planned.indices[chosen]), float(planned.speeds[chosen])
            if index in self._unusable:
                continue
            try:
                target = self._target(index, speed, self.plan.label_lengths[planned.bucket])
                samples = self._samples(planned, chosen)
            except (InputError, OSError) as error:
                reason = str(error)
                self._unusable.put(index, reason)
                continue
            return index, samples, target
        raise InputError(
            f"{self.corpus.name}: none of the {len(planned.indices)} recordings of a batch can be "
            f"read ({reason.rstrip('.') or self.quarantine[-1].reason.rstrip('.')})."
        )

    def _target(self, index: int, speed: float, room: int) -> Target:
        target = self._targets[index] if self._targets else None
        if target is None:
            target = self._speller(self.corpus.utterance(index))
            if target.count > room:
                raise InputError(f"has {target.count} tokens where its length has room for {room}.")
        return target if speed == 1.0 else target.at_speed(speed)

    def _samples(self, planned: PlannedBatch, row: int) -> np.ndarray:
        index, speed = int(planned.indices[row]), float(planned.speeds[row])
        samples = self._reader.samples(index)
        if len(samples) / speed > planned.bucket_samples + _SLACK_SAMPLES:
            raise _longer_than_stated(self.corpus, index, samples)
        if self._augmenter:
            copy = int(planned.copies[row])  # each sounds different
            numbers = (self.seed, planned.epoch, index, *([copy] if copy else []))
            rng = np.random.default_rng(numbers)
            samples = self._augmenter(samples, speed, rng)
        return samples[: planned.bucket_samples]


def make_loader(
    corpus: Corpus,
    tokenizer: Tokenizer,
    config: DataConfig,
    augment: AugmentConfig | None = None,
    *,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    multiple: int = 1,
    channels: int = 1,
    timed_starts: bool = True,
    copies: np.ndarray | None = None,
    cohorts: CohortRows | None = None,
) -> Loader:
    """Training batches, endless, from `start_step` on.

    Args:
      corpus: what to train on; only durations and texts are read at once.
      tokenizer: makes the labels.
      config: shapes of batches, threads, cache.
      augment: None for clean audio.
      seed: of order and augmentation; the same seed and step give the same batch, bit for bit.
      start_step: where to begin: `Loader.step` of the run that is continued.
      process_index: this host.
      process_count: number of hosts; each yields its rows of the same plan.
      multiple: batch sizes over all hosts are multiples of it: the number of devices.
      channels: of the model, for conversations.
      timed_starts: whether label_times has those of starts of turns, and not of ends alone.
      copies: how often each utterance comes in an epoch, see `copies_of`.
      cohorts: of a model that is told them.

    Raises:
      InputError: when nothing of the corpus can be used.
    """
    return Loader(
        corpus,
        tokenizer,
        config,
        augment,
        seed=seed,
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        multiple=multiple,
        channels=channels,
        timed_starts=timed_starts,
        copies=copies,
        cohorts=cohorts,
    )


def evaluation_batches(
    corpus: Corpus,
    *,
    batch_seconds: float = 240.0,
    buckets: int = 4,
    multiple: int = 1,
    quarantine: list[Rejected] | None = None,
) -> Iterator[Batch]:
    """Every utterance once, longest first, in a few static shapes: samples, sample_lengths, index.

    Rows that only fill up a batch, and recordings that cannot be read, have index -1 and length 0;
    the latter are added to `quarantine`. The first batch is the one that needs most memory.
    """
    rejected = quarantine if quarantine is not None else []
    durations = epoch_durations(corpus, 0)
    lengths = np.ceil(durations * SAMPLE_RATE).astype(np.int64) + _SLACK_SAMPLES
    bounds = choose_bounds(lengths, buckets)
    bucket_of = np.searchsorted(bounds, lengths)
    for bucket in reversed(range(len(bounds))):
        size = max(int(batch_seconds * SAMPLE_RATE / bounds[bucket]) // multiple, 1) * multiple
        items = np.flatnonzero(bucket_of == bucket)
        items = items[np.argsort(-lengths[items], kind="stable")]
        for start in range(0, len(items), size):
            batch = {
                "samples": np.zeros((size, bounds[bucket]), np.int16),
                "sample_lengths": np.zeros(size, np.int32),
                "index": np.full(size, -1, np.int32),
            }
            for row, index in enumerate(items[start : start + size].tolist()):
                try:
                    samples = corpus.samples(index)
                    if len(samples) > bounds[bucket]:
                        raise _longer_than_stated(corpus, index, samples)
                except (InputError, OSError) as error:
                    rejected.append(Rejected(corpus.utterance(index).id, str(error)))
                    continue
                batch["samples"][row, : len(samples)] = samples
                batch["sample_lengths"][row] = len(samples)
                batch["index"][row] = index
            yield batch


def _longer_than_stated(corpus: Corpus, index: int, samples: np.ndarray) -> InputError:
    return InputError(
        f"lasts {len(samples) / SAMPLE_RATE:.2f} s, longer than its stated duration of "
        f"{corpus.utterance(index).duration:.2f} s; correct the manifest."
    )
