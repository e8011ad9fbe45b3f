"""Recordings of any length into batches of a few shapes, so that little is compiled."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

BUCKET_SECONDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Lengths that batches are padded to."""
ROWS = (1, 8, 32)
"""Numbers of rows that a batch may have."""
BATCH_SECONDS = 256
"""A batch's audio, padding included, is no more: it bounds the memory of long buckets."""


class Batch(NamedTuple):
    length: int
    """Samples of a row, padding included."""
    rows: int
    """Rows of the batch; those beyond `items` stay empty."""
    items: list[int]
    """Positions of the recordings that it holds."""


def pack(lengths: Sequence[int], rate: int, *, multiple: int = 1) -> list[Batch]:
    """Batches that hold every recording once.

    Args:
      lengths: samples of each recording, none longer than the last bucket.
      rate: samples a second.
      multiple: of which the rows of a batch are, as there are devices to share them.

    Raises:
      ValueError: a recording is longer than the last bucket.
    """
    buckets: dict[int, list[int]] = defaultdict(list)
    for item, length in enumerate(lengths):
        fits = [seconds for seconds in BUCKET_SECONDS if length <= seconds * rate]
        if not fits:
            raise ValueError(f"{length} samples are more than {BUCKET_SECONDS[-1]} s")
        buckets[fits[0]].append(item)
    batches = []
    for seconds, items in sorted(buckets.items()):
        allowed = [rows for rows in ROWS if rows * seconds <= BATCH_SECONDS]
        for first in range(0, len(items), allowed[-1]):
            part = items[first : first + allowed[-1]]
            rows = next(rows for rows in allowed if rows >= len(part))
            batches.append(Batch(seconds * rate, -(-rows // multiple) * multiple, part))
    return batches
