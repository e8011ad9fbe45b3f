"""Open the embedded corpus, making it first where it is missing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..corpus import Utterance
from ..errors import InputError
from .draw import SIZES, Draw
from .pool import speak_all
from .session import SAMPLE_RATE
from .synth import library

_METADATA = ("accent", "gender", "voice", "place", "zip", "longitude", "latitude")
_SESSION = ("snr", "rt60", "level")
_INDEX = "utterances.jsonl"
# Disk that an utterance takes, on average and rounded up.
_BYTES_PER_UTTERANCE = {"words": 40_000, "assistant": 80_000}


class EmbeddedCorpus:
    """A draw of the embedded corpus on disk; a `Corpus`. Cheap to pickle, safe across threads.

    Args:
      folder: of a finished TFDS dataset (`open` finds or makes it).

    Each utterance's `metadata` has the speaker's accent, gender, voice, place, zip, longitude and
    latitude (degrees), and of the recording snr (dB, None where no noise was added), rt60 (s) and
    level (dB below full scale).
    """

    def __init__(self, folder: Path):
        import tensorflow_datasets as tfds

        self.folder = Path(folder)
        builder: Any = tfds.builder_from_directory(self.folder)
        self.name = self.folder.parent.name
        self._source = builder.as_data_source("all")
        self._utterances = self._read_index()
        _, _, seed = self.name.partition("-seed")
        if seed not in ("", "0"):
            # Draws count their speakers alike, and another seed's are other people.
            self._utterances = [
                replace(u, speaker=f"{u.speaker}-seed{seed}") for u in self._utterances
            ]

    @classmethod
    def open(
        cls,
        config: str,
        split: str,
        *,
        root: Path,
        speakers: int | None = None,
        utterances: int | None = None,
        seed: int = 0,
        progress: bool = True,
        workers: int | None = None,
    ) -> EmbeddedCorpus:
        """Open a draw; make it on first use.

        Args:
          config: `words` or `assistant`.
          split: `train`, `dev` or `test`.
          root: the data root; the draw lies in `root/embedded_speech/`.
          speakers: of the train draw (120 for `words`, 200 for `assistant` if None). Dev and test
            are always the same 35 speakers, five an accent.
          utterances: of each speaker of the train draw (100 if None).
          seed: another seed gives other speakers and other texts.
          progress: show a bar on standard error while it is made.
          workers: processes that speak, one a core if None; the result is the same.

        Raises:
          InputError: no such configuration or split; the extra `synth` is not installed; the disk
            is full.
        """
        default = SIZES.get((config, split), (1, 1))  # Draw objects to what is not there
        wanted = (speakers, utterances) if split == "train" else (None, None)
        sizes = [d if w is None else w for w, d in zip(wanted, default, strict=True)]
        draw = Draw(config, split, sizes[0], sizes[1], seed)
        return cls(prepare(draw, Path(root), progress=progress, workers=workers))

    def __len__(self) -> int:
        return len(self._utterances)

    def utterance(self, i: int) -> Utterance:
        """The i-th utterance; no audio is read."""
        return self._utterances[i]

    def samples(self, i: int) -> np.ndarray:
        """Its audio: [N] int16, mono, 16 kHz."""
        return self._source[i]["audio"]

    def __reduce__(self) -> tuple[type[EmbeddedCorpus], tuple[Path]]:
        return EmbeddedCorpus, (self.folder,)

    def __repr__(self) -> str:
        return f"EmbeddedCorpus({self.name!r}, {len(self)} utterances)"

    def _read_index(self) -> list[Utterance]:
        """What `utterance` answers from: read once from the records, then kept beside them."""
        path = self.folder / _INDEX
        with contextlib.suppress(OSError, ValueError, TypeError):
            lines = path.read_text(encoding="utf-8").splitlines()
            if len(lines) == len(self._source):
                return [Utterance(**json.loads(line)) for line in lines]
        utterances = [_utterance(self._source[i]) for i in range(len(self._source))]
        # A folder one may not write to is no obstacle to reading.
        with contextlib.suppress(OSError):
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_text("".join(json.dumps(vars(u)) + "\n" for u in utterances), "utf-8")
            fresh.replace(path)
        return utterances


def prepare(draw: Draw, root: Path, *, progress: bool, workers: int | None = None) -> Path:
    """Make a draw unless it is there.

    The dataset is written to a temporary folder and renamed when it is complete, so a folder that
    is there is whole. One process makes it; others wait for the lock and then find it.

    Returns:
      The folder of the dataset.
    """
    from .builder import VERSION

    folder = root / "embedded_speech" / draw.name / VERSION
    if folder.exists():
        return folder
    library()  # raises if the extra is missing
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / "lock"):
            if not folder.exists():
                for left in folder.parent.glob("incomplete.*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                _check_space(draw, root)
                _build(draw, root, progress, workers)
    except (OSError, RuntimeError) as error:
        # array_record says it in words only: "write() failed: No space left on device".
        no_space = os.strerror(errno.ENOSPC)
        full = getattr(error, "errno", None) == errno.ENOSPC or no_space in str(error)
        if not full and not isinstance(error, OSError):
            raise
        raise InputError(_sentence(draw, root, error, full)) from error
    return folder


def _build(draw: Draw, root: Path, progress: bool, workers: int | None) -> None:
    from .builder import EmbeddedSpeech

    started = time.monotonic()
    with (
        _bar(draw, progress) as tick,
        _quiet_tfds(),
        # TFDS makes a folder for downloads even where there are none.
        tempfile.TemporaryDirectory() as downloads,
        contextlib.closing(speak_all(draw, workers)) as spoken,
    ):
        builder = EmbeddedSpeech(draw, spoken, data_dir=root, tick=tick)
        builder.download_and_prepare(download_dir=downloads, file_format="array_record")
    taken_s = time.monotonic() - started
    if progress:
        from rich.console import Console

        count = draw.speakers * draw.utterances
        Console(stderr=True).print(
            f"{draw.name}: {count:,} utterances made in {taken_s:.1f} s ({count / taken_s:.0f}/s)",
            highlight=False,
        )


def _utterance(example: dict[str, Any]) -> Utterance:
    metadata: dict[str, Any] = {
        key: value.decode() if isinstance(value := example[key], bytes) else round(float(value), 4)
        for key in (*_METADATA, *_SESSION)
    }
    if not np.isfinite(metadata["snr"]):
        metadata["snr"] = None
    return Utterance(
        id=example["id"].decode(),
        text=example["text"].decode(),
        duration=len(example["audio"]) / SAMPLE_RATE,
        speaker=example["speaker"].decode(),
        metadata=metadata,
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file; the system lets go of it if the process dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for the process that makes {path.parent.name} ...", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _bar(draw: Draw, progress: bool) -> Iterator[Callable[[], None]]:
    from rich import progress as rich_progress
    from rich.console import Console

    with rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
    ) as bar:
        task = bar.add_task(f"speaking {draw.name}", total=draw.speakers * draw.utterances)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keep TFDS from drawing its own bars and announcing a download there is none of."""
    import tensorflow_datasets as tfds

    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


def _check_space(draw: Draw, root: Path) -> None:
    if shutil.disk_usage(root).free < _needed_bytes(draw):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sentence(draw: Draw, root: Path, error: Exception, full: bool) -> str:
    if full:
        return (
            f"The disk of {root} is full: making the corpus {draw.name} takes about "
            f"{_needed_bytes(draw) / 1e6:,.0f} MB there; free some, or set PARLEY_DATA to a "
            "folder on another disk."
        )
    return f"The corpus {draw.name} cannot be made in {root}: {error}."


def _needed_bytes(draw: Draw) -> int:
    return draw.speakers * draw.utterances * _BYTES_PER_UTTERANCE[draw.config]
