"""What the transducer losses are measured on: shapes, lengths, and figures published elsewhere.

Three kinds of shape: those that other projects publish figures for, at both levels, and our own of
either level. Nothing here computes.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

PUBLIC_WIDTH = 512
"""Width D of the joint's hidden layer at the public shapes, which name logits only."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One shape, with the lengths of its rows.

    Attributes:
      level: "logits" or "joint".
      shape: the name that the shape has at either level.
      frames: frames of each row, [B].
      labels: labels of each row, [B].
      classes: V, blank included.
      width: D, what the joint's output layer reads; 0 at the logits level.
    """

    level: str
    shape: str
    frames: tuple[int, ...]
    labels: tuple[int, ...]
    classes: int
    width: int = 0

    @property
    def name(self) -> str:
        return f"{self.level} {self.shape}"

    @property
    def dims(self) -> tuple[int, int, int, int]:
        """B, T, U, V."""
        return len(self.frames), max(self.frames), max(self.labels), self.classes

    @property
    def dense_cells(self) -> int:
        rows, frames, labels, _ = self.dims
        return rows * frames * (labels + 1)

    @property
    def cells(self) -> int:
        """Cells within the lengths."""
        return sum(t * (u + 1) for t, u in zip(self.frames, self.labels, strict=True))

    @property
    def padded(self) -> float:
        """Share of the dense cells that is padding."""
        return 1 - self.cells / self.dense_cells

    @property
    def logits_bytes(self) -> int:
        """Dense logits [B, T, U+1, V] in float32."""
        return 4 * self.dense_cells * self.classes

    @property
    def hidden_bytes(self) -> int:
        """What the dense joint's output layer reads, [B, T, U+1, D] in float32."""
        return 4 * self.dense_cells * self.width

    @property
    def flops(self) -> int:
        """The output layer's matmuls over valid cells: one forward and two backward."""
        return 6 * self.cells * self.width * self.classes

    @property
    def small(self) -> bool:
        """Whether one evaluation takes milliseconds on a few cores."""
        return self.logits_bytes <= 64 << 20 and self.flops <= 1e10

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def of_json(record: dict[str, Any]) -> "Case":
        lengths = {k: tuple(record[k]) for k in ("frames", "labels")}
        return Case(**{**record, **lengths})


# --- Lengths like those of train-clean-100 ------------------------------------------------------

FRAME_S = 0.04
SORTED_FRAMES = 10_000
_SHARE_LONG = 0.78


