"""Recordings in: any format, rate and channel count that libsndfile reads -> mono 16 kHz int16.

Everything on the host is `np.int16` at 16 kHz: half the memory of floats, exact, and what the front
end is defined on. A recording that cannot be trusted (empty, cut short, not audio, holding NaN)
raises `InputError`, because half an utterance under a whole transcript teaches a model nonsense.
"""

import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .errors import InputError

SAMPLE_RATE = 16_000
MIN_SECONDS = 0.025  # one analysis window
# Files longer than this are read block by block, so that the floats are never all in memory.
_WHOLE_SECONDS = 600.0
_FLOAT_SUBTYPES = {"FLOAT", "DOUBLE", "VORBIS", "OPUS"}
# Programs that write to a pipe cannot know the length and claim about 2 or 4 GiB.
_UNKNOWN_LENGTH = 0x7FF0_0000
_CHUNK_SHORTFALL = re.compile(r"\b(?:data|SSND)\s*:\s*(\d+)\s*\(should be (\d+)\)")
_SUFFIXES = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".w64", ".caf", ".sph", ".rf64", ".voc"),
}

AudioSource = str | os.PathLike[str] | bytes


@dataclass(frozen=True)
class AudioInfo:
    """What a recording's header says."""

    frames: int
    rate: int
    channels: int
    format: str

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.rate


def is_audio_name(path: Path) -> bool:
    """Whether the file's suffix is one of a format that libsndfile reads."""
    return path.suffix.lower() in _SUFFIXES


def audio_info(source: AudioSource, *, name: str | None = None) -> AudioInfo:
    """Reads the header only. Raises `InputError` as `read_audio` does for what a header shows."""
    name = _name(source, name)
    with _open(source, name) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels, file.format)


def read_audio(
    source: AudioSource,
    *,
    offset: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
    name: str | None = None,
) -> np.ndarray:
    """A recording as mono 16 kHz int16 `[N]`.

    Args:
      source: a path, or the encoded file itself as bytes.
      offset: seconds to skip at the beginning.
      duration: seconds to read; None reads to the end.
      channel: which one to take, from 0 on; None averages them.
      name: what to call the recording in an error; by default its path.

    Rates are converted by soxr, floats beyond full scale are clipped.

    Raises:
      InputError: for a file that is missing, empty, no audio, cut short, shorter than 25 ms,
        without that channel, or that holds NaN, infinities or values far outside -1..1.
    """
    name = _name(source, name)
    with _open(source, name) as file:
        _check_container(file, source, name)
        if channel is not None and not 0 <= channel < file.channels:
            raise InputError(
                f"{name} has no channel {channel}: it has {file.channels}, counted from 0."
            )
        first, count = _segment(file, offset, duration, name)
        if count > _WHOLE_SECONDS * file.samplerate:
            mono = _mono_blocks(file, count, 1 << 20, name, channel)
            samples = np.concatenate(list(_resampled(mono, file.samplerate)))
        else:
            mono = _read(file, count, name, whole=True, channel=channel)
            native = file.samplerate == SAMPLE_RATE
            samples = mono if native else to_int16(resample(mono, file.samplerate))
        _check_frames(file, source, first + count, name)
    if len(samples) < MIN_SECONDS * SAMPLE_RATE:
        raise _too_short(name, len(samples) / SAMPLE_RATE)
    return samples


