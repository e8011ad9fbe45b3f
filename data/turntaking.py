"""When the turns of a conversation begin: gaps and overlaps, at most two talkers at once.

Everything here counts in grains of 10 ms (`activity.GRAIN`), so that times are exact. The numbers
are those of the separator-transducer-segmenter's mixtures: a turn overlaps the one before with
probability 0.6, for an exponential time of 1.5 s on average, truncated to what is possible; else
the gap is uniform up to 1 s, or from 1 to 4 s, equally often; starts are 0.5 s apart or more.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

SECOND = 100  # grains
OVERLAP_PROBABILITY = 0.6
_OVERLAP_MEAN = 1.5 * SECOND
_SAME_TALKER = 0.15  # goes on after a pause, where others could speak
START_DISTANCE = SECOND // 2

Overlap = Callable[[int, int], int]
"""(turn, the longest overlap that is possible) -> the overlap, from 0 on."""


def draw_talkers(rng: np.random.Generator, turns: int, most: int, *, least: int = 1) -> list[int]:
    """Who has each turn: numbers from 0 on, in the order in which they first speak.

    Among `least` to `most` talkers (uniform, then no more than turns); most turns change hands.
    """
    count = min(int(rng.integers(least, most + 1)), turns)
    talkers = [0]
    for _ in range(turns - 1):
        same, other = rng.random(), int(rng.integers(max(count - 1, 1)))
        previous = talkers[-1]
        if count == 1 or (same < _SAME_TALKER and turns > 2):
            talkers.append(previous)
        else:
            talkers.append(other + (other >= previous))
    order: dict[int, int] = {}
    return [order.setdefault(talker, len(order)) for talker in talkers]


def draw_gaps(rng: np.random.Generator, turns: int) -> list[int]:
    """The silence before each turn where it does not overlap."""
    short, long = rng.uniform(0, 1, turns), rng.uniform(1, 4, turns)
    return (np.where(rng.random(turns) < 0.5, short, long) * SECOND).astype(int).tolist()


def natural_overlap(rng: np.random.Generator, turns: int) -> Overlap:
    """Overlaps as people's: often none, exponential, truncated to what is possible."""
    chosen = (rng.random(turns) < OVERLAP_PROBABILITY).tolist()
    quantiles = rng.random(turns).tolist()

    def overlap(turn: int, longest: int) -> int:
        if not chosen[turn]:
            return 0
        cut = 1.0 - math.exp(-longest / _OVERLAP_MEAN)
        return min(math.ceil(-_OVERLAP_MEAN * math.log(1.0 - quantiles[turn] * cut)), longest)

    return overlap


def place(
    lengths: Sequence[int],
    talkers: Sequence[int],
    lead: int,
    gaps: Sequence[int],
    overlap: Overlap,
    *,
    limit: int,
    needed: int = 1,
    reserve: int = 0,
) -> list[int]:
    """The start of each turn; fewer turns than given where the time is too short.

    A turn may overlap only the turn that ends last, only after all others have ended, and only if
    that is another talker's: so no three speak at once and nobody overlaps himself.

    Args:
      lengths: of the turns, in the order in which they start.
      talkers: who has them.
      lead: the first start.
      gaps: before each turn where it does not overlap.
      overlap: with the turn before, see `Overlap`.
      limit: no turn ends later.
      needed: so many turns are placed whatever the gaps; each must be at most `reserve` long.
      reserve: room that is kept for each needed turn that is yet to come.
    """
    starts: list[int] = []
    last_end, other_end, holder = 0, 0, -1  # the latest end and whose, and the one before
    for k, (length, talker) in enumerate(zip(lengths, talkers, strict=True)):
        earliest = max(other_end, starts[-1] + START_DISTANCE) if starts else lead
        end_by = limit - reserve * max(needed - 1 - k, 0)
        common = 0
        if starts and talker != holder:
            # As long as both go on: a turn within the other's overlaps for its own length.
            common = overlap(k, max(last_end - earliest, 0))
        if common > 0:
            start = last_end - common
        else:
            start = max(last_end, earliest)
            slack = end_by - max(length, START_DISTANCE) - start
            start += min(gaps[k], max(slack, 0)) if starts else 0
        if start + length > end_by and k >= needed:
            break
        starts.append(start)
        end = start + length
        if end >= last_end:
            last_end, other_end, holder = end, last_end, talker
        else:
            other_end = max(other_end, end)
    return starts


def share(starts: Sequence[int], lengths: Sequence[int]) -> float:
    """Time with two talkers over time with any, of turns that `place` has placed."""
    both, reached = 0, 0
    active = 0
    for start, length in zip(starts, lengths, strict=False):
        end = start + length
        both += max(min(end, reached) - start, 0)
        active += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return both / active if active else 0.0


def place_with_share(
    target: float,
    tolerance: float,
    rng: np.random.Generator,
    lengths: Sequence[int],
    talkers: Sequence[int],
    lead: int,
    gaps: Sequence[int],
    *,
    limit: int,
    needed: int,
    reserve: int,
) -> list[int] | None:
    """`place` with overlaps such that `share` is `target` to within `tolerance`; None if it cannot.

    Overlaps are exponential times a common factor, which bisection finds; first between as many
    turns as people overlap, then between all.
    """

    def attempt(count: int, overlap: Overlap) -> list[int]:
        return place(
            lengths[:count],
            talkers[:count],
            lead,
            gaps,
            overlap,
            limit=limit,
            needed=needed,
            reserve=reserve,
        )

    # What fits without any overlap fits with it, and does not change with the factor.
    starts = attempt(len(lengths), lambda turn, longest: 0)
    count = len(starts)
    if target <= 0.0:
        return starts
    wishes = rng.exponential(1.0, count)
    some = np.where(rng.random(count) < OVERLAP_PROBABILITY, wishes, 0.0)
    for chosen in (some.tolist(), wishes.tolist()):
        low, high = 0.0, 200.0 * SECOND
        for _ in range(24):
            factor = (low + high) / 2
            starts = attempt(count, partial(_scaled, chosen, factor))
            found = share(starts, lengths)
            if abs(found - target) <= tolerance:
                return starts
            low, high = (factor, high) if found < target else (low, factor)
    return None


def _scaled(wishes: Sequence[float], factor: float, turn: int, longest: int) -> int:
    return min(round(factor * wishes[turn]), longest)
