"""`parley stream`."""

import json
import shutil
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import numpy as np
import tyro

from ..data.audio import SAMPLE_RATE, Resampler, stream_audio
from ..data.errors import InputError
from .arguments import parse
from .console import remark
from .decoding import GREEDY, Decoding
from .endpoint import EndpointRules, Listener, Segment

_CHUNK_S = 0.1


@dataclass(frozen=True)
class StreamArguments:
    """Recognition while the audio arrives: from a microphone's program, or from a file.

    Utterances end at pauses, and each gives a line. What is recognised of the one under way is
    shown on stderr. Ctrl-C ends it with what was said so far.

    * arecord -q -f S16_LE -r 16000 -c 1 | parley stream rnnt-tiny -
    * ffmpeg -loglevel error -i talk.mp4 -f s16le -ar 16000 -ac 1 - | parley stream rnnt-tiny -
    * parley stream rnnt-tiny talk.wav --json
    * parley stream rnnt-tiny talk.wav --realtime
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    audio: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE|-")]
    """A recording, or - for raw samples on standard input: 16 bits, little-endian, one channel."""
    rate: int = SAMPLE_RATE
    """Of raw samples, in Hz."""
    whole: bool = False
    """One utterance from beginning to end, whatever the pauses."""
    pause: float = EndpointRules.pause
    """Seconds without a word that end an utterance."""
    realtime: bool = False
    """Let a file arrive as slowly as it was spoken."""
    json: bool = False
    """JSON lines: partial texts and utterances with their words."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = GREEDY


def stream_command(argv: list[str]) -> int:
    given = parse(StreamArguments, argv, "parley stream")
    if given.rate < 4_000 or given.rate > 192_000:
        raise InputError(f"a rate of {given.rate} Hz is none of speech: give 8000 to 48000.")
    from . import load

    raw = given.audio == "-"
    if raw and sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe raw samples into it, or name a file.")
    model = load(given.model, decoding=given.decoding)
    rules = None if given.whole else EndpointRules(pause=given.pause)
    listener, screen = Listener(model, rules), _Screen(given.json)
    # What is compiled at the first chunk would let a microphone wait.
    model.stream().feed(np.zeros(10 * model.recognizer.samples_per_step, np.int16))
    chunks = _raw(sys.stdin.buffer, given.rate) if raw else stream_audio(given.audio, _CHUNK_S)
    began = time.monotonic()
    status = 0
    try:
        for chunk in chunks:
            if given.realtime and not raw:
                time.sleep(max(0.0, listener.seconds + _CHUNK_S - (time.monotonic() - began)))
            with _uninterrupted():
                for segment in listener.feed(chunk):
                    screen.segment(segment)
                screen.partial(listener.seconds, listener.text)
    except KeyboardInterrupt:
        remark("interrupted; the last utterance is what was heard of it")
    except InputError as error:
        screen.clear()
        remark(f"error: {error}")  # after what was recognised until there
        status = 2
    for segment in listener.finish():
        screen.segment(segment)
    screen.clear()
    if not listener.seconds and not status:
        raise InputError(f"{'standard input' if raw else given.audio} holds no samples.")
    return status


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is done: amid a step the stream would lose its state."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


class _Screen:
    """Utterances to stdout; the one under way to stderr, over itself on a terminal."""

    def __init__(self, as_json: bool):
        self._json = as_json
        self._over = sys.stderr.isatty()
        self._shown = ""

    def partial(self, seconds: float, text: str) -> None:
        if text == self._shown:
            return
        self._shown = text
        if self._json:
            if text:
                self._print({"time": round(seconds, 3), "partial": text})
        elif self._over:
            # From the left edge, the end of a text that is too long, and nothing behind it.
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[-width:]}\x1b[K", end="", file=sys.stderr, flush=True)
        elif text:
            print(f"{seconds:8.2f} s  {text}", file=sys.stderr, flush=True)

    def segment(self, segment: Segment) -> None:
        self.clear()
        if self._json:
            fields = segment.transcript.as_dict()
            del fields["audio_filepath"], fields["duration"]
            times = {"start": round(segment.start, 3), "end": round(segment.end, 3)}
            self._print({**times, **fields})
        else:
            words = segment.transcript.words
            start, end = words[0].start, words[-1].end
            print(f"{start:8.2f} {end:8.2f}  {segment.transcript.text}", flush=True)

    def clear(self) -> None:
        if self._over and self._shown and not self._json:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = ""

    def _print(self, fields: dict) -> None:
        print(json.dumps(fields, ensure_ascii=False), flush=True)


def _raw(file: BinaryIO, rate: int) -> Iterator[np.ndarray]:
    """int16 at 16 kHz of raw samples, as soon as they are there."""
    held = file.read(12)
    if held[:4] == b"RIFF" and held[8:] == b"WAVE":  # as arecord writes without `-t raw`
        rate, held = _wav_rate(file), b""
    size = 2 * max(1, round(_CHUNK_S * rate))
    resampler = None if rate == SAMPLE_RATE else Resampler(rate)
    read = getattr(file, "read1", file.read)
    while block := read(size):
        block = held + block
        whole = len(block) // 2 * 2
        held = block[whole:]
        samples = np.frombuffer(block[:whole], "<i2")
        yield samples if resampler is None else resampler.push(samples)
    if resampler is not None:
        yield resampler.finish()
    if len(held) % 2:
        raise InputError("standard input ended amid a sample: is it 16 bits, one channel?")


def _wav_rate(file: BinaryIO) -> int:
    """Reads a WAV header behind its first 12 bytes, up to the samples; returns the rate in Hz."""
    rate = 0
    while len(head := file.read(8)) == 8:
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"data" and rate:
            return rate
        content = file.read(size + size % 2)
        if kind == b"fmt " and len(content) >= 16:
            _, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
            if (channels, bits) != (1, 16):
                raise InputError(
                    f"standard input is a WAV of {channels} channels and {bits} bits: give 16 bits "
                    "and one channel, or name the file."
                )
    raise InputError("standard input is a WAV with a damaged header: name the file instead.")