def stream_audio(
    source: AudioSource, block_s: float = 10.0, *, name: str | None = None
) -> Iterator[np.ndarray]:
    """The recording in consecutive int16 blocks of about `block_s` seconds, in constant memory.

    Their concatenation is `read_audio(source)` (to one least significant bit where the rate is
    converted). Raises `InputError` as `read_audio`; damage in the middle of a
    file is found when it is reached.
    """
    name = _name(source, name)
    with _open(source, name) as file:
        _check_container(file, source, name)
        _, count = _segment(file, 0.0, None, name)
        frames = max(1, round(block_s * file.samplerate))
        yield from _resampled(_mono_blocks(file, count, frames, name), file.samplerate)
        _check_frames(file, source, count, name)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Floats on the int16 scale, rounded and clipped to int16. Overwrites its argument."""
    np.rint(samples, out=samples)
    np.clip(samples, -32768, 32767, out=samples)
    return samples.astype(np.int16)


def as_samples(audio: np.ndarray | Sequence[float], rate: int = SAMPLE_RATE) -> np.ndarray:
    """Mono samples from memory -> 16 kHz int16 [N]; floats are taken to lie in [-1, 1].

    Raises:
      InputError: several channels, another type than int16 or float, NaN, or floats far outside.
    """
    try:
        samples = np.asarray(audio)
    except ValueError:  # rows of different lengths
        raise InputError(
            "samples of uneven rows are not one channel: give mono samples [N]."
        ) from None
    if samples.ndim != 1:
        raise InputError(
            f"samples of shape {list(samples.shape)} are not one channel: give mono samples [N]."
        )
    if np.issubdtype(samples.dtype, np.floating):
        peak = np.abs(samples).max(initial=0.0)
        if not np.isfinite(peak):
            raise InputError("the samples hold NaN or infinity: look at where they come from.")
        if peak > 8.0:
            raise InputError(
                f"float samples reach {peak:.0f}, where -1 to 1 is the full scale: rescale them, "
                "or give int16."
            )
        samples = to_int16(samples.astype(np.float32) * np.float32(32768.0))
    elif samples.dtype != np.int16:
        raise InputError(f"samples are {samples.dtype}: give int16, or floats in [-1, 1].")
    return samples if rate == SAMPLE_RATE else to_int16(resample(samples, rate))


def _name(source: AudioSource, name: str | None) -> str:
    if name is None:
        name = "recording" if isinstance(source, bytes) else os.fspath(source)
    return name


class _Onward(soundfile.SoundFile):
    """Reads on from where it is. soundfile seeks after every read of a file that it can seek in;
    an MP3 decoder then lacks the bits that earlier frames hold for the next, and what it makes of
    them is damaged at every block's beginning."""

    def seekable(self) -> bool:
        return False


def _open(source: AudioSource, name: str) -> soundfile.SoundFile:
    """Opens a regular, non-empty file; libsndfile's own words are kept out of the sentence."""
    if isinstance(source, bytes):
        size, target = len(source), io.BytesIO(source)
    else:
        try:
            status = os.stat(source)
        except (OSError, ValueError):  # ValueError: a null byte in the name
            raise InputError(f"{name}: no such recording; check the path.") from None
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name} is not a regular file; give a recording.")
        size, target = status.st_size, os.fspath(source)
    if size == 0:
        raise InputError(f"{name} is empty (0 bytes); record or copy it again.")
    try:
        file = _Onward(target)
    except PermissionError:
        raise InputError(f"{name} may not be read; check its permissions.") from None
    except (soundfile.LibsndfileError, TypeError, OSError):
        # TypeError: soundfile wants a rate for headerless `.raw` files.
        if not isinstance(source, bytes) and not os.access(source, os.R_OK):
            raise InputError(f"{name} may not be read; check its permissions.") from None
        raise InputError(
            f"{name} is not audio in a format that libsndfile reads, or its header is damaged; "
            "convert it to WAV or FLAC."
        ) from None
    if file.samplerate <= 0 or file.channels <= 0 or file.frames < 0:
        file.close()
        raise InputError(f"{name} has a damaged header; convert it to WAV or FLAC again.")
    return file


def _segment(
    file: soundfile.SoundFile, offset: float, duration: float | None, name: str
) -> tuple[int, int]:
    """Seeks to `offset` and returns (first frame, number of frames to read)."""
    rate, total = file.samplerate, file.frames
    first = round(offset * rate)
    count = total - first if duration is None else min(round(duration * rate), total - first)
    if first >= total > 0:
        raise InputError(
            f"{name} lasts {total / rate:.2f} s, but a segment from {offset:.2f} s is asked for."
        )
    if count < MIN_SECONDS * rate:
        raise _too_short(name, max(count, 0) / rate)
    if first:
        file.seek(first)
    return first, count


