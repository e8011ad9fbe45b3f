"""Recognition of recordings: one, a list, or more than memory holds.

    model = zoo.load("rnnt-tiny")
    print(model.transcribe("a.wav"))
    for index, result in model.transcribe_each(paths): ...

Recordings are packed by length into batches of a few compiled shapes. Those longer than the largest
shape (half a minute) go through a stream, in constant memory; the text is the same either way.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

import numpy as np

from ..data.audio import (
    MIN_SECONDS,
    SAMPLE_RATE,
    as_samples,
    audio_info,
    read_audio,
    stream_audio,
)
from ..data.errors import InputError, Rejected
from ..data.tokenizer import Tokenizer
from .assembly import Assembly
from .packing import BUCKET_SECONDS, pack
from .pieces import cut_at_pauses, joined
from .programs import Hypothesis, Programs
from .streamer import Stream
from .transcript import Alternative, Transcript

if TYPE_CHECKING:
    from .pool import SessionPool

Audio: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray
"""A path, an encoded file, or mono samples (int16, or floats in [-1, 1])."""

_WINDOW = 128
"""Recordings that are read ahead and packed together: at most an hour of audio, 120 MB."""
_READERS = 4
_IN_FLIGHT = 2
"""Batches that the device may have before the host waits for the first of them."""
_BLOCK_SECONDS = 10.0
_LONGEST = BUCKET_SECONDS[-1] * SAMPLE_RATE
"""Samples of a recording that still fits a batch."""


class _Loaded(NamedTuple):
    """A recording that can be used: its samples, or None for a long one, read when its turn is."""

    audio: Audio
    samples: np.ndarray | None


class _Running(NamedTuple):
    """A batch that the device is at work on."""

    items: list[tuple[int, str, int]]
    """Position, source and samples of the recording in each row."""
    found: Any


class Transcriber:
    """A model that is ready to listen. Made by `zoo.load`.

    Attributes:
      name: of the recipe that it was trained by.
      folder: where it was read from.
      recognizer: the compiled programs; their tokenizer is `tokenizer`.
      step_s: seconds of audio that each step of the encoder takes, the grain of a stream.
    """

    def __init__(self, name: str, folder: Path, recognizer: Programs):
        self.name = name
        self.folder = folder
        self.recognizer = recognizer
        self.tokenizer: Tokenizer = recognizer.tokenizer
        self.step_s: float = recognizer.frame_s

    @overload
    def transcribe(self, audio: Audio, *, rate: int = ...) -> Transcript: ...
    @overload
    def transcribe(
        self, audio: Sequence[Audio], *, rate: int = ...
    ) -> list[Transcript | Rejected]: ...

    def transcribe(
        self, audio: Audio | Sequence[Audio], *, rate: int = SAMPLE_RATE
    ) -> Transcript | list[Transcript | Rejected]:
        """Text, words with times and confidence.

        Args:
          audio: one recording, or a list of them; files may be of any rate and channel count.
          rate: Hz, of samples given as arrays.

        Returns:
          A `Transcript`, whose `str()` is the text; for a list, one entry each in its order, a
          `Rejected` with the reason where a recording cannot be used.

        Raises:
          InputError: the one recording given cannot be used.
        """
        if isinstance(audio, str | os.PathLike | bytes | np.ndarray):
            [(_, result)] = self.transcribe_each([audio], rate=rate)
            if isinstance(result, Rejected):
                raise InputError(result.reason)
            return result
        results = dict(self.transcribe_each(audio, rate=rate))
        return [results[index] for index in range(len(results))]

    def transcribe_each(
        self,
        audio: Iterable[Audio],
        *,
        rate: int = SAMPLE_RATE,
        on_audio: Callable[[float], None] | None = None,
    ) -> Iterator[tuple[int, Transcript | Rejected]]:
        """(position, result) of every recording, as soon as it is done: not in the order given.

        Reads at most twice `_WINDOW` recordings ahead, so `audio` may be an endless iterator.
        `on_audio(seconds)` is told of progress, within long recordings too.
        """
        numbered = enumerate(audio)
        running: deque[_Running] = deque()
        with ThreadPoolExecutor(_READERS) as pool:

            def read() -> Iterator[tuple[int, _Loaded | Rejected]]:
                """The next recordings; their reading begins at once."""
                window = list(islice(numbered, _WINDOW))
                loaded = pool.map(lambda item: _load(item[1], rate), window)
                return zip((index for index, _ in window), loaded, strict=True)

            coming = read()
            while True:
                window, coming = list(coming), read()
                if not window:
                    break
                short: list[tuple[int, str, np.ndarray]] = []
                long: list[tuple[int, str, Audio]] = []
                for index, item in window:
                    if isinstance(item, Rejected):
                        yield index, item
                    elif item.samples is None:
                        long.append((index, _source(item.audio), item.audio))
                    else:
                        short.append((index, _source(item.audio), item.samples))
                for batch in self._batches(short):
                    running.append(batch)
                    if len(running) > _IN_FLIGHT:
                        yield from self._finish(running.popleft(), on_audio)
                for index, source, item in long:
                    yield index, self._long(item, source, rate, on_audio)
            while running:
                yield from self._finish(running.popleft(), on_audio)

    def stream(self, *, source: str = "") -> Stream:
        """Begins a recording that arrives in pieces.

        Raises:
          InputError: the model hears whole recordings only.
        """
        self._check_streams()
        return Stream(self.recognizer, source=source)

    def pool(self, slots: int, *, waiting_s: float = 30.0) -> "SessionPool":
        """Room for so many recordings that arrive in pieces, heard in one compiled step."""
        from .pool import SessionPool

        self._check_streams()
        return SessionPool(self.recognizer, slots, waiting_s=waiting_s)

    def _check_streams(self) -> None:
        if not self.recognizer.streams:
            raise InputError(
                f"{self.name} hears whole recordings and cannot stream: use parley transcribe, or "
                "another model (parley list --streaming)."
            )

    def _batches(self, items: Sequence[tuple[int, str, np.ndarray]]) -> Iterator[_Running]:
        """Hands batches to the device, one each time that it is asked for the next."""
        lengths = [len(samples) for _, _, samples in items]
        for batch in pack(lengths, SAMPLE_RATE, multiple=self.recognizer.row_multiple):
            chosen = [items[i] for i in batch.items]
            padded = np.zeros((batch.rows, batch.length), np.int16)
            counts = np.zeros(batch.rows, np.int32)
            for row, (_, _, samples) in enumerate(chosen):
                padded[row, : len(samples)] = samples
                counts[row] = len(samples)
            about = [(index, source, len(samples)) for index, source, samples in chosen]
            yield _Running(about, self.recognizer.dispatch(padded, counts))

    def _finish(
        self, batch: _Running, on_audio: Callable[[float], None] | None
    ) -> Iterator[tuple[int, Transcript]]:
        rows, channels = self.recognizer.fetch(batch.found), self.recognizer.channels
        for row, (index, source, length) in enumerate(batch.items):
            heard = rows[row * channels : (row + 1) * channels]
            yield index, self._transcript(heard, length / SAMPLE_RATE, source)
        if on_audio is not None:
            on_audio(sum(length for _, _, length in batch.items) / SAMPLE_RATE)

    def _transcript(
        self, channels: Sequence[Sequence[Hypothesis]], duration: float, source: str
    ) -> Transcript:
        """`channels`: the hypotheses of each. Alternatives are of a model for one talker: those of
        several channels are independent of each other."""
        found: list[Transcript] = []
        for k in range(len(channels[0]) if len(channels) == 1 else 1):
            assembly = Assembly(self.recognizer)
            assembly.push([hypotheses[k].tokens for hypotheses in channels])
            found.append(assembly.finish(duration, source))
        others = zip(found[1:], channels[0][1:], strict=False)
        return replace(
            found[0], alternatives=tuple(Alternative(t.text, h.score) for t, h in others)
        )

    def _long(
        self, audio: Audio, source: str, rate: int, on_audio: Callable[[float], None] | None
    ) -> Transcript | Rejected:
        if not self.recognizer.streams:
            return self._in_pieces(audio, source, rate, on_audio)
        stream = Stream(self.recognizer, source=source, eager=False)
        try:
            if isinstance(audio, np.ndarray):
                stream.push(as_samples(audio, rate))
            else:
                for block in stream_audio(audio, _BLOCK_SECONDS):
                    stream.push(block)
                    if on_audio is not None:
                        on_audio(len(block) / SAMPLE_RATE)
        except InputError as error:
            return Rejected(source or "recording", str(error))
        return stream.finish()

    def _in_pieces(
        self, audio: Audio, source: str, rate: int, on_audio: Callable[[float], None] | None
    ) -> Transcript | Rejected:
        """Of a model that hears whole recordings: piece by piece, cut where it is quiet."""
        try:
            if isinstance(audio, np.ndarray):
                samples = as_samples(audio, rate)
            else:
                samples = np.concatenate([np.zeros(0, np.int16), *stream_audio(audio)])
        except InputError as error:
            return Rejected(source or "recording", str(error))
        spans = cut_at_pauses(samples, _LONGEST)
        pieces = [(index, "", samples[first:last]) for index, (first, last) in enumerate(spans)]
        found: dict[int, Transcript] = {}
        for batch in self._batches(pieces):
            found.update(self._finish(batch, on_audio))
        starts = [first / SAMPLE_RATE for first, _ in spans]
        duration = len(samples) / SAMPLE_RATE
        return joined([found[i] for i in range(len(spans))], starts, duration, source)


def _source(audio: Audio) -> str:
    return "" if isinstance(audio, bytes | np.ndarray) else os.fspath(audio)


def _load(audio: Audio, rate: int) -> _Loaded | Rejected:
    """Reads a recording that fits a batch; of a longer one only the header."""
    try:
        if isinstance(audio, np.ndarray):
            if audio.ndim == 1 and len(audio) / rate > _LONGEST / SAMPLE_RATE:
                return _Loaded(audio, None)
            samples = as_samples(audio, rate)
            if len(samples) < MIN_SECONDS * SAMPLE_RATE:
                raise InputError(
                    f"{len(samples)} samples are less than one window of "
                    f"{1000 * MIN_SECONDS:.0f} ms: give more."
                )
        elif audio_info(audio).duration > _LONGEST / SAMPLE_RATE:
            return _Loaded(audio, None)
        else:
            samples = read_audio(audio)
        # Resampling rounds, and a header without a length only guesses it.
        return _Loaded(audio, samples if len(samples) <= _LONGEST else None)
    except InputError as error:
        return Rejected(_source(audio) or "recording", str(error))