def read_speech(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels [count] of utterances as long as those of train-clean-100.

    Drawn, not read from the corpus: 78 % of durations are uniform from 12 to 16.7 s, the others
    uniform from 1.4 to 12 s, 12.7 s on average; frames are 40 ms; an utterance has 3.3 wordpieces
    a second with a standard deviation of 0.4 among utterances, and at least one.
    """
    random = np.random.default_rng(seed)
    long = random.uniform(size=count) < _SHARE_LONG
    seconds = np.where(
        long, random.uniform(12.0, 16.7, size=count), random.uniform(1.4, 12.0, size=count)
    )
    rate = np.clip(random.normal(3.3, 0.4, size=count), 2.1, 4.5)
    labels = np.maximum(1, np.round(rate * seconds)).astype(int)
    return (seconds / FRAME_S).astype(int), labels


def random_batch(rows: int = 30) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Frames and labels of rows as they come."""
    frames, labels = read_speech(rows)
    return tuple(frames.tolist()), tuple(labels.tolist())


def sorted_batch(pool: int = 3000) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Frames and labels of rows that are neighbours in a pool sorted by length.

    The batch begins in the middle of the pool and holds at most SORTED_FRAMES, padding included.
    """
    frames, labels = read_speech(pool)
    order = np.argsort(frames, kind="stable")[pool // 2 :]
    rows = 1
    while (rows + 1) * frames[order[rows]] <= SORTED_FRAMES:
        rows += 1
    return tuple(frames[order[:rows]].tolist()), tuple(labels[order[:rows]].tolist())


# --- The shapes ---------------------------------------------------------------------------------

_LOGITS = (
    *((1, 100, 20, 128), (4, 150, 40, 128), (8, 200, 50, 512)),
    *((8, 300, 60, 1024), (4, 400, 80, 4096)),
)
_JOINT = ((48, 40, 16, 192, 128), (8, 250, 60, 640, 1024))  # B, T, U, D, V
_GRIDS = (  # T, U, V, and numbers of rows
    (150, 40, 28, (1, 16, 128)),
    (150, 20, 5000, (1, 16, 32, 64, 128)),
    (1500, 300, 50, (1, 16, 32)),
)
RANDOM, SORTED = "B30 V500 random lengths", "V500 sorted, max 10k frames"


def full_rows(
    level: str, rows: int, frames: int, labels: int, classes: int, width: int = 0
) -> Case:
    """A case whose rows all have the same length, named after its dimensions."""
    shape = f"B{rows} T{frames} U{labels} {f'D{width} ' if width else ''}V{classes}"
    return Case(level, shape, (frames,) * rows, (labels,) * rows, classes, width)


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """The logits level, then the joint level; of each the public shapes last."""
    public = [(RANDOM, random_batch(), 500), (SORTED, sorted_batch(), 500)]
    for frames, labels, classes, numbers in _GRIDS:
        for rows in numbers:
            lengths = (frames,) * rows, (labels,) * rows
            public.append((grid_shape(frames, labels, classes, rows), lengths, classes))
    return (
        *(full_rows("logits", *dims) for dims in _LOGITS),
        *(Case("logits", shape, *lengths, classes) for shape, lengths, classes in public),
        *(full_rows("joint", b, t, u, v, d) for b, t, u, d, v in _JOINT),
        *(
            Case("joint", shape, *lengths, classes, PUBLIC_WIDTH)
            for shape, lengths, classes in public
        ),
    )


def grid_shape(frames: int, labels: int, classes: int, rows: int) -> str:
    return f"T{frames} U{labels} V{classes} N={rows}"


# --- Published elsewhere ------------------------------------------------------------------------


class Published(NamedTuple):
    """What a project's own page says of one shape, on its own hardware."""

    shape: str
    implementation: str
    source: str
    hardware: str
    ms: float | None
    """None: out of memory."""
    peak_mb: float | None = None


_K2 = "csukuangfj/transducer-loss-benchmarking"
_TRAIN_CLEAN = {  # microseconds a step and peak MB: random lengths, sorted
    "torchaudio": (544241, 18921.8, 601447, 12959.2),
    "k2, unpruned": (386808, 22056.9, 274407, 15106.5),
    "k2, pruned": (63395, 3820.3, 38112, 2647.8),
    "optimized_transducer": (376954, 7495.9, 567684, 10903.1),
    "warprnnt_numba": (299385, 19072.7, 229340, 13061.8),
    "warp-transducer": (275852, 19072.6, 210772, 13061.8),
    "warp-rnnt": (293270, 18934.3, 216547, 12968.2),
    "SpeechBrain": (459406, 19072.8, 263753, 13063.4),
}
_GIVEN_BY_WARP_RNNT = "warp-rnnt", "warp-rnnt, gather", "warprnnt_pytorch"
# Milliseconds in the order above, by T, U, V and number of rows; "-" is not given.
_WARP_RNNT: dict[tuple[int, int, int], dict[int, str]] = {
    (150, 40, 28): {1: "0.50 - 0.63", 16: "1.79 - 1.85", 128: "11.30 - 9.99"},
    (150, 20, 5000): {
        1: "0.95 0.80 1.74",
        16: "8.74 6.24 16.20",
        32: "17.26 12.35 31.64",
        64: "oom oom oom",
        128: "oom oom oom",
    },
    (1500, 300, 50): {1: "5.89 4.99 10.02", 16: "95.46 78.88 76.66", 32: "oom 157.86 165.38"},
}
_WARP_TRANSDUCER: dict[tuple[int, int, int], dict[int, float]] = {
    (150, 40, 28): {1: 8.51, 128: 19.48},
    (150, 20, 5000): {1: 4.79, 16: 24.44, 32: 41.38, 64: 80.44, 128: 51.46},
}


def published() -> Sequence[Published]:
    """Every figure, as its source gives it."""
    found = []
    for name, (random_us, random_mb, sorted_us, sorted_mb) in _TRAIN_CLEAN.items():
        hardware = "a GPU, not named"
        found += [
            Published(RANDOM, name, _K2, hardware, random_us / 1000, random_mb),
            Published(SORTED, name, _K2, hardware, sorted_us / 1000, sorted_mb),
        ]
    for dims, rows in _WARP_RNNT.items():
        for n_rows, text in rows.items():
            for name, ms in zip(_GIVEN_BY_WARP_RNNT, text.split(), strict=True):
                if ms != "-":
                    value = None if ms == "oom" else float(ms)
                    shape = grid_shape(*dims, n_rows)
                    found.append(Published(shape, name, "1ytic/warp-rnnt", "RTX 2070S", value))
    for dims, rows in _WARP_TRANSDUCER.items():
        for n_rows, ms in rows.items():
            shape = grid_shape(*dims, n_rows)
            source = "HawkAaron/warp-transducer"
            found.append(Published(shape, "warp-transducer", source, "GTX 1080 Ti", ms))
    return found