def _read(
    file: soundfile.SoundFile,
    frames: int,
    name: str,
    *,
    whole: bool = False,
    channel: int | None = None,
) -> np.ndarray:
    """The next `frames` frames as mono int16; fewer at the end unless `whole` demands them."""
    floats = file.subtype in _FLOAT_SUBTYPES or file.subtype.startswith("MPEG")
    try:
        block = file.read(frames, dtype="float32" if floats else "int16", always_2d=True)
    except soundfile.LibsndfileError:
        raise _truncated(name) from None
    # An MP3 without an index has a guessed length, so only `_check_complete` can judge it.
    if whole and len(block) < frames and not floats:
        raise _truncated(name)
    if channel is not None:
        block = block[:, channel : channel + 1]
    if not floats:
        if block.shape[1] == 1:
            return block[:, 0]
        return to_int16(block.mean(axis=1, dtype=np.float32))
    mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    peak = np.abs(block).max(initial=0.0)
    if not np.isfinite(peak):
        raise InputError(f"{name} holds NaN or infinite samples; export it again.")
    if peak > 8.0:
        raise InputError(
            f"{name} holds float samples up to {peak:.0f}, where -1 to 1 is the full scale; "
            "rescale it."
        )
    return to_int16(mono * np.float32(32768.0))


def _mono_blocks(
    file: soundfile.SoundFile, count: int, frames: int, name: str, channel: int | None = None
) -> Iterator[np.ndarray]:
    left = count
    while left > 0:
        block = _read(file, min(frames, left), name, channel=channel)
        if not len(block):
            break
        left -= len(block)
        yield block


def resample(samples: np.ndarray, rate: float, *, quality: str = "HQ") -> np.ndarray:
    """int16 `[N]` at `rate` Hz -> float32 `[N * 16000 / rate]` at 16 kHz, on the int16 scale.

    In floats, since soxr dithers int16, and not always alike for the same input.
    """
    return soxr.resample(samples.astype(np.float32), rate, SAMPLE_RATE, quality=quality)


class Resampler:
    """int16 at `rate` Hz, piece by piece, to int16 at 16 kHz."""

    def __init__(self, rate: int):
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, samples: np.ndarray) -> np.ndarray:
        """What the next samples give; perhaps nothing yet."""
        return to_int16(self._stream.resample_chunk(samples.astype(np.float32)))

    def finish(self) -> np.ndarray:
        """The rest."""
        return to_int16(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))


def _resampled(blocks: Iterator[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    stream = Resampler(rate)
    for block in blocks:
        if len(out := stream.push(block)):
            yield out
    if len(out := stream.finish()):
        yield out


def _check_container(file: soundfile.SoundFile, source: AudioSource, name: str) -> None:
    """Raises `InputError` where the container promises more than the file holds.

    FLAC that breaks off fails while it is read; these do not: a WAV or AIFF chunk longer than the
    file, which libsndfile silently corrects, and an Ogg stream without its last page.
    """
    for match in _CHUNK_SHORTFALL.finditer(file.extra_info):
        claimed, actual = int(match[1]), int(match[2])
        if actual + 64 < claimed < _UNKNOWN_LENGTH:
            raise _truncated(name)
    if file.format == "OGG" and not _ends_in_last_page(_ends(source)[1]):
        raise _truncated(name)


def _ends_in_last_page(tail: bytes) -> bool:
    """Whether Ogg data ends in a whole page that is marked as its stream's last (RFC 3533, 6)."""
    start = tail.rfind(b"OggS")
    page = tail[start:] if start >= 0 else b""
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26]:
        return False
    return len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _check_frames(file: soundfile.SoundFile, source: AudioSource, end: int, name: str) -> None:
    """Raises `InputError` where an MP3 with an index ends early; without one its length is a guess.

    Within 2 %: decoders drop frames at either end, depending on their version.
    """
    if file.subtype.startswith("MPEG") and end >= file.frames and file.tell() < 0.98 * end:
        head = _ends(source)[0]
        if any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
            raise _truncated(name)


def _ends(source: AudioSource, size: int = 1 << 17) -> tuple[bytes, bytes]:
    if isinstance(source, bytes):
        return source[:size], source[-size:]
    with open(source, "rb") as file:
        head = file.read(size)
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return head, file.read()


def _too_short(name: str, seconds: float) -> InputError:
    return InputError(
        f"{name} lasts {1000 * seconds:.0f} ms, less than one window of "
        f"{1000 * MIN_SECONDS:.0f} ms; leave it out."
    )


def _truncated(name: str) -> InputError:
    return InputError(f"{name} is cut short or damaged inside; copy or export it again.")
