"""Which items make up the batch of a step: a function of durations, seed and step.

Every host computes the same plan and takes its slice, so shapes agree across hosts and a run goes
on at any step, also on another number of hosts. A compiled step needs static shapes: an item
belongs to the shortest of a few buckets that holds it, and every batch of a bucket has one shape.
(Sorting inside a bucket would change nothing: its length is padded to anyway.)

The rule of an epoch: all usable items come once (or as often as `copies` says), in batches of one
bucket, in random order. What is left over in a bucket moves up into the next longer one; of the
longest, fewer items than one batch are left out, others in every epoch. An epoch too small for any
batch repeats its items.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .audio import SAMPLE_RATE
from .errors import InputError

# Bucket lengths are multiples of 120 ms: whole frames for every stacking and stride in use.
GRAIN = 1920
_MOST_BUCKETS = 16
_LABEL_SHARE = 0.95
_LABEL_GRAIN = 4
_CANDIDATES = 400
_KEPT_EPOCHS = 4
# The buckets are chosen on one epoch; others pad a little more or less.
_MARGIN = 0.97


@dataclass(frozen=True)
class Bucket:
    """One static shape: `[size, samples]` of the whole batch over all processes."""

    samples: int
    size: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / SAMPLE_RATE


@dataclass(frozen=True)
class PlannedBatch:
    """The items of one step, over all processes."""

    step: int
    epoch: int
    bucket: int
    bucket_samples: int
    indices: np.ndarray  # [B] int64, corpus indices
    speeds: np.ndarray  # [B] float64, speed factors
    copies: np.ndarray  # [B] int64, how often the item came before in the epoch

    def process_rows(self, index: int, count: int) -> range:
        """The rows of process `index` of `count`; they lie beside each other."""
        size = len(self.indices) // count
        return range(index * size, (index + 1) * size)


@dataclass(frozen=True)
class _Epoch:
    batches: list[tuple[int, np.ndarray]]  # (bucket, slots)
    speeds: np.ndarray  # [slots]
    samples: np.ndarray  # [slots] after the change of speed
    items: np.ndarray  # [slots]
    copies: np.ndarray  # [slots]: 0 where an item comes for the first time


class BatchPlan:
    """`plan.batch(step)` for any step >= 0, in any order, from any thread."""

    def __init__(
        self,
        durations: Callable[[int], np.ndarray] | np.ndarray,
        labels: Callable[[int], np.ndarray] | np.ndarray | None = None,
        *,
        seed: int,
        batch_seconds: float = 120.0,
        buckets: int = 4,
        min_seconds: float = 0.1,
        max_seconds: float = 20.0,
        max_padding: float = 0.15,
        speeds: tuple[float, ...] = (1.0,),
        multiple: int = 1,
        usable: np.ndarray | None = None,
        endless: bool = False,
        bucket_epoch: int = 0,
        copies: np.ndarray | None = None,
    ):
        """Chooses the buckets; looks at no audio.

        Args:
          durations: seconds `[items]`, or a function of the epoch that returns them.
          labels: tokens `[items]`, or a function of the epoch. A bucket has room for the tokens of
            `_LABEL_SHARE` of its items; the others go to a longer bucket: the loss pays for every
            cell of frames x tokens, so room for the rarest text would cost more than the padding.
          seed: of the order, the speeds and so of everything that is drawn.
          batch_seconds: audio in a batch over all processes, padding included.
          buckets: number of static shapes; more are made (up to 16) to keep to `max_padding`.
          min_seconds: shorter items are left out.
          max_seconds: items longer than this, after the change of speed, are left out.
          max_padding: the share of frames that may be padding.
          speeds: factors, drawn uniformly for each item and epoch.
          multiple: batch sizes are multiples of it: the number of devices.
          usable: `[items]` bool, further items to leave out.
          endless: whether epoch e has the indices from e * items on.
          bucket_epoch: the epoch on which the buckets are chosen; what is longer than the longest
            of them is left out of every epoch.
          copies: how often each item comes in an epoch, `[items]`, on average where that is no
            whole number; None: once.

        Raises:
          InputError: when no item is usable.
        """
        self._durations = durations if callable(durations) else lambda epoch: durations
        if labels is None:
            labels = np.zeros(len(self._durations(0)), np.int64)
        self._labels = labels if callable(labels) else lambda epoch: labels
        self.seed, self.speeds, self.endless = seed, speeds, endless
        self._copies = copies
        self.min_seconds, self.max_seconds = min_seconds, max_seconds
        first = self._seconds(bucket_epoch)
        self._usable = np.ones(len(first), bool) if usable is None else usable
        fits = self._usable & (first >= min_seconds) & (first <= max_seconds)
        if not fits.any():
            shortest, longest = first.min(initial=np.inf), first.max(initial=0.0)
            raise InputError(
                f"none of {len(first)} recordings ({shortest:.2f} to {longest:.2f} s) lasts "
                f"{min_seconds:g} to {max_seconds:g} s and has a text that can be used; "
                "change min_seconds and max_seconds, or the corpus."
            )
        self._batch_samples = int(batch_seconds * SAMPLE_RATE)
        self._multiple = multiple
        self._lock = threading.Lock()
        lengths = np.concatenate([_sample_counts(first[fits], speed) for speed in speeds])
        ceiling = -(-round(max_seconds * SAMPLE_RATE) // GRAIN) * GRAIN
        # What is too long at a speed is played at its own, see `_plan`.
        own = np.tile(_sample_counts(first[fits], 1.0), len(speeds))
        lengths = np.where(lengths <= ceiling, lengths, own)
        tokens = np.tile(self._labels(bucket_epoch)[fits], len(speeds))
        paddings: dict[int, float] = {}
        for count in range(buckets, max(buckets, _MOST_BUCKETS) + 1):
            self._set_buckets(choose_bounds(lengths, count), lengths, tokens)
            paddings[count] = self.padding(bucket_epoch)
            if paddings[count] <= _MARGIN * max_padding:
                break
        else:  # too few items to fill more shapes
            best = min(paddings, key=lambda k: paddings[k])
            self._set_buckets(choose_bounds(lengths, best), lengths, tokens)

    def _set_buckets(self, bounds: list[int], lengths: np.ndarray, tokens: np.ndarray) -> None:
        """`tokens` are those of the items of `lengths`."""
        bucket_of = np.searchsorted(bounds, lengths)
        rooms = [
            np.quantile(tokens[bucket_of == b], _LABEL_SHARE) if (bucket_of == b).any() else 0
            for b in range(len(bounds))
        ]
        rooms[-1] = tokens.max() * (1.25 if self.endless else 1.0)
        # Never less room in a longer bucket, so that an item can always move up.
        rooms = np.maximum.accumulate(np.ceil(np.asarray(rooms) / _LABEL_GRAIN).astype(int))
        self.label_lengths: list[int] = [max(int(n), 1) * _LABEL_GRAIN for n in rooms]
        sizes = [self._batch_samples // bound // self._multiple for bound in bounds]
        self.buckets = [
            Bucket(bound, max(size, 1) * self._multiple)
            for bound, size in zip(bounds, sizes, strict=True)
        ]
        self._bounds = np.asarray(bounds)
        self._first_steps = [0]  # of every epoch looked at so far, and of the one after
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()

    def batch(self, step: int) -> PlannedBatch:
        """The batch of a step."""
        with self._lock:
            while self._first_steps[-1] <= step:
                epoch = len(self._first_steps) - 1
                self._first_steps.append(self._first_steps[-1] + len(self._epoch(epoch).batches))
            number = bisect_right(self._first_steps, step) - 1
            epoch = self._epoch(number)
            bucket, slots = epoch.batches[step - self._first_steps[number]]
        offset = number * len(self._usable) if self.endless else 0
        return PlannedBatch(
            step=step,
            epoch=number,
            bucket=bucket,
            bucket_samples=self.buckets[bucket].samples,
            indices=epoch.items[slots] + offset,
            speeds=epoch.speeds[slots],
            copies=epoch.copies[slots],
        )

    def steps_in_epoch(self, epoch: int = 0) -> int:
        """Number of batches of an epoch; differs a little between epochs, as the speeds do."""
        with self._lock:
            return len(self._epoch(epoch).batches)

    def padding(self, epoch: int = 0) -> float:
        """The share of an epoch's frames that is padding."""
        with self._lock:
            plan = self._epoch(epoch)
        held = sum(int(plan.samples[slots].sum()) for _, slots in plan.batches)
        room = sum(self.buckets[b].samples * len(slots) for b, slots in plan.batches)
        return 1.0 - held / room

    def describe(self) -> str:
        """One line: shapes, padding, steps of the first epoch, what does not come in it."""
        with self._lock:
            plan = self._epoch(0)
        total = len(self._usable)
        slots = np.concatenate([slots for _, slots in plan.batches])
        used = len(np.unique(plan.items[slots]))
        again = f"; items come {len(slots) / used:.2f} times" if self._copies is not None else ""
        shapes = ", ".join(
            f"{b.size} × {b.seconds:.2f} s × {tokens}"
            for b, tokens in zip(self.buckets, self.label_lengths, strict=True)
        )
        return (
            f"{len(plan.batches)} batches an epoch, rows × seconds × tokens {shapes}; "
            f"{100 * self.padding():.1f} % padding; "
            f"{total - used} of {total} items left out of the first epoch{again}"
        )

    def _seconds(self, epoch: int) -> np.ndarray:
        return np.nan_to_num(np.asarray(self._durations(epoch), np.float64), nan=0.0)

    def _epoch(self, number: int) -> _Epoch:
        """The batches of an epoch; the last few are kept. Called with the lock held."""
        found = self._epochs.get(number)
        if found is None:
            found = self._plan(number)
            self._epochs[number] = found
            while len(self._epochs) > _KEPT_EPOCHS:
                self._epochs.popitem(last=False)
        return found

    def _plan(self, number: int) -> _Epoch:
        rng = np.random.default_rng((self.seed, number, 0x706C616E))
        items, copies = self._slots(number)
        durations = self._seconds(number)[items]
        speeds = np.asarray(self.speeds)[rng.integers(len(self.speeds), size=len(durations))]
        samples = _sample_counts(durations, speeds)
        # An item that only its slowing down makes too long is played as it was.
        slowed = (samples > self._bounds[-1]) & (speeds < 1.0)
        speeds = np.where(slowed, 1.0, speeds)
        samples = np.where(slowed, _sample_counts(durations, 1.0), samples)
        labels = self._labels(number)[items]
        fits = (
            self._usable[items] & (durations >= self.min_seconds) & (durations <= self.max_seconds)
        )
        fits &= labels <= self.label_lengths[-1]
        slots = rng.permutation(np.flatnonzero(fits & (samples <= self._bounds[-1])))
        bucket_of = np.maximum(
            np.searchsorted(self._bounds, samples[slots]),
            np.searchsorted(self.label_lengths, labels[slots]),
        )
        batches: list[tuple[int, np.ndarray]] = []
        rest = slots[:0]
        for b, bucket in enumerate(self.buckets):
            members = np.concatenate([rest, slots[bucket_of == b]])
            full = len(members) // bucket.size * bucket.size
            batches += [(b, row) for row in members[:full].reshape(-1, bucket.size)]
            rest = members[full:]
        if not batches and len(rest):
            batches = [(len(self.buckets) - 1, np.resize(rest, self.buckets[-1].size))]
        if not batches:
            raise InputError(f"no recording of epoch {number} fits the lengths of the buckets.")
        order = rng.permutation(len(batches))
        return _Epoch([batches[i] for i in order], speeds, samples, items, copies)

    def _slots(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The item of every slot of an epoch, and how often that item came before it."""
        count = len(self._usable)
        if self._copies is None:
            return np.arange(count), np.zeros(count, np.int64)
        # Of its own, so that what else is drawn is what it would be without.
        rng = np.random.default_rng((self.seed, number, 0x636F7079))
        times = whole_copies(self._copies, rng)
        items = np.repeat(np.arange(count), times)
        return items, np.arange(len(items)) - np.repeat(np.cumsum(times) - times, times)


def choose_bounds(lengths: np.ndarray, buckets: int) -> list[int]:
    """The bucket lengths, in samples and ascending, that pad `lengths` (samples) least.

    Exact to a grain (and beyond 400 distinct lengths, to 400 of them), by dynamic programming: the
    best k buckets for the lengths up to the j-th are the best k - 1 for those up to some i-th, and
    one bucket, as long as the j-th, for the rest.
    """
    size = np.unique(-(-lengths // GRAIN))
    size = size[np.unique(np.linspace(0, len(size) - 1, _CANDIDATES).round().astype(int))]
    ends = np.concatenate([[0], size])
    below = np.searchsorted(np.sort(lengths), ends * GRAIN, side="right")  # lengths up to each
    # room[i, j]: grains that a bucket of length j takes for the lengths beyond i, up to j.
    room = ends * (below - below[:, None]).astype(np.float64)
    room[np.tril_indices(len(ends))] = np.inf
    best = np.where(ends == 0, 0.0, np.inf)
    cuts: list[np.ndarray] = []
    for _ in range(min(buckets, len(size))):
        options = best[:, None] + room
        cuts.append(options.argmin(axis=0))
        best = options.min(axis=0)
    bounds, end = [], len(ends) - 1
    for cut in reversed(cuts):
        bounds.append(int(ends[end]) * GRAIN)
        end = int(cut[end])
    return bounds[::-1]


def whole_copies(copies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers that are `copies` on average, and in sum to within one.

    Systematic sampling in random order: an utterance of 2.3 copies comes twice or three times.
    """
    order = rng.permutation(len(copies))
    ends = np.floor(np.cumsum(copies[order]) + rng.random() * (copies % 1.0).any())
    found = np.zeros(len(copies), np.int64)
    found[order] = np.diff(ends, prepend=0.0)
    return found


def _sample_counts(durations: np.ndarray, speed: np.ndarray | float) -> np.ndarray:
    return np.ceil(durations * SAMPLE_RATE / speed).astype(np.int64)
